/* SPDX-License-Identifier: MIT
 *
 * The n-th allocation of saving and of restoring fails, for n = 1, 2, ... until all succeed (the linker puts our own
 * allocator before the engine's calls: tests/CMakeLists.txt). Each failure is told as one; the timeline goes on as if
 * nothing had been tried, and what is saved or restored at last has the same bits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "tests/make_model.h"
#include "tests/on_devices.h"

enum { COUNT = 2 * STATE_SEGMENT + 76, MORE = 20, PIECES = 3 };

static char model[128];
static unsigned armed, seen; /* the engine is opened with one thread */

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__real_aligned_alloc(size_t, size_t);
void *__wrap_malloc(size_t);
void *__wrap_calloc(size_t, size_t);
void *__wrap_realloc(void *, size_t);
void *__wrap_aligned_alloc(size_t, size_t);

static bool refuses(void)
{
    return armed && ++seen == armed;
}

void *__wrap_malloc(size_t size)
{
    return refuses() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return refuses() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return refuses() ? NULL : __real_realloc(p, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return refuses() ? NULL : __real_aligned_alloc(alignment, size);
}

static void must(int rc, const struct error *error)
{
    if (rc) fail_msg("%s", error->text);
}

/* ---------------------------------------------------------------------------------------------- save, restore */

struct saved {
    struct blob rows[PIECES], snapshot;
};

static void saved_free(struct saved *s)
{
    for (size_t i = 0; i < PIECES; i++) blob_free(&s->rows[i]);
    blob_free(&s->snapshot);
}

static int save(struct timeline *t, struct saved *out, struct error *error)
{
    int rc = 0;
    *out = (struct saved){0};
    for (size_t i = 0; !rc && i < PIECES; i++) {
        size_t at = i * STATE_SEGMENT, n = COUNT - at < STATE_SEGMENT ? COUNT - at : STATE_SEGMENT;
        rc = timeline_save_rows(t, at, n, &out->rows[i], error);
    }
    if (!rc) rc = timeline_save_snapshot(t, &out->snapshot, error);
    if (rc) saved_free(out);
    return rc;
}

static int restore(struct engine *e, const uint32_t *ids, const struct saved *s, struct timeline **out,
                   struct error *error)
{
    struct restore *r;
    *out = NULL;
    int rc = restore_begin(&r, e, ids, COUNT, error);
    if (rc) return rc;
    for (size_t i = 0; !rc && i < PIECES; i++) rc = restore_rows(r, s->rows[i].data, s->rows[i].size, error);
    if (!rc) rc = restore_snapshot(r, s->snapshot.data, s->snapshot.size, error);
    if (!rc) return restore_finish(&r, out, error);
    restore_abort(&r);
    return rc;
}

/* After a call under arms: either it failed for want of memory, or nothing was refused. true: try the next. */
static bool was_refused(int rc, const struct error *error)
{
    bool fired = seen >= armed;
    armed = 0;
    if (!fired) must(rc, error);
    if (fired && (rc != ERROR_FAILED && rc != ERROR_FIT)) fail_msg("a refusal ended with %d, \"%s\"", rc, error->text);
    if (fired && !strstr(error->text, "emory")) fail_msg("\"%s\"", error->text);
    return fired;
}

static void arm(unsigned n)
{
    seen = 0;
    armed = n;
}

/* ------------------------------------------------------------------------------------------------------- tests */

static void go_on(struct timeline *t, const uint32_t *ids, float *logits)
{
    struct error error;
    must(timeline_append(t, ids + COUNT, MORE, logits, NULL, &error), &error);
}

static void each_allocation_fails(enum engine_dtype state_dtype)
{
    struct error error = {0};
    struct engine *e;
    struct timeline *tried, *returned = NULL;
    struct saved saved;
    uint32_t ids[COUNT + MORE];
    const struct engine_params params = {
        .model = model, .device = "cpu", .context = 2048, .threads = 1, .state_dtype = state_dtype};
    for (size_t i = 0; i < COUNT + MORE; i++) ids[i] = (uint32_t)(i * i * 17 + i) % 512;
    must(engine_open(&e, &params, &error), &error);
    must(timeline_create(&tried, e, &error), &error);
    must(timeline_append(tried, ids, COUNT, NULL, NULL, &error), &error);

    unsigned saves = 0, restores = 0;
    int rc;
    do {
        arm(++saves);
        rc = save(tried, &saved, &error);
    } while (was_refused(rc, &error));
    do {
        arm(++restores);
        rc = restore(e, ids, &saved, &returned, &error);
        if (rc) assert_null(returned);
    } while (was_refused(rc, &error));
    assert_true(saves > PIECES + 1 && restores > 5);

    size_t room = MORE * (size_t)engine_info(e)->n_vocab;
    float *a = calloc(room, sizeof *a), *b = calloc(room, sizeof *b);
    assert_true(a && b);
    go_on(tried, ids, a);
    go_on(returned, ids, b);
    assert_memory_equal(a, b, room * sizeof *a);
    free(a);
    free(b);
    saved_free(&saved);
    timeline_destroy(&tried);
    timeline_destroy(&returned);
    engine_close(&e);
}

static void f32_states(void **state)
{
    (void)state;
    each_allocation_fails(ENGINE_F32);
}

static void f16_states(void **state)
{
    (void)state;
    each_allocation_fails(ENGINE_F16);
}

int main(void)
{
    struct error error = {0};
    temp_path(model, "state-faults.gguf");
    if (test_model_write(model, &(struct test_model){.preset = "mla-first", .seed = 3}, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(f32_states), cmocka_unit_test(f16_states)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(model);
    return failed;
}
