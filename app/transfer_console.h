/* SPDX-License-Identifier: MIT
 *
 * Hooks that show a download, or a file being read, on the console: the progress line with rate and time left, remarks
 * on stderr, and Ctrl-C.
 */
#ifndef LECTERN_APP_TRANSFER_CONSOLE_H
#define LECTERN_APP_TRANSFER_CONSOLE_H

#include "app/download.h"

struct transfer_console {
    struct download_hooks hooks;
    enum download_phase phase;
    bool has_begun;
    uint64_t first_done, first_ms; /* of the present phase */
};

/* Catches signals too; the hooks point into *t. */
int transfer_console_begin(struct transfer_console *t, struct error *);
/* The exit code of a command that ended with rc: the sentence is printed, and a signal's code used. */
int transfer_console_end(int rc, const struct error *);

#endif
