/* SPDX-License-Identifier: MIT
 *
 * Embedding, norm, SwiGLU and matrix products of every backend against double precision, in every weight format, on odd
 * sizes, with guarded buffers and under the validation layers. --bench prints speeds instead.
 */
#include "tests/op_weight.h"

#include <stdio.h>
#include <time.h>

static const char *named(const char *what, const char *format, uint32_t n_in, uint32_t n_out, uint32_t n)
{
    static char text[128];
    snprintf(text, sizeof text, "%s, %s, in %u, out %u, n %u", what, format, n_in, n_out, n);
    return text;
}

/* ------------------------------------------------------------------------------------------------ element-wise */

static void norm(struct check *c, uint32_t n, uint32_t width, bool in_place)
{
    struct check_buffer *x = check_floats(c, (size_t)n * width, 3), *gain = check_floats(c, width, 1);
    struct check_buffer *y = in_place ? x : check_output(c, (size_t)n * width);
    double *want = check_doubles(c, (size_t)n * width);
    for (uint32_t t = 0; t < n; t++) {
        double squares = 0;
        for (uint32_t i = 0; i < width; i++) squares += pow((double)x->host[t * width + i], 2);
        for (uint32_t i = 0; i < width; i++)
            want[t * width + i] =
                (double)x->host[t * width + i] * (double)gain->host[i] / sqrt(squares / width + (double)1e-5f);
    }
    check_begin(c);
    c->ops->rms_norm(c->backend, x->addr, gain->addr, y->addr, n, width, 1e-5f);
    check_submit(c);
    check_nmse(c, y, want, 1e-12, named("norm", "-", width, width, n));
    check_reset(c);
}

static void test_norm(void **state)
{
    static const uint32_t widths[] = {1, 7, 31, 128, 511, 512, 2304};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        norm(*state, 1, widths[i], false);
        norm(*state, 3, widths[i], true);
        norm(*state, 65, widths[i], false);
    }
}

static void swiglu(struct check *c, uint32_t n, uint32_t width, bool in_place)
{
    struct check_buffer *gate = check_floats(c, (size_t)n * width, 4), *up = check_floats(c, (size_t)n * width, 1);
    struct check_buffer *y = in_place ? gate : check_output(c, (size_t)n * width);
    double *want = check_doubles(c, (size_t)n * width);
    for (size_t i = 0; i < (size_t)n * width; i++)
        want[i] = (double)gate->host[i] / (1 + exp(-(double)gate->host[i])) * (double)up->host[i];
    check_begin(c);
    c->ops->swiglu(c->backend, gate->addr, up->addr, y->addr, n, width);
    check_submit(c);
    check_nmse(c, y, want, 1e-12, named("swiglu", "-", width, width, n));
    check_reset(c);
}

static void test_swiglu(void **state)
{
    static const uint32_t widths[] = {1, 63, 65, 256, 1000};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        swiglu(*state, 1, widths[i], true);
        swiglu(*state, 37, widths[i], false);
    }
}

/* Ids at both ends and a repeated one; decoding is exact up to the rounding of a product and a difference. */
static void embed(struct check *c, const char *format, uint32_t width)
{
    const uint32_t ids[] = {0, 10, 3, 3, 7};
    struct check_weight table = check_weight(c, format, width, 11, 1);
    struct check_buffer *at = check_bytes(c, ids, sizeof ids), *x = check_output(c, 5 * (size_t)width);
    double *want = check_doubles(c, 5 * (size_t)width);
    for (uint32_t t = 0; t < 5; t++)
        for (uint32_t i = 0; i < width; i++) want[t * width + i] = (double)table.values[(size_t)ids[t] * width + i];
    check_begin(c);
    c->ops->embed(c->backend, &table.w, at->addr, x->addr, 5);
    check_submit(c);
    check_nmse(c, x, want, 1e-13, named("embed", format, width, 11, 5));
    check_weight_free(c, &table);
    check_reset(c);
}

static void test_embed(void **state)
{
    for (size_t f = 0; f < CHECK_FORMATS; f++) {
        const uint32_t block = quant_format_named(check_formats[f])->block_len;
        if (!check_wanted(check_formats[f])) continue;
        embed(*state, check_formats[f], block == 1 ? 33 : block);
        embed(*state, check_formats[f], block == 1 ? 130 : 5 * block);
    }
}

/* ---------------------------------------------------------------------------------------------------- products */

/* Of the terms of row r times x. */
static double terms_power(const struct check_weight *w, uint32_t r, const float *x)
{
    double sum = 0;
    for (uint32_t i = 0; i < w->w.n_in; i++) sum += pow((double)w->values[(size_t)r * w->w.n_in + i] * (double)x[i], 2);
    return sum;
}

