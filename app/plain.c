/* SPDX-License-Identifier: MIT
 *
 * The line mode (plain_run in tui.h): one line of input, one answer. Answers go to stdout, everything else to stderr.
 * While something runs no input is taken, so questions can be piped in.
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/commands_slash.h"
#include "app/progress.h"

#define PROGRESS_STEP 10 /* per cent between two lines of progress */

struct plain {
    struct desk *desk;
    struct text_block input; /* bytes read, not yet used */
    size_t used;
    bool is_over, is_prompted, wants_quit;
    size_t messages_told;
    size_t told_turn, told_bytes; /* of the answer being written */
    int told_percent;
    int ended_by;
};

/* What the signal handler needs, and nothing else. */
static int signal_pipe[2] = {-1, -1};

static void on_signal(int number)
{
    const int kept = errno;
    const unsigned char byte = (unsigned char)number;
    ssize_t rc = write(signal_pipe[1], &byte, 1);
    (void)rc; /* a full pipe wakes the loop as well */
    errno = kept;
}

static int catch_signals(struct error *error)
{
    if (pipe2(signal_pipe, O_NONBLOCK | O_CLOEXEC))
        return error_set(error, ERROR_FAILED, "No pipe for signals: %s.", strerror(errno));
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

static void release_signals(void)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    for (int i = 0; i < 2; i++)
        if (signal_pipe[i] >= 0) close(signal_pipe[i]);
}

static void tell(void *ctx, const char *sentence)
{
    (void)ctx;
    char safe[2048];
    sanitize_line(sentence, safe, sizeof safe);
    fprintf(stderr, "%s\n", safe);
}

/* ------------------------------------------------------------------------------------------------- telling */

static void tell_messages(struct plain *plain)
{
    const size_t n = plain->desk->n_messages;
    for (; plain->messages_told < n; plain->messages_told++) {
        const struct desk_message *message = desk_message_at(plain->desk, n - 1 - plain->messages_told);
        if (message) fprintf(stderr, "%s%s\n", message->kind == MESSAGE_ERROR ? "lectern: " : "", message->text);
    }
}

static void tell_progress(struct plain *plain)
{
    const struct desk *desk = plain->desk;
    if (desk->state != DESK_READING || !desk->reading.total) return;
    const int percent = (int)(100 * desk->reading.done / desk->reading.total);
    if (percent < plain->told_percent + PROGRESS_STEP) return;
    plain->told_percent = percent;
    char seconds[32], tokens[32];
    fprintf(stderr, "Reading: %d %% of %s tokens, %.0f tok/s, %s left\n", percent,
            format_count(desk->reading.total, tokens), desk->reading.rate, format_seconds(desk->reading.eta, seconds));
}

/* The part of the last answer not written yet. */
static void tell_answer(struct plain *plain)
{
    const struct desk *desk = plain->desk;
    if (plain->told_turn >= desk->n_turns) return;
    const struct desk_turn *turn = &desk->turns[plain->told_turn];
    fwrite(turn->shown.text + plain->told_bytes, 1, turn->shown.len - plain->told_bytes, stdout);
    plain->told_bytes = turn->shown.len;
    if (desk->state != DESK_ANSWERING) {
        fputs(turn->stopped ? " (stopped)\n" : "\n", stdout);
        plain->told_turn = SIZE_MAX;
    }
    fflush(stdout);
}

static void tell_opening(const struct desk *desk)
{
    for (size_t i = 0; i < desk->n_documents; i++) {
        char size[32];
        fprintf(stderr, "%s, %s\n", desk->documents[i].name, format_bytes(desk->documents[i].len, size));
    }
    for (size_t i = 0; i < desk->n_turns; i++)
        fprintf(stderr, "%s%s\n", desk->turns[i].is_question ? "> " : "", desk->turns[i].shown.text);
}

/* ------------------------------------------------------------------------------------------------- input */

/* The next line, with those that a backslash at the end joins to it, out of what was read; NULL when it is not whole.
 */
