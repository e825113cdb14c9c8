/* SPDX-License-Identifier: MIT
 *
 * lectern bench --resume: what coming back costs, and what reading again would. Both answer the same short question, so
 * both are times to a first token; the logits must be the same bits. The model is on the device already in both cases:
 * what loading it took is told, and not counted. At the end, what saving does to answering (bench_saving.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/bench_cache.h"
#include "app/bench_resume.h"
#include "app/console.h"
#include "app/model_use.h"
#include "app/paths.h"
#include "app/progress.h"

enum { SAVE_SEGMENTS = 16, WARM_RUNS = 3 };

struct resume_bench {
    const struct bench_resume_options *options;
    struct engine *engine;
    struct timeline *timeline;
    struct store *store;
    char *dir;
    uint32_t *ids; /* tokens, then the question */
    float *logits; /* [2][n_vocab]: after the tokens, after the question */
    uint32_t first_token;
    struct resume_result *result;
};

/* ---------------------------------------------------------------------------------------------- the folder */

static int make_folder(const struct settings *s, struct resume_bench *b, struct error *error)
{
    char *data = NULL;
    int rc = paths_data(s->data_dir, &data, error);
    if (!rc) rc = paths_join(data, "bench-XXXXXX", &b->dir, error);
    free(data);
    if (rc || mkdtemp(b->dir)) return rc;
    rc = error_set(error, ERROR_DISK, "%.300s cannot be made: %s.", b->dir, strerror(errno));
    free(b->dir);
    b->dir = NULL;
    return rc;
}

/* ------------------------------------------------------------------------------------------------- reading */

static int stopped(struct error *error)
{
    return console_signal() ? error_set(error, ERROR_CANCELLED, "Stopped.") : 0;
}

static int read_tokens(struct resume_bench *b, size_t count, char *what, struct error *error)
{
    struct eval_hooks hooks = {.progress = bench_progress, .ctx = what};
    size_t at = timeline_length(b->timeline);
    int rc = timeline_append(b->timeline, b->ids + at, count, NULL, &hooks, error);
    if (!rc && !timeline_logits(b->timeline)) rc = error_set(error, ERROR_FAILED, "The device gave no logits.");
    return rc;
}

static size_t logits_size(const struct resume_bench *b)
{
    return engine_info(b->engine)->n_vocab * sizeof *b->logits;
}

/* The question, and greedily the first token of an answer. */
static int answer(struct resume_bench *b, uint32_t *token, struct error *error)
{
    char asking[] = "Asking";
    struct sampler *sampler = NULL;
    struct sample_params greedy = {.top_p = 1};
    int rc = read_tokens(b, RESUME_QUESTION, asking, error);
    if (!rc) rc = sampler_create(&sampler, &greedy, engine_info(b->engine)->n_vocab, error);
    if (!rc) *token = sampler_next(sampler, timeline_logits(b->timeline));
    sampler_destroy(&sampler);
    return rc;
}

static int warm_up(struct resume_bench *b, struct error *error)
{
    char warming[] = "Warming up";
    uint32_t batch = engine_info(b->engine)->batch;
    int rc = read_tokens(b, b->options->tokens < batch ? b->options->tokens : batch, warming, error);
    timeline_clear(b->timeline);
    return rc;
}

/* -------------------------------------------------------------------------------------------------- saving */

static int take_rows(struct resume_bench *b, size_t first, size_t count, struct store_blob *out, struct error *error)
{
    struct blob blob = {0};
    int rc = timeline_save_rows(b->timeline, first, count, &blob, error);
    *out = (struct store_blob){blob.data, blob.size};
    b->result->rows_bytes += blob.size;
    return rc;
}

static int fill_snapshot(struct resume_bench *b, struct store_save *save, struct error *error)
{
    size_t tail = save->count % STORE_SEGMENT;
    int rc = tail ? take_rows(b, save->count - tail, tail, &save->tail, error) : 0;
    struct blob blob = {0};
    if (!rc) rc = timeline_save_snapshot(b->timeline, &blob, error);
    save->snapshot = (struct store_blob){blob.data, blob.size};
    b->result->snapshot_bytes += blob.size;
    return rc;
}

static void free_save(struct store_save *save)
{
    for (size_t i = 0; i < save->n_rows; i++) free(save->rows[i].data);
    free(save->rows);
    free(save->tail.data);
    free(save->snapshot.data);
    free(save->ids);
}

