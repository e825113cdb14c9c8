/* SPDX-License-Identifier: MIT
 *
 * The cpu with activations rounded to whole numbers: a token's logits are the same bits in any batch, near those with
 * f32 activations, and near logits computed elsewhere (the files of those lie outside the repository; that part is
 * skipped without them). A random router weighs experts all but equally, so all rows count: a choice that rounding
 * turned would be seen.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "tests/make_model.h"

enum { TOKENS = 48, MOST_TOKENS = 256 };

static char folder[] = "/tmp/lectern-activations-XXXXXX";

/* Logits after every id, [n][n_vocab]. */
static float *evaluate(const char *model, enum engine_dtype activations, uint32_t batch, const uint32_t *ids, size_t n,
                       uint32_t *n_vocab)
{
    struct error error;
    struct engine *engine;
    struct timeline *timeline;
    const struct engine_params params = {
        .model = model, .device = "cpu", .batch = batch, .context = MOST_TOKENS, .activations = activations};
    if (engine_open(&engine, &params, &error)) fail_msg("%s: %s", model, error.text);
    *n_vocab = engine_info(engine)->n_vocab;
    float *logits = malloc(n * *n_vocab * sizeof *logits);
    assert_non_null(logits);
    if (timeline_create(&timeline, engine, &error) || timeline_append(timeline, ids, n, logits, NULL, &error))
        fail_msg("%s: %s", model, error.text);
    timeline_destroy(&timeline);
    engine_close(&engine);
    return logits;
}

static double power(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((double)a[i] - (b ? b[i] : 0)) * ((double)a[i] - (b ? b[i] : 0));
    return sum;
}

static double nmse(const float *got, const float *want, size_t n)
{
    return power(got, want, n) / power(want, NULL, n);
}

/* Bits that do not depend on the batch, and logits that differ from those with f32 activations, but little. */
static void check(const char *preset, const char *type)
{
    char path[96];
    struct error error;
    uint32_t ids[TOKENS], n_vocab;
    const struct test_model model = {.preset = preset, .type = type, .seed = 5};
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    if (test_model_write(path, &model, &error)) fail_msg("%s", error.text);
    for (uint32_t i = 0; i < TOKENS; i++) ids[i] = i * 37 % 500;
    float *whole = evaluate(path, ENGINE_Q8_0, TOKENS, ids, TOKENS, &n_vocab);
    for (uint32_t batch = 1; batch <= 9; batch += 4) {
        float *parts = evaluate(path, ENGINE_Q8_0, batch, ids, TOKENS, &n_vocab);
        assert_memory_equal(parts, whole, (size_t)TOKENS * n_vocab * sizeof *whole);
        free(parts);
    }
    float *exact = evaluate(path, ENGINE_F32, TOKENS, ids, TOKENS, &n_vocab);
    double off = nmse(whole, exact, (size_t)TOKENS * n_vocab);
    print_message("%s of %s: NMSE %.1e\n", preset, type, off);
    assert_true(off > 0 && off <= 1e-6);
    free(exact);
    free(whole);
    unlink(path);
}

static void batches_do_not_matter(void **state)
{
    (void)state;
    check("tiny", "Q4_K");
    check("odd", "Q5_0");
    check("all-mla", "IQ4_NL");
    check("tiny", "Q3_K");
    check("mla-first", "Q4_1");
    check("narrow", "MXFP4");
}

/* ------------------------------------------------------------------------------------------------------ golden */

static const char *shared_path(const char *dir, const char *name, const char *suffix)
{
    static char path[4096];
    const char *root = getenv("LECTERN_SHARED");
    snprintf(path, sizeof path, "%s/%s/%s%s", root ? root : "../shared", dir, name, suffix);
    return path;
}

static size_t golden_ids(const char *name, uint32_t *ids, size_t most)
{
    FILE *f = fopen(shared_path("golden", name, ".tokens.txt"), "r");
    size_t n = 0;
    if (!f) skip();
    while (n < most && fscanf(f, "%u", &ids[n]) == 1) n++;
    fclose(f);
    return n;
}

static void a_trained_model_stays_near(void **state)
{
    (void)state;
    uint32_t ids[64], n_vocab;
    size_t n = golden_ids("mini.needle", ids, 64);
    const char *model = shared_path("models", "mini-Q8_0", ".gguf");
    float *got = evaluate(model, ENGINE_Q8_0, 64, ids, n, &n_vocab);
    float *want = evaluate(model, ENGINE_F32, 64, ids, n, &n_vocab);
    double off = nmse(got, want, n * n_vocab);
    print_message("mini-Q8_0: NMSE %.1e over %zu rows\n", off, n);
    assert_true(off <= 1e-6);
    free(got);
    free(want);
}

static float *golden_rows(const char *model, size_t n, uint32_t n_vocab)
{
    FILE *f = fopen(shared_path("golden", model, ".logits.bin"), "rb");
    int32_t head[2];
    float *rows = malloc(n * n_vocab * sizeof *rows);
    assert_true(f && rows);
    assert_int_equal(fread(head, sizeof head, 1, f), 1);
    assert_true(head[0] == (int32_t)n && head[1] == (int32_t)n_vocab);
    assert_int_equal(fread(rows, sizeof *rows, n * n_vocab, f), n * n_vocab);
    fclose(f);
    return rows;
}

static void golden_rows_are_met(void **state)
{
    (void)state;
    static const char *const models[] = {"tiny-Q8_0",   "tiny-Q6_K",   "tiny-Q5_0",     "tiny-Q4_K_M", "tiny-Q4_0",
                                         "tiny-Q4_1",   "tiny-Q5_1",   "tiny-Q5_K_M",   "tiny-Q2_K",   "tiny-Q3_K_M",
                                         "tiny-IQ4_NL", "tiny-IQ4_XS", "tiny-MXFP4_MOE"};
    uint32_t ids[MOST_TOKENS], n_vocab;
    size_t n = golden_ids("tiny", ids, MOST_TOKENS);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        float *got = evaluate(shared_path("models", models[i], ".gguf"), ENGINE_Q8_0, 128, ids, n, &n_vocab);
        float *want = golden_rows(models[i], n, n_vocab);
        double off = nmse(got, want, n * n_vocab);
        print_message("%s: NMSE %.1e over %zu rows\n", models[i], off, n);
        if (!(off <= 1e-6)) fail_msg("%s: NMSE %.1e", models[i], off);
        free(got);
        free(want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(batches_do_not_matter), cmocka_unit_test(golden_rows_are_met),
                                       cmocka_unit_test(a_trained_model_stays_near)};
    if (!mkdtemp(folder)) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return failed;
}
