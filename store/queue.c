/* SPDX-License-Identifier: MIT
 *
 * The writer thread. Jobs are done in order; the caller waits only while more than two saves are pending. The first
 * error is kept until the next call reports it.
 */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

#define MOST_PENDING 2

struct job {
    struct job *next;
    struct store_save save;
    int64_t touch; /* a snapshot that was loaded: no save then */
};

struct queue {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct job *first, **last;
    size_t pending; /* saves queued or being written */
    bool busy;      /* a job is being done */
    bool stop;
    int rc; /* of the first failure not yet reported */
    struct error error;
};

/* --------------------------------------------------------------------------------------------------- saves */

static void save_free(struct store_save *save)
{
    free(save->ids);
    for (size_t i = 0; save->rows && i < save->n_rows; i++) free(save->rows[i].data);
    free(save->rows);
    free(save->tail.data);
    free(save->snapshot.data);
    *save = (struct store_save){0};
}

static void job_free(struct job *job)
{
    if (!job) return;
    for (size_t i = 0; job->save.turns && i < job->save.n_turns; i++) turn_free(&job->save.turns[i]);
    free(job->save.turns);
    free((char *)job->save.model_name);
    save_free(&job->save);
    free(job);
}

static void *copy_bytes(const void *data, size_t size, bool *ok)
{
    if (!data) return NULL;
    unsigned char *copy = store_alloc(size + 1);
    if (!copy)
        *ok = false;
    else if (size)
        memcpy(copy, data, size);
    return copy;
}

static struct store_turn turn_copy(const struct store_turn *turn, bool *ok)
{
    struct store_turn copy = *turn;
    copy.text = copy_bytes(turn->text, turn->text_len, ok);
    copy.meta = copy_bytes(turn->meta, turn->meta ? strlen(turn->meta) : 0, ok);
    copy.ids = copy_bytes(turn->ids, turn->n_ids * sizeof *turn->ids, ok);
    return copy;
}

/* Takes the blobs over; on failure nothing was taken. */
static struct job *job_make(const struct store_save *save)
{
    struct job *job = store_alloc(sizeof *job);
    if (!job) return NULL;
    bool ok = true;
    struct store_turn *turns = save->n_turns ? store_alloc(save->n_turns * sizeof *turns) : NULL;
    if (save->n_turns && !turns) ok = false;
    for (size_t i = 0; turns && i < save->n_turns; i++) turns[i] = turn_copy(&save->turns[i], &ok);
    job->save.turns = turns;
    job->save.n_turns = turns ? save->n_turns : 0;
    job->save.model_name = store_strdup(save->model_name);
    if (save->model_name && !job->save.model_name) ok = false;
    if (!ok) {
        job_free(job);
        return NULL;
    }
    struct store_save mine = *save;
    mine.turns = job->save.turns;
    mine.model_name = job->save.model_name;
    job->save = mine;
    return job;
}

static int save_check(const struct store_save *save, struct error *error)
{
    size_t full = save->count / STORE_SEGMENT;
    bool tail = save->count % STORE_SEGMENT != 0;
    bool rows_fit = save->first_segment <= full && save->n_rows <= full - save->first_segment;
    bool snapshot_fits = !save->snapshot.size || (save->count && tail == (save->tail.size != 0));
    bool turns_fit = !save->n_turns || save->session;
    if (rows_fit && snapshot_fits && turns_fit) return 0;
    return error_set(error, ERROR_USAGE,
                     "A save does not fit together: its rows, tail or turns do not match its tokens.");
}

/* ------------------------------------------------------------------------------------------------- the thread */

static int job_do(struct store *store, const struct job *job, struct error *error)
{
    if (!job->touch) return save_commit(store, &job->save, error);
    struct error ignored; /* a lost time of use costs nothing but a little precision in eviction */
    if (write_begin(store, &ignored)) return 0;
    int rc = db_run(store->writer, "UPDATE snapshot SET used = ?2 WHERE id = ?1",
                    DB_VALUES(db_int(job->touch), db_int(store_now_micros())), &ignored);
    write_end(store, rc, &ignored);
    return 0;
}

