/* smtpload SMTP-PORT IMAP-PORT DOMAIN USERS MESSAGES SESSIONS BYTES KEEP
 *
 * Sends MESSAGES of about BYTES over SESSIONS connections at a time to user00@DOMAIN, user01@DOMAIN, ... in turn, and waits
 * until each user's INBOX has all of his, which STATUS over IMAP tells for any server. KEEP 0: a connection for each message;
 * 1: connections are kept. One JSON object: accepted and delivered messages a second, latency of the reply to the data.
 */
#include "wire.h"

static int smtp_port, imap_port, users, messages, size, keep;
static int next_message;
static const char *domain;
static double *latencies;
static char *filler;

static void expect(struct wire *w, const char *code, const char *after) {
    char *line;
    do line = wire_line(w, NULL);
    while (strlen(line) > 3 && line[3] == '-');
    if (strncmp(line, code, 3) != 0) fail(after, line);
}

static struct wire *greet(void) {
    struct wire *w = wire_open(smtp_port);
    expect(w, "220", "connect");
    wire_say(w, "EHLO load.example.org\r\n");
    expect(w, "250", "EHLO");
    return w;
}

static void quit(struct wire *w) {
    wire_say(w, "QUIT\r\n");
    expect(w, "221", "QUIT");
    wire_close(w);
}

static void send_message(struct wire *w, int number, char *space) {
    char command[256];
    int user = number % users;
    snprintf(command, sizeof command, "MAIL FROM:<sender%d@example.org>\r\n", number);
    wire_say(w, command);
    expect(w, "250", "MAIL");
    snprintf(command, sizeof command, "RCPT TO:<user%02d@%s>\r\n", user, domain);
    wire_say(w, command);
    expect(w, "250", "RCPT");
    wire_say(w, "DATA\r\n");
    expect(w, "354", "DATA");
    int header = sprintf(space,
        "Received: from desk.example.org (desk.example.org [192.0.2.7])\r\n"
        "\tby relay.example.org with ESMTPS id %08x\r\n\tfor <user%02d@%s>; Sat, 21 Nov 2026 01:00:00 +0000\r\n"
        "Date: Sat, 21 Nov 2026 01:00:00 +0000\r\nFrom: Sender Number %d <sender%d@example.org>\r\n"
        "To: User %d <user%02d@%s>\r\nSubject: a letter about the matter of case number %d\r\n"
        "Message-ID: <%d.%d.load@example.org>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n",
        number, user, domain, number, number, user, user, domain, number, number, (int)getpid());
    int body = size > header ? size - header : 0;
    memcpy(space + header, filler, (size_t)body);
    if (body && space[header + body - 1] == '\r') space[header + body - 1] = 'x'; /* a line end cut in two is no line end */
    memcpy(space + header + body, "\r\n.\r\n", 5);
    double began = now();
    wire_send(w, space, (size_t)(header + body + 5));
    expect(w, "250", "end of data");
    latencies[number] = now() - began;
}

static void *session(void *unused) {
    (void)unused;
    char *space = malloc((size_t)size + 4096);
    struct wire *w = NULL;
    int number;
    while ((number = __sync_fetch_and_add(&next_message, 1)) < messages) {
        if (w == NULL) w = greet();
        send_message(w, number, space);
        if (!keep) {
            quit(w);
            w = NULL;
        }
    }
    if (w != NULL) quit(w);
    free(space);
    return NULL;
}

static long inbox(struct wire *w) {
    wire_say(w, "S STATUS INBOX (MESSAGES)\r\n");
    long count = -1;
    for (;;) {
        char *line = wire_line(w, NULL);
        char *found = strstr(line, "(MESSAGES ");
        if (found != NULL) count = atol(found + 10);
        if (strncmp(line, "S OK", 4) == 0) return count;
        if (strncmp(line, "S ", 2) == 0) fail("STATUS", line);
    }
}

int main(int count, char **words) {
    if (count != 9) fail("smtpload", "SMTP-PORT IMAP-PORT DOMAIN USERS MESSAGES SESSIONS BYTES KEEP");
    smtp_port = atoi(words[1]), imap_port = atoi(words[2]), domain = words[3], users = atoi(words[4]);
    messages = atoi(words[5]), size = atoi(words[7]), keep = atoi(words[8]);
    latencies = calloc((size_t)messages, sizeof *latencies);
    filler = malloc((size_t)size + 1);
    for (int i = 0; i < size; i++) filler[i] = i % 74 == 72 ? '\r' : i % 74 == 73 ? '\n' : "words in mail "[i % 14];

    struct wire *readers[100];
    long wanted[100];
    if (users > 100) fail("smtpload", "at most 100 users");
    for (int user = 0; user < users; user++) {
        char name[256];
        snprintf(name, sizeof name, "user%02d@%s", user, domain);
        readers[user] = imap_login(imap_port, name);
        wanted[user] = inbox(readers[user]) + messages / users + (user < messages % users);
    }
    double began = now();
    double accepted = run_threads(session, atoi(words[6]));
    /* One user after the other: few questions, so that asking does not become the load. */
    for (int user = 0; user < users; user++)
        while (inbox(readers[user]) < wanted[user]) {
            usleep(4000);
            if (now() - began > 180) fail("smtpload", "mail is missing after 180 seconds");
        }
    double delivered = now() - began;
    double p50 = percentile(latencies, messages, 0.5), p99 = percentile(latencies, messages, 0.99);
    printf("{\"accepted\": %.1f, \"delivered\": %.1f, \"p50_ms\": %.2f, \"p99_ms\": %.2f}\n", messages / accepted,
           messages / delivered, p50, p99);
    return 0;
}
