/* SPDX-License-Identifier: MIT
 *
 * lectern bench: tokens a second, reading and answering, at several depths. The tokens are seeded and ordinary; the
 * text before a depth is read untimed. With --profile each operation's share is told as well (bench_profile.c). With
 * --resume: bench_resume.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "app/bench.h"
#include "app/commands.h"
#include "app/console.h"
#include "app/json.h"
#include "app/model_use.h"
#include "app/options.h"
#include "app/progress.h"
#include "app/sanitize.h"

#define DEPTHS_MOST 32

struct bench_options {
    bool json, profile, resume, cold;
    const char *depths;
    uint32_t prefill, decode, tokens;
};

#define AT(field) .offset = offsetof(struct bench_options, field)
static const struct option bench_table[] = {
    {"json", 0, OPTION_FLAG, NULL, NULL, "as JSON", AT(json)},
    {"depth", 'd', OPTION_TEXT, "N,N...", "0,4096", "tokens before what is measured", AT(depths)},
    {"prefill", 0, OPTION_UINT, "N", "512", "tokens read at each depth", AT(prefill), .most = 1u << 20},
    {"decode", 0, OPTION_UINT, "N", "64", "tokens generated at each depth", AT(decode), .most = 1u << 20},
    {"profile", 0, OPTION_FLAG, NULL, NULL, "what each operation took, on the device's clock", AT(profile)},
    {"resume", 0, OPTION_FLAG, NULL, NULL, "measure saving and coming back instead", AT(resume)},
    {"tokens", 0, OPTION_UINT, "N", "4096", "--resume: tokens read, saved and taken back", AT(tokens),
     .most = 1u << 24},
    {"cold", 0, OPTION_FLAG, NULL, NULL, "--resume: once more with the file out of the page cache", AT(cold)},
    {NULL},
};
#undef AT

static const struct command_usage bench_usage = {
    .name = "bench",
    .arguments = "[--depth N,N] [--prefill N] [--decode N] [--profile] | --resume [--tokens N] [--cold]",
    .about = "Measures reading (prefill) and answering (decode) at several depths on one device, or with --resume\n"
             "what coming back to a stored state costs, against reading it again.",
    .options = bench_table,
};

struct bench_row {
    uint32_t depth;
    struct bench_profile prefill, decode;
};

struct bench {
    struct engine *engine;
    struct timeline *timeline;
    const struct bench_options *options;
    uint32_t *ids; /* enough for the deepest measurement */
    struct bench_row rows[DEPTHS_MOST];
    size_t n_rows, most;
    struct engine_peaks peaks; /* --profile */
};

double bench_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int compare_rows(const void *a, const void *b)
{
    const struct bench_row *left = a, *right = b;
    return (left->depth > right->depth) - (left->depth < right->depth);
}

