/* SPDX-License-Identifier: MIT
 *
 * Measures reading and answering of one model at several depths. The tokens are seeded and ordinary; the text before a
 * depth is read untimed, or made up.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "app/bench.h"
#include "app/console.h"
#include "app/model_use.h"
#include "app/progress.h"

struct measuring {
    struct engine *engine;
    struct timeline *timeline;
    const struct bench_plan *plan;
    struct bench_speed *out;
    uint32_t *ids; /* enough for the deepest measurement */
    size_t most;
};

double bench_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Ordinary tokens from a linear congruential generator (Knuth's MMIX constants). */
int bench_ids(const struct engine *engine, size_t count, uint32_t **ids, struct error *error)
{
    uint32_t n_vocab = engine_info(engine)->n_vocab;
    *ids = malloc((count + 1) * sizeof **ids);
    if (!*ids) return error_set(error, ERROR_FAILED, "Out of memory.");
    uint64_t x = 20240607;
    for (size_t i = 0; i < count;) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        uint32_t id = (uint32_t)((x >> 33) % n_vocab);
        if (!engine_special_name(engine, id)) (*ids)[i++] = id;
    }
    return 0;
}

bool bench_progress(void *what, size_t done, size_t total)
{
    progress_show(&(struct progress){.what = what, .unit = "tok", .done = done, .total = total, .eta = -1});
    return !console_signal();
}

/* Tokens [length, to), one at a time when `single`. Waits for the logits, so that the device has really done it. */
static int advance(struct measuring *b, size_t to, bool single, char *what, double *seconds, struct error *error)
{
    struct eval_hooks hooks = {.progress = bench_progress, .ctx = what};
    double began = bench_clock();
    int rc = 0;
    while (!rc && timeline_length(b->timeline) < to) {
        size_t at = timeline_length(b->timeline), n = single ? 1 : to - at;
        rc = timeline_append(b->timeline, b->ids + at, n, NULL, single ? NULL : &hooks, error);
        if (!rc && console_signal()) rc = error_set(error, ERROR_CANCELLED, "Stopped.");
    }
    if (!rc && to && !timeline_logits(b->timeline)) rc = error_set(error, ERROR_FAILED, "The device gave no logits.");
    if (seconds) *seconds = bench_clock() - began;
    return rc;
}

/* As advance, each operation timed when the plan says so. */
static int measure_stretch(struct measuring *b, size_t to, bool single, char *what, struct bench_profile *out,
                           struct error *error)
{
    const bool profile = b->plan->profile;
    int rc = profile ? engine_profile_start(b->engine, &b->out->peaks, error) : 0;
    if (!rc) rc = advance(b, to, single, what, &out->seconds, error);
    if (!rc && profile) out->count = engine_profile_read(b->engine, out->timings, BENCH_TIMINGS);
    return rc;
}

/* Brings the timeline to depth, untimed. */
static int fill(struct measuring *b, uint32_t depth, struct error *error)
{
    char filling[] = "Filling";
    if (timeline_length(b->timeline) > depth || b->plan->made) timeline_clear(b->timeline);
    return b->plan->made ? timeline_pretend(b->timeline, b->ids, depth, error)
                         : advance(b, depth, false, filling, NULL, error);
}

static int measure(struct measuring *b, struct bench_row *row, struct error *error)
{
    char reading[] = "Prefill", answering[] = "Decode";
    int rc = fill(b, row->depth, error);
    size_t read_to = row->depth + (size_t)b->plan->prefill;
    if (!rc) rc = measure_stretch(b, read_to, false, reading, &row->prefill, error);
    if (!rc) rc = measure_stretch(b, read_to + b->plan->decode, true, answering, &row->decode, error);
    progress_clear();
    return rc;
}

static int warm_up(struct measuring *b, struct error *error)
{
    char warming[] = "Warming up";
    size_t n = b->most < engine_info(b->engine)->batch ? b->most : engine_info(b->engine)->batch;
    int rc = advance(b, n, false, warming, NULL, error);
    if (!rc && n < b->most) rc = advance(b, n + 1, true, warming, NULL, error);
    timeline_clear(b->timeline);
    return rc;
}

static int measuring_open(struct measuring *b, const struct settings *s, const char *model, struct error *error)
{
    struct model_usage usage = {.settings = s, .name = model, .params = settings_engine(s), .need = b->most};
    if (!usage.params.context) usage.params.context = (uint32_t)(b->most + 1);
    int rc = model_use(&b->engine, &usage, error);
    if (!rc) rc = timeline_create(&b->timeline, b->engine, error);
    if (!rc) rc = bench_ids(b->engine, b->most, &b->ids, error);
    return rc;
}

int bench_speed(struct bench_speed *out, const struct settings *s, const char *model, const struct bench_plan *plan,
                struct error *error)
{
    const uint32_t deepest = plan->depths[plan->n_depths - 1];
    struct measuring b = {.plan = plan, .out = out, .most = deepest + (size_t)plan->prefill + plan->decode};
    *out = (struct bench_speed){.n_rows = plan->n_depths};
    int rc = measuring_open(&b, s, model, error);
    if (!rc) rc = warm_up(&b, error);
    for (size_t i = 0; !rc && i < out->n_rows; i++) {
        out->rows[i].depth = plan->depths[i];
        rc = measure(&b, &out->rows[i], error);
    }
    if (!rc) out->info = *engine_info(b.engine);
    timeline_destroy(&b.timeline);
    engine_close(&b.engine);
    free(b.ids);
    return rc;
}
