/* SPDX-License-Identifier: MIT
 *
 * bench --types: how fast the device multiplies by each weight format, against a copy of its memory and the fastest.
 */
#include <stdio.h>

#include "app/bench.h"
#include "app/console.h"

enum { TYPES = 64 };

struct types {
    struct engine_format_speed speeds[TYPES];
    size_t count;
    struct engine_peaks peaks;
};

static double bytes_per_second(const struct engine_format_speed *t)
{
    return t->one_seconds > 0 ? t->bytes / t->one_seconds : 0;
}

static double flops_per_second(const struct engine_format_speed *t)
{
    return t->batch_seconds > 0 ? t->flops / t->batch_seconds : 0;
}

static double best_bytes(const struct types *types)
{
    double best = 0;
    for (size_t i = 0; i < types->count; i++)
        if (bytes_per_second(&types->speeds[i]) > best) best = bytes_per_second(&types->speeds[i]);
    return best;
}

static void print_table(const struct types *types)
{
    const double best = best_bytes(types), copy = types->peaks.bytes_per_second;
    printf("%-8s %12s %10s %8s %8s %14s\n", "type", "one token us", "GB/s", "of best", "of copy", "512: TFLOP/s");
    for (size_t i = 0; i < types->count; i++) {
        const struct engine_format_speed *t = &types->speeds[i];
        const double rate = bytes_per_second(t);
        printf("%-8s %12.1f %10.1f %7.0f%% ", t->name, 1e6 * t->one_seconds, 1e-9 * rate, 100 * rate / best);
        if (copy > 0)
            printf("%7.0f%%", 100 * rate / copy);
        else
            printf("%8s", "-");
        printf(" %14.3f\n", 1e-12 * flops_per_second(t));
    }
    if (copy > 0) printf("a copy moves %.1f GB/s\n", 1e-9 * copy);
}

static void print_json(const struct types *types)
{
    struct json j = {0};
    json_open(&j, NULL, '{');
    json_real(&j, "copy_bytes_per_second", types->peaks.bytes_per_second);
    json_open(&j, "types", '[');
    for (size_t i = 0; i < types->count; i++) {
        const struct engine_format_speed *t = &types->speeds[i];
        json_open(&j, NULL, '{');
        json_text(&j, "type", t->name);
        json_real(&j, "one_token_seconds", t->one_seconds);
        json_real(&j, "bytes_per_second", bytes_per_second(t));
        json_real(&j, "batch_flops_per_second", flops_per_second(t));
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
    json_send(&j);
    json_free(&j);
}

static bool told(void *ctx, uint64_t done, uint64_t total)
{
    return bench_progress(ctx, (size_t)done, (size_t)total);
}

int bench_types(const struct settings *s, bool json, struct error *error)
{
    struct types types = {0};
    struct engine_params params = settings_engine(s);
    params.progress = told;
    params.progress_ctx = "measuring types";
    int rc = console_catch_signals(error);
    if (!rc) rc = engine_format_speeds(types.speeds, TYPES, &types.count, &types.peaks, &params, error);
    if (rc) return rc;
    if (json)
        print_json(&types);
    else
        print_table(&types);
    return 0;
}
