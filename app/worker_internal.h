/* SPDX-License-Identifier: MIT
 *
 * Inside the worker. Three threads meet here: the foreground (worker_* of worker.h), the reading thread (jobs), and the
 * saver, which waits for the store's queue so that the reading thread never does. `lock` guards what the first section
 * of the struct names; the last section belongs to the reading thread alone.
 *
 *   worker.c         life, jobs and their queue         worker_events.c  the way back to the foreground
 *   worker_state.c   restore, checkpoints, the saver    worker_answer.c  reading and answering
 */
#ifndef LECTERN_APP_WORKER_INTERNAL_H
#define LECTERN_APP_WORKER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "app/prompt.h"
#include "app/worker.h"

#define WORKER_CHECKPOINT_TOKENS 8192u /* at least every so many tokens ... */
#define WORKER_CHECKPOINT_SECONDS 60.0 /* ... or seconds of reading a state goes to the store */
/* Memory of the device for going back at once, without the disk; where there is no store nothing else goes back. */
#define WORKER_MARK_BYTES ((uint64_t)256 << 20)
#define WORKER_MARK_BYTES_EPHEMERAL ((uint64_t)1 << 30)

enum job_kind { JOB_OPEN, JOB_READ, JOB_ASK, JOB_REWIND, JOB_SAMPLING };

struct job {
    enum job_kind kind;
    uint64_t serial;
    int64_t session;
    struct worker_document *documents; /* deep copies */
    size_t n_documents;
    char *text; /* the question */
    size_t len, n_turns;
    struct sample_params sample;
    struct job *next;
};

struct event_node {
    struct event event;
    struct event_node *next;
};

struct worker {
    struct worker_params params;
    pthread_t thread, saver;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* jobs, stopping, saves */
    struct job *jobs, **jobs_end;
    uint64_t last_serial;
    struct event_node *events, *last_event;
    struct event_node spare; /* for the error that tells there is no memory */
    bool spare_used;
    int event_fd;
    bool stopping, saver_stopping, holds_saved_event, has_told_limit;
    uint64_t saves_queued, saves_done;

    atomic_uint_fast64_t cancelled_to; /* jobs up to this serial are to stop */
    atomic_bool is_stopping, save_failed;
    struct error unkept; /* why the last save failed, told already; code 0: it did not. Under lock */
    atomic_size_t length;
    _Atomic(struct engine *) engine;

    uint64_t serial; /* of the running job */
    struct timeline *timeline;
    struct sampler *sampler;
    int64_t session, held;    /* held: which one is marked as in use */
    struct token_list prompt; /* the prefix and the turns so far */
    size_t prefix;            /* tokens of it before the first question */
    bool has_documents;       /* in the prefix */
    size_t *turn_ends;        /* [n_turns] prompt length after each turn */
    size_t n_turns, turn_capacity;
    size_t saved_segments; /* leading row segments of the prompt known to be stored or queued */
    bool is_linked;        /* the store has a state that names the session */
    char other[192];       /* what the session was last used with, where that was something else */
};

double worker_clock(void); /* seconds, monotonic */
/* Test hook: tells the time instead. NULL: the system does. Set before the worker starts. */
extern double (*worker_clock_told)(void);
bool worker_is_cancelled(const struct worker *);
enum prompt_place worker_place(const struct worker *); /* of the next question */

/* Events. Out of memory is told through the spare node, once. */
void worker_emit(struct worker *, struct event *); /* takes text over */
void worker_emit_kind(struct worker *, enum event_kind);
void worker_emit_error(struct worker *, const struct error *);
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
void worker_note(struct worker *, enum error_code, const char *format, ...);
void worker_events_free(struct worker *);

/* State. */
void worker_hold(struct worker *, int64_t session); /* marks it as in use, and the one before no longer; 0 = none */
size_t worker_reusable(const struct worker *, const uint32_t *ids, size_t count); /* without evaluating or restoring */
/* Brings the timeline to the longest prefix of the prompt that is stored, if that is longer than what it has. */
int worker_restore(struct worker *, struct error *);
/* Queues the timeline's state, and the turns with it. Failing is told as a note; the work goes on. */
struct worker_save {
    bool keep;
    struct store_turn *turns;
    size_t n_turns;
};
void worker_save(struct worker *, const struct worker_save *);
void worker_count_stored(struct worker *);
void worker_mark(struct worker *);
/* timeline_sync and timeline_append; where memory is short the marks make room. */
int worker_sync(struct worker *, const uint32_t *ids, size_t count, const struct eval_hooks *, struct error *);
int worker_append(struct worker *, const uint32_t *ids, size_t count, const struct eval_hooks *, struct error *);
void worker_wait_saved(struct worker *);
/* Around a job's last event: EVENT_SAVED comes once more after it, when all that was queued is on disk. */
void worker_hold_saved(struct worker *);
void worker_release_saved(struct worker *);
void *worker_saver_main(void *);

/* Jobs. They end with their event, an error's included. */
void worker_run_read(struct worker *);
void worker_run_ask(struct worker *, const struct job *);
int worker_push_turn(struct worker *, struct error *); /* the prompt's end is a turn's end */

#endif
