/* SPDX-License-Identifier: MIT
 *
 * Rotary positions of every backend against double precision, from the angles on; and the angles themselves.
 */
#include "tests/op_check.h"

#include <stdio.h>

#include "engine/rotation.h"

struct rope_case {
    uint32_t n, first, n_head, kv_lora, nope, rope;
    float scale, factor;
};

/* YaRN's formula for one pair, told again. */
static double angle(const struct rope_case *k, uint32_t pair, double position)
{
    const double width = k->rope, base = 10000, original = 4096;
    const double plain = pow(base, -2.0 * pair / width);
    if (k->factor <= 1) return position * plain;
    const double low = floor(width * log(original / (32 * 2 * acos(-1))) / (2 * log(base)));
    const double high = ceil(width * log(original / (1 * 2 * acos(-1))) / (2 * log(base)));
    double slowed = (pair - fmax(low, 0)) / fmax(fmin(high, width - 1) - fmax(low, 0), 0.001);
    slowed = slowed < 0 ? 0 : slowed > 1 ? 1 : slowed;
    return position * (plain * (1 - slowed) + plain / (double)k->factor * slowed);
}

static void turn(const struct rope_case *k, const float *x, double *want, double position, double scale)
{
    for (uint32_t i = 0; i < k->rope / 2; i++) {
        const double a = (double)x[2 * i], b = (double)x[2 * i + 1], by = angle(k, i, position);
        want[2 * i] = (a * cos(by) - b * sin(by)) * scale;
        want[2 * i + 1] = (a * sin(by) + b * cos(by)) * scale;
    }
}

static void expect(const struct rope_case *k, const float *q, const float *c, double *want_q, double *want_c)
{
    const size_t key = k->nope + k->rope, row = k->kv_lora + k->rope;
    for (uint32_t t = 0; t < k->n; t++) {
        const double position = (double)k->first + t;
        for (uint32_t h = 0; h < k->n_head; h++) {
            const size_t at = ((size_t)t * k->n_head + h) * key;
            for (uint32_t i = 0; i < k->nope; i++) want_q[at + i] = (double)q[at + i] * (double)k->scale;
            turn(k, q + at + k->nope, want_q + at + k->nope, position, (double)k->scale);
        }
        for (uint32_t i = 0; i < k->kv_lora; i++) want_c[t * row + i] = (double)c[t * row + i];
        turn(k, c + t * row + k->kv_lora, want_c + t * row + k->kv_lora, position, 1);
    }
}

static void rope(struct check *c, const struct rope_case *k)
{
    char what[128];
    struct rotation rotation;
    const struct rotation_params params = {
        .width = k->rope, .base = 10000, .factor = k->factor, .original = 4096, .fast = 32, .slow = 1, .magnitude = 1};
    struct check_buffer *q = check_floats(c, (size_t)k->n * k->n_head * (k->nope + k->rope), 1);
    struct check_buffer *row = check_floats(c, (size_t)k->n * (k->kv_lora + k->rope), 1);
    struct check_buffer *turns = check_output(c, (size_t)k->n * k->rope);
    double *want_q = check_doubles(c, q->count), *want_row = check_doubles(c, row->count);
    expect(k, q->host, row->host, want_q, want_row);
    rotation_init(&rotation, &params);
    rotation_fill(&rotation, k->first, k->n, turns->host);
    check_changed(c, turns);
    check_begin(c);
    c->ops->rope(c->backend, &(struct rope){.n = k->n,
                                            .n_head = k->n_head,
                                            .kv_lora = k->kv_lora,
                                            .nope = k->nope,
                                            .rope = k->rope,
                                            .q = q->addr,
                                            .c = row->addr,
                                            .turns = turns->addr,
                                            .scale = k->scale});
    check_submit(c);
    snprintf(what, sizeof what, "rope n %u at %u, %u heads of %u + %u, row %u", k->n, k->first, k->n_head, k->nope,
             k->rope, k->kv_lora);
    check_nmse(c, q, want_q, 1e-13, what);
    check_nmse(c, row, want_row, 1e-13, what);
    check_reset(c);
}

static void test_rope(void **state)
{
    static const struct rope_case cases[] = {
        {1, 0, 1, 1, 1, 2, 1, 1},
        {1, 7, 3, 5, 3, 4, 1.5f, 1},
        {5, 100, 2, 40, 24, 8, 1, 40},
        {67, 3, 5, 64, 32, 16, 1, 1},
        {1, 4095, 16, 512, 128, 64, 1, 1},
        {33, 163000, 16, 512, 128, 64, 1.59f, 40},
        {3, 1u << 20, 2, 16, 7, 64, 0.5f, 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) rope(*state, &cases[i]);
}

/* Cosine and sine of chosen angles of DeepSeek-V2-Lite (64 channels, factor 40 of 4096): pair 0 keeps its pace, pair 31
 * is 40 times slower. */
static void test_turns(void **state)
{
    (void)state;
    struct rotation r;
    float turns[64];
    rotation_init(&r, &(struct rotation_params){64, 10000, 40, 4096, 32, 1, 1});
    rotation_fill(&r, 1000, 1, turns);
    assert_true(fabs((double)turns[0] - cos(1000)) < 1e-7 && fabs((double)turns[1] - sin(1000)) < 1e-7);
    assert_true(fabs((double)turns[63] - sin(1000 * pow(10000, -62.0 / 64) / 40)) < 1e-7);
    rotation_init(&r, &(struct rotation_params){64, 10000, 40, 4096, 32, 1, 2});
    rotation_fill(&r, 0, 1, turns);
    for (size_t i = 0; i < 32; i++) assert_true(turns[2 * i] == 2 && turns[2 * i + 1] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rope), cmocka_unit_test(test_turns)};
    const struct shape most = {.n_embd = 64, .eps = 1e-5f};
    return check_main(tests, sizeof tests / sizeof *tests, "op_rope", &most, 67);
}
