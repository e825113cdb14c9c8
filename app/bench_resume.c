/* SPDX-License-Identifier: MIT
 *
 * lectern bench --resume: what coming back costs, and what reading again would. Both answer the same short question, so
 * both are times to a first token; the logits must be the same bits. The model is on the device already in both cases:
 * what loading it took is told, and not counted. At the end, what saving does to answering (bench_saving.c).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/bench.h"
#include "app/bench_saving.h"
#include "app/console.h"
#include "app/json.h"
#include "app/model_use.h"
#include "app/paths.h"
#include "app/progress.h"
#include "app/sanitize.h"
#include "quant/quant.h"
#include "store/store.h"

enum { QUESTION = 16, SAVE_SEGMENTS = 16 };

struct resume_run {
    double open_seconds, find_seconds; /* the store; the longest stored prefix */
    double load_seconds;               /* all of the next three, and what is between them */
    double wait_seconds;               /* for the store: what reading and verifying took beyond the rest */
    double rows_seconds;               /* checked again by the engine and given to the device */
    double snapshot_seconds;           /* the same of the snapshot */
    double ask_seconds;                /* the question and the first token */
    double first_seconds;              /* from before open to the sampled token */
    bool identical;
};

struct resume_bench {
    const struct bench_resume_options *options;
    struct engine *engine;
    struct timeline *timeline;
    struct store *store;
    char *dir;
    uint32_t *ids; /* tokens, then the question */
    float *logits; /* [2][n_vocab]: after the tokens, after the question */
    uint32_t first_token;
    uint64_t rows_bytes, snapshot_bytes;
    double model_seconds;
    double read_seconds, reread_seconds; /* the tokens; to the first token */
    double save_seconds;
    struct resume_run warm, cold;
    double kept_bytes; /* of the store, in the page cache before the cold run */
    bool cache_unknown;
    struct bench_saving saving;
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

/* How much of an open file is in the page cache; -1 where the system does not say. */
static double cached_bytes(int file)
{
    struct stat st;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages, resident = 0;
    if (fstat(file, &st) || st.st_size <= 0) return st.st_size ? -1 : 0;
    pages = ((size_t)st.st_size + page - 1) / page;
    unsigned char *there = malloc(pages);
    void *map = there ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;
    bool known = map != MAP_FAILED && !mincore(map, (size_t)st.st_size, there);
    for (size_t i = 0; known && i < pages; i++) resident += there[i] & 1;
    if (map != MAP_FAILED) munmap(map, (size_t)st.st_size);
    free(there);
    return known ? (double)resident * (double)page : -1;
}

/* Drops a file from the page cache once it is on the disk, and counts what stayed there all the same. */
static int forget_file(struct resume_bench *b, int folder, const char *name)
{
    int file = openat(folder, name, O_RDONLY | O_CLOEXEC);
    if (file < 0) return errno;
    int failed = fsync(file) ? errno : posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    double kept = failed ? 0 : cached_bytes(file);
    close(file);
    if (kept < 0) b->cache_unknown = true;
    if (kept > 0) b->kept_bytes += kept;
    return failed;
}

static int remove_file(struct resume_bench *b, int folder, const char *name)
{
    (void)b;
    return unlinkat(folder, name, 0) ? errno : 0;
}

static int each_file(struct resume_bench *b, int (*visit)(struct resume_bench *, int, const char *),
                     struct error *error)
{
    DIR *dir = opendir(b->dir);
    if (!dir) return error_set(error, ERROR_DISK, "%.300s: %s.", b->dir, strerror(errno));
    int failed = 0;
    for (const struct dirent *entry; !failed && (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) failed = visit(b, dirfd(dir), entry->d_name);
    closedir(dir);
    return failed ? error_set(error, ERROR_DISK, "%.300s: %s.", b->dir, strerror(failed)) : 0;
}

static int remove_folder(struct resume_bench *b, struct error *error)
{
    if (!b->dir) return 0;
    int rc = each_file(b, remove_file, error);
    if (!rc && rmdir(b->dir)) rc = error_set(error, ERROR_DISK, "%.300s: %s.", b->dir, strerror(errno));
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
    int rc = read_tokens(b, QUESTION, asking, error);
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
    b->rows_bytes += blob.size;
    return rc;
}

static int fill_snapshot(struct resume_bench *b, struct store_save *save, struct error *error)
{
    size_t tail = save->count % STORE_SEGMENT;
    int rc = tail ? take_rows(b, save->count - tail, tail, &save->tail, error) : 0;
    struct blob blob = {0};
    if (!rc) rc = timeline_save_snapshot(b->timeline, &blob, error);
    save->snapshot = (struct store_blob){blob.data, blob.size};
    b->snapshot_bytes += blob.size;
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
    b->save_seconds = bench_clock() - began;
    store_close(&b->store);
    return rc;
}

/* -------------------------------------------------------------------------------------------------- coming back */

struct loading {
    struct restore *restore;
    struct resume_run *run;
    double since; /* clock: when the store was last given back control */
};

/* A piece has come: the time since the last one was spent waiting. */
static double piece_came(struct loading *l)
{
    double now = bench_clock();
    l->run->wait_seconds += now - l->since;
    return now;
}

static int load_rows(void *ctx, const void *bytes, size_t size, struct error *error)
{
    struct loading *l = ctx;
    double began = piece_came(l);
    int rc = stopped(error);
    if (!rc) rc = restore_rows(l->restore, bytes, size, error);
    l->since = bench_clock();
    l->run->rows_seconds += l->since - began;
    return rc;
}

static int load_snapshot(void *ctx, const void *bytes, size_t size, struct error *error)
{
    struct loading *l = ctx;
    double began = piece_came(l);
    int rc = restore_snapshot(l->restore, bytes, size, error);
    l->since = bench_clock();
    l->run->snapshot_seconds = l->since - began;
    return rc;
}

static int load(struct resume_bench *b, struct resume_run *run, struct error *error)
{
    struct loading loading = {.run = run};
    const uint8_t *key = engine_info(b->engine)->state_key;
    int rc = restore_begin(&loading.restore, b->engine, b->ids, b->options->tokens, error);
    if (rc) return rc;
    struct store_load callbacks = {.rows = load_rows, .snapshot = load_snapshot, .ctx = &loading};
    loading.since = bench_clock();
    rc = store_load(b->store, key, b->ids, b->options->tokens, &callbacks, error);
    if (!rc) return restore_finish(&loading.restore, &b->timeline, error);
    restore_abort(&loading.restore);
    return rc;
}

static int find(struct resume_bench *b, struct error *error)
{
    size_t position = 0;
    int rc = store_find_prefix(b->store, engine_info(b->engine)->state_key, b->ids,
                               b->options->tokens + (size_t)QUESTION, &position, error);
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
    return rc ? rc : bench_saving(&params, &b->saving, error);
}

/* ------------------------------------------------------------------------------------------------- results */

static double ratio(const struct resume_bench *b, const struct resume_run *run)
{
    return run->first_seconds > 0 ? b->reread_seconds / run->first_seconds : 0;
}

static const char *dtype_name(enum engine_dtype dtype)
{
    return quant_format((uint32_t)dtype)->name;
}

static uint64_t all_bytes(const struct resume_bench *b)
{
    return b->rows_bytes + b->snapshot_bytes;
}

static void print_run(const struct resume_bench *b, const char *name, const struct resume_run *run)
{
    printf("%-6s %8.3f %8.3f %8.3f %8.3f %8.3f %8.3f %8.3f %12.3f %10.2f %9.0f  %s\n", name, run->open_seconds,
           run->find_seconds, run->wait_seconds, run->rows_seconds, run->snapshot_seconds, run->load_seconds,
           run->ask_seconds, run->first_seconds, (double)all_bytes(b) / run->load_seconds / 1e9, ratio(b, run),
           run->identical ? "bit-identical" : "DIFFERENT");
}

/* How much longer reading takes for the checkpoints that are taken meanwhile. */
static double take_share(const struct resume_bench *b)
{
    double reading = b->read_seconds / b->options->tokens * b->saving.checkpoint_tokens;
    return b->saving.take_seconds / reading;
}

static void print_saving(const struct resume_bench *b)
{
    const struct bench_saving *s = &b->saving;
    char bytes[32], tokens[32];
    printf("\nsaving    answering %.1f tok/s with the writer idle, %.1f while it writes: %.1f %% off (%u x %u tokens)\n"
           "          a checkpoint of %s is taken from the device in %.1f ms: %.1f %% of reading its %s tokens\n",
           s->idle_rate, s->writing_rate, 100 * s->off, s->rounds, s->tokens, format_bytes(s->checkpoint_bytes, bytes),
           1e3 * s->take_seconds, 100 * take_share(b), format_count(s->checkpoint_tokens, tokens));
}

/* Whether the cold run was one. */
static bool is_cold(const struct resume_bench *b)
{
    return !b->cache_unknown && b->kept_bytes < 0.01 * (double)all_bytes(b);
}

static void print_table(const struct resume_bench *b)
{
    const struct engine_info *info = engine_info(b->engine);
    char model[SANITIZE_ROOM(128)], device[SANITIZE_ROOM(128)], tokens[32], rows[32], snapshot[32];
    sanitize_line(info->model_name, model, sizeof model);
    sanitize_line(info->device_name, device, sizeof device);
    printf("model     %s, opened in %.3f s (not counted below: it is there already)\ndevice    %s (%s), batch %u\n",
           model, b->model_seconds, device, info->device_id, info->batch);
    printf("state     %s tokens: rows %s (%s), snapshot %s (%s)\n", format_count(b->options->tokens, tokens),
           format_bytes(b->rows_bytes, rows), dtype_name(info->rows_dtype), format_bytes(b->snapshot_bytes, snapshot),
           dtype_name(info->state_dtype));
    printf("save      %.3f s, all of it, from the device to committed (%.2f GB/s)\n", b->save_seconds,
           (double)all_bytes(b) / b->save_seconds / 1e9);
    printf("re-read   %.3f s to the first token (%.1f tok/s)\n\n", b->reread_seconds,
           b->options->tokens / b->read_seconds);
    printf("%-6s %8s %8s %8s %8s %8s %8s %8s %12s %10s %9s  %s\n", "", "open s", "find s", "wait s", "rows s", "snap s",
           "load s", "ask s", "first tok s", "load GB/s", "ratio", "logits");
    print_run(b, "warm", &b->warm);
    if (b->options->cold) print_run(b, "cold", &b->cold);
    if (b->options->cold && !is_cold(b))
        printf("(not cold: this system does not let the store be dropped from its page cache, or does not tell)\n");
    printf(
        "load: waiting for the store, then rows and snapshot (checked, to the device); ask: %d tokens and the first of "
        "an answer;\nfirst tok: open + find + load + ask; ratio: re-read / first tok\n",
        QUESTION);
    print_saving(b);
}

static void json_run(struct json *j, const struct resume_bench *b, const char *name, const struct resume_run *run)
{
    json_open(j, name, '{');
    json_real(j, "open_seconds", run->open_seconds);
    json_real(j, "find_seconds", run->find_seconds);
    json_real(j, "wait_seconds", run->wait_seconds);
    json_real(j, "rows_seconds", run->rows_seconds);
    json_real(j, "snapshot_seconds", run->snapshot_seconds);
    json_real(j, "load_seconds", run->load_seconds);
    json_real(j, "ask_seconds", run->ask_seconds);
    json_real(j, "first_token_seconds", run->first_seconds);
    json_real(j, "ratio", ratio(b, run));
    json_bool(j, "identical", run->identical);
    json_close(j, '}');
}

static void json_saving(struct json *j, const struct resume_bench *b)
{
    const struct bench_saving *s = &b->saving;
    json_open(j, "saving", '{');
    json_uint(j, "rounds", s->rounds);
    json_uint(j, "tokens", s->tokens);
    json_uint(j, "checkpoint_tokens", s->checkpoint_tokens);
    json_uint(j, "checkpoint_bytes", s->checkpoint_bytes);
    json_real(j, "idle_tokens_per_second", s->idle_rate);
    json_real(j, "writing_tokens_per_second", s->writing_rate);
    json_real(j, "off", s->off);
    json_real(j, "take_seconds", s->take_seconds);
    json_real(j, "take_share_of_reading", take_share(b));
    json_close(j, '}');
}

static void print_json(const struct resume_bench *b)
{
    const struct engine_info *info = engine_info(b->engine);
    struct json j = {0};
    json_open(&j, NULL, '{');
    json_text(&j, "model", info->model_name);
    json_text(&j, "device", info->device_name);
    json_text(&j, "device_id", info->device_id);
    json_uint(&j, "batch", info->batch);
    json_uint(&j, "tokens", b->options->tokens);
    json_uint(&j, "question_tokens", QUESTION);
    json_text(&j, "rows_dtype", dtype_name(info->rows_dtype));
    json_text(&j, "state_dtype", dtype_name(info->state_dtype));
    json_uint(&j, "rows_bytes", b->rows_bytes);
    json_uint(&j, "snapshot_bytes", b->snapshot_bytes);
    json_real(&j, "model_seconds", b->model_seconds);
    json_real(&j, "save_seconds", b->save_seconds);
    json_real(&j, "read_seconds", b->read_seconds);
    json_real(&j, "reread_first_token_seconds", b->reread_seconds);
    json_run(&j, b, "warm", &b->warm);
    if (b->options->cold) {
        json_run(&j, b, "cold", &b->cold);
        json_bool(&j, "cold_is_cold", is_cold(b));
    }
    json_saving(&j, b);
    json_close(&j, '}');
    json_send(&j);
    json_free(&j);
}

/* ---------------------------------------------------------------------------------------------- the course */

static int open_engine(const struct settings *s, struct resume_bench *b, struct error *error)
{
    size_t most = b->options->tokens + (size_t)QUESTION + BENCH_SAVING_ROOM;
    struct model_usage usage = {.settings = s, .params = settings_engine(s), .need = most};
    if (!usage.params.context) usage.params.context = (uint32_t)most;
    double began = bench_clock();
    int rc = model_use(&b->engine, &usage, error);
    b->model_seconds = bench_clock() - began;
    if (!rc) rc = timeline_create(&b->timeline, b->engine, error);
    if (!rc) rc = bench_ids(b->engine, most, &b->ids, error);
    if (!rc && !(b->logits = malloc(2 * logits_size(b)))) rc = error_set(error, ERROR_FAILED, "Out of memory.");
    return rc;
}

/* Reads, saves, asks. What is read here is also what reading again costs: the timeline was empty. */
static int go_there(struct resume_bench *b, struct error *error)
{
    char reading[] = "Reading";
    int rc = warm_up(b, error);
    double began = bench_clock();
    if (!rc) rc = read_tokens(b, b->options->tokens, reading, error);
    b->read_seconds = bench_clock() - began;
    if (!rc) memcpy(b->logits, timeline_logits(b->timeline), logits_size(b));
    if (!rc) rc = save_all(b, error);
    began = bench_clock();
    if (!rc) rc = answer(b, &b->first_token, error);
    b->reread_seconds = b->read_seconds + bench_clock() - began;
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
    if (!rc) rc = come_back(b, &b->warm, error);
    if (!rc && b->options->cold) rc = each_file(b, forget_file, error);
    if (!rc && b->options->cold) rc = come_back(b, &b->cold, error);
    if (!rc) rc = measure_saving(b, error);
    progress_clear();
    return rc;
}

int bench_resume(const struct settings *s, const struct bench_resume_options *options, struct error *error)
{
    struct resume_bench b = {.options = options};
    struct error left;
    int rc = measure(s, &b, error);
    if (!rc && options->json)
        print_json(&b);
    else if (!rc)
        print_table(&b);
    if (!rc && (!b.warm.identical || (options->cold && !b.cold.identical)))
        rc = error_set(error, ERROR_FAILED, "What came back is not bit-identical to what was saved.");
    timeline_destroy(&b.timeline);
    store_close(&b.store);
    engine_close(&b.engine);
    int kept = remove_folder(&b, &left);
    if (kept && rc) console_say("%s", left.text);
    if (kept && !rc) rc = error_set(error, left.code, "%s", left.text);
    free(b.ids);
    free(b.logits);
    return rc;
}