/* Row segments [first, end); with the last of them the snapshot too. */
static int save_part(struct resume_bench *b, size_t first, size_t end, struct error *error)
{
    size_t full = b->options->tokens / STORE_SEGMENT;
    struct store_save save = {
        .count = end == full ? b->options->tokens : end * STORE_SEGMENT,
        .first_segment = first,
        .keep = true,
        .model_name = engine_info(b->engine)->model_name,
        .ids = malloc((b->options->tokens + (size_t)1) * sizeof *save.ids),
        .rows = calloc(end - first + 1, sizeof *save.rows),
    };
    int rc = save.ids && save.rows ? 0 : error_set(error, ERROR_FAILED, "Out of memory.");
    if (!rc) memcpy(save.ids, b->ids, save.count * sizeof *save.ids);
    memcpy(save.model, engine_info(b->engine)->state_key, STORE_KEY);
    for (size_t i = first; !rc && i < end; i++, save.n_rows++)
        rc = take_rows(b, i * STORE_SEGMENT, STORE_SEGMENT, &save.rows[save.n_rows], error);
    if (!rc && end == full) rc = fill_snapshot(b, &save, error);
    if (!rc) return store_queue_save(b->store, &save, error);
    free_save(&save);
    return rc;
}

/* In parts, as the worker does it while it reads. */
static int save_all(struct resume_bench *b, struct error *error)
{
    size_t full = b->options->tokens / STORE_SEGMENT, first = 0;
    double began = bench_clock();
    int rc = store_open(&b->store, b->dir, error);
    bool whole = false;
    while (!rc && !whole) {
        size_t end = full - first < SAVE_SEGMENTS ? full : first + SAVE_SEGMENTS;
        rc = stopped(error);
        if (!rc) rc = save_part(b, first, end, error);
        first = end;
        whole = end == full;
    }
    if (!rc) rc = store_queue_flush(b->store, error);
    b->result->save_seconds = bench_clock() - began;
    store_close(&b->store);
    return rc;
}

/* -------------------------------------------------------------------------------------------------- coming back */

static bool is_stopped(void *ctx)
{
    (void)ctx;
    return console_signal() != 0;
}

static int load(struct resume_bench *b, struct resume_run *run, struct error *error)
{
    const struct state_load load = {
        .store = b->store,
        .engine = b->engine,
        .ids = b->ids,
        .position = b->options->tokens,
        .stop = is_stopped,
        .times = &run->times,
    };
    return state_load(&load, &b->timeline, error);
}

static int find(struct resume_bench *b, struct error *error)
{
    size_t position = 0;
    int rc = store_find_prefix(b->store, engine_info(b->engine)->state_key, b->ids,
                               b->options->tokens + (size_t)RESUME_QUESTION, &position, error);
    if (!rc && position != b->options->tokens)
        rc = error_set(error, ERROR_STATE, "The store found %zu tokens of %u.", position, b->options->tokens);
    return rc;
}

/* Leaves the timeline as it is then. */
static int come_back(struct resume_bench *b, struct resume_run *run, struct error *error)
{
    size_t size = logits_size(b);
    uint32_t token = 0;
    timeline_destroy(&b->timeline);
    *run = (struct resume_run){0};
    double began = bench_clock();
    int rc = store_open(&b->store, b->dir, error);
    double opened = bench_clock();
    if (!rc) rc = find(b, error);
    double found = bench_clock();
    if (!rc) rc = load(b, run, error);
    double loaded = bench_clock();
    bool same = !rc && !memcmp(timeline_logits(b->timeline), b->logits, size);
    double compared = bench_clock();
    if (!rc) rc = answer(b, &token, error);
    double ended = bench_clock();
    store_close(&b->store);
    if (rc) return rc;
    same = same && !memcmp(timeline_logits(b->timeline), b->logits + engine_info(b->engine)->n_vocab, size);
    run->open_seconds = opened - began;
    run->find_seconds = found - opened;
    run->load_seconds = loaded - found;
    run->ask_seconds = ended - compared;
    run->first_seconds = run->ask_seconds + loaded - began;
    run->identical = same && token == b->first_token;
    return 0;
}

static int measure_saving(struct resume_bench *b, struct error *error)
{
    struct bench_saving_params params = {
        .engine = b->engine, .timeline = b->timeline, .ids = b->ids, .n_ids = b->options->tokens};
    int rc = store_open(&b->store, b->dir, error);
    params.store = b->store;
    if (!rc) rc = bench_saving(&params, &b->result->saving, error);
    store_close(&b->store);
    b->result->has_saving = !rc;
    return rc;
}

/* ------------------------------------------------------------------------------------------------ warm and cold */

static int by_first(const void *a, const void *b)
{
    const double x = ((const struct resume_run *)a)->first_seconds, y = ((const struct resume_run *)b)->first_seconds;
    return (x > y) - (x < y);
}

/* The median of a few: what the first one finds not ready (memory, clocks) is not what coming back takes. */
static int come_back_warm(struct resume_bench *b, struct error *error)
{
    struct resume_run runs[WARM_RUNS];
    int rc = 0;
    bool identical = true;
    for (size_t i = 0; !rc && i < WARM_RUNS; i++) {
        rc = come_back(b, &runs[i], error);
        identical = identical && runs[i].identical;
    }
    if (rc) return rc;
    qsort(runs, WARM_RUNS, sizeof *runs, by_first);
    b->result->warm = runs[WARM_RUNS / 2];
    b->result->warm.identical = identical;
    return 0;
}

