/* Readers' load, each with one JSON object as the result:
 *
 *   mailload login PORT DOMAIN USERS COUNT PARALLEL       connect, LOGIN, LOGOUT: log-ins a second
 *   mailload imap PORT USER COMMAND...                    log in, SELECT, each command: milliseconds and bytes of each
 *   mailload append PORT USER FILE COUNT PARALLEL         APPEND one after the other on each connection: messages a second
 *   mailload fill PORT USER FILE COUNT                    the same with many on their way: to make a mailbox
 *   mailload idle PORT DOMAIN USERS COUNT                 COUNT sessions in IDLE, until standard input ends
 *   mailload pop PORT USER WINDOW                         RETR of all, WINDOW of them on their way: messages a second
 *
 * FILE holds messages, each after a line with its size in bytes. The password is pw.
 */
#include "wire.h"

static int port, users, total, next_one;
static const char *domain, *user;
static double *latencies;

struct message {
    char *text;
    size_t size;
};
static struct message *corpus;
static int corpus_size;

static void read_corpus(const char *path) {
    FILE *file = fopen(path, "r");
    if (file == NULL) fail(path, "cannot be opened");
    char line[64];
    while (fgets(line, sizeof line, file) != NULL) {
        struct message one = {.size = (size_t)atol(line)};
        one.text = malloc(one.size + 3);
        if (fread(one.text, 1, one.size, file) != one.size) fail(path, "ends too early");
        memcpy(one.text + one.size, "\r\n", 2);
        corpus = realloc(corpus, sizeof *corpus * (size_t)(corpus_size + 1));
        corpus[corpus_size++] = one;
    }
    fclose(file);
}

static const char *user_name(int number, char space[256]) {
    snprintf(space, 256, "user%02d@%s", number % users, domain);
    return space;
}

static void *log_in(void *unused) {
    (void)unused;
    char name[256];
    int number;
    while ((number = __sync_fetch_and_add(&next_one, 1)) < total) {
        double began = now();
        struct wire *w = imap_login(port, user_name(number, name));
        latencies[number] = now() - began;
        imap(w, "Q", "LOGOUT");
        wire_close(w);
    }
    return NULL;
}

static void say_append(struct wire *w, int number) {
    char command[128];
    struct message *one = &corpus[number % corpus_size];
    snprintf(command, sizeof command, "A%d APPEND INBOX (\\Seen) {%zu+}\r\n", number, one->size);
    wire_say(w, command);
    wire_send(w, one->text, one->size + 2);
}

static void hear_append(struct wire *w) {
    char *line;
    do line = wire_line(w, NULL);
    while (line[0] != 'A');
    if (strstr(line, " OK") == NULL) fail("APPEND", line);
}

static void *append(void *unused) {
    (void)unused;
    struct wire *w = imap_login(port, user);
    int number;
    while ((number = __sync_fetch_and_add(&next_one, 1)) < total) {
        double began = now();
        say_append(w, number);
        hear_append(w);
        latencies[number] = now() - began;
    }
    imap(w, "Q", "LOGOUT");
    wire_close(w);
    return NULL;
}

static void fill(void) {
    struct wire *w = imap_login(port, user);
    double began = now();
    /* Few enough on their way that neither side's socket buffer is full while both wait to send. */
    for (int said = 0, heard = 0; heard < total;) {
        if (said < total && said - heard < 32) say_append(w, said++);
        else hear_append(w), heard++;
    }
    printf("{\"per_second\": %.1f}\n", total / (now() - began));
}

static void commands(int count, char **words) {
    struct wire *w = imap_login(port, user);
    double began = now();
    imap(w, "S", "SELECT INBOX");
    printf("{\"SELECT\": {\"ms\": %.2f}", (now() - began) * 1e3);
    for (int i = 0; i < count; i++) {
        char tag[16];
        snprintf(tag, sizeof tag, "C%d", i);
        began = now();
        size_t bytes = imap(w, tag, words[i]);
        printf(", \"%d\": {\"ms\": %.2f, \"bytes\": %zu}", i, (now() - began) * 1e3, bytes);
    }
    puts("}");
    imap(w, "Q", "LOGOUT");
}

static void idle(void) {
    char name[256];
    struct wire **all = calloc((size_t)total, sizeof *all);
    double began = now();
    for (int i = 0; i < total; i++) {
        struct wire *w = all[i] = imap_login(port, user_name(i, name));
        imap(w, "S", "SELECT INBOX");
        wire_say(w, "I IDLE\r\n");
        wire_line(w, NULL);
    }
    printf("{\"seconds\": %.2f}\n", now() - began);
    fflush(stdout);
    while (getchar() != EOF) continue;
}

static void pop(int window) {
    char text[256];
    struct wire *w = wire_open(port);
    wire_line(w, NULL);
    snprintf(text, sizeof text, "USER %s\r\n", user);
    wire_say(w, text);
    wire_line(w, NULL);
    wire_say(w, "PASS pw\r\n");
    char *line = wire_line(w, NULL);
    if (line[0] != '+') fail("PASS", line);
    wire_say(w, "STAT\r\n");
    int count = atoi(wire_line(w, NULL) + 4), said = 0;
    size_t bytes = 0;
    double began = now();
    for (int heard = 0; heard < count; heard++) {
        /* The next half window goes out in one piece. */
        if (said == heard || said - heard <= window / 2) {
            char batch[4096];
            int length = 0;
            while (said < count && said - heard < window) length += sprintf(batch + length, "RETR %d\r\n", ++said);
            wire_send(w, batch, (size_t)length);
        }
        line = wire_line(w, NULL);
        if (line[0] != '+') fail("RETR", line);
        size_t length;
        do {
            line = wire_line(w, &length);
            bytes += length + 2;
        } while (length != 1 || line[0] != '.');
    }
    double seconds = now() - began;
    printf("{\"per_second\": %.1f, \"messages\": %d, \"bytes\": %zu}\n", count / seconds, count, bytes);
    wire_say(w, "QUIT\r\n");
    wire_line(w, NULL);
}

static void print_rate(double seconds) {
    double p50 = percentile(latencies, total, 0.5), p99 = percentile(latencies, total, 0.99);
    printf("{\"per_second\": %.1f, \"p50_ms\": %.2f, \"p99_ms\": %.2f}\n", total / seconds, p50, p99);
}

int main(int count, char **words) {
    const char *mode = count > 3 ? words[1] : "";
    port = count > 3 ? atoi(words[2]) : 0;
    domain = user = words[3];
    if (strcmp(mode, "login") == 0 && count == 7) {
        users = atoi(words[4]), total = atoi(words[5]);
        latencies = calloc((size_t)total, sizeof *latencies);
        print_rate(run_threads(log_in, atoi(words[6])));
    } else if (strcmp(mode, "imap") == 0) {
        commands(count - 4, words + 4);
    } else if (strcmp(mode, "append") == 0 && count == 7) {
        read_corpus(words[4]);
        total = atoi(words[5]);
        latencies = calloc((size_t)total, sizeof *latencies);
        print_rate(run_threads(append, atoi(words[6])));
    } else if (strcmp(mode, "fill") == 0 && count == 6) {
        read_corpus(words[4]);
        total = atoi(words[5]);
        fill();
    } else if (strcmp(mode, "idle") == 0 && count == 6) {
        users = atoi(words[4]), total = atoi(words[5]);
        idle();
    } else if (strcmp(mode, "pop") == 0 && count == 5) {
        pop(atoi(words[4]) < 256 ? atoi(words[4]) : 256);
    } else {
        fail("mailload", "the head of mailload.c says how it is called");
    }
    return 0;
}
