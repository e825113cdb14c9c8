/* SPDX-License-Identifier: MIT
 *
 * The / commands: one table that makes the parser, the completion and the help. Those that need no screen work in the
 * line mode too.
 */
#ifndef LECTERN_APP_COMMANDS_SLASH_H
#define LECTERN_APP_COMMANDS_SLASH_H

#include "app/view.h"

/* Where a command runs. */
struct slash_context {
    struct desk *desk;
    struct tui *tui;                              /* NULL in the line mode */
    void (*say)(void *ctx, const char *sentence); /* one line of an answer */
    void *ctx;
    bool wants_quit;
};

struct slash_command {
    const char *name;      /* without the slash */
    const char *arguments; /* "FILE", "[NAME]"; "" = none */
    const char *help;
    bool needs_screen;
    bool takes_path;                                                          /* its argument is completed as a path */
    int (*run)(struct slash_context *, const char *argument, struct error *); /* argument: trimmed, may be "" */
};
const struct slash_command *slash_table(size_t *count);

/* Is this input a command? "/" first, and a letter after it. */
bool slash_is_command(const char *input);
/* Runs it. An unknown one, or one that would do nothing here, is ERROR_USAGE. */
int slash_run(struct slash_context *, const char *input, struct error *);

#endif
