/* SPDX-License-Identifier: MIT
 *
 * The screen: a chat over documents in a terminal. tui_run owns the terminal, starts the worker, and returns when the
 * user leaves; the terminal is then as it was before, also after a signal. See view.h for how the screen is made up.
 */
#ifndef LECTERN_APP_TUI_H
#define LECTERN_APP_TUI_H

#include <stdbool.h>

#include "app/worker.h"

struct tui_params {
    struct worker_params worker; /* how to start the reading thread; worker.store: where sessions live, NULL = none kept */
    int64_t session;             /* the session to open; 0 = the one over exactly these documents, else a new one */

    /* The documents, already read and cleaned; borrowed until tui_run returns. An id of 0 means not stored yet: they are
     * put into the store when there is one. Empty with session 0: the library is shown. */
    const struct store_document *documents;
    size_t n_documents;

    /* Reads one more file or folder, for /add and @. *out is malloced and the caller's, each item to be freed with
     * store_document_free. report (may be NULL) gets one sentence to tell, such as what was skipped; at most cap bytes. */
    int (*read)(void *ctx, const char *path, struct store_document **out, size_t *count, char *report, size_t cap,
                struct error *);
    void *read_ctx;

    const char *state_dir; /* folder of the question history (made 0700 when missing); NULL = keep none */
    bool color;            /* what --color and NO_COLOR came to */
    bool fresh;            /* a new session even when one over these documents exists */
};

/* Runs until the user quits. Returns 0, an error_code, or 128 + the number of the signal that ended it. */
int tui_run(const struct tui_params *, struct error *);

/* The same session line by line, for screen readers and terminals without a screen: no cursor movement, no colour. */
int plain_run(const struct tui_params *, struct error *);

#endif