static int parse_depths(struct bench *b, struct error *error)
{
    const char *at = b->options->depths;
    for (;;) {
        char *end;
        errno = 0;
        unsigned long value = strtoul(at, &end, 10);
        if (end == at || errno || value > 1u << 24 || (*end && *end != ',') || *at == '-' || b->n_rows == DEPTHS_MOST)
            return error_set(error, ERROR_USAGE, "--depth: \"%.80s\" is not a list of up to %d numbers.",
                             b->options->depths, DEPTHS_MOST);
        b->rows[b->n_rows++].depth = (uint32_t)value;
        if (!*end) break;
        at = end + 1;
    }
    qsort(b->rows, b->n_rows, sizeof *b->rows, compare_rows);
    b->most = b->rows[b->n_rows - 1].depth + (size_t)b->options->prefill + b->options->decode;
    return 0;
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
static int advance(struct bench *b, size_t to, bool single, char *what, double *seconds, struct error *error)
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

/* As advance, each operation timed. */
static int profile(struct bench *b, size_t to, bool single, char *what, struct bench_profile *out, struct error *error)
{
    int rc = b->options->profile ? engine_profile_start(b->engine, &b->peaks, error) : 0;
    if (!rc) rc = advance(b, to, single, what, &out->seconds, error);
    if (!rc && b->options->profile) out->count = engine_profile_read(b->engine, out->timings, BENCH_TIMINGS);
    return rc;
}

static int measure(struct bench *b, struct bench_row *row, struct error *error)
{
    char filling[] = "Filling", reading[] = "Prefill", answering[] = "Decode";
    if (timeline_length(b->timeline) > row->depth) timeline_clear(b->timeline);
    int rc = advance(b, row->depth, false, filling, NULL, error);
    size_t read_to = row->depth + (size_t)b->options->prefill;
    if (!rc) rc = profile(b, read_to, false, reading, &row->prefill, error);
    if (!rc) rc = profile(b, read_to + b->options->decode, true, answering, &row->decode, error);
    progress_clear();
    return rc;
}

static int warm_up(struct bench *b, struct error *error)
{
    char warming[] = "Warming up";
    size_t n = b->most < engine_info(b->engine)->batch ? b->most : engine_info(b->engine)->batch;
    int rc = advance(b, n, false, warming, NULL, error);
    timeline_clear(b->timeline);
    return rc;
}

static double rate(uint32_t tokens, double seconds)
{
    return seconds > 0 ? tokens / seconds : 0;
}

static void print_table(const struct bench *b)
{
    const struct engine_info *info = engine_info(b->engine);
    char model[SANITIZE_ROOM(128)], device[SANITIZE_ROOM(128)], weights[32], depth[32];
    sanitize_line(info->model_name, model, sizeof model);
    sanitize_line(info->device_name, device, sizeof device);
    printf("model    %s, %s\ndevice   %s (%s), batch %u\n\n", model, format_bytes(info->weight_bytes, weights), device,
           info->device_id, info->batch);
    printf("%10s  %14s  %14s\n", "depth", "prefill tok/s", "decode tok/s");
    for (size_t i = 0; i < b->n_rows; i++)
        printf("%10s  %14.1f  %14.1f\n", format_count(b->rows[i].depth, depth),
               rate(b->options->prefill, b->rows[i].prefill.seconds),
               rate(b->options->decode, b->rows[i].decode.seconds));
    for (size_t i = 0; b->options->profile && i < b->n_rows; i++) {
        printf("\nprefill at %s\n", format_count(b->rows[i].depth, depth));
        bench_profile_print(&b->rows[i].prefill, &b->peaks);
        printf("\ndecode at %s\n", format_count(b->rows[i].depth, depth));
        bench_profile_print(&b->rows[i].decode, &b->peaks);
    }
}

static void print_json(const struct bench *b)
{
    const struct engine_info *info = engine_info(b->engine);
    struct json j = {0};
    json_open(&j, NULL, '{');
    json_text(&j, "model", info->model_name);
    json_text(&j, "device", info->device_name);
    json_text(&j, "device_id", info->device_id);
    json_uint(&j, "weight_bytes", info->weight_bytes);
    json_uint(&j, "batch", info->batch);
    json_uint(&j, "prefill", b->options->prefill);
    json_uint(&j, "decode", b->options->decode);
    json_uint(&j, "validation_messages", info->validation_messages);
    if (b->options->profile) json_real(&j, "copy_bytes_per_second", b->peaks.bytes_per_second);
    json_open(&j, "rows", '[');
    for (size_t i = 0; i < b->n_rows; i++) {
        const struct bench_row *row = &b->rows[i];
        json_open(&j, NULL, '{');
        json_uint(&j, "depth", row->depth);
        json_real(&j, "prefill_seconds", row->prefill.seconds);
        json_real(&j, "prefill_tokens_per_second", rate(b->options->prefill, row->prefill.seconds));
        json_real(&j, "decode_seconds", row->decode.seconds);
        json_real(&j, "decode_tokens_per_second", rate(b->options->decode, row->decode.seconds));
        if (b->options->profile) {
            bench_profile_json(&j, "prefill_profile", &row->prefill);
            bench_profile_json(&j, "decode_profile", &row->decode);
        }
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
    json_send(&j);
    json_free(&j);
}

static int open_bench(struct bench *b, const struct settings *s, struct error *error)
{
    struct model_usage usage = {.settings = s, .params = settings_engine(s), .need = b->most};
    if (!usage.params.context) usage.params.context = (uint32_t)(b->most + 1);
    int rc = model_use(&b->engine, &usage, error);
    return rc ? rc : timeline_create(&b->timeline, b->engine, error);
}

static int run_bench(const struct settings *s, struct bench *b, struct error *error)
{
    int rc = parse_depths(b, error);
    if (!rc) rc = console_catch_signals(error);
    if (!rc) rc = open_bench(b, s, error);
    if (!rc) rc = bench_ids(b->engine, b->most, &b->ids, error);
    if (!rc) rc = warm_up(b, error);
    for (size_t i = 0; !rc && i < b->n_rows; i++) rc = measure(b, &b->rows[i], error);
    if (!rc && b->options->json)
        print_json(b);
    else if (!rc)
        print_table(b);
    timeline_destroy(&b->timeline);
    engine_close(&b->engine);
    free(b->ids);
    return rc;
}

int cmd_bench(int argc, char **argv)
{
    struct settings settings;
    struct bench_options options = {0};
    struct error error = {0};
    int status;
    if (!command_begin(&settings, &bench_usage, &options, &argc, argv, &status)) return status;
    struct bench bench = {.options = &options};
    int rc;
    if (argc > 1)
        rc = error_set(&error, ERROR_USAGE, "bench takes no argument \"%.80s\".", argv[1]);
    else if (options.resume && !options.tokens)
        rc = error_set(&error, ERROR_USAGE, "--tokens: at least one token is needed.");
    else if (options.resume)
        rc =
            bench_resume(&settings, &(struct bench_resume_options){options.tokens, options.cold, options.json}, &error);
    else if (!options.prefill && !options.decode)
        rc = error_set(&error, ERROR_USAGE, "There is nothing to measure.");
    else
        rc = run_bench(&settings, &bench, &error);
    fflush(stdout);
    if (rc) console_error(&error);
    if (console_signal()) rc = console_signal_status(console_signal());
    settings_free(&settings);
    return console_finish(rc);
}
