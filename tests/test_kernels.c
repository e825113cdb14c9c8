/* SPDX-License-Identifier: MIT
 *
 * The inner loops of the C twin, in every variant this processor can run: decoding is that of quant/ bit for bit, sums
 * are right and do not depend on how many are asked for at once.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/cpu/kernels.h"

static const struct kernels *k;
static uint32_t seed = 1;

static uint32_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    return seed ^= seed << 5;
}

static void fill(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)(int32_t)next_random() / 1e9f;
}

static void decodes_as_quant(void **state)
{
    (void)state;
    enum { N = 1024 };
    static unsigned char blocks[N * 4];
    static float got[N], want[N];
    size_t count;
    const struct quant_format *const *formats = quant_formats(&count);
    for (size_t f = 0; f < count; f++)
        for (int round = 0; round < 50; round++) {
            for (size_t i = 0; i < sizeof blocks; i++) blocks[i] = (unsigned char)next_random();
            memset(got, 0, sizeof got);
            formats[f]->decode(blocks, want, N);
            k->decode(formats[f], blocks, got, N);
            for (size_t i = 0; i < N; i++)
                if (!(isnan(got[i]) && isnan(want[i]))) assert_memory_equal(&got[i], &want[i], sizeof *got);
        }
}

static void check_dot(uint32_t rows, uint32_t n, size_t width)
{
    float *w = malloc(rows * width * sizeof *w), *x = malloc(n * width * sizeof *x);
    float *y = malloc(n * rows * sizeof *y), *one = malloc(rows * sizeof *one);
    const float *inputs[16];
    assert_true(w && x && y && one && n <= 16);
    fill(w, rows * width);
    fill(x, n * width);
    for (uint32_t t = 0; t < n; t++) inputs[t] = x + t * width;
    struct dot_params p = {
        .w = w, .w_stride = width, .rows = rows, .x = inputs, .n = n, .width = width, .y = y, .y_stride = rows};
    k->dot(&p);
    for (uint32_t t = 0; t < n; t++) {
        struct dot_params single = p;
        single.x = inputs + t;
        single.n = 1;
        single.y = one;
        k->dot(&single);
        assert_memory_equal(one, y + t * rows, rows * sizeof *one);
        for (uint32_t r = 0; r < rows; r++) {
            double sum = 0, size = 0;
            for (size_t i = 0; i < width; i++) {
                sum += (double)w[r * width + i] * x[t * width + i];
                size += fabs((double)w[r * width + i] * x[t * width + i]);
            }
            assert_true(fabs(y[t * rows + r] - sum) <= 1e-6 * size);
        }
    }
    p.add = true;
    memcpy(one, y, rows * sizeof *one);
    k->dot(&p);
    for (uint32_t r = 0; r < rows; r++) assert_true(y[r] == 2 * one[r]);
    free(w);
    free(x);
    free(y);
    free(one);
}

static void dots(void **state)
{
    (void)state;
    static const size_t widths[] = {1, 15, 16, 17, 96, 160, 333};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (uint32_t rows = 1; rows <= 9; rows += 2)
            for (uint32_t n = 1; n <= 8; n++) check_dot(rows, n, widths[i]);
}

static void check_mix(uint32_t heads, uint32_t count, size_t width)
{
    static float p[8 * 16], v[16 * 100], o[8 * 100], before[8 * 100], keep[8];
    fill(p, heads * 16);
    fill(v, 16 * width);
    fill(o, heads * width);
    fill(keep, heads);
    memcpy(before, o, sizeof before);
    const struct mix_params mix = {.p = p,
                                   .p_stride = 16,
                                   .v = v,
                                   .v_stride = width,
                                   .heads = heads,
                                   .count = count,
                                   .width = width,
                                   .o = o,
                                   .o_stride = width,
                                   .keep = keep};
    k->mix(&mix);
    for (uint32_t h = 0; h < heads; h++)
        for (size_t i = 0; i < width; i++) {
            double sum = (double)before[h * width + i] * keep[h], size = fabs(sum);
            for (uint32_t s = 0; s < count; s++) {
                sum += (double)p[h * 16 + s] * v[s * width + i];
                size += fabs((double)p[h * 16 + s] * v[s * width + i]);
            }
            assert_true(fabs(o[h * width + i] - sum) <= 1e-6 * size);
        }
}

static void mixes(void **state)
{
    (void)state;
    static const size_t widths[] = {1, 31, 32, 33, 96, 100};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (uint32_t heads = 1; heads <= 7; heads++) check_mix(heads, 1 + heads * 2, widths[i]);
}

static void exponents(void **state)
{
    (void)state;
    for (int i = -8700; i <= 8800; i++) {
        float x = (float)i / 100, y;
        k->exponent(&x, &y, 1);
        assert_true(fabs(y - exp((double)x)) <= 3e-7 * exp((double)x));
    }
    float special[4] = {-1000, -INFINITY, 1000, NAN}, y[4];
    k->exponent(special, y, 4);
    assert_true(y[0] == 0 && y[1] == 0 && isinf(y[2]) && isnan(y[3]));
}

/* A softmax over blocks is one over all. */
static void softmaxes(void **state)
{
    (void)state;
    enum { N = 100, BLOCK = 32 };
    float x[N], p[N];
    double sum = 0, most = -INFINITY;
    fill(x, N);
    memcpy(p, x, sizeof p);
    struct softmax s = {.max = -INFINITY};
    float keep[4], factor = 1;
    for (int b = 0; b < 4; b++) keep[b] = k->softmax(&s, p + b * BLOCK, b < 3 ? BLOCK : N - 3 * BLOCK, 2);
    for (int i = 0; i < N; i++) most = fmax(most, 2.0 * x[i]);
    for (int i = 0; i < N; i++) sum += exp(2.0 * x[i] - most);
    for (int i = N; i-- > 0;) {
        double want = exp(2.0 * x[i] - most) / sum;
        assert_true(fabs(p[i] * factor / s.sum - want) <= 1e-6 * want + 1e-9);
        if (i % BLOCK == 0) factor *= keep[i / BLOCK];
    }
}

int main(void)
{
    int failed = 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_as_quant), cmocka_unit_test(dots),      cmocka_unit_test(mixes),
        cmocka_unit_test(exponents),        cmocka_unit_test(softmaxes),
    };
    for (size_t i = 0; (k = cpu_kernels_at(i)); i++) failed += cmocka_run_group_tests_name(k->name, tests, NULL, NULL);
    return failed;
}
