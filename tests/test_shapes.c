/* SPDX-License-Identifier: MIT
 *
 * Models of every shape (the presets of make_model.h): no KDA layer, no MLA layer, widths that fill nothing, one head,
 * no experts, all of them, deepseek2. On each device the batch must not matter, a state must come back with all its
 * bits, and the devices must agree.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/make_model.h"
#include "tests/on_devices.h"

enum { TOKENS = 45, SAVED = 23, VOCAB = 512 };

static const char *const presets[] = {"tiny", "narrow", "all-mla", "all-kda", "mla-first", "v3"};
enum { PRESETS = sizeof presets / sizeof *presets };

static char path[128];
static uint32_t ids[TOKENS];
static float twin[PRESETS][TOKENS * VOCAB]; /* what the cpu made of each */

static void must(int rc, const struct error *error)
{
    if (rc) fail_msg("%d: %s", rc, error->text);
}

static struct engine *open_engine(uint32_t batch, enum engine_dtype dtype)
{
    struct error error;
    struct engine *e;
    const struct engine_params params = {.model = path,
                                         .device = test_device,
                                         .context = 600,
                                         .batch = batch,
                                         .state_dtype = dtype,
                                         .rows_dtype = dtype};
    must(engine_open(&e, &params, &error), &error);
    assert_int_equal(engine_info(e)->n_vocab, VOCAB);
    return e;
}

/* Squared difference relative to the squared values. */
static double nmse(const float *got, const float *want, size_t n)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        size += (double)want[i] * (double)want[i];
    }
    assert_true(size > 0);
    return difference / size;
}

static void evaluate(uint32_t batch, float *logits)
{
    struct error error;
    struct engine *e = open_engine(batch, ENGINE_F32);
    struct timeline *t;
    must(timeline_create(&t, e, &error), &error);
    must(timeline_append(t, ids, TOKENS, logits, NULL, &error), &error);
    timeline_destroy(&t);
    engine_close(&e);
}

static void agree(const char *what, const char *preset, const float *got, const float *want, double limit)
{
    double n = nmse(got, want, (size_t)TOKENS * VOCAB);
    printf("   %s %s: NMSE %.1e\n", preset, what, n);
    if (!(n <= limit)) fail_msg("%s: %s: NMSE %g is above %g", preset, what, n, limit);
}

/* How far results may differ: a real GPU rounds the inputs of large products to f16. */
static double limit_here(void)
{
    struct engine_device list[16];
    struct error error;
    size_t count = 0;
    must(engine_devices(list, 16, &count, &error), &error);
    for (size_t i = 0; i < count; i++)
        if (!strcmp(list[i].id, test_device) && (on_cpu() || list[i].is_software)) return 1e-10;
    return 1e-5;
}

/* The cpu's results do not depend on the batch at all. */
static void batches(size_t preset)
{
    static float one[TOKENS * VOCAB], seven[TOKENS * VOCAB], whole[TOKENS * VOCAB];
    evaluate(1, one);
    evaluate(7, seven);
    evaluate(64, whole);
    agree("by 7 and by 1", presets[preset], seven, one, on_cpu() ? 0 : limit_here());
    agree("at once and by 1", presets[preset], whole, one, on_cpu() ? 0 : limit_here());
    if (on_cpu()) memcpy(twin[preset], whole, sizeof whole);
    if (twin[preset][0] != 0) agree("here and on the cpu", presets[preset], whole, twin[preset], limit_here());
}

static void restore(struct engine *e, const struct blob *rows, const struct blob *snapshot, struct timeline **out)
{
    struct error error;
    struct restore *r;
    must(restore_begin(&r, e, ids, SAVED, &error), &error);
    must(restore_rows(r, rows->data, rows->size, &error), &error);
    must(restore_snapshot(r, snapshot->data, snapshot->size, &error), &error);
    must(restore_finish(&r, out, &error), &error);
}

/* A timeline goes on, is rewound to a mark, and another comes back from bytes: all with the same bits. The mark comes
 * after the save, which rounds the timeline's own state where it is kept as f16. */
