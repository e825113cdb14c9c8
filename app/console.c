/* SPDX-License-Identifier: MIT
 *
 * stdout, stderr and signals of the plain commands.
 */
#include "app/console.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/progress.h"
#include "app/sanitize.h"

static struct {
    bool quiet, plain, stdout_gone;
    uint32_t verbose;
    int color, stdout_errno;
    int pipe[2];
    volatile sig_atomic_t signal;
} console = {.pipe = {-1, -1}};

void console_begin(const struct settings *s)
{
    console.quiet = s->quiet;
    console.plain = s->plain;
    console.verbose = s->verbose;
    console.color = s->color;
    signal(SIGPIPE, SIG_IGN);
}

static void print_line(const char *prefix, const char *format, va_list args)
{
    char raw[1024], safe[SANITIZE_ROOM(1024)];
    vsnprintf(raw, sizeof raw, format, args);
    sanitize_line(raw, safe, sizeof safe);
    progress_clear();
    fprintf(stderr, "%s%s\n", prefix, safe);
}

void console_say(const char *format, ...)
{
    if (console.quiet) return;
    va_list args;
    va_start(args, format);
    print_line("", format, args);
    va_end(args);
}

void console_detail(const char *format, ...)
{
    if (console.quiet || !console.verbose) return;
    va_list args;
    va_start(args, format);
    print_line("", format, args);
    va_end(args);
}

int console_error(const struct error *error)
{
    char safe[SANITIZE_ROOM(sizeof error->text)];
    sanitize_line(error->text, safe, sizeof safe);
    progress_clear();
    fprintf(stderr, "lectern: %s\n", safe);
    return (int)error->code;
}

bool console_is_quiet(void)
{
    return console.quiet;
}

static bool terminal_is_dumb(void)
{
    const char *term = getenv("TERM");
    return !term || !*term || !strcmp(term, "dumb");
}

bool console_draws(void)
{
    return !console.quiet && !console.plain && !terminal_is_dumb() && isatty(STDERR_FILENO);
}

bool console_colors(int descriptor)
{
    if (console.color != COLOR_AUTO) return console.color == COLOR_ALWAYS;
    const char *no_color = getenv("NO_COLOR");
    return !console.plain && !(no_color && *no_color) && !terminal_is_dumb() && isatty(descriptor);
}

bool console_write(const char *bytes, size_t n)
{
    if (console.stdout_gone) return false;
    errno = 0;
    if (fwrite(bytes, 1, n, stdout) == n && fflush(stdout) == 0) return true;
    console.stdout_gone = true;
    console.stdout_errno = errno;
    return false;
}

int console_finish(int status)
{
    errno = 0;
    if (!console.stdout_gone && (fflush(stdout) || ferror(stdout))) {
        console.stdout_gone = true;
        console.stdout_errno = errno;
    }
    if (!console.stdout_gone || status) return status;
    struct error error;
    int code = console.stdout_errno == ENOSPC ? ERROR_DISK : ERROR_FAILED;
    error_set(&error, (enum error_code)code, "The output cannot be written: %s.", strerror(console.stdout_errno));
    return console.stdout_errno == EPIPE ? code : console_error(&error);
}

static void note_signal(int signal)
{
    int saved = errno;
    if (console.signal) _exit(128 + signal);
    console.signal = signal;
    ssize_t ignored = write(console.pipe[1], "", 1);
    (void)ignored;
    errno = saved;
}

int console_catch_signals(struct error *error)
{
    if (pipe2(console.pipe, O_CLOEXEC | O_NONBLOCK))
        return error_set(error, ERROR_FAILED, "No pipe could be made: %s.", strerror(errno));
    static const int caught[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof caught / sizeof *caught; i++) {
        struct sigaction action = {.sa_handler = note_signal, .sa_flags = SA_RESTART};
        sigemptyset(&action.sa_mask);
        struct sigaction before;
        /* What the caller's shell ignores (nohup, a background job) stays ignored. */
        if (!sigaction(caught[i], NULL, &before) && before.sa_handler == SIG_IGN) continue;
        sigaction(caught[i], &action, NULL);
    }
    return 0;
}

int console_signal(void)
{
    return console.signal;
}

int console_signal_fd(void)
{
    return console.pipe[0];
}

int console_signal_status(int signal)
{
    return 128 + signal;
}
