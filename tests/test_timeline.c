/* SPDX-License-Identifier: MIT
 *
 * Timelines: batches of any size give the same on the cpu, bit for bit; stopping, going back to marks and starting over
 * give what a fresh timeline would have given.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine/engine_internal.h"
#include "tests/make_model.h"
#include "tests/on_devices.h"

enum { TEXT = 150, MOST_VOCAB = 1000 };

static char model_path[128], odd_path[128];

static void must(int rc, const struct error *error)
{
    if (rc) fail_msg("%s", error->text);
}

static struct engine *open_engine(const char *path, uint32_t batch, uint32_t context, enum engine_dtype rows)
{
    struct error error;
    struct engine *engine;
    const struct engine_params params = {
        .model = path, .device = test_device, .batch = batch, .context = context, .rows_dtype = rows};
    must(engine_open(&engine, &params, &error), &error);
    return engine;
}

static void make_text(uint32_t *ids, size_t n, uint32_t n_vocab, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (seed >> 8) % n_vocab;
    }
}

/* ----------------------------------------------------------------------------------------------------- batches */

static float *all_logits(const char *path, uint32_t batch, enum engine_dtype rows, uint32_t *n_vocab)
{
    struct error error;
    struct engine *e = open_engine(path, batch, 256, rows);
    struct timeline *t;
    uint32_t ids[TEXT];
    *n_vocab = engine_info(e)->n_vocab;
    make_text(ids, TEXT, *n_vocab, 5);
    float *logits = calloc(TEXT * *n_vocab, sizeof *logits);
    assert_non_null(logits);
    must(timeline_create(&t, e, &error), &error);
    must(timeline_append(t, ids, TEXT, logits, NULL, &error), &error);
    timeline_destroy(&t);
    engine_close(&e);
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

static void check_batches(const char *path, enum engine_dtype rows)
{
    static const uint32_t batches[] = {7, 64, 150};
    uint32_t n_vocab;
    float *single = all_logits(path, 1, rows, &n_vocab);
    size_t count = (size_t)TEXT * n_vocab;
    for (size_t i = 0; i < count; i++) assert_true(isfinite(single[i]));
    for (size_t i = 0; i < 3; i++) {
        float *many = all_logits(path, batches[i], rows, &n_vocab);
        if (on_cpu())
            assert_memory_equal(single, many, count * sizeof *many);
        else
            assert_true(nmse(many, single, count) < 1e-5);
        free(many);
    }
    free(single);
}

static void batch_does_not_matter(void **state)
{
    (void)state;
    check_batches(model_path, ENGINE_F32);
    check_batches(odd_path, ENGINE_F32);
    if (on_cpu()) check_batches(odd_path, ENGINE_Q8_0); /* elsewhere rounding to q8_0 magnifies the last bit */
}

/* ---------------------------------------------------------------------------------------------------- stopping */

struct stop_after {
    size_t calls, most, done;
};

static bool count_and_stop(void *ctx, size_t done, size_t total)
{
    struct stop_after *s = ctx;
    assert_true(done <= total);
    s->done = done;
    return ++s->calls < s->most;
}

static void stopping(void **state)
{
    (void)state;
    struct error error;
    struct engine *e = open_engine(model_path, 16, 256, ENGINE_F16);
    uint32_t ids[TEXT], n_vocab = engine_info(e)->n_vocab;
    struct timeline *whole, *stopped;
    make_text(ids, TEXT, n_vocab, 6);
    must(timeline_create(&whole, e, &error), &error);
    must(timeline_create(&stopped, e, &error), &error);
    must(timeline_append(whole, ids, 5, NULL, NULL, &error), &error);
    must(timeline_append(whole, ids + 5, TEXT - 5, NULL, NULL, &error), &error);

    struct stop_after stop = {.most = 3};
    const struct eval_hooks hooks = {count_and_stop, &stop};
    must(timeline_append(stopped, ids, 5, NULL, NULL, &error), &error);
    assert_int_equal(timeline_append(stopped, ids + 5, TEXT - 5, NULL, &hooks, &error), ERROR_CANCELLED);
    assert_int_equal(stop.done, 43); /* to 16, to 32, to 48: batches end at multiples */
    assert_int_equal(timeline_length(stopped), 48);
    assert_non_null(timeline_logits(stopped));
    must(timeline_append(stopped, ids + 48, TEXT - 48, NULL, NULL, &error), &error);
    assert_memory_equal(timeline_logits(stopped), timeline_logits(whole), n_vocab * sizeof(float));
    timeline_destroy(&whole);
    timeline_destroy(&stopped);
    engine_close(&e);
}

/* -------------------------------------------------------------------------------------------------------- sync */

/* Logits of a fresh timeline which is given ids[0, count) in pieces that end at the cuts: elsewhere than on the cpu the
 * last bit depends on where batches end. */
static void fresh_logits(struct engine *e, const uint32_t *ids, const size_t *cuts, size_t count, float *out)
{
    struct error error;
    struct timeline *t;
    size_t at = 0;
    must(timeline_create(&t, e, &error), &error);
    for (; *cuts && *cuts < count; at = *cuts++)
        must(timeline_append(t, ids + at, *cuts - at, NULL, NULL, &error), &error);
    must(timeline_append(t, ids + at, count - at, NULL, NULL, &error), &error);
    memcpy(out, timeline_logits(t), engine_info(e)->n_vocab * sizeof *out);
    timeline_destroy(&t);
}

struct expected {
    size_t reused;
    size_t cuts[4]; /* 0 ends */
};

static void expect_sync(struct timeline *t, const uint32_t *ids, size_t count, struct engine *e,
                        const struct expected *expected)
{
    struct error error;
    float want[MOST_VOCAB];
    size_t got;
    must(timeline_sync(t, ids, count, NULL, &got, &error), &error);
    assert_int_equal(got, expected->reused);
    assert_int_equal(timeline_length(t), count);
    assert_memory_equal(timeline_tokens(t), ids, count * sizeof *ids);
    fresh_logits(e, ids, expected->cuts, count, want);
    assert_memory_equal(timeline_logits(t), want, engine_info(e)->n_vocab * sizeof *want);
}

static void syncing(void **state)
{
    (void)state;
    struct error error;
    struct engine *e = open_engine(model_path, 32, 1024, ENGINE_F16);
    struct timeline *t;
    uint32_t a[TEXT], b[TEXT], n_vocab = engine_info(e)->n_vocab;
    size_t reused;
    make_text(a, TEXT, n_vocab, 7);
    make_text(b, TEXT, n_vocab, 8);
    memcpy(b, a, 90 * sizeof *a); /* b leaves a at 90 */
    b[90] = (a[90] + 1) % n_vocab;

    must(timeline_create(&t, e, &error), &error);
    expect_sync(t, a, 40, e, &(struct expected){0, {0}});
    must(timeline_mark(t, 2, &error), &error);
    expect_sync(t, a, 80, e, &(struct expected){40, {40}});
    must(timeline_mark(t, 2, &error), &error);
    must(timeline_mark(t, 2, &error), &error); /* the same again takes no room */
    expect_sync(t, a, TEXT, e, &(struct expected){80, {40, 80}});
    expect_sync(t, a, TEXT, e, &(struct expected){TEXT, {40, 80}});
    expect_sync(t, b, TEXT, e, &(struct expected){80, {40, 80}}); /* back to the mark at 80 */
    expect_sync(t, a, 50, e, &(struct expected){40, {40}});       /* the mark at 80 is beyond */
    expect_sync(t, a, 40, e, &(struct expected){40, {0}});        /* exactly a mark: nothing to evaluate */
    expect_sync(t, a + 1, 20, e, &(struct expected){0, {0}});     /* nothing in common */
    must(timeline_mark(t, 0, &error), &error);
    expect_sync(t, a, 30, e, &(struct expected){0, {0}});
    must(timeline_sync(t, a, 0, NULL, &reused, &error), &error);
    assert_int_equal(timeline_length(t), 0);
    assert_null(timeline_logits(t));
    timeline_destroy(&t);
    engine_close(&e);
}

static void the_mark_missed_least_is_dropped(void **state)
{
    (void)state;
    struct error error;
    struct engine *e = open_engine(model_path, 32, 1024, ENGINE_F16);
    struct timeline *t;
    uint32_t ids[TEXT];
    make_text(ids, TEXT, engine_info(e)->n_vocab, 9);
    must(timeline_create(&t, e, &error), &error);
    for (size_t at = 0; at < 100; at += 20) {
        must(timeline_append(t, ids + at, 20, NULL, NULL, &error), &error);
        must(timeline_mark(t, 3, &error), &error);
    }
    expect_sync(t, ids, 70, e, &(struct expected){60, {20, 40, 60}}); /* marks at 60, 80, 100 were left; now 60 */
    expect_sync(t, ids, 50, e, &(struct expected){0, {0}});
    timeline_destroy(&t);
    engine_close(&e);
}

/* ------------------------------------------------------------------------------------------------------ limits */

static void limits(void **state)
{
    (void)state;
    struct error error;
    struct engine *e = open_engine(model_path, 32, 64, ENGINE_F16);
    struct timeline *t;
    uint32_t ids[65] = {0};
    must(timeline_create(&t, e, &error), &error);
    assert_null(timeline_logits(t));
    assert_int_equal(timeline_append(t, ids, 65, NULL, NULL, &error), ERROR_FIT);
    assert_int_equal(timeline_length(t), 0);
    ids[3] = engine_info(e)->n_vocab;
    assert_int_equal(timeline_append(t, ids, 10, NULL, NULL, &error), ERROR_USAGE);
    assert_int_equal(timeline_length(t), 0);
    ids[3] = 0;
    must(timeline_append(t, ids, 64, NULL, NULL, &error), &error);
    assert_int_equal(timeline_append(t, ids, 1, NULL, NULL, &error), ERROR_FIT);
    assert_int_equal(timeline_length(t), 64);
    timeline_clear(t);
    assert_int_equal(timeline_length(t), 0);
    timeline_destroy(&t);
    engine_close(&e);
}

/* ---------------------------------------------------------------------------------------------------- failures */

static struct backend_ops failing;
static const struct backend_ops *working;
static int submits_left, allocs_left;

static int failing_submit(struct backend *b, struct error *error)
{
    int rc = working->submit(b, error);
    return rc || submits_left-- > 0 ? rc : error_set(error, ERROR_FAILED, "The device went away.");
}

static int failing_finish(struct backend *b, struct error *error)
{
    int rc = working->finish(b, error);
    return rc || submits_left-- > 0 ? rc : error_set(error, ERROR_FAILED, "The device went away.");
}

static int failing_alloc(struct backend *b, size_t bytes, const char *label, uint64_t *addr, struct error *error)
{
    if (allocs_left-- > 0) return working->alloc(b, bytes, label, addr, error);
    *addr = 0;
    return error_set(error, ERROR_FIT, "There is no memory for %s.", label);
}

/* A batch that fails leaves an empty timeline, never half a batch; then it works again. Memory that is not there is
 * told before anything is evaluated, and nothing is lost. */
static void failures(void **state)
{
    (void)state;
    struct error error;
    struct engine *e = open_engine(model_path, 32, 1024, ENGINE_F16);
    struct timeline *t, *none;
    uint32_t ids[600];
    float want[MOST_VOCAB];
    size_t cuts[] = {0}, bytes = engine_info(e)->n_vocab * sizeof *want;
    make_text(ids, 600, engine_info(e)->n_vocab, 10);
    working = e->backend->ops;
    failing = *working;
    failing.submit = failing_submit;
    if (failing.finish) failing.finish = failing_finish;
    failing.alloc = failing_alloc;
    must(timeline_create(&t, e, &error), &error);
    e->backend->ops = &failing;

    submits_left = 2;
    allocs_left = 1000;
    assert_int_equal(timeline_append(t, ids, 100, NULL, NULL, &error), ERROR_FAILED);
    assert_int_equal(timeline_length(t), 0);
    submits_left = 1000;
    must(timeline_append(t, ids, 100, NULL, NULL, &error), &error);
    fresh_logits(e, ids, cuts, 100, want);
    assert_memory_equal(timeline_logits(t), want, bytes);

    for (allocs_left = 0; allocs_left < 3; allocs_left++) {
        int left = allocs_left;
        assert_int_equal(timeline_create(&none, e, &error), ERROR_FIT);
        assert_null(none);
        allocs_left = left;
    }
    allocs_left = 0;
    assert_int_equal(timeline_mark(t, 1, &error), ERROR_FIT);
    assert_int_equal(timeline_append(t, ids + 100, 500, NULL, NULL, &error), ERROR_FIT);
    assert_int_equal(timeline_length(t), 512); /* the first block of rows was there */
    e->backend->ops = working;
    must(timeline_append(t, ids + 512, 88, NULL, NULL, &error), &error);
    fresh_logits(e, ids, (size_t[]){100, 0}, 600, want);
    assert_memory_equal(timeline_logits(t), want, bytes);
    timeline_destroy(&t);
    engine_close(&e);
}

static int group(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_does_not_matter),
        cmocka_unit_test(stopping),
        cmocka_unit_test(syncing),
        cmocka_unit_test(the_mark_missed_least_is_dropped),
        cmocka_unit_test(limits),
        cmocka_unit_test(failures),
    };
    return cmocka_run_group_tests_name(test_device, tests, NULL, NULL);
}

int main(void)
{
    struct error error = {0};
    temp_path(model_path, "timeline.gguf");
    temp_path(odd_path, "timeline-odd.gguf");
    const struct test_model model = {.seed = 1}, odd = {.preset = "odd", .type = "Q4_K", .seed = 2};
    if (test_model_write(model_path, &model, &error) || test_model_write(odd_path, &odd, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    int failed = for_each_device(group);
    unlink(model_path);
    unlink(odd_path);
    return failed;
}