static void comes_back(enum engine_dtype dtype)
{
    struct error error;
    struct engine *e = open_engine(7, dtype);
    struct timeline *t, *again;
    struct blob rows, snapshot;
    float want[VOCAB];
    size_t reused;
    must(timeline_create(&t, e, &error), &error);
    must(timeline_append(t, ids, SAVED, NULL, NULL, &error), &error);
    must(timeline_save_rows(t, 0, SAVED, &rows, &error), &error);
    must(timeline_save_snapshot(t, &snapshot, &error), &error);
    must(timeline_mark(t, 1, &error), &error);
    assert_true(rows.size >= SAVED * engine_info(e)->row_bytes);
    must(timeline_append(t, ids + SAVED, TOKENS - SAVED, NULL, NULL, &error), &error);
    memcpy(want, timeline_logits(t), sizeof want);

    restore(e, &rows, &snapshot, &again);
    must(timeline_append(again, ids + SAVED, TOKENS - SAVED, NULL, NULL, &error), &error);
    assert_memory_equal(timeline_logits(again), want, sizeof want);
    timeline_destroy(&again);

    must(timeline_sync(t, ids, SAVED, NULL, &reused, &error), &error);
    assert_int_equal(reused, SAVED);
    must(timeline_append(t, ids + SAVED, TOKENS - SAVED, NULL, NULL, &error), &error);
    assert_memory_equal(timeline_logits(t), want, sizeof want);
    blob_free(&rows);
    blob_free(&snapshot);
    timeline_destroy(&t);
    engine_close(&e);
}

static void one_preset(size_t preset)
{
    struct error error;
    const struct test_shape *s = test_shape_named(presets[preset]);
    const struct test_model model = {.preset = presets[preset], .seed = 3};
    uint32_t n_mla = 0;
    must(test_model_write(path, &model, &error), &error);
    while (n_mla < 4 && s->mla[n_mla]) n_mla++;
    if (s->relative) n_mla = s->n_layer;

    struct engine *e = open_engine(16, ENGINE_F32);
    assert_int_equal(engine_info(e)->n_mla, n_mla);
    assert_int_equal(engine_info(e)->n_kda, s->n_layer - n_mla);
    assert_int_equal(engine_info(e)->row_bytes, n_mla * (s->kv_lora + s->rope) * 4);
    assert_int_equal(engine_info(e)->state_bytes, (s->n_layer - n_mla) * s->n_head * s->kda * (s->kda + 9) * 4);
    engine_close(&e);
    batches(preset);
    comes_back(ENGINE_F32);
    comes_back(ENGINE_F16);
    unlink(path);
}

static void all_presets(void **state)
{
    (void)state;
    for (size_t i = 0; i < PRESETS; i++) one_preset(i);
}

/* Runs, or is refused with the reason: a GPU's shared memory may be too small. */
static void wide_heads(void **state)
{
    (void)state;
    struct error error;
    struct engine *e;
    const struct test_model model = {.preset = "wide", .seed = 3};
    const struct engine_params params = {.model = path, .device = test_device, .context = 600, .batch = 64};
    must(test_model_write(path, &model, &error), &error);
    int rc = engine_open(&e, &params, &error);
    if (rc && !on_cpu()) {
        assert_int_equal(rc, ERROR_MODEL);
        assert_non_null(strstr(error.text, "KDA heads of 248 need more shared memory"));
        return;
    }
    must(rc, &error);
    engine_close(&e);
    static float one[TOKENS * VOCAB], whole[TOKENS * VOCAB];
    evaluate(1, one);
    evaluate(64, whole);
    agree("at once and by 1", "wide", whole, one, on_cpu() ? 0 : limit_here());
}

static int group(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_presets), cmocka_unit_test(wide_heads)};
    return cmocka_run_group_tests_name(test_device, tests, NULL, NULL);
}

int main(void)
{
    temp_path(path, "shapes.gguf");
    for (uint32_t i = 0; i < TOKENS; i++) ids[i] = (i * 2654435761u >> 7) % VOCAB;
    int failed = for_each_device(group);
    unlink(path);
    return failed;
}
