/* SPDX-License-Identifier: MIT
 *
 * Each round generates the same number of tokens twice, in alternating order: with nothing to write, and beginning with
 * a checkpoint in the writer's queue that is as big as those which the worker makes while it reads. Medians over the
 * rounds, because other programs disturb single ones. Every time begins at the same token, by a mark.
 */
#include <stdlib.h>
#include <string.h>

#include "app/bench.h"
#include "app/bench_saving.h"
#include "app/console.h"

enum { ROUNDS = 7, TOKENS_LEAST = 16, CHECKPOINT = 8192 };
static const double window_seconds = 0.6;

struct saving {
    const struct bench_saving_params *params;
    struct bench_saving *out;
    uint32_t *base; /* where the timeline stood */
    size_t n_base;
    double idle[ROUNDS], writing[ROUNDS], take[ROUNDS];
};

static int go_to_base(const struct saving *s, struct error *error)
{
    size_t reused = 0;
    int rc = timeline_sync(s->params->timeline, s->base, s->n_base, NULL, &reused, error);
    if (!rc && reused != s->n_base) rc = error_set(error, ERROR_FAILED, "The timeline lost its mark.");
    return rc;
}

static int generate(const struct saving *s, uint32_t count, double *seconds, struct error *error)
{
    struct timeline *t = s->params->timeline;
    double began = bench_clock();
    int rc = 0;
    for (uint32_t i = 0; !rc && i < count; i++) {
        uint32_t id = s->params->ids[timeline_length(t) % s->params->n_ids];
        rc = timeline_append(t, &id, 1, NULL, NULL, error);
        if (!rc && !timeline_logits(t)) rc = error_set(error, ERROR_FAILED, "The device gave no logits.");
        if (!rc && console_signal()) rc = error_set(error, ERROR_CANCELLED, "Stopped.");
    }
    *seconds = bench_clock() - began;
    return rc;
}

/* -------------------------------------------------------------------------------------------- a checkpoint */

static int take_rows(struct saving *s, size_t first, size_t count, struct store_blob *out, struct error *error)
{
    struct blob blob = {0};
    int rc = timeline_save_rows(s->params->timeline, first, count, &blob, error);
    *out = (struct store_blob){blob.data, blob.size};
    s->out->checkpoint_bytes += blob.size;
    return rc;
}

static int fill(struct saving *s, struct store_save *save, struct error *error)
{
    size_t full = save->count / STORE_SEGMENT, tail = save->count % STORE_SEGMENT;
    struct blob snapshot = {0};
    int rc = 0;
    s->out->checkpoint_tokens = (uint32_t)save->count;
    s->out->checkpoint_bytes = 0;
    for (; !rc && save->n_rows < full; save->n_rows++)
        rc = take_rows(s, save->n_rows * STORE_SEGMENT, STORE_SEGMENT, &save->rows[save->n_rows], error);
    if (!rc && tail) rc = take_rows(s, full * STORE_SEGMENT, tail, &save->tail, error);
    if (!rc) rc = timeline_save_snapshot(s->params->timeline, &snapshot, error);
    save->snapshot = (struct store_blob){snapshot.data, snapshot.size};
    s->out->checkpoint_bytes += snapshot.size;
    return rc;
}

static void free_save(struct store_save *save)
{
    for (size_t i = 0; save->rows && i < save->n_rows; i++) free(save->rows[i].data);
    free(save->rows);
    free(save->tail.data);
    free(save->snapshot.data);
    free(save->ids);
}

/* A key of its own for each round: else the store has the rows already and writes nothing. */
static int queue_checkpoint(struct saving *s, size_t round, struct error *error)
{
    struct timeline *t = s->params->timeline;
    size_t count = timeline_length(t) < CHECKPOINT ? timeline_length(t) : CHECKPOINT;
    struct store_save save = {
        .count = count,
        .model_name = engine_info(s->params->engine)->model_name,
        .ids = malloc(count * sizeof *save.ids),
        .rows = calloc(count / STORE_SEGMENT + 1, sizeof *save.rows),
    };
    int rc = save.ids && save.rows ? 0 : error_set(error, ERROR_FAILED, "Out of memory.");
    memcpy(save.model, engine_info(s->params->engine)->state_key, STORE_KEY);
    save.model[0] = (uint8_t)(save.model[0] ^ (round + 1));
    if (!rc) memcpy(save.ids, timeline_tokens(t), count * sizeof *save.ids);
    if (!rc) rc = fill(s, &save, error);
    if (!rc) return store_queue_save(s->params->store, &save, error);
    free_save(&save);
    return rc;
}

/* ---------------------------------------------------------------------------------------------- the rounds */

static int run_idle(struct saving *s, size_t round, struct error *error)
{
    double seconds = 1;
    int rc = go_to_base(s, error);
    if (!rc) rc = generate(s, s->out->tokens, &seconds, error);
    s->idle[round] = s->out->tokens / seconds;
    return rc;
}

static int run_writing(struct saving *s, size_t round, struct error *error)
{
    double seconds = 1;
    int rc = go_to_base(s, error);
    double began = bench_clock();
    if (!rc) rc = queue_checkpoint(s, round, error);
    s->take[round] = bench_clock() - began;
    if (!rc) rc = generate(s, s->out->tokens, &seconds, error);
    s->writing[round] = s->out->tokens / seconds;
    return rc ? rc : store_queue_flush(s->params->store, error);
}

/* As many tokens as take the window's time. */
static int choose_tokens(struct saving *s, struct error *error)
{
    double seconds;
    int rc = generate(s, TOKENS_LEAST, &seconds, error);
    double fit = window_seconds / seconds * TOKENS_LEAST;
    s->out->tokens = fit > BENCH_SAVING_ROOM ? BENCH_SAVING_ROOM : fit < TOKENS_LEAST ? TOKENS_LEAST : (uint32_t)fit;
    return rc;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(const double values[ROUNDS])
{
    double sorted[ROUNDS];
    memcpy(sorted, values, sizeof sorted);
    qsort(sorted, ROUNDS, sizeof *sorted, compare);
    return sorted[ROUNDS / 2];
}

static int mark_base(struct saving *s, struct error *error)
{
    struct timeline *t = s->params->timeline;
    s->n_base = timeline_length(t);
    s->base = malloc(s->n_base * sizeof *s->base);
    if (!s->base) return error_set(error, ERROR_FAILED, "Out of memory.");
    memcpy(s->base, timeline_tokens(t), s->n_base * sizeof *s->base);
    int rc = timeline_mark(t, 0, error);
    return rc ? rc : timeline_mark(t, 1, error);
}

static int run_rounds(struct saving *s, struct error *error)
{
    int rc = choose_tokens(s, error);
    for (size_t i = 0; !rc && i < ROUNDS; i++) {
        rc = i % 2 ? run_writing(s, i, error) : run_idle(s, i, error);
        if (!rc) rc = i % 2 ? run_idle(s, i, error) : run_writing(s, i, error);
    }
    return rc;
}

int bench_saving(const struct bench_saving_params *params, struct bench_saving *out, struct error *error)
{
    struct saving s = {.params = params, .out = out};
    double off[ROUNDS];
    *out = (struct bench_saving){.rounds = ROUNDS};
    int rc = mark_base(&s, error);
    if (!rc) rc = run_rounds(&s, error);
    free(s.base);
    if (rc) return rc;
    for (size_t i = 0; i < ROUNDS; i++) off[i] = 1 - s.writing[i] / s.idle[i];
    out->idle_rate = median(s.idle);
    out->writing_rate = median(s.writing);
    out->take_seconds = median(s.take);
    out->off = median(off);
    return 0;
}
