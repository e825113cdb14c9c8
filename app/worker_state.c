/* SPDX-License-Identifier: MIT
 *
 * The worker's state between engine and store: the longest stored prefix comes back through restore_*, what is read
 * goes out as row segments and snapshots, and the saver waits for the disk.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "app/state_load.h"
#include "app/worker_internal.h"

static_assert(STATE_SEGMENT == STORE_SEGMENT, "a row segment is the same for engine and store");

/* ------------------------------------------------------------------------------------------------- marks */

size_t worker_reusable(const struct worker *w, const uint32_t *ids, size_t count)
{
    return timeline_reusable(w->timeline, ids, count);
}

/* Failing costs a restore when it comes to going back: not an error. */
void worker_mark(struct worker *w)
{
    struct error error;
    uint64_t bytes = engine_info(w->engine)->state_bytes;
    uint64_t most = (w->params.store ? WORKER_MARK_BYTES : WORKER_MARK_BYTES_EPHEMERAL) / (bytes ? bytes : 1);
    timeline_mark(w->timeline, most < 1 ? 1 : most < 64 ? (uint32_t)most : 64, &error);
}

int worker_sync(struct worker *w, const uint32_t *ids, size_t count, const struct eval_hooks *hooks,
                struct error *error)
{
    struct error unmarked;
    int rc = timeline_sync(w->timeline, ids, count, hooks, NULL, error);
    if (rc != ERROR_FIT || timeline_mark(w->timeline, 0, &unmarked)) return rc;
    return timeline_sync(w->timeline, ids, count, hooks, NULL, error);
}

int worker_append(struct worker *w, const uint32_t *ids, size_t count, const struct eval_hooks *hooks,
                  struct error *error)
{
    struct error unmarked;
    size_t before = timeline_length(w->timeline);
    int rc = timeline_append(w->timeline, ids, count, NULL, hooks, error);
    if (rc != ERROR_FIT || timeline_mark(w->timeline, 0, &unmarked)) return rc;
    size_t done = timeline_length(w->timeline) - before; /* what does not fit has changed nothing */
    return timeline_append(w->timeline, ids + done, count - done, NULL, hooks, error);
}

/* -------------------------------------------------------------------------------------------------- in use */

void worker_hold(struct worker *w, int64_t session)
{
    struct error error;
    if (!w->params.store || w->held == session) return;
    if (w->held) store_session_release(w->params.store, w->held);
    w->held = 0;
    if (session && store_session_hold(w->params.store, session, &error))
        worker_note(w, ERROR_NONE, "Its states may be removed while it is open: %.300s", error.text);
    else
        w->held = session;
}

/* ----------------------------------------------------------------------------------------------- restore */

static bool is_stopped(void *ctx)
{
    return worker_is_cancelled(ctx);
}

static int load_timeline(struct worker *w, size_t position, struct timeline **out, struct error *error)
{
    const struct state_load load = {
        .store = w->params.store,
        .engine = w->engine,
        .ids = w->prompt.ids,
        .position = position,
        .stop = is_stopped,
        .ctx = w,
    };
    return state_load(&load, out, error);
}

/* Where memory holds only one timeline, the old one makes room. */
static int load_timeline_or_make_room(struct worker *w, size_t position, struct timeline **out, struct error *error)
{
    int rc = load_timeline(w, position, out, error);
    if (rc != ERROR_FIT) return rc;
    w->saved_segments = 0;
    timeline_destroy(&w->timeline);
    rc = load_timeline(w, position, out, error);
    if (!rc) return 0;
    struct error again;
    return timeline_create(&w->timeline, w->engine, &again) ? error_set(error, again.code, "%s", again.text) : rc;
}

static int find_prefix(struct worker *w, size_t limit, size_t *position, struct error *error)
{
    *position = 0;
    return store_find_prefix(w->params.store, engine_info(w->engine)->state_key, w->prompt.ids, limit, position, error);
}

static int load_back(void *ctx, const void *bytes, size_t size, struct error *error)
{
    return timeline_go_back(ctx, bytes, size, error);
}

static size_t common_length(const struct worker *w)
{
    const uint32_t *ids = timeline_tokens(w->timeline);
    size_t same = 0;
    while (same < timeline_length(w->timeline) && same < w->prompt.count && ids[same] == w->prompt.ids[same]) same++;
    return same;
}

