/* SPDX-License-Identifier: MIT
 *
 * How fast a device multiplies by each weight format, on matrices of arbitrary bits: speed does not depend on them.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/device.h"
#include "quant/gguf.h"
#include "quant/quant.h"

enum {
    IN = 4096,
    BATCH = 512,
    BATCH_ROWS = 4096,
};

/* What is multiplied, and how often: the best of many rounds, for a GPU that was idle takes a while to reach its clock.
 */
struct effort {
    uint32_t rows, batch_rows;
    int times;      /* products in a round */
    double seconds; /* of rounds, two at least */
};
static const struct effort hardware = {65536, BATCH_ROWS, 8, 0.2}; /* beyond any cache */
static const struct effort software = {1024, 64, 2, 0};

struct bench {
    struct backend *backend;
    unsigned char *bits;
    const struct effort *effort;
    uint64_t x, y;
};

static double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void fill_bits(unsigned char *bits, size_t bytes)
{
    uint64_t word = 20260214;
    for (size_t i = 0; i + sizeof word <= bytes; i += sizeof word) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        memcpy(bits + i, &word, sizeof word);
    }
}

/* *took: seconds of one product of n tokens, on average of a round. */
static int time_round(const struct bench *b, const struct weight *w, uint32_t n, double *took, struct error *error)
{
    const struct backend_ops *ops = b->backend->ops;
    const struct matmul_job job = {.w = w, .y = b->y};
    const double start = clock_seconds();
    int rc = ops->begin(b->backend, error);
    for (int i = 0; !rc && i < b->effort->times; i++) ops->matmul(b->backend, b->x, &job, 1, n);
    if (!rc) rc = ops->submit(b->backend, error);
    *took = (clock_seconds() - start) / b->effort->times;
    return rc;
}

static int time_product(const struct bench *b, const struct weight *w, uint32_t n, double *best, struct error *error)
{
    double took;
    int rc = time_round(b, w, n, &took, error); /* compiles */
    if (!rc) rc = time_round(b, w, n, best, error);
    const double end = clock_seconds() + b->effort->seconds;
    while (!rc && clock_seconds() < end) {
        rc = time_round(b, w, n, &took, error);
        if (!rc && took < *best) *best = took;
    }
    return rc;
}

static int measure(const struct bench *b, const struct quant_format *f, uint32_t rows, uint32_t n, double *seconds,
                   struct error *error)
{
    struct weight w;
    const struct gguf_tensor tensor = {.name = {"weight", 6},
                                       .format = f,
                                       .n_dims = 2,
                                       .ne = {IN, rows, 1, 1},
                                       .data = b->bits,
                                       .bytes = rows * quant_row_bytes(f, IN)};
    int rc = b->backend->ops->weight_load(b->backend, &tensor, &w, error);
    if (rc) return rc;
    rc = time_product(b, &w, n, seconds, error);
    if (w.addr != (uint64_t)(uintptr_t)b->bits) b->backend->ops->release(b->backend, w.addr);
    return rc;
}

static int measure_format(const struct bench *b, const struct quant_format *f, struct engine_format_speed *out,
                          struct error *error)
{
    *out = (struct engine_format_speed){.name = f->name,
                                        .bytes = (double)b->effort->rows * (double)quant_row_bytes(f, IN)};
    out->flops = 2.0 * IN * b->effort->batch_rows * BATCH;
    int rc = measure(b, f, b->effort->rows, 1, &out->one_seconds, error);
    return rc ? rc : measure(b, f, b->effort->batch_rows, BATCH, &out->batch_seconds, error);
}

static int bench_prepare(struct bench *b, struct engine_peaks *peaks, struct error *error)
{
    const struct backend_ops *ops = b->backend->ops;
    const struct shape most = {.n_embd = IN, .n_ff = IN, .eps = 1e-5f};
    const size_t weight_bytes = (size_t)b->effort->rows * IN * sizeof(float);
    b->bits = malloc(weight_bytes);
    if (!b->bits) return error_set(error, ERROR_FAILED, "Out of memory for %zu bytes of weights.", weight_bytes);
    fill_bits(b->bits, weight_bytes);
    const size_t x_bytes = (size_t)BATCH * IN * sizeof(float);
    const size_t one = b->effort->rows * sizeof(float), all = (size_t)BATCH_ROWS * BATCH * sizeof(float);
    int rc = ops->prepare(b->backend, &most, BATCH, error);
    if (!rc) rc = ops->alloc(b->backend, x_bytes, "activations", &b->x, error);
    if (!rc) rc = ops->alloc(b->backend, one > all ? one : all, "results", &b->y, error);
    if (!rc) rc = ops->begin(b->backend, error);
    if (!rc) ops->fill(b->backend, b->x, 0x3f000000, x_bytes); /* halves */
    if (!rc) rc = ops->submit(b->backend, error);
    if (!rc && ops->profile_start) rc = ops->profile_start(b->backend, peaks, error);
    return rc;
}

int engine_format_speeds(struct engine_format_speed *out, size_t cap, size_t *count, struct engine_peaks *peaks,
                         const struct engine_params *params, struct error *error)
{
    struct bench b = {0};
    struct device_choice choice;
    size_t n;
    const struct quant_format *const *formats = quant_formats(&n);
    *count = 0;
    *peaks = (struct engine_peaks){0};
    int rc = device_choose(&choice, params->device, error);
    if (!rc) rc = device_open(&b.backend, &choice, params, error);
    if (rc) return rc;
    b.effort = choice.is_cpu || choice.info.is_software ? &software : &hardware;
    rc = bench_prepare(&b, peaks, error);
    for (size_t i = 0; !rc && i < n && *count < cap; i++) {
        if (params->progress && !params->progress(params->progress_ctx, i, n))
            rc = error_set(error, ERROR_FAILED, "Stopped.");
        if (!rc) rc = measure_format(&b, formats[i], &out[*count], error);
        if (!rc) ++*count;
    }
    if (b.x) b.backend->ops->release(b.backend, b.x);
    if (b.y) b.backend->ops->release(b.backend, b.y);
    b.backend->ops->destroy(b.backend);
    free(b.bits);
    return rc;
}
