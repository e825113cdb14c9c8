/* SPDX-License-Identifier: MIT
 *
 * One mutable state. Batches end at absolute multiples of the engine's batch; rows are allocated block by block as the
 * timeline grows; marks are copies of the fixed-size part, because rows are append-only and need none. A batch that
 * fails has changed the KDA states halfway, so the timeline is cleared.
 */
#include "engine/engine_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/device.h"
#include "engine/state_blob.h"

/* -------------------------------------------------------------------------------------------- create, destroy */

static int alloc_state(struct timeline *t, uint64_t *kda, uint64_t *history, struct error *error)
{
    struct backend *b = t->engine->backend;
    *kda = *history = 0;
    if (!t->engine->kda_bytes) return 0;
    int rc = b->ops->alloc(b, t->engine->kda_bytes, "KDA state", kda, error);
    return rc ? rc : b->ops->alloc(b, t->engine->history_bytes, "convolution history", history, error);
}

static void release(struct timeline *t, uint64_t *addr)
{
    if (*addr) t->engine->backend->ops->release(t->engine->backend, *addr);
    *addr = 0;
}

static int timeline_build(struct timeline *t, struct error *error)
{
    struct engine *e = t->engine;
    t->most_blocks = (e->info.context + STATE_SEGMENT - 1) / STATE_SEGMENT;
    t->ids = malloc(e->info.context * sizeof *t->ids);
    t->logits = malloc(e->info.n_vocab * sizeof *t->logits);
    t->blocks = calloc(t->most_blocks, sizeof *t->blocks);
    if (!t->ids || !t->logits || !t->blocks) return error_set(error, ERROR_FAILED, "Out of memory for a timeline.");
    t->state.rows.row_bytes = e->row_bytes;
    t->state.rows.dtype = e->info.rows_dtype;
    int rc = alloc_state(t, &t->state.kda, &t->state.history, error);
    if (!rc && e->info.n_mla)
        rc = e->backend->ops->alloc(e->backend, t->most_blocks * sizeof *t->blocks, "row table", &t->state.rows.table,
                                    error);
    return rc;
}

int timeline_create(struct timeline **out, struct engine *engine, struct error *error)
{
    *out = NULL;
    struct timeline *t = calloc(1, sizeof *t);
    if (!t) return error_set(error, ERROR_FAILED, "Out of memory for a timeline.");
    t->engine = engine;
    int rc = timeline_build(t, error);
    if (rc) timeline_destroy(&t);
    *out = t;
    return rc;
}

static void drop_mark(struct timeline *t, size_t index)
{
    struct mark *m = &t->marks[index];
    release(t, &m->kda);
    release(t, &m->history);
    free(m->logits);
    t->n_marks--;
    memmove(m, m + 1, (t->n_marks - index) * sizeof *m);
}

/* Drops the marks beyond `length`: their text is no longer ours. */
static void drop_marks_after(struct timeline *t, size_t length)
{
    while (t->n_marks && t->marks[t->n_marks - 1].length > length) drop_mark(t, t->n_marks - 1);
}

void timeline_destroy(struct timeline **timeline)
{
    struct timeline *t = *timeline;
    if (!t) return;
    while (t->n_marks) drop_mark(t, t->n_marks - 1);
    for (size_t i = 0; i < t->n_blocks; i++) release(t, &t->blocks[i]);
    release(t, &t->state.rows.table);
    release(t, &t->state.kda);
    release(t, &t->state.history);
    id_hash_free(&t->hash);
    free(t->marks);
    free(t->blocks);
    free(t->logits);
    free(t->ids);
    free(t);
    *timeline = NULL;
}

size_t timeline_length(const struct timeline *t)
{
    return t->length;
}
const uint32_t *timeline_tokens(const struct timeline *t)
{
    return t->ids;
}
const float *timeline_logits(const struct timeline *t)
{
    return t->length ? t->logits : NULL;
}

/* --------------------------------------------------------------------------------------------------- evaluate */

/* Kernels may read, and weigh with 0, what follows the last row of a block. */
static int clear_blocks(struct backend *b, const uint64_t *blocks, size_t count, size_t bytes, struct error *error)
{
    int rc = b->ops->begin(b, error);
    if (rc) return rc;
    for (size_t i = 0; i < count; i++) b->ops->fill(b, blocks[i], 0, bytes / 4 * 4);
    return b->ops->submit(b, error);
}

