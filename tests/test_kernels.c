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

/* ------------------------------------------------------------------------------ activations rounded to whole numbers
 */

enum { WIDE = 1024, ROWS8 = 7, TOKENS8 = 5 };

struct eights {
    int8_t high[TOKENS8][WIDE], middle[TOKENS8][WIDE], least[TOKENS8][WIDE];
    float step[TOKENS8][WIDE / 16], sum[TOKENS8][WIDE / 16];
    uint8_t level[ROWS8][WIDE];
    float scale[ROWS8][WIDE / 16], low[ROWS8][WIDE / 16];
    struct rounded x[TOKENS8];
    struct spread w[ROWS8];
};

static void eights_make(struct eights *e, const struct kernels *by, const struct quant_format *f,
                        const unsigned char *rows, const float *x, size_t width)
{
    memset(e, 0x55, sizeof *e);
    for (size_t t = 0; t < TOKENS8; t++) {
        e->x[t] = (struct rounded){e->high[t], e->middle[t], e->least[t], e->step[t], e->sum[t]};
        by->round_input(x + t * width, width, &e->x[t]);
    }
    for (size_t r = 0; r < ROWS8; r++) {
        e->w[r] = (struct spread){e->level[r], e->scale[r], e->low[r]};
        by->spread_row(f, rows + r * quant_row_bytes(f, width), width, &e->w[r]);
    }
}

static void eights_dot(const struct eights *e, const struct kernels *by, size_t width, uint32_t first, uint32_t n,
                       float *y)
{
    by->dot8(&(struct dot8_params){
        .w = e->w, .rows = ROWS8, .x = e->x + first, .n = n, .width = width, .y = y, .y_stride = ROWS8});
}

/* Against the decoded weights in f32, against the plain table, and each token by itself. */
static void check_dot8(const struct quant_format *f, size_t width, bool encoded)
{
    static struct eights mine, plain;
    static unsigned char rows[ROWS8 * WIDE * 2];
    static float w[ROWS8 * WIDE], x[TOKENS8 * WIDE];
    float y[TOKENS8 * ROWS8], twin[TOKENS8 * ROWS8], one[ROWS8];
    double off = 0, all = 0;
    fill(x, TOKENS8 * width);
    fill(w, ROWS8 * width);
    for (size_t i = 0; !encoded && i < sizeof rows; i++) rows[i] = (unsigned char)(next_random() >> 9);
    if (encoded) f->encode(w, NULL, rows, ROWS8 * width);
    f->decode(rows, w, ROWS8 * width);
    eights_make(&mine, k, f, rows, x, width);
    eights_make(&plain, &cpu_kernels_base, f, rows, x, width);
    eights_dot(&mine, k, width, 0, TOKENS8, y);
    eights_dot(&plain, &cpu_kernels_base, width, 0, TOKENS8, twin);
    for (uint32_t t = 0; t < TOKENS8; t++) {
        eights_dot(&mine, k, width, t, 1, one);
        assert_memory_equal(one, y + t * ROWS8, sizeof one);
        for (uint32_t r = 0; r < ROWS8; r++) {
            double sum = 0, size = 0;
            for (size_t i = 0; i < width; i++) {
                sum += (double)w[r * width + i] * x[t * width + i];
                size += (fabs((double)w[r * width + i]) + fabs((double)mine.low[r][i / 16])) *
                        fabs((double)x[t * width + i]);
            }
            float got = y[t * ROWS8 + r], want = twin[t * ROWS8 + r];
            /* Damaged scales may be so great that partial sums overflow, in one order of adding sooner than in another.
             */
            if (size < 1e36 && !(fabs((double)got - want) <= 2e-6 * size))
                fail_msg("%s, width %zu: %g, the plain table gives %g", f->name, width, (double)got, (double)want);
            off += (got - sum) * (got - sum);
            all += sum * sum;
        }
    }
    if (encoded && !(off <= 1e-10 * all)) fail_msg("%s, width %zu: NMSE %g", f->name, width, off / all);
}

static void dots_of_bytes(void **state)
{
    (void)state;
    size_t count, tried = 0;
    const struct quant_format *const *formats = quant_formats(&count);
    for (size_t i = 0; i < count; i++) {
        if (!k->spreads(formats[i])) continue;
        tried++;
        for (size_t width = formats[i]->block_len; width <= WIDE; width += formats[i]->block_len * 3) {
            check_dot8(formats[i], width, true);
            check_dot8(formats[i], width, false);
        }
    }
    assert_int_equal(tried, 22); /* all but F32, F16 and BF16 */
}

static void rounding_keeps_what_is_no_number(void **state)
{
    (void)state;
    float x[40], step[4], sum[4];
    int8_t high[64], middle[64], low[64];
    struct rounded r = {high, middle, low, step, sum};
    fill(x, 40);
    x[3] = NAN;
    k->round_input(x, 40, &r);
    assert_true(isnan(step[0]) && isnan(sum[0]) && high[3] == 0 && isfinite(step[1]));
    x[3] = -INFINITY;
    k->round_input(x, 40, &r);
    assert_true(isnan(step[0]) && isfinite(sum[1]) && high[40] == 0 && low[63] == 0);
    memset(x, 0, sizeof x);
    x[33] = -2;
    k->round_input(x, 40, &r);
    assert_true(step[0] == 0 && sum[0] == 0 && high[33] == -127 && fabsf(sum[2] + 2) < 1e-6f && sum[3] == 0);
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
        cmocka_unit_test(decodes_as_quant),
        cmocka_unit_test(dots),
        cmocka_unit_test(mixes),
        cmocka_unit_test(dots_of_bytes),
        cmocka_unit_test(rounding_keeps_what_is_no_number),
        cmocka_unit_test(exponents),
        cmocka_unit_test(softmaxes),
    };
    for (size_t i = 0; (k = cpu_kernels_at(i)); i++) failed += cmocka_run_group_tests_name(k->name, tests, NULL, NULL);
    return failed;
}
