/* SPDX-License-Identifier: MIT
 *
 * The worker's life and its jobs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "app/memory_plan.h"
#include "app/progress.h"
#include "app/prompt.h"
#include "app/worker_internal.h"

double (*worker_clock_told)(void);

double worker_clock(void)
{
    if (worker_clock_told) return worker_clock_told();
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

bool worker_is_cancelled(const struct worker *w)
{
    return atomic_load(&w->is_stopping) || w->serial <= atomic_load(&w->cancelled_to);
}

/* ------------------------------------------------------------------------------------------------- opening */

static bool note_loading(void *ctx, uint64_t done, uint64_t total)
{
    struct worker *w = ctx;
    worker_emit(w, &(struct event){.kind = EVENT_LOADING, .done = done, .total = total});
    return !atomic_load(&w->is_stopping);
}

/* What does not fit is refused with what would; what is worth knowing of what fits is told. */
static int check_memory(struct worker *w, const struct engine_params *params, struct error *error)
{
    struct engine_plan plan;
    char note[MEMORY_NOTE_ROOM];
    int rc = memory_plan_check(&plan, params, 0, note, error);
    if (!rc && *note) worker_note(w, ERROR_NONE, "%s", note);
    return rc;
}

static int open_engine(struct worker *w, struct error *error)
{
    struct engine_params params = w->params.engine;
    params.progress = note_loading;
    params.progress_ctx = w;
    struct engine *engine = NULL;
    int rc = check_memory(w, &params, error);
    if (!rc) rc = engine_open(&engine, &params, error);
    if (!rc && chat_note(engine)) worker_note(w, ERROR_NONE, "%s", chat_note(engine));
    if (!rc) rc = timeline_create(&w->timeline, engine, error);
    if (!rc) rc = sampler_create(&w->sampler, &w->params.sample, engine_info(engine)->n_vocab, error);
    if (!rc) {
        atomic_store(&w->engine, engine);
        return 0;
    }
    timeline_destroy(&w->timeline);
    engine_close(&engine);
    return rc;
}

/* ------------------------------------------------------------------------------------------------- sessions */

int worker_push_turn(struct worker *w, struct error *error)
{
    if (w->n_turns == w->turn_capacity) {
        size_t capacity = w->turn_capacity ? w->turn_capacity * 2 : 16;
        size_t *ends = realloc(w->turn_ends, capacity * sizeof *ends);
        if (!ends) return error_set(error, ERROR_FAILED, "Out of memory.");
        w->turn_ends = ends;
        w->turn_capacity = capacity;
    }
    w->turn_ends[w->n_turns++] = w->prompt.count;
    return 0;
}

enum prompt_place worker_place(const struct worker *w)
{
    if (w->n_turns) return PROMPT_LATER;
    return w->has_documents ? PROMPT_ON_DOCUMENTS : PROMPT_ALONE;
}

static int add_stored_turn(struct worker *w, const struct store_turn *t, struct error *error)
{
    const struct prompt_turn turn = {
        .is_question = t->role == STORE_USER,
        .place = worker_place(w),
        .text = t->text,
        .len = t->text_len,
        .ids = t->ids,
        .n_ids = t->n_ids,
    };
    int rc = prompt_kept_turn(w->engine, &turn, &w->prompt, error);
    return rc ? rc : worker_push_turn(w, error);
}

struct dtype_name {
    enum engine_dtype dtype;
    const char *name;
};

