/* SPDX-License-Identifier: MIT
 *
 * What `ask` and `ingest` share: documents, store, session and worker on a plain terminal, with progress on stderr and
 * signals that stop the work and keep what is whole.
 */
#ifndef LECTERN_APP_READER_H
#define LECTERN_APP_READER_H

#include "app/doc.h"
#include "app/json.h"
#include "app/options.h"
#include "app/worker.h"

struct reader {
    const struct settings *settings;
    char *model, *data_dir;
    struct document_list documents;
    struct store *store; /* NULL: --ephemeral */
    int64_t session;     /* 0: none */
    struct worker *worker;
    size_t resumed, total; /* tokens found stored, tokens of the prompt */
    size_t at;             /* tokens read so far */
    double resume_seconds;
    int signal;                 /* that asked us to stop */
    bool is_ready, output_gone; /* output_gone: set by a handler; the work stops */
    struct error unsaved;       /* why the last save failed; code 0: it did not */
    struct json *stream;        /* --stream-json, else NULL */
    struct json notes;          /* items of an array of the sentences told on the way */
    size_t n_notes;
};

struct reader_params {
    char *const *paths;
    size_t n_paths;
    int64_t session;      /* its stored documents are taken when there are no paths */
    bool one_shot, lists; /* see worker.h; lists: every document read is named */
    struct json *stream;
};

/* Reads the documents, finds or makes the session, starts the worker and opens the session in it. */
int reader_open(struct reader *, const struct settings *, const struct reader_params *, struct error *);
/* Fetches events, shows progress, hands each event on, and returns when one of kind `until` came. ERROR_CANCELLED: a
 * signal came before the model was there. */
int reader_wait(struct reader *, enum event_kind until, void (*handler)(void *ctx, const struct event *), void *ctx,
                struct error *);
/* Waits until what was read is on disk. Returns the error that kept it from there. */
int reader_wait_saved(struct reader *, struct error *);
/* Stops and frees; turns `status` into the program's exit code, told by a sentence where a signal ended the work. */
int reader_close(struct reader *, int status, const struct error *);

/* The documents as a JSON array under `key`, then those skipped under "skipped". */
void reader_describe_documents(const struct reader *, struct json *);

#endif