/* Two jobs on one x of that scale: the first sets, the second adds. */
static void product(struct check *c, const char *format, uint32_t n_in, uint32_t n_out, uint32_t n, float scale)
{
    struct check_weight a = check_weight(c, format, n_in, n_out, 1), b = check_weight(c, format, n_in, n_out + 2, 1);
    struct check_buffer *x = check_floats(c, (size_t)n * n_in, scale);
    struct check_buffer *y = check_output(c, (size_t)n * n_out), *z = check_floats(c, (size_t)n * (n_out + 2), 5);
    double *want_y = check_doubles(c, y->count), *want_z = check_doubles(c, z->count);
    double power = 0; /* of y's terms, where there are few results */
    for (uint32_t t = 0; t < n; t++) {
        const float *row = x->host + (size_t)t * n_in;
        for (uint32_t r = 0; r < n_out; r++) want_y[t * n_out + r] = check_dot(&a, 0, r, row);
        for (uint32_t r = 0; r < n_out && n_out * n < 16; r++) power += terms_power(&a, r, row);
        for (uint32_t r = 0; r < n_out + 2; r++) {
            const size_t at = t * (n_out + 2) + r;
            want_z[at] = (double)z->host[at] + check_dot(&b, 0, r, row);
        }
    }
    const struct matmul_job jobs[] = {{&a.w, y->addr, false}, {&b.w, z->addr, true}};
    check_begin(c);
    c->ops->matmul(c->backend, x->addr, jobs, 2, n);
    check_submit(c);
    const double most = check_halves(c, format, n) ? check_rounded(2) : 1e-11;
    check_sums(c, y, want_y, power, most, named("product", format, n_in, n_out, n));
    check_nmse(c, z, want_z, most, named("product added", format, n_in, n_out, n));
    check_weight_free(c, &a);
    check_weight_free(c, &b);
    check_reset(c);
}

static void products(struct check *c, const char *format, const uint32_t *widths, size_t count)
{
    static const uint32_t tokens[] = {1, 2, 3, 8, 9, 33, 70}, outs[] = {1, 3, 31, 64, 65, 200, 130};
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < sizeof tokens / sizeof *tokens; j++) {
            product(c, format, widths[i], outs[(i + j) % 7], tokens[j], 1);
            product(c, format, widths[i], outs[(i + 2 * j + 3) % 7], tokens[j], 1);
        }
}

static void test_products(void **state)
{
    static const uint32_t plain[] = {1, 7, 33, 100, 160}, small[] = {32, 96, 160, 800}, large[] = {256, 768, 2304};
    for (size_t f = 0; f < CHECK_FORMATS; f++) {
        const struct quant_format *format = quant_format_named(check_formats[f]);
        const uint32_t block = format->block_len;
        if (!check_wanted(check_formats[f])) continue;
        if (check_codebook(format)) /* of many formats but one kind: a whole group of blocks and one more */
            products(*state, check_formats[f], large + 2, 1);
        else if (block == 1)
            products(*state, check_formats[f], plain, 5);
        else if (block == 32)
            products(*state, check_formats[f], small, 4);
        else
            products(*state, check_formats[f], large, 3);
    }
}

/* So many workgroups that each takes the largest tiles. */
static void test_large(void **state)
{
    product(*state, "Q8_0", 96, 2050, 510, 1);
}

/* Activations beyond what a half can hold, and below: kernels on halves must not lose them. */
static void test_scales(void **state)
{
    static const float scales[] = {1e-9f, 1e6f, 1e12f};
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        product(*state, "Q8_0", 96, 65, 33, scales[i]);
        product(*state, "Q4_K", 256, 65, 33, scales[i]);
    }
}

/* ------------------------------------------------------------------------------------------------------- speed */

static double seconds(void)
{
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The best of a few batches of the same product. */
static void bench(struct check *c, const char *format, uint32_t n)
{
    enum { IN = 2304, OUT = 2048, TIMES = 8 };
    struct check_weight w = check_weight(c, format, IN, OUT, 1);
    struct check_buffer *x = check_floats(c, (size_t)n * IN, 1), *y = check_output(c, (size_t)n * OUT);
    const struct matmul_job job = {&w.w, y->addr, false};
    double best = 1e9;
    for (int round = 0; round < 5; round++) {
        const double start = seconds();
        check_begin(c);
        for (int i = 0; i < TIMES; i++) c->ops->matmul(c->backend, x->addr, &job, 1, n);
        check_submit(c);
        const double took = (seconds() - start) / TIMES;
        if (took < best) best = took;
    }
    printf("%-6s n %3u: %9.1f us  %8.2f GB/s  %9.2f GFLOP/s\n", format, n, best * 1e6,
           (double)w.w.mat_bytes / best * 1e-9, 2.0 * IN * OUT * n / best * 1e-9);
    check_weight_free(c, &w);
    check_reset(c);
}

static void test_bench(void **state)
{
    for (size_t f = 0; f < CHECK_FORMATS; f++) {
        if (!check_wanted(check_formats[f])) continue;
        bench(*state, check_formats[f], 1);
        bench(*state, check_formats[f], 512);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm),     cmocka_unit_test(test_swiglu), cmocka_unit_test(test_embed),
        cmocka_unit_test(test_products), cmocka_unit_test(test_large),  cmocka_unit_test(test_scales),
    };
    const struct CMUnitTest benches[] = {cmocka_unit_test(test_bench)};
    const struct shape most = {.n_embd = 2304, .n_ff = 2304, .eps = 1e-5f};
    if (argc > 1 && !strcmp(argv[1], "--bench"))
        return check_run(&(struct check_plan){"op_dense", benches, 1, &most, 512, true});
    return check_run(&(struct check_plan){"op_dense", tests, sizeof tests / sizeof *tests, &most, 512, true});
}