int timeline_reserve(struct timeline *t, size_t length, size_t written, struct error *error)
{
    struct backend *b = t->engine->backend;
    size_t bytes = engine_block_bytes(t->engine), n = t->n_blocks, whole = written / STATE_SEGMENT;
    int rc = 0;
    if (!bytes || n * STATE_SEGMENT >= length) return 0;
    for (; !rc && n * STATE_SEGMENT < length; n++) rc = b->ops->alloc(b, bytes, "MLA rows", &t->blocks[n], error);
    uint64_t *fresh = t->blocks + t->n_blocks, table = t->state.rows.table + t->n_blocks * sizeof *fresh;
    size_t count = n - t->n_blocks, cleared = whole < t->n_blocks ? count : whole < n ? n - whole : 0;
    if (!rc && cleared) rc = clear_blocks(b, t->blocks + n - cleared, cleared, bytes, error);
    if (!rc) rc = b->ops->upload(b, table, fresh, count * sizeof *fresh, error);
    if (rc)
        while (n > t->n_blocks) release(t, &t->blocks[--n]);
    else
        t->n_blocks = n;
    return rc;
}

/* One batch at the end of the timeline. */
static int eval_batch(struct timeline *t, const uint32_t *ids, uint32_t n, float *logits_all, struct error *error)
{
    struct engine *e = t->engine;
    struct graph_step step = {
        .state = &t->state, .ids = ids, .first = (uint32_t)t->length, .n = n, .logits = t->logits};
    int rc = timeline_reserve(t, t->length + n, 0, error);
    if (rc) return rc;
    rc = graph_eval(&e->graph, &step, error);
    if (!rc && logits_all) rc = graph_all_logits(&e->graph, n, logits_all, error);
    e->info.validation_messages = device_messages(e->backend);
    if (rc) {
        timeline_clear(t);
        return rc;
    }
    memcpy(t->ids + t->length, ids, n * sizeof *ids);
    t->length += n;
    e->info.tokens_evaluated += n;
    return 0;
}

static int check_ids(const struct timeline *t, const uint32_t *ids, size_t count, struct error *error)
{
    const struct engine_info *info = &t->engine->info;
    for (size_t i = 0; i < count; i++)
        if (ids[i] >= info->n_vocab)
            return error_set(error, ERROR_USAGE, "Token %u is not in the vocabulary of %u.", ids[i], info->n_vocab);
    return 0;
}

int timeline_append(struct timeline *t, const uint32_t *ids, size_t count, float *logits_all,
                    const struct eval_hooks *hooks, struct error *error)
{
    const struct engine_info *info = &t->engine->info;
    if (count > info->context - t->length)
        return error_set(error, ERROR_FIT,
                         "The context of %u tokens is full: %zu are there and %zu more were asked for.", info->context,
                         t->length, count);
    int rc = check_ids(t, ids, count, error);
    for (size_t done = 0; !rc && done < count;) {
        size_t n = info->batch - t->length % info->batch;
        if (n > count - done) n = count - done;
        rc = eval_batch(t, ids + done, (uint32_t)n, logits_all ? logits_all + done * info->n_vocab : NULL, error);
        if (rc) return rc;
        done += n;
        if (hooks && hooks->progress && !hooks->progress(hooks->ctx, done, count) && done < count)
            return error_set(error, ERROR_CANCELLED, "Stopped after %zu of %zu tokens.", done, count);
    }
    return rc;
}

/* ------------------------------------------------------------------------------------------------------ marks */

/* Records the copies between the timeline's state and a mark's. */
static int copy_state(struct timeline *t, uint64_t kda, uint64_t history, bool to_mark, struct error *error)
{
    struct engine *e = t->engine;
    const struct backend_ops *ops = e->backend->ops;
    if (!kda) return 0;
    int rc = ops->begin(e->backend, error);
    if (rc) return rc;
    ops->copy(e->backend, to_mark ? kda : t->state.kda, to_mark ? t->state.kda : kda, e->kda_bytes);
    ops->copy(e->backend, to_mark ? history : t->state.history, to_mark ? t->state.history : history, e->history_bytes);
    return ops->submit(e->backend, error);
}

static int add_mark(struct timeline *t, struct error *error)
{
    if (t->n_marks == t->marks_capacity) {
        size_t capacity = t->marks_capacity ? 2 * t->marks_capacity : 8;
        struct mark *marks = realloc(t->marks, capacity * sizeof *marks);
        if (!marks) return error_set(error, ERROR_FAILED, "Out of memory for a mark.");
        t->marks = marks;
        t->marks_capacity = capacity;
    }
    struct mark *m = &t->marks[t->n_marks++];
    size_t bytes = t->engine->info.n_vocab * sizeof *m->logits;
    *m = (struct mark){.length = t->length, .logits = malloc(bytes)};
    int rc = m->logits ? alloc_state(t, &m->kda, &m->history, error)
                       : error_set(error, ERROR_FAILED, "Out of memory for a mark.");
    if (!rc) rc = copy_state(t, m->kda, m->history, true, error);
    if (!rc) memcpy(m->logits, t->logits, bytes);
    if (rc) drop_mark(t, t->n_marks - 1);
    return rc;
}