/* The options that give the session its state back, where this very model made it with other types. */
static int find_types(const struct worker *w, const uint8_t key[STORE_KEY], char *out, size_t cap, struct error *error)
{
    static const struct dtype_name states[] = {{ENGINE_F32, "f32"}, {ENGINE_F16, "f16"}};
    static const struct dtype_name rows[] = {{ENGINE_F32, "f32"}, {ENGINE_F16, "f16"}, {ENGINE_Q8_0, "q8_0"}};
    enum { ROWS = sizeof rows / sizeof *rows, ALL = ROWS * sizeof states / sizeof *states };
    for (size_t i = 0; i < ALL; i++) {
        const struct dtype_name *state = &states[i / ROWS], *row = &rows[i % ROWS];
        uint8_t other[STORE_KEY];
        int rc = engine_state_key(w->engine, state->dtype, row->dtype, other, error);
        if (rc) return rc;
        if (memcmp(other, key, STORE_KEY)) continue;
        snprintf(out, cap, "other types of state (--state-dtype %s --kv-dtype %s)", state->name, row->name);
        return 0;
    }
    return 0;
}

/* Says what the session was last used with where that was something else, in w->other. */
static int compare_model(struct worker *w, const struct store_session *s, struct error *error)
{
    const struct engine_info *info = engine_info(w->engine);
    w->is_linked = !memcmp(s->model, info->state_key, STORE_KEY);
    if (w->is_linked || !s->n_tokens) return 0;
    int rc = find_types(w, s->model, w->other, sizeof w->other, error);
    if (rc || *w->other) return rc;
    const char *name = s->model_name ? s->model_name : "another model";
    bool same_name = !strcmp(name, info->model_name);
    snprintf(w->other, sizeof w->other, "%s%.120s", same_name ? "another file of " : "", name);
    return 0;
}

static int add_stored_turns(struct worker *w, struct error *error)
{
    struct store_session_list sessions = {0};
    struct store_turn_list turns = {0};
    int rc = store_session_get(w->params.store, w->session, &sessions, error);
    if (!rc && sessions.count) rc = compare_model(w, sessions.items, error);
    if (!rc && !w->params.one_shot) rc = store_turns(w->params.store, w->session, &turns, error);
    for (size_t i = 0; !rc && i < turns.count; i++) rc = add_stored_turn(w, &turns.items[i], error);
    store_turn_list_free(&turns);
    store_session_list_free(&sessions);
    return rc;
}

/* What another model left is of no use to this one; what this one left there earlier is. */
static void tell_other(struct worker *w)
{
    size_t count = w->prompt.count, kept = worker_reusable(w, w->prompt.ids, count);
    char again[32], all[32];
    if (*w->other && kept < count)
        worker_note(w, ERROR_NONE, "This session was last used with %s: %s of its %s tokens are read again.", w->other,
                    format_count(count - kept, again), format_count(count, all));
}

static int build_prompt(struct worker *w, const struct job *job, struct error *error)
{
    worker_hold(w, job->session);
    w->session = job->session;
    w->prompt.count = w->prefix = w->n_turns = 0;
    w->is_linked = false;
    *w->other = 0;
    w->saved_segments = 0;
    int rc = prompt_prefix(w->engine, w->params.system_text, job->documents, job->n_documents, &w->prompt, error);
    w->prefix = w->prompt.count;
    w->has_documents = job->n_documents > 0;
    if (!rc && w->session && w->params.store) rc = add_stored_turns(w, error);
    size_t context = engine_info(w->engine)->context;
    if (rc || w->prompt.count + 3 <= context) return rc;
    char documents[32], turns[32], room[32];
    format_count(w->prefix, documents);
    format_count(context, room);
    if (w->n_turns)
        return error_set(error, ERROR_FIT, "The documents take %s tokens, the conversation %s, the context holds %s.",
                         documents, format_count(w->prompt.count - w->prefix, turns), room);
    return error_set(error, ERROR_FIT,
                     "The documents take %s tokens and the context holds %s: give fewer, or a larger --ctx.", documents,
                     room);
}

static void run_open(struct worker *w, const struct job *job)
{
    struct error error;
    double began = worker_clock();
    int rc = build_prompt(w, job, &error);
    if (!rc) rc = worker_restore(w, &error);
    if (rc && rc != ERROR_CANCELLED) {
        w->prompt.count = w->prefix = w->n_turns = 0;
        worker_emit_error(w, &error);
        return;
    }
    if (!rc) tell_other(w);
    worker_emit(w, &(struct event){.kind = EVENT_RESUMED,
                                   .done = worker_reusable(w, w->prompt.ids, w->prompt.count),
                                   .total = w->prompt.count,
                                   .seconds = worker_clock() - began,
                                   .stopped = rc == ERROR_CANCELLED});
}