/* What the disk itself can, by the same file, and then coming back from it. */
static int come_back_cold(struct resume_bench *b, struct error *error)
{
    struct resume_result *r = b->result;
    struct bench_cache before, between;
    char *path = NULL;
    int rc = paths_join(b->dir, "lectern.db", &path, error);
    if (!rc) rc = bench_cache_drop(b->dir, &before, error);
    if (!rc) rc = bench_read_rate(path, &r->disk_rate, error);
    if (!rc) rc = bench_cache_drop(b->dir, &between, error);
    if (!rc) rc = come_back(b, &r->cold, error);
    free(path);
    if (rc) return rc;
    const double most = 0.01 * (double)(r->rows_bytes + r->snapshot_bytes);
    r->is_cold = !before.is_unknown && !between.is_unknown && before.kept_bytes < most && between.kept_bytes < most;
    return 0;
}

/* ---------------------------------------------------------------------------------------------- the course */

static int open_engine(const struct settings *s, struct resume_bench *b, struct error *error)
{
    size_t most = b->options->tokens + (size_t)RESUME_QUESTION + BENCH_SAVING_ROOM;
    struct model_usage usage = {.settings = s, .params = settings_engine(s), .need = most};
    if (!usage.params.context) usage.params.context = (uint32_t)most;
    double began = bench_clock();
    int rc = model_use(&b->engine, &usage, error);
    b->result->model_seconds = bench_clock() - began;
    if (!rc) b->result->info = *engine_info(b->engine);
    if (!rc) rc = timeline_create(&b->timeline, b->engine, error);
    if (!rc) rc = bench_ids(b->engine, most, &b->ids, error);
    if (!rc && !(b->logits = malloc(2 * logits_size(b)))) rc = error_set(error, ERROR_FAILED, "Out of memory.");
    return rc;
}

static int stand_there(struct resume_bench *b, struct error *error)
{
    char reading[] = "Reading";
    if (b->options->made) return timeline_pretend(b->timeline, b->ids, b->options->tokens, error);
    double began = bench_clock();
    int rc = read_tokens(b, b->options->tokens, reading, error);
    b->result->read_seconds = bench_clock() - began;
    return rc;
}

/* Reads, saves, asks. What is read here is also what reading again costs: the timeline was empty. */
static int go_there(struct resume_bench *b, struct error *error)
{
    int rc = warm_up(b, error);
    if (!rc) rc = stand_there(b, error);
    if (!rc) memcpy(b->logits, timeline_logits(b->timeline), logits_size(b));
    if (!rc) rc = save_all(b, error);
    double began = bench_clock();
    if (!rc) rc = answer(b, &b->first_token, error);
    if (!b->options->made) b->result->reread_seconds = b->result->read_seconds + bench_clock() - began;
    if (!rc) memcpy(b->logits + engine_info(b->engine)->n_vocab, timeline_logits(b->timeline), logits_size(b));
    progress_clear();
    return rc;
}

static int measure(const struct settings *s, struct resume_bench *b, struct error *error)
{
    int rc = console_catch_signals(error);
    if (!rc) rc = open_engine(s, b, error);
    if (!rc) rc = make_folder(s, b, error);
    if (!rc) rc = go_there(b, error);
    if (!rc) rc = come_back_warm(b, error);
    if (!rc && b->options->cold) rc = come_back_cold(b, error);
    if (!rc && !b->options->compare) rc = measure_saving(b, error);
    progress_clear();
    return rc;
}

/* With the types of these settings; the store is gone afterwards in any case. */
static int measure_one(const struct settings *s, const struct bench_resume_options *options, struct resume_result *out,
                       struct error *error)
{
    struct resume_bench b = {.options = options, .result = out};
    struct error left;
    int rc = measure(s, &b, error);
    timeline_destroy(&b.timeline);
    store_close(&b.store);
    engine_close(&b.engine);
    int kept = b.dir ? bench_folder_remove(b.dir, &left) : 0;
    if (kept && rc) console_say("%s", left.text);
    if (kept && !rc) rc = error_set(error, left.code, "%s", left.text);
    free(b.dir);
    free(b.ids);
    free(b.logits);
    return rc;
}

int bench_resume(const struct settings *s, const struct bench_resume_options *options, struct error *error)
{
    struct resume_result results[RESUME_RESULTS] = {0};
    struct settings with = *s;
    size_t count = options->compare ? 2 : 1;
    bool identical = true;
    int rc = 0;
    for (size_t i = 0; !rc && i < count; i++) {
        if (options->compare) with.state_dtype = i ? ENGINE_F16 : ENGINE_F32;
        if (options->compare) with.rows_dtype = i ? ENGINE_Q8_0 : ENGINE_F16;
        rc = measure_one(&with, options, &results[i], error);
        identical = identical && results[i].warm.identical && (!options->cold || results[i].cold.identical);
    }
    if (rc) return rc;
    (options->json ? resume_print_json : resume_print)(options, results, count);
    return identical ? 0 : error_set(error, ERROR_FAILED, "What came back is not bit-identical to what was saved.");
}
