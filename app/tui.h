/* SPDX-License-Identifier: MIT
 *
 * The screen: a chat over documents in a terminal. tui_run owns the terminal, starts the worker, and returns when the
 * user leaves; the terminal is then as it was before, also after a signal. See view.h for how the screen is made up.
 */
#ifndef LECTERN_APP_TUI_H
#define LECTERN_APP_TUI_H

#include <stdbool.h>

#include "app/doc.h"
#include "app/worker.h"

struct tui_params {
    struct worker_params worker; /* how to start the reading thread; worker.store: where sessions live, NULL = none kept */

    int64_t session; /* the session to open; 0 = the latest over exactly these documents, else a new one */
    bool fresh;      /* a new session even where one over these documents exists */

    /* The documents, read already; borrowed until the return. They are put into the store when there is one. None, and
     * session 0: the library is shown. With a session they are ignored: it has its own. */
    const struct document_list *documents;

    const char *state_dir; /* folder of the question history (made 0700 when missing); NULL = keep none */
    bool color;            /* what --color, NO_COLOR and TERM came to */
};

/* Runs until the user quits. Returns 0, an error_code, or 128 + the number of the signal that ended it. A terminal that
 * cannot do it (TERM=dumb, no terminal at all) is ERROR_USAGE with a sentence that names --plain. */
int tui_run(const struct tui_params *, struct error *);

/* The same session line by line, for screen readers and terminals without a screen: no cursor movement, no colour. */
int plain_run(const struct tui_params *, struct error *);

#endif
