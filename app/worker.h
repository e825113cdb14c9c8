/* SPDX-License-Identifier: MIT
 *
 * The reading thread. One worker owns the engine, its timeline and the store's side of them; the foreground (the TUI, or
 * `ask` on a plain terminal) gives it jobs and receives events. Nothing here draws or prints.
 *
 * A session is documents + turns; the worker keeps the timeline at the prompt's prefix, restores the longest stored one,
 * evaluates the rest in batches (checkpointing on the way), streams the answer, and commits answer and state together.
 */
#ifndef LECTERN_APP_WORKER_H
#define LECTERN_APP_WORKER_H

#include "app/speed.h"
#include "engine/engine.h"
#include "store/store.h"

struct worker;

enum event_kind {
    EVENT_LOADING,  /* done, total: bytes of weights */
    EVENT_READY,    /* engine open: worker_engine is valid */
    EVENT_RESUMED,  /* done = tokens restored, total = tokens of the prompt, seconds */
    EVENT_READING,  /* done, total: tokens; seconds since the start of this reading; rate tok/s, eta s */
    EVENT_READ,     /* documents read to the end; same fields */
    EVENT_TEXT,     /* text: a piece of the answer, valid UTF-8, not yet sanitised for a terminal */
    EVENT_ANSWERED, /* the answer is complete or stopped; see stats and stopped */
    EVENT_SAVED,    /* state and turns are on disk */
    EVENT_NOTE,     /* text: one sentence worth telling (a state refused, a checkpoint failed, ...) */
    EVENT_ERROR,    /* error: the job failed; the worker goes on */
};

/* How an answer came to its end. REPEATED: the model said the same over and over (app/repeat.h); that is cut but for its
 * first time, in the answer, its events and its state alike, and a note tells. */
enum answer_end { ANSWER_WHOLE, ANSWER_STOPPED, ANSWER_MOST_TOKENS, ANSWER_CONTEXT_FULL, ANSWER_REPEATED };
const char *answer_end_name(enum answer_end); /* whole, stopped, max-tokens, context, repeated */

struct answer_stats {
    enum answer_end end;
    size_t prompt_tokens, reused_tokens, answer_tokens;
    double prompt_seconds, answer_seconds, first_token_seconds;
};

struct event {
    enum event_kind kind;
    uint64_t done, total;
    double seconds, rate, eta;
    struct speed speed; /* READ: what it took, for speed_keep */
    char *text; /* owned by the event */
    size_t text_len;
    bool stopped; /* by the user */
    struct answer_stats stats;
    struct error error;
};
void event_free(struct event *);

struct worker_params {
    struct engine_params engine; /* strings must outlive the worker */
    struct sample_params sample;
    uint32_t most_answer_tokens; /* 0 = 1024 */
    bool one_shot;               /* each question stands alone on the documents: no turns are read or kept (ask) */
    const char *system_text;     /* NULL = the default reading assistant */
    struct store *store;         /* borrowed; NULL = nothing is kept (--ephemeral) */
    uint64_t store_max;          /* bytes of states kept; 0 = no limit */
};

int worker_start(struct worker **out, const struct worker_params *, struct error *error);
void worker_stop(struct worker **); /* cancels, saves what is whole, joins */

/* The pieces of the prompt. Documents are given in order; text is copied. */
struct worker_document {
    const char *name; /* shown to the model when there are several documents */
    const char *text;
    size_t text_len;
};

/* Jobs; each returns at once. A job given while one runs waits its turn. */
int worker_open(struct worker *, int64_t session, const struct worker_document *, size_t count, struct error *);
int worker_read(struct worker *, struct error *);                    /* read the documents now, ask later */
int worker_ask(struct worker *, const char *question, size_t len, struct error *);
int worker_rewind(struct worker *, size_t n_turns, struct error *);  /* keep the first n_turns (user + assistant) */
int worker_sampling(struct worker *, const struct sample_params *, struct error *);
void worker_cancel(struct worker *); /* the running job stops at the next batch or token and keeps its part */

/* Next event; waits at most timeout_ms (-1 = for ever). false when none came. The caller frees it. */
bool worker_event(struct worker *, struct event *out, int timeout_ms);
/* A descriptor that is readable while events wait, for poll beside the keyboard. */
int worker_fd(const struct worker *);

/* Valid after EVENT_READY; read-only. */
const struct engine *worker_engine(const struct worker *);
size_t worker_length(const struct worker *); /* tokens in the timeline, for the status line */

#endif