/* Stands at a stored position: by its snapshot alone where the timeline has the rows, else in a timeline anew. */
static int restore_at(struct worker *w, size_t position, struct error *error)
{
    struct timeline *loaded = NULL;
    int rc;
    if (position <= common_length(w)) {
        struct store_load callbacks = {.snapshot = load_back, .ctx = w->timeline};
        rc = store_load(w->params.store, engine_info(w->engine)->state_key, w->prompt.ids, position, &callbacks, error);
    } else {
        rc = load_timeline_or_make_room(w, position, &loaded, error);
    }
    if (rc) return rc;
    if (loaded) {
        timeline_destroy(&w->timeline);
        w->timeline = loaded;
    }
    w->saved_segments = position / STORE_SEGMENT;
    atomic_store(&w->length, position);
    return 0;
}

int worker_restore(struct worker *w, struct error *error)
{
    size_t count = w->prompt.count, have = worker_reusable(w, w->prompt.ids, count), position = 0, refused = 0;
    struct error reason, first = {0};
    if (!w->params.store || have == count) return 0;
    worker_wait_saved(w);
    int rc = find_prefix(w, count, &position, error);
    while (!rc && position > have) {
        rc = restore_at(w, position, &reason);
        if (!rc) break;
        if (rc == ERROR_CANCELLED || !w->timeline) return error_set(error, reason.code, "%s", reason.text);
        if (!refused) refused = position, first = reason;
        rc = find_prefix(w, position - 1, &position, error);
    }
    if (refused)
        worker_note(w, first.code, "The stored state at token %zu cannot be used, from %zu on it is read again: %.300s",
                    refused, worker_reusable(w, w->prompt.ids, count), first.text);
    if (rc != ERROR_STATE) return rc;
    worker_note(w, ERROR_STATE, "Stored states cannot be searched, everything is read again: %.300s", error->text);
    return 0;
}

/* -------------------------------------------------------------------------------------------------- save */

static void free_save(struct store_save *s)
{
    for (size_t i = 0; i < s->n_rows; i++) free(s->rows[i].data);
    free(s->rows);
    free(s->tail.data);
    free(s->snapshot.data);
    free(s->ids);
}

static int take_rows(struct worker *w, size_t first, size_t count, struct store_blob *out, struct error *error)
{
    struct blob blob = {0};
    int rc = timeline_save_rows(w->timeline, first, count, &blob, error);
    *out = (struct store_blob){.data = blob.data, .size = blob.size};
    return rc;
}

static int fill_save(struct worker *w, struct store_save *s, struct error *error)
{
    size_t full = s->count / STORE_SEGMENT, tail = s->count % STORE_SEGMENT;
    s->ids = malloc((s->count + 1) * sizeof *s->ids);
    s->rows = calloc(full - s->first_segment + 1, sizeof *s->rows);
    if (!s->ids || !s->rows) return error_set(error, ERROR_FAILED, "Out of memory.");
    memcpy(s->ids, timeline_tokens(w->timeline), s->count * sizeof *s->ids);
    int rc = 0;
    for (size_t i = s->first_segment; !rc && i < full; i++, s->n_rows++)
        rc = take_rows(w, i * STORE_SEGMENT, STORE_SEGMENT, &s->rows[s->n_rows], error);
    if (!rc && tail) rc = take_rows(w, full * STORE_SEGMENT, tail, &s->tail, error);
    struct blob snapshot = {0};
    if (!rc) rc = timeline_save_snapshot(w->timeline, &snapshot, error);
    s->snapshot = (struct store_blob){.data = snapshot.data, .size = snapshot.size};
    return rc;
}

/* Rows that are stored already need not be brought again, whatever became of the snapshots. */
void worker_count_stored(struct worker *w)
{
    size_t present = 0;
    struct error error;
    if (!w->params.store) return;
    if (store_rows_present(w->params.store, engine_info(w->engine)->state_key, w->prompt.ids, w->prompt.count, &present,
                           &error))
        present = 0;
    w->saved_segments = present;
}

