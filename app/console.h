/* SPDX-License-Identifier: MIT
 *
 * The plain terminal: stdout for data, stderr for the rest, both safe from control characters; signals for programs
 * without a screen. One process-wide state, as the streams are.
 */
#ifndef LECTERN_APP_CONSOLE_H
#define LECTERN_APP_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

#include "app/options.h"

/* Takes --quiet, -v, --plain and --color; ignores SIGPIPE. */
void console_begin(const struct settings *);

/* One line on stderr: remarks (silent when --quiet), details (only with -v), and errors ("lectern: sentence"). */
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
void console_say(const char *format, ...);
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
void console_detail(const char *format, ...);
int console_error(const struct error *); /* returns its code */

bool console_is_quiet(void);
bool console_draws(void);            /* may stderr be redrawn? (a terminal, not dumb, not --quiet, not --plain) */
bool console_colors(int descriptor); /* --color, NO_COLOR, TERM=dumb, isatty */

/* Writes n bytes to stdout as they are. false once stdout is gone. */
bool console_write(const char *bytes, size_t n);
/* Flushes stdout; a failed write turns status 0 into ERROR_DISK (no space) or ERROR_FAILED, with a sentence. */
int console_finish(int status);

/* SIGINT, SIGTERM and SIGHUP set a flag and make the descriptor readable. A second SIGINT ends at once. */
int console_catch_signals(struct error *);
int console_signal(void);              /* the signal that came, 0 = none */
int console_signal_fd(void);           /* for poll */
int console_signal_status(int signal); /* 130 or 143 */

#endif