/* Where the marks around mark i leave the next one to go back to: the distance between them, and how far from here. */
static size_t gap_without(const struct timeline *t, size_t i, size_t *distance)
{
    size_t after = i + 1 < t->n_marks ? t->marks[i + 1].length : t->length;
    *distance = t->length - after;
    return after - (i ? t->marks[i - 1].length : 0);
}

/* From the newest down, so that each decision meets the neighbour above that stays. */
static void thin_marks(struct timeline *t)
{
    for (size_t i = t->n_marks; i-- > 0;) {
        size_t distance, gap = gap_without(t, i, &distance);
        if (gap <= distance / 8) drop_mark(t, i);
    }
}

/* The mark whose absence costs least in proportion to the distance: the newest stays. */
static void drop_least(struct timeline *t)
{
    size_t least = 0;
    double cost = HUGE_VAL;
    for (size_t i = 0; i + 1 < t->n_marks; i++) {
        size_t distance, gap = gap_without(t, i, &distance);
        double relative = (double)gap / (double)(distance + 1);
        if (relative >= cost) continue;
        cost = relative;
        least = i;
    }
    drop_mark(t, least);
}

int timeline_mark(struct timeline *t, uint32_t most, struct error *error)
{
    bool is_there = t->n_marks && t->marks[t->n_marks - 1].length == t->length;
    thin_marks(t);
    while (t->n_marks > most || (most && t->n_marks == most && !is_there)) drop_least(t);
    return most && t->length && !is_there ? add_mark(t, error) : 0;
}

/* ------------------------------------------------------------------------------------------------------- sync */

static void set_length(struct timeline *t, size_t length)
{
    t->length = length;
    if (t->hash.count > length) id_hash_free(&t->hash);
}

void timeline_cut(struct timeline *t, size_t length)
{
    drop_marks_after(t, length);
    set_length(t, length);
}

/* What the state's memory holds does not matter then: a batch at position 0 begins by zeroing it. */
void timeline_clear(struct timeline *t)
{
    timeline_cut(t, 0);
}

int timeline_pretend(struct timeline *t, const uint32_t *ids, size_t count, struct error *error)
{
    struct engine *e = t->engine;
    const struct backend_ops *ops = e->backend->ops;
    timeline_clear(t);
    if (count > e->info.context) return error_set(error, ERROR_FIT, "The context holds %u tokens.", e->info.context);
    int rc = check_ids(t, ids, count, error);
    if (!rc) rc = timeline_reserve(t, count, 0, error);
    if (!rc) rc = ops->begin(e->backend, error);
    if (rc) return rc;
    ops->fill(e->backend, t->state.kda, 0, e->kda_bytes);
    ops->fill(e->backend, t->state.history, 0, e->history_bytes);
    if ((rc = ops->submit(e->backend, error))) return rc;
    memcpy(t->ids, ids, count * sizeof *ids);
    memset(t->logits, 0, e->info.n_vocab * sizeof *t->logits);
    set_length(t, count);
    return 0;
}

/* Goes back to the last mark at or before `length`, or to nothing. */
static int rewind_to(struct timeline *t, size_t length, struct error *error)
{
    drop_marks_after(t, length);
    if (!t->n_marks) {
        set_length(t, 0);
        return 0;
    }
    const struct mark *m = &t->marks[t->n_marks - 1];
    int rc = copy_state(t, m->kda, m->history, false, error);
    if (rc) {
        timeline_clear(t);
        return rc;
    }
    memcpy(t->logits, m->logits, t->engine->info.n_vocab * sizeof *t->logits);
    set_length(t, m->length);
    return 0;
}

static size_t common_length(const struct timeline *t, const uint32_t *ids, size_t count)
{
    size_t same = 0;
    while (same < t->length && same < count && t->ids[same] == ids[same]) same++;
    return same;
}

size_t timeline_reusable(const struct timeline *t, const uint32_t *ids, size_t count)
{
    size_t same = common_length(t, ids, count), i = t->n_marks;
    if (same == t->length) return same;
    while (i && t->marks[i - 1].length > same) i--;
    return i ? t->marks[i - 1].length : 0;
}

int timeline_sync(struct timeline *t, const uint32_t *ids, size_t count, const struct eval_hooks *hooks, size_t *reused,
                  struct error *error)
{
    size_t same = common_length(t, ids, count);
    if (reused) *reused = 0;
    int rc = same < t->length ? rewind_to(t, same, error) : 0;
    if (rc) return rc;
    if (reused) *reused = t->length;
    return timeline_append(t, ids + t->length, count - t->length, NULL, hooks, error);
}