static struct job *queue_take(struct queue *q)
{
    while (!q->first && !q->stop) pthread_cond_wait(&q->changed, &q->mutex);
    struct job *job = q->first;
    if (!job) return NULL;
    q->first = job->next;
    if (!q->first) q->last = &q->first;
    q->busy = true;
    return job;
}

static void *queue_run(void *arg)
{
    struct store *store = arg;
    struct queue *q = store->queue;
    struct job *job;
    pthread_mutex_lock(&q->mutex);
    while ((job = queue_take(q))) {
        pthread_mutex_unlock(&q->mutex);
        struct error error = {0};
        int rc = job_do(store, job, &error);
        bool save = job->touch == 0;
        job_free(job);
        pthread_mutex_lock(&q->mutex);
        if (rc && !q->rc) {
            q->rc = rc;
            q->error = error;
        }
        if (save) q->pending--;
        q->busy = false;
        pthread_cond_broadcast(&q->changed);
    }
    pthread_mutex_unlock(&q->mutex);
    return NULL;
}

int queue_start(struct store *store, struct error *error)
{
    struct queue *q = store_alloc(sizeof *q);
    if (!q) return store_no_memory(error);
    pthread_mutex_init(&q->mutex, NULL);
    pthread_cond_init(&q->changed, NULL);
    q->last = &q->first;
    store->queue = q;
    if (!pthread_create(&q->thread, NULL, queue_run, store)) return 0;
    store->queue = NULL;
    pthread_mutex_destroy(&q->mutex);
    pthread_cond_destroy(&q->changed);
    free(q);
    return error_set(error, ERROR_FAILED, "The store's thread cannot be started.");
}

void queue_stop(struct store *store)
{
    struct queue *q = store->queue;
    if (!q) return;
    pthread_mutex_lock(&q->mutex);
    q->stop = true;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->mutex);
    pthread_join(q->thread, NULL);
    pthread_mutex_destroy(&q->mutex);
    pthread_cond_destroy(&q->changed);
    free(q);
    store->queue = NULL;
}

/* -------------------------------------------------------------------------------------------------- callers */

static int queue_report(struct queue *q, struct error *error)
{
    int rc = q->rc;
    if (rc && error) *error = q->error;
    q->rc = 0;
    return rc;
}

static void queue_put(struct queue *q, struct job *job)
{
    *q->last = job;
    q->last = &job->next;
    if (!job->touch) q->pending++;
    pthread_cond_broadcast(&q->changed);
}

int store_queue_save(struct store *store, struct store_save *save, struct error *error)
{
    struct queue *q = store->queue;
    int rc = save_check(save, error);
    struct job *job = rc ? NULL : job_make(save);
    if (!rc && !job) rc = store_no_memory(error);
    if (!job) save_free(save);
    if (rc) return rc;
    pthread_mutex_lock(&q->mutex);
    while (q->pending > MOST_PENDING && !q->rc) pthread_cond_wait(&q->changed, &q->mutex);
    rc = queue_report(q, error);
    if (!rc) queue_put(q, job);
    pthread_mutex_unlock(&q->mutex);
    if (rc) job_free(job);
    return rc;
}

int store_queue_flush(struct store *store, struct error *error)
{
    struct queue *q = store->queue;
    pthread_mutex_lock(&q->mutex);
    while (q->first || q->busy) pthread_cond_wait(&q->changed, &q->mutex);
    int rc = queue_report(q, error);
    pthread_mutex_unlock(&q->mutex);
    return rc;
}

void queue_touch(struct store *store, int64_t snapshot)
{
    struct job *job = store_alloc(sizeof *job);
    if (!job) return;
    job->touch = snapshot;
    pthread_mutex_lock(&store->queue->mutex);
    queue_put(store->queue, job);
    pthread_mutex_unlock(&store->queue->mutex);
}