static char *next_line(struct plain *plain)
{
    const char *start = plain->input.text ? plain->input.text + plain->used : "";
    size_t len = 0;
    for (;;) {
        len += strcspn(start + len, "\n");
        if (!start[len] || !len || start[len - 1] != '\\') break;
        len++;
    }
    const bool is_whole = start[len] == '\n' || (plain->is_over && len);
    if (!is_whole) return NULL;
    plain->used += len + (start[len] == '\n');
    char *line = strndup(start, len);
    for (char *at = line; at && (at = strstr(at, "\\\n"));) memmove(at, at + 1, strlen(at));
    return line;
}

static void take_line(struct plain *plain, const char *line)
{
    struct error error = {0};
    struct slash_context context = {.desk = plain->desk, .say = tell};
    if (!line[strspn(line, " \t\n")]) return;
    if (slash_is_command(line)) {
        if (slash_run(&context, line, &error)) desk_fail(plain->desk, &error);
        if (context.wants_quit) plain->wants_quit = true;
    } else if (desk_ask(plain->desk, line, &error)) {
        desk_fail(plain->desk, &error);
    }
    plain->told_percent = 0;
    if (plain->desk->state == DESK_ANSWERING) {
        plain->told_turn = plain->desk->n_turns - 1;
        plain->told_bytes = 0;
    }
}

static void read_input(struct plain *plain)
{
    char bytes[4096];
    const ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
    struct error error = {0};
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) plain->is_over = true;
    if (n > 0 && text_block_append(&plain->input, bytes, (size_t)n, &error)) desk_fail(plain->desk, &error);
}

static void use_input(struct plain *plain)
{
    while (!desk_is_busy(plain->desk) && !plain->wants_quit) {
        char *line = next_line(plain);
        if (!line) {
            if (plain->is_over) plain->wants_quit = true;
            return;
        }
        plain->is_prompted = false;
        take_line(plain, line);
        free(line);
        tell_messages(plain);
    }
}

static void take_signals(struct plain *plain)
{
    unsigned char number;
    while (read(signal_pipe[0], &number, 1) == 1) {
        if (number == SIGINT && desk_is_busy(plain->desk)) {
            desk_stop(plain->desk);
            continue;
        }
        plain->ended_by = number;
        plain->wants_quit = true;
    }
}

static void loop(struct plain *plain)
{
    while (!plain->wants_quit) {
        const bool takes_input = !desk_is_busy(plain->desk) && !plain->is_over;
        if (takes_input && !plain->is_prompted && isatty(STDIN_FILENO)) {
            fputs("> ", stderr);
            plain->is_prompted = true;
        }
        struct pollfd fds[] = {
            {.fd = takes_input ? STDIN_FILENO : -1, .events = POLLIN},
            {.fd = signal_pipe[0], .events = POLLIN},
            {.fd = desk_fd(plain->desk), .events = POLLIN},
        };
        if (poll(fds, 3, desk_is_busy(plain->desk) || takes_input ? -1 : 0) < 0 && errno != EINTR) return;
        take_signals(plain);
        if (fds[0].revents) read_input(plain);
        desk_poll(plain->desk);
        tell_progress(plain);
        tell_answer(plain);
        if (plain->desk->failed) return; /* its sentence is the caller's to tell */
        tell_messages(plain);
        use_input(plain);
    }
}

int plain_run(const struct tui_params *params, struct error *error)
{
    struct plain plain = {.told_turn = SIZE_MAX};
    setlocale(LC_CTYPE, "");
    int rc = desk_create(&plain.desk, params, error);
    if (!rc) rc = catch_signals(error);
    if (!rc) rc = desk_start(plain.desk, error);
    if (!rc) {
        tell_opening(plain.desk);
        tell_messages(&plain);
        loop(&plain);
        if (plain.desk->failed) {
            *error = plain.desk->failure;
            rc = (int)error->code;
        }
    }
    desk_destroy(&plain.desk);
    release_signals();
    text_block_free(&plain.input);
    return plain.ended_by ? 128 + plain.ended_by : rc;
}
