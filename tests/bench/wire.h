/* What both load clients need: a buffered loopback connection, a clock, latencies, threads. Errors end the program. */
#ifndef WIRE_H
#define WIRE_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 18 };

struct wire {
    int socket;
    size_t read, filled;
    char buffer[BUFFER + 1];
};

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct wire *wire_open(int port) {
    struct wire *w = malloc(sizeof *w);
    if (w == NULL) fail("connection", "no memory");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    w->read = w->filled = 0;
    w->socket = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    setsockopt(w->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(w->socket, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("connect");
        exit(1);
    }
    return w;
}

static void wire_close(struct wire *w) {
    close(w->socket);
    free(w);
}

static void wire_send(struct wire *w, const char *data, size_t length) {
    while (length > 0) {
        ssize_t sent = send(w->socket, data, length, MSG_NOSIGNAL);
        if (sent <= 0) fail("send", "the server closed the connection");
        data += sent;
        length -= (size_t)sent;
    }
}

static inline void wire_say(struct wire *w, const char *text) { wire_send(w, text, strlen(text)); }

/* Receives more behind what is there; the unread part is moved to the front when there is no room. */
static void wire_more(struct wire *w) {
    if (w->filled == BUFFER) {
        memmove(w->buffer, w->buffer + w->read, w->filled - w->read);
        w->filled -= w->read;
        w->read = 0;
        if (w->filled == BUFFER) fail("receive", "a line is too long");
    }
    ssize_t got = recv(w->socket, w->buffer + w->filled, BUFFER - w->filled, 0);
    if (got <= 0) fail("receive", "the server closed the connection");
    w->filled += (size_t)got;
}

/* The next line without its end, valid until the next call; *length may be NULL. */
static char *wire_line(struct wire *w, size_t *length) {
    size_t seen = w->read;
    char *end;
    while ((end = memchr(w->buffer + seen, '\n', w->filled - seen)) == NULL) {
        size_t unread = w->filled - w->read;
        wire_more(w);
        seen = w->read + unread;
    }
    char *line = w->buffer + w->read;
    w->read = (size_t)(end + 1 - w->buffer);
    if (end > line && end[-1] == '\r') end--;
    *end = 0;
    if (length != NULL) *length = (size_t)(end - line);
    if (w->read == w->filled) w->read = w->filled = 0;
    return line;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Milliseconds that the given part of the latencies stays below; sorts them. */
static inline double percentile(double *latencies, int count, double part) {
    qsort(latencies, (size_t)count, sizeof *latencies, by_size);
    return count > 0 ? latencies[(int)(part * (count - 1))] * 1e3 : 0;
}

/* Runs so many threads of one function and gives the seconds until the last has ended. */
static double run_threads(void *(*work)(void *), int count) {
    pthread_t *threads = calloc((size_t)count, sizeof *threads);
    double began = now();
    for (long i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i) != 0) fail("thread", "cannot be started");
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    free(threads);
    return now() - began;
}

/* One IMAP command under a tag of its own; gives the bytes of the whole answer. Anything but OK ends the program. */
static inline size_t imap(struct wire *w, const char *tag, const char *command) {
    char text[1024];
    snprintf(text, sizeof text, "%s %s\r\n", tag, command);
    wire_say(w, text);
    size_t total = 0, wide = strlen(tag);
    for (;;) {
        size_t length;
        char *line = wire_line(w, &length);
        total += length + 2;
        if (strncmp(line, tag, wide) == 0 && line[wide] == ' ') {
            if (strncmp(line + wide + 1, "OK", 2) != 0) fail(command, line);
            return total;
        }
    }
}

static inline struct wire *imap_login(int port, const char *user) {
    char command[300];
    struct wire *w = wire_open(port);
    wire_line(w, NULL);
    snprintf(command, sizeof command, "LOGIN %s pw", user);
    imap(w, "L", command);
    return w;
}

#endif