static void count_save(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->saves_queued++;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

/* One sentence, however many saves fail for the same reason. true: it was told now. */
static bool tell_unkept(struct worker *w, const struct error *why)
{
    pthread_mutex_lock(&w->lock);
    bool is_new = !w->unkept.code || strcmp(w->unkept.text, why->text);
    w->unkept = *why;
    pthread_mutex_unlock(&w->lock);
    atomic_store(&w->save_failed, true);
    if (is_new) worker_note(w, why->code, "What was read could not be kept: %.400s", why->text);
    return is_new;
}

void worker_save(struct worker *w, const struct worker_save *what)
{
    if (!w->params.store || !timeline_length(w->timeline)) return;
    const struct engine_info *info = engine_info(w->engine);
    size_t full = timeline_length(w->timeline) / STORE_SEGMENT;
    if (atomic_exchange(&w->save_failed, false)) worker_count_stored(w);
    struct store_save save = {
        .count = timeline_length(w->timeline),
        .first_segment = w->saved_segments < full ? w->saved_segments : full,
        .keep = what->keep,
        .session = w->session,
        .model_name = info->model_name,
        .turns = what->turns,
        .n_turns = what->n_turns,
    };
    memcpy(save.model, info->state_key, STORE_KEY);
    struct error error;
    int rc = fill_save(w, &save, &error);
    if (rc)
        free_save(&save);
    else
        rc = store_queue_save(w->params.store, &save, &error);
    if (rc) {
        tell_unkept(w, &error);
        return;
    }
    if (w->saved_segments < full) w->saved_segments = full;
    w->is_linked = w->is_linked || w->session;
    count_save(w);
}

/* ------------------------------------------------------------------------------------------------- saver */

void worker_wait_saved(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    while (w->saves_done < w->saves_queued) pthread_cond_wait(&w->changed, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

void worker_hold_saved(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->holds_saved_event = true;
    pthread_mutex_unlock(&w->lock);
}

void worker_release_saved(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->holds_saved_event = false;
    w->saves_queued++;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static uint64_t stored_bytes(struct worker *w)
{
    struct store_usage usage;
    struct error error;
    return store_usage(w->params.store, &usage, &error) ? 0 : usage.rows_bytes + usage.snapshot_bytes;
}

static void keep_within_limit(struct worker *w)
{
    struct error error;
    uint64_t most = w->params.store_max, freed = 0;
    size_t lost = 0;
    if (!most || stored_bytes(w) <= most) return;
    if (store_evict(w->params.store, most, &freed, &lost, &error)) {
        worker_note(w, error.code, "Old states could not be removed: %.400s", error.text);
        return;
    }
    if (lost)
        worker_note(w, ERROR_NONE,
                    "Room was made for new states (--store-max): %zu session%s lost the last one and will be read "
                    "again when opened.",
                    lost, lost == 1 ? "" : "s");
    if (w->has_told_limit || stored_bytes(w) <= most) return;
    w->has_told_limit = true;
    worker_note(w, ERROR_NONE,
                "The states of sessions in use take more than --store-max allows: they stay, nothing else could go.");
}

/* Waits for the queue; what it learns it tells. true: all is on disk. */
static bool flush_saves(struct worker *w, bool *has_told)
{
    struct error error;
    *has_told = false;
    if (store_queue_flush(w->params.store, &error)) {
        *has_told = tell_unkept(w, &error);
        return false;
    }
    keep_within_limit(w);
    return !atomic_load(&w->save_failed);
}

/* The end of all that was to be saved: who waits for it learns that it is on disk, or why it is not. */
static void tell_end(struct worker *w, bool is_kept, const struct error *why)
{
    if (is_kept)
        worker_emit_kind(w, EVENT_SAVED);
    else
        worker_note(w, why->code, "What was read could not be kept: %.400s", why->text);
}

void *worker_saver_main(void *ctx)
{
    struct worker *w = ctx;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (w->saves_done == w->saves_queued && !w->saver_stopping) pthread_cond_wait(&w->changed, &w->lock);
        if (w->saves_done == w->saves_queued) break;
        uint64_t target = w->saves_queued;
        pthread_mutex_unlock(&w->lock);
        bool has_told, is_kept = flush_saves(w, &has_told);
        pthread_mutex_lock(&w->lock);
        w->saves_done = target;
        pthread_cond_broadcast(&w->changed);
        bool is_end = target == w->saves_queued && !w->holds_saved_event;
        struct error why = w->unkept;
        if (is_kept) w->unkept = (struct error){0};
        pthread_mutex_unlock(&w->lock);
        if (is_end && !has_told) tell_end(w, is_kept, &why);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}
