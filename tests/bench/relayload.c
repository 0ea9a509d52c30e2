/* relayload SMTP-PORT SINK-PORT MESSAGES DOMAINS BYTES SESSIONS
 *
 * Sends MESSAGES of about BYTES over SESSIONS connections that are kept, to someone@d00.relay.test, someone@d01.relay.test, ...
 * in turn, and is itself the server of all those domains, on SINK-PORT of every loopback address: it takes everything as fast
 * as it comes, with PIPELINING. One JSON object: accepted and relayed messages a second, connections to the sink.
 */
#define _GNU_SOURCE /* memmem */
#include "wire.h"

static int smtp_port, messages, domains, size;
static int next_message, relayed, connections;
static double last;
static char *filler;

static void expect(struct wire *w, const char *code, const char *after) {
    char *line;
    do line = wire_line(w, NULL);
    while (strlen(line) > 3 && line[3] == '-');
    if (strncmp(line, code, 3) != 0) fail(after, line);
}

static void *session(void *unused) {
    (void)unused;
    char command[256], *space = malloc((size_t)size + 4096);
    struct wire *w = wire_open(smtp_port);
    int number;
    expect(w, "220", "connect");
    wire_say(w, "EHLO load.example.org\r\n");
    expect(w, "250", "EHLO");
    while ((number = __sync_fetch_and_add(&next_message, 1)) < messages) {
        snprintf(command, sizeof command, "MAIL FROM:<sender%d@example.org>\r\n", number);
        wire_say(w, command);
        expect(w, "250", "MAIL");
        snprintf(command, sizeof command, "RCPT TO:<someone@d%02d.relay.test>\r\n", number % domains);
        wire_say(w, command);
        expect(w, "250", "RCPT");
        wire_say(w, "DATA\r\n");
        expect(w, "354", "DATA");
        int header = sprintf(space,
            "Date: Sat, 21 Nov 2026 01:00:00 +0000\r\nFrom: Sender Number %d <sender%d@example.org>\r\n"
            "To: Someone <someone@d%02d.relay.test>\r\nSubject: a letter about the matter of case number %d\r\n"
            "Message-ID: <%d.%d.load@example.org>\r\nMIME-Version: 1.0\r\n"
            "Content-Type: text/plain; charset=utf-8\r\n\r\n",
            number, number, number % domains, number, number, (int)getpid());
        int body = size > header ? size - header : 0;
        memcpy(space + header, filler, (size_t)body);
        if (body && space[header + body - 1] == '\r') space[header + body - 1] = 'x';
        memcpy(space + header + body, "\r\n.\r\n", 5);
        wire_send(w, space, (size_t)(header + body + 5));
        expect(w, "250", "end of data");
    }
    wire_say(w, "QUIT\r\n");
    expect(w, "221", "QUIT");
    wire_close(w);
    free(space);
    return NULL;
}

/* One connection to the sink, until its end. */
static void *sink(void *argument) {
    int s = (int)(long)argument;
    size_t filled = 0;
    int in_message = 0, quit = 0;
    char *buffer = malloc(BUFFER + 1), out[8192];
    __sync_fetch_and_add(&connections, 1);
    if (send(s, "220 sink\r\n", 10, MSG_NOSIGNAL) < 0) quit = 1;
    while (!quit) {
        ssize_t got = recv(s, buffer + filled, BUFFER - filled, 0);
        if (got <= 0) break;
        filled += (size_t)got;
        size_t read = 0, said = 0;
        while (!quit && said + 128 < sizeof out) {
            const char *answer = "250 fine\r\n";
            char *begin = buffer + read, *end;
            if (in_message) {
                end = memmem(begin, filled - read, "\r\n.\r\n", 5);
                if (end == NULL) {
                    size_t kept = filled - read < 4 ? filled - read : 4;
                    read = filled - kept;
                    break;
                }
                read = (size_t)(end + 5 - buffer);
                in_message = 0;
                last = now();
                __sync_fetch_and_add(&relayed, 1);
            } else {
                end = memchr(begin, '\n', filled - read);
                if (end == NULL) break;
                read = (size_t)(end + 1 - buffer);
                if (strncasecmp(begin, "EHLO", 4) == 0) answer = "250-sink\r\n250-PIPELINING\r\n250-SIZE\r\n250 8BITMIME\r\n";
                if (strncasecmp(begin, "DATA", 4) == 0) in_message = 1, answer = "354 go on\r\n";
                if (strncasecmp(begin, "QUIT", 4) == 0) quit = 1, answer = "221 bye\r\n";
            }
            said += (size_t)sprintf(out + said, "%s", answer);
        }
        memmove(buffer, buffer + read, filled - read);
        filled -= read;
        if (said && send(s, out, said, MSG_NOSIGNAL) < 0) break;
    }
    close(s);
    free(buffer);
    return NULL;
}

static void *accept_all(void *argument) {
    int listener = (int)(long)argument, on = 1;
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (;;) {
        pthread_t thread;
        int s = accept(listener, NULL, NULL);
        if (s < 0) fail("accept", "failed");
        setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (pthread_create(&thread, &detached, sink, (void *)(long)s) != 0) fail("thread", "cannot be started");
    }
    return NULL;
}

int main(int count, char **words) {
    if (count != 7) fail("relayload", "SMTP-PORT SINK-PORT MESSAGES DOMAINS BYTES SESSIONS");
    smtp_port = atoi(words[1]), messages = atoi(words[3]), domains = atoi(words[4]), size = atoi(words[5]);
    filler = malloc((size_t)size + 1);
    for (int i = 0; i < size; i++) filler[i] = i % 74 == 72 ? '\r' : i % 74 == 73 ? '\n' : "words in mail "[i % 14];
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(words[2]))};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1000) != 0)
        fail("sink", "cannot listen");
    pthread_t acceptor;
    if (pthread_create(&acceptor, NULL, accept_all, (void *)(long)listener) != 0) fail("thread", "cannot be started");
    double began = now();
    double accepted = run_threads(session, atoi(words[6]));
    while (__sync_fetch_and_add(&relayed, 0) < messages) {
        usleep(2000);
        if (now() - began > 180) fail("relayload", "mail is missing after 180 seconds");
    }
    printf("{\"accepted\": %.1f, \"relayed\": %.1f, \"connections\": %d}\n", messages / accepted,
           messages / (last - began), connections);
    return 0;
}