/* An answer belongs to its question: an odd number of turns is rounded down. */
static void run_rewind(struct worker *w, const struct job *job)
{
    struct error error;
    size_t kept = job->n_turns / 2 * 2;
    if (kept > w->n_turns) kept = w->n_turns;
    if (w->session && w->params.store && !w->params.one_shot) {
        worker_wait_saved(w);
        if (store_session_truncate(w->params.store, w->session, kept, &error)) {
            worker_emit_error(w, &error);
            return;
        }
    }
    w->n_turns = kept;
    w->prompt.count = kept ? w->turn_ends[kept - 1] : w->prefix;
    atomic_store(&w->length, w->prompt.count);
}

static void run_sampling(struct worker *w, const struct job *job)
{
    struct error error;
    struct sampler *sampler = NULL;
    if (sampler_create(&sampler, &job->sample, engine_info(w->engine)->n_vocab, &error)) {
        worker_emit_error(w, &error);
        return;
    }
    sampler_destroy(&w->sampler);
    w->sampler = sampler;
}

/* ----------------------------------------------------------------------------------------------------- jobs */

static void free_documents(struct worker_document *documents, size_t count)
{
    for (size_t i = 0; documents && i < count; i++) {
        free((void *)(uintptr_t)documents[i].name); /* ours: copy_documents made them */
        free((void *)(uintptr_t)documents[i].text);
    }
    free(documents);
}

static void free_job(struct job *job)
{
    if (!job) return;
    free_documents(job->documents, job->n_documents);
    free(job->text);
    free(job);
}

static struct job *next_job(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    while (!w->jobs && !w->stopping) pthread_cond_wait(&w->changed, &w->lock);
    struct job *job = w->stopping ? NULL : w->jobs;
    if (job) {
        w->jobs = job->next;
        if (!w->jobs) w->jobs_end = &w->jobs;
    }
    pthread_mutex_unlock(&w->lock);
    return job;
}

static void run_job(struct worker *w, const struct job *job)
{
    w->serial = job->serial;
    switch (job->kind) {
    case JOB_OPEN:
        run_open(w, job);
        break;
    case JOB_READ:
        worker_run_read(w);
        break;
    case JOB_ASK:
        worker_run_ask(w, job);
        break;
    case JOB_REWIND:
        run_rewind(w, job);
        break;
    case JOB_SAMPLING:
        run_sampling(w, job);
        break;
    }
}

static void *worker_main(void *ctx)
{
    struct worker *w = ctx;
    struct error unopened = {0};
    int rc = open_engine(w, &unopened);
    if (rc)
        worker_emit_error(w, &unopened);
    else
        worker_emit_kind(w, EVENT_READY);
    for (struct job *job; (job = next_job(w)); free_job(job)) {
        if (rc)
            worker_emit_error(w, &unopened);
        else
            run_job(w, job);
    }
    return NULL;
}

static int give_job(struct worker *w, const struct job *values, struct error *error)
{
    struct job *job = malloc(sizeof *job);
    if (!job) {
        free_documents(values->documents, values->n_documents);
        free(values->text);
        return error_set(error, ERROR_FAILED, "Out of memory.");
    }
    *job = *values;
    job->next = NULL;
    pthread_mutex_lock(&w->lock);
    job->serial = ++w->last_serial;
    *w->jobs_end = job;
    w->jobs_end = &job->next;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    return 0;
}

static char *copy_bytes(const char *bytes, size_t n)
{
    char *copy = n < SIZE_MAX ? malloc(n + 1) : NULL;
    if (!copy) return NULL;
    if (n) memcpy(copy, bytes, n);
    copy[n] = 0;
    return copy;
}

