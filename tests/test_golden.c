/* SPDX-License-Identifier: MIT
 *
 * The engine against logits computed elsewhere: random tiny models of many types, row by row, in batches of 1, 7 and
 * 128; the trained mini model on three prompts, the eight best. The files lie outside the repository; without them the
 * program says so and exits with 77.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/on_devices.h"

enum { SKIPPED = 77, MOST_TOKENS = 4096, BEST = 8 };

static const char *shared_path(const char *folder, const char *name, const char *suffix)
{
    static char path[4096];
    const char *root = getenv("LECTERN_SHARED");
    snprintf(path, sizeof path, "%s/%s/%s%s", root ? root : "../shared", folder, name, suffix);
    return path;
}

static size_t read_ids(const char *name, uint32_t *ids)
{
    FILE *f = fopen(shared_path("golden", name, ".tokens.txt"), "r");
    size_t n = 0;
    assert_non_null(f);
    while (n < MOST_TOKENS && fscanf(f, "%u", &ids[n]) == 1) n++;
    fclose(f);
    assert_true(n > 0);
    return n;
}

static void *read_some(FILE *f, size_t bytes)
{
    void *data = malloc(bytes);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, bytes, f), bytes);
    return data;
}

/* Logits after every id, [n][n_vocab]. */
static float *evaluate(const char *model, uint32_t batch, const uint32_t *ids, size_t n, uint32_t *n_vocab)
{
    struct error error = {0};
    struct engine *engine;
    struct timeline *timeline;
    const struct engine_params params = {
        .model = shared_path("models", model, ".gguf"), .device = test_device, .batch = batch, .context = MOST_TOKENS};
    int rc = engine_open(&engine, &params, &error);
    if (rc) fail_msg("%s: %s", model, error.text);
    *n_vocab = engine_info(engine)->n_vocab;
    float *logits = malloc(n * *n_vocab * sizeof *logits);
    assert_non_null(logits);
    if (timeline_create(&timeline, engine, &error) || timeline_append(timeline, ids, n, logits, NULL, &error))
        fail_msg("%s: %s", model, error.text);
    const float *last = logits + (n - 1) * *n_vocab;
    for (uint32_t i = 0; i < *n_vocab; i++) assert_true(fabsf(timeline_logits(timeline)[i] - last[i]) < 1e-2f);
    if (on_cpu()) assert_memory_equal(timeline_logits(timeline), last, *n_vocab * sizeof *last);
    timeline_destroy(&timeline);
    engine_close(&engine);
    return logits;
}

static double nmse(const float *got, const float *want, size_t n)
{
    double difference = 0, power = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        power += (double)want[i] * want[i];
    }
    return difference / power;
}

/* ------------------------------------------------------------------------------------------------------- tiny */

static float *golden_rows(const char *model, size_t n, uint32_t n_vocab)
{
    FILE *f = fopen(shared_path("golden", model, ".logits.bin"), "rb");
    int32_t head[2];
    assert_non_null(f);
    assert_int_equal(fread(head, sizeof head, 1, f), 1);
    assert_int_equal(head[0], n);
    assert_int_equal(head[1], n_vocab);
    float *rows = read_some(f, n * n_vocab * sizeof *rows);
    fclose(f);
    return rows;
}

/* Rows until one in which another expert was chosen, as good as the right one within the rounding of f16: in a random
 * model that is quite another row, and what follows builds on it. The rows before must be right. */
static size_t equal_rows(const float *got, const float *want, size_t n, uint32_t n_vocab)
{
    size_t t = 0;
    for (; t < n; t++) {
        const double error = nmse(got + t * n_vocab, want + t * n_vocab, n_vocab);
        if (error > 1e-2) break;
        if (error > 1e-4) fail_msg("row %zu: NMSE %.1e", t, error);
    }
    return t;
}

/* Returns the part of the rows that are right. */
static double check_tiny(const char *model, uint32_t batch, double most)
{
    uint32_t ids[MOST_TOKENS], n_vocab;
    size_t n = read_ids("tiny", ids);
    float *got = evaluate(model, batch, ids, n, &n_vocab);
    float *want = golden_rows(model, n, n_vocab);
    double error = nmse(got, want, n * n_vocab);
    size_t equal = test_halves ? equal_rows(got, want, n, n_vocab) : n;
    printf("   %s, batch %u: NMSE %.1e, of the first %zu of %zu rows %.1e\n", model, batch, error, equal, n,
           nmse(got, want, equal * n_vocab));
    assert_true(test_halves || error <= most);
    free(want);
    free(got);
    return (double)equal / (double)n;
}

