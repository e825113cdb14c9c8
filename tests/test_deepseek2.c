/* SPDX-License-Identifier: MIT
 *
 * deepseek2 against llama.cpp: golden_deepseek2.bin holds what its v0.5.0 made of the four presets (make_model.h, seed
 * 1, F32) on the cpu with rows in f32. For each preset and each of ROWS positions: [VOCAB] float32, little-endian. The
 * presets have rotary positions with and without YaRN in its three forms, compressed queries, keys and values joined
 * and not, softmax and sigmoid, with and without bias, groups, normalising, scale.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/make_model.h"
#include "tests/on_devices.h"

enum { TOKENS = 100, VOCAB = 512, ROWS = 3, PRESETS = 4 };

static const char *const presets[PRESETS] = {"moonlight", "lite", "v2", "v3"};
static const uint32_t positions[ROWS] = {1, 47, 99};
static char path[128];
static uint32_t ids[TOKENS];
static float golden[PRESETS][ROWS][VOCAB], logits[TOKENS][VOCAB];

static void must(int rc, const struct error *error)
{
    if (rc) fail_msg("%d: %s", rc, error->text);
}

static int read_golden(void **state)
{
    (void)state;
    FILE *f = fopen("tests/golden_deepseek2.bin", "rb");
    if (!f) return 1;
    size_t n = fread(golden, sizeof golden, 1, f);
    fclose(f);
    return n == 1 ? 0 : 1;
}

/* A real GPU rounds the inputs of large products to f16. */
static double limit_here(void)
{
    struct engine_device list[16];
    struct error error;
    size_t count = 0;
    must(engine_devices(list, 16, &count, &error), &error);
    for (size_t i = 0; i < count; i++)
        if (!strcmp(list[i].id, test_device) && (on_cpu() || list[i].is_software)) return 1e-9;
    return 1e-4;
}

static void compare(const char *what, const float golden_rows[ROWS][VOCAB])
{
    for (size_t r = 0; r < ROWS; r++) {
        double wrong = 0, size = 0;
        for (size_t i = 0; i < VOCAB; i++) {
            const double want = (double)golden_rows[r][i], got = (double)logits[positions[r]][i];
            wrong += (got - want) * (got - want);
            size += want * want;
        }
        assert_true(size > VOCAB / 4.0);
        printf("   %s, after token %u: NMSE %.1e\n", what, positions[r], wrong / size);
        if (!(wrong / size <= limit_here()))
            fail_msg("%s: NMSE %g after token %u, at most %g", what, wrong / size, positions[r], limit_here());
    }
}

static void evaluate(const char *preset, uint32_t batch)
{
    struct error error;
    struct engine *e;
    struct timeline *t;
    const struct engine_params params = {.model = path, .device = test_device, .context = 600, .batch = batch};
    must(engine_open(&e, &params, &error), &error);
    const struct engine_info *info = engine_info(e);
    const struct test_shape *s = test_shape_named(preset);
    assert_string_equal(info->architecture, "deepseek2");
    assert_int_equal(info->n_kda, 0);
    assert_int_equal(info->n_mla, s->n_layer);
    assert_int_equal(info->state_bytes, 0);
    assert_int_equal(info->row_bytes, s->n_layer * (s->kv_lora + s->rope) * 4);
    must(timeline_create(&t, e, &error), &error);
    must(timeline_append(t, ids, TOKENS, logits[0], NULL, &error), &error);
    timeline_destroy(&t);
    engine_close(&e);
}

static void like_the_other(void **state)
{
    (void)state;
    struct error error;
    for (size_t p = 0; p < PRESETS; p++) {
        const struct test_model model = {.preset = presets[p], .seed = 1};
        must(test_model_write(path, &model, &error), &error);
        evaluate(presets[p], 64);
        compare(presets[p], golden[p]);
    }
    unlink(path);
}

/* As answers come: each token a batch of its own, which a GPU backend records while the one before runs. */
static void one_by_one(void **state)
{
    (void)state;
    struct error error;
    struct engine *e;
    struct timeline *t;
    const struct test_model model = {.preset = "v3", .seed = 1};
    const struct engine_params params = {.model = path, .device = test_device, .context = 600, .batch = 64};
    must(test_model_write(path, &model, &error), &error);
    must(engine_open(&e, &params, &error), &error);
    must(timeline_create(&t, e, &error), &error);
    for (uint32_t i = 0; i < TOKENS; i++) {
        must(timeline_append(t, &ids[i], 1, NULL, NULL, &error), &error);
        memcpy(logits[i], timeline_logits(t), sizeof logits[i]);
    }
    timeline_destroy(&t);
    engine_close(&e);
    compare("v3 one by one", golden[PRESETS - 1]);
    unlink(path);
}

/* The plan of a model without states: rows in all layers, for the context it was made for. */
static void planned(void **state)
{
    (void)state;
    struct error error;
    struct engine_plan plan;
    const struct test_model model = {.preset = "moonlight", .seed = 1};
    const struct engine_params params = {.model = path, .device = test_device};
    must(test_model_write(path, &model, &error), &error);
    must(engine_plan(&plan, &params, &error), &error);
    assert_int_equal(plan.state, 0);
    assert_int_equal(plan.context, 8192);
    assert_int_equal(plan.rows, 8192 * 3 * (32 + 16) * 4);
    unlink(path);
}

static int group(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(like_the_other), cmocka_unit_test(one_by_one),
                                       cmocka_unit_test(planned)};
    return cmocka_run_group_tests_name(test_device, tests, read_golden, NULL);
}

int main(void)
{
    temp_path(path, "deepseek2.gguf");
    for (uint32_t i = 0; i < TOKENS; i++) ids[i] = (i * 2654435761u >> 7) % 504;
    int failed = for_each_device(group);
    unlink(path);
    return failed;
}