int worker_open(struct worker *w, int64_t session, const struct worker_document *documents, size_t count,
                struct error *error)
{
    struct job job = {.kind = JOB_OPEN, .session = session, .n_documents = count};
    job.documents = calloc(count + 1, sizeof *job.documents);
    bool good = job.documents != NULL;
    for (size_t i = 0; good && i < count; i++) {
        struct worker_document *d = &job.documents[i];
        d->name = strdup(documents[i].name ? documents[i].name : "");
        d->text = copy_bytes(documents[i].text, documents[i].text_len);
        d->text_len = documents[i].text_len;
        good = d->name && d->text;
    }
    if (good) return give_job(w, &job, error);
    free_documents(job.documents, count);
    return error_set(error, ERROR_FAILED, "Out of memory.");
}

int worker_read(struct worker *w, struct error *error)
{
    return give_job(w, &(struct job){.kind = JOB_READ}, error);
}

int worker_ask(struct worker *w, const char *question, size_t len, struct error *error)
{
    struct job job = {.kind = JOB_ASK, .text = copy_bytes(question, len), .len = len};
    return job.text ? give_job(w, &job, error) : error_set(error, ERROR_FAILED, "Out of memory.");
}

int worker_rewind(struct worker *w, size_t n_turns, struct error *error)
{
    return give_job(w, &(struct job){.kind = JOB_REWIND, .n_turns = n_turns}, error);
}

int worker_sampling(struct worker *w, const struct sample_params *sample, struct error *error)
{
    return give_job(w, &(struct job){.kind = JOB_SAMPLING, .sample = *sample}, error);
}

/* What was given before is meant, also when the reading thread has not come to it yet. */
void worker_cancel(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    atomic_store(&w->cancelled_to, w->last_serial);
    pthread_mutex_unlock(&w->lock);
}

/* ----------------------------------------------------------------------------------------------------- life */

static void stop_saver(struct worker *w)
{
    if (!w->params.store) return;
    pthread_mutex_lock(&w->lock);
    w->saver_stopping = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->saver, NULL);
}

static int start_threads(struct worker *w, struct error *error)
{
    if (w->params.store && pthread_create(&w->saver, NULL, worker_saver_main, w))
        return error_set(error, ERROR_FAILED, "No thread could be started.");
    if (!pthread_create(&w->thread, NULL, worker_main, w)) return 0;
    stop_saver(w);
    return error_set(error, ERROR_FAILED, "No thread could be started.");
}

static void destroy(struct worker *w)
{
    while (w->jobs) {
        struct job *job = w->jobs;
        w->jobs = job->next;
        free_job(job);
    }
    worker_hold(w, 0);
    worker_events_free(w);
    sampler_destroy(&w->sampler);
    timeline_destroy(&w->timeline);
    struct engine *engine = atomic_load(&w->engine);
    engine_close(&engine);
    token_list_free(&w->prompt);
    free(w->turn_ends);
    if (w->event_fd >= 0) close(w->event_fd);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

int worker_start(struct worker **out, const struct worker_params *params, struct error *error)
{
    *out = NULL;
    struct worker *w = calloc(1, sizeof *w);
    if (!w) return error_set(error, ERROR_FAILED, "Out of memory.");
    w->params = *params;
    w->jobs_end = &w->jobs;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int rc = w->event_fd < 0 ? error_set(error, ERROR_FAILED, "No eventfd: %s.", strerror(errno)) : 0;
    if (!rc) rc = start_threads(w, error);
    if (rc)
        destroy(w);
    else
        *out = w;
    return rc;
}

void worker_stop(struct worker **worker)
{
    struct worker *w = *worker;
    if (!w) return;
    *worker = NULL;
    atomic_store(&w->is_stopping, true);
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    stop_saver(w);
    destroy(w);
}

const struct engine *worker_engine(const struct worker *w)
{
    return atomic_load(&w->engine);
}

size_t worker_length(const struct worker *w)
{
    return atomic_load(&w->length);
}