static void tiny_f32(void **state)
{
    (void)state;
    const uint32_t batches[] = {1, 7, 128};
    for (size_t i = 0; i < 3; i++) check_tiny("tiny-f32", batches[i], on_cpu() ? 1e-6 : 1e-5);
}

static void tiny_quantised(void **state)
{
    (void)state;
    static const char *const models[] = {"tiny-Q8_0",   "tiny-Q6_K",   "tiny-Q5_0",     "tiny-Q4_K_M", "tiny-Q4_0",
                                         "tiny-Q4_1",   "tiny-Q5_1",   "tiny-Q5_K_M",   "tiny-Q2_K",   "tiny-Q3_K_M",
                                         "tiny-IQ4_NL", "tiny-IQ4_XS", "tiny-MXFP4_MOE"};
    const size_t count = sizeof models / sizeof *models;
    double equal = 0;
    for (size_t i = 0; i < count; i++) equal += check_tiny(models[i], 128, on_cpu() ? 1e-6 : 1e-5);
    assert_true(equal >= 0.5 * (double)count);
}

/* ------------------------------------------------------------------------------------------------------- mini */

struct best {
    size_t n;
    int32_t *ids;  /* [n][BEST], best first */
    float *logits; /* [n][BEST] */
};

static struct best golden_best(const char *name)
{
    FILE *f = fopen(shared_path("golden", name, ".top8.bin"), "rb");
    int32_t head[2];
    assert_non_null(f);
    assert_int_equal(fread(head, sizeof head, 1, f), 1);
    assert_int_equal(head[1], BEST);
    struct best b = {.n = (size_t)head[0]};
    b.ids = read_some(f, b.n * BEST * sizeof *b.ids);
    b.logits = read_some(f, b.n * BEST * sizeof *b.logits);
    fclose(f);
    return b;
}

static uint32_t best_id(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* The cpu must agree on every best id. A path of less precision may differ where two ids are as good as tied. */
static void check_mini(const char *name)
{
    char tokens[64], top[64];
    uint32_t ids[MOST_TOKENS], n_vocab;
    snprintf(tokens, sizeof tokens, "mini.%s", name);
    snprintf(top, sizeof top, "mini-Q8_0.%s", name);
    size_t n = read_ids(tokens, ids), agree = 0;
    struct best want = golden_best(top);
    assert_int_equal(want.n, n);
    float *got = evaluate("mini-Q8_0", 512, ids, n, &n_vocab);
    assert_non_null(got);
    double squares = 0;
    for (size_t t = 0; t < n; t++) {
        const float *row = got + t * n_vocab;
        agree += best_id(row, n_vocab) == (uint32_t)want.ids[t * BEST];
        for (size_t k = 0; k < BEST; k++) {
            double d = (double)row[want.ids[t * BEST + k]] - want.logits[t * BEST + k];
            squares += d * d;
        }
    }
    double rms = sqrt(squares / (double)(n * BEST));
    printf("   mini %s: %zu of %zu best ids, logits differ by rms %.1e\n", name, agree, n, rms);
    assert_true(on_cpu() ? agree == n : (double)agree >= 0.99 * (double)n);
    assert_true(rms <= (on_cpu() ? 1e-4 : 5e-2));
    free(want.ids);
    free(want.logits);
    free(got);
}

static void mini_prompts(void **state)
{
    (void)state;
    check_mini("needle");
    check_mini("needle2");
    check_mini("absent");
}

static int group(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_f32),
        cmocka_unit_test(tiny_quantised),
        cmocka_unit_test(mini_prompts),
    };
    return cmocka_run_group_tests_name(test_device, tests, NULL, NULL);
}

int main(void)
{
    FILE *f = fopen(shared_path("golden", "tiny", ".tokens.txt"), "r");
    if (!f) {
        printf("skipped: no golden files at %s\n", shared_path("golden", "", ""));
        return SKIPPED;
    }
    fclose(f);
    return for_each_device(group);
}
