/* SPDX-License-Identifier: MIT
 *
 * What the op_*.c share: one backend after the other (the C twin, the GPU under the validation layers) runs an
 * operation on seeded input in guarded buffers; results are compared with a reference in double precision.
 *
 * Everything handed out belongs to the check and lives until check_reset.
 */
#ifndef LECTERN_TESTS_OP_CHECK_H
#define LECTERN_TESTS_OP_CHECK_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/ops.h"

enum { CHECK_BUFFERS = 64, CHECK_GUARD = 64, CHECK_SKIP = 77 };
#define CHECK_PATTERN 0xa5a5a5a5u

struct check_buffer {
    float *host;   /* [count], what was uploaded */
    float *result; /* [count], filled by check_read */
    size_t count;
    uint64_t base; /* the allocation; data follows CHECK_GUARD guard words */
    uint64_t addr;
};

struct check {
    struct backend *backend;
    const struct backend_ops *ops;
    uint64_t seed;
    bool halves; /* the backend may round factors to f16 */
    struct check_buffer buffers[CHECK_BUFFERS];
    double *doubles[CHECK_BUFFERS];
    size_t n_buffers, n_doubles;
};

static inline void check_ok(int rc, const struct error *error)
{
    if (rc) fail_msg("%s", error->text);
}

/* Standard normal, from a 64-bit xorshift generator. */
static inline double check_uniform(struct check *c)
{
    c->seed ^= c->seed << 13;
    c->seed ^= c->seed >> 7;
    c->seed ^= c->seed << 17;
    return ((double)(c->seed >> 11) + 0.5) / 9007199254740992.0;
}

static inline float check_normal(struct check *c)
{
    const double radius = sqrt(-2 * log(check_uniform(c)));
    return (float)(radius * cos(6.283185307179586 * check_uniform(c)));
}

/* ---------------------------------------------------------------------------------------------------- buffers */

/* Uploads host[] between its guards. */
static inline void check_changed(struct check *c, struct check_buffer *b)
{
    struct error error;
    uint32_t *image = malloc((b->count + 2 * CHECK_GUARD) * sizeof *image);
    assert_non_null(image);
    for (size_t i = 0; i < b->count + 2 * CHECK_GUARD; i++) image[i] = CHECK_PATTERN;
    memcpy(image + CHECK_GUARD, b->host, b->count * sizeof *b->host);
    check_ok(c->ops->upload(c->backend, b->base, image, (b->count + 2 * CHECK_GUARD) * sizeof *image, &error), &error);
    free(image);
}

/* count words that hold the guards' pattern: where a result goes, which must not depend on what was there. */
static inline struct check_buffer *check_output(struct check *c, size_t count)
{
    struct error error;
    struct check_buffer *b = &c->buffers[c->n_buffers++];
    assert_true(c->n_buffers <= CHECK_BUFFERS);
    *b = (struct check_buffer){
        .host = malloc(count * sizeof(float)), .result = malloc(count * sizeof(float)), .count = count};
    assert_true(b->host && b->result);
    memset(b->host, (int)(CHECK_PATTERN & 0xff), count * sizeof(float));
    check_ok(c->ops->alloc(c->backend, (count + 2 * CHECK_GUARD) * sizeof(float), "check", &b->base, &error), &error);
    b->addr = b->base + CHECK_GUARD * sizeof(float);
    check_changed(c, b);
    return b;
}

/* count normal numbers times scale */
static inline struct check_buffer *check_floats(struct check *c, size_t count, float scale)
{
    struct check_buffer *b = check_output(c, count);
    for (size_t i = 0; i < count; i++) b->host[i] = scale * check_normal(c);
    check_changed(c, b);
    return b;
}

static inline struct check_buffer *check_bytes(struct check *c, const void *bytes, size_t size)
{
    struct check_buffer *b = check_output(c, (size + 3) / 4);
    memcpy(b->host, bytes, size);
    check_changed(c, b);
    return b;
}

static inline double *check_doubles(struct check *c, size_t count)
{
    double *d = calloc(count, sizeof *d);
    assert_non_null(d);
    assert_true(c->n_doubles < CHECK_BUFFERS);
    return c->doubles[c->n_doubles++] = d;
}

static inline void check_reset(struct check *c)
{
    for (size_t i = 0; i < c->n_buffers; i++) {
        c->ops->release(c->backend, c->buffers[i].base);
        free(c->buffers[i].host);
        free(c->buffers[i].result);
    }
    for (size_t i = 0; i < c->n_doubles; i++) free(c->doubles[i]);
    c->n_buffers = c->n_doubles = 0;
}

/* ---------------------------------------------------------------------------------------------------- running */

static inline void check_begin(struct check *c)
{
    struct error error;
    check_ok(c->ops->begin(c->backend, &error), &error);
}

static inline void check_submit(struct check *c)
{
    struct error error;
    check_ok(c->ops->submit(c->backend, &error), &error);
}

/* Downloads result[] and looks at the guards. */
static inline void check_read(struct check *c, struct check_buffer *b, const char *what)
{
    struct error error;
    const size_t all = b->count + 2 * CHECK_GUARD;
    uint32_t *image = malloc(all * sizeof *image);
    assert_non_null(image);
    check_ok(c->ops->download(c->backend, image, b->base, all * sizeof *image, &error), &error);
    for (size_t i = 0; i < CHECK_GUARD; i++)
        if (image[i] != CHECK_PATTERN || image[all - 1 - i] != CHECK_PATTERN)
            fail_msg("%s: %s wrote outside", what, c->backend->name);
    memcpy(b->result, image + CHECK_GUARD, b->count * sizeof(float));
    free(image);
}

/* Mean squared error of b against want, normalised by what want and the terms it is a sum of have of power at least: a
 * lone sum may be near nothing while its terms, to which rounding is relative, are not. Any result that is not finite
 * makes it infinite. */
static inline void check_sums(struct check *c, struct check_buffer *b, const double *want, double power, double most,
                              const char *what)
{
    double wrong = 0, all = 0;
    check_read(c, b, what);
    for (size_t i = 0; i < b->count; i++) {
        const double difference = (double)b->result[i] - want[i];
        wrong += difference * difference;
        all += want[i] * want[i];
    }
    if (all < power) all = power;
    const double nmse = wrong == 0 ? 0 : wrong / all;
    if (!(nmse <= most)) fail_msg("%s: NMSE %.3g on %s, at most %.3g", what, nmse, c->backend->name, most);
}

/* The same where only the results' own power is known. */
static inline void check_nmse(struct check *c, struct check_buffer *b, const double *want, double most,
                              const char *what)
{
    check_sums(c, b, want, 0, most, what);
}

/* What all tests run on: the C twin; the GPU under validation; the kernels that only real GPUs get: on one, without
 * validation (older layers hide its cooperative matrices), else on the software device; last, where there are no such
 * matrices, the kernels for them in plain arithmetic. */
enum check_pass { CHECK_TWIN, CHECK_GPU, CHECK_GPU_HARDWARE, CHECK_GPU_MATRICES, CHECK_PASSES };

/* A program's tests, and the shape and batch that need the most scratch memory. */
struct check_plan {
    const char *name;
    const struct CMUnitTest *tests;
    size_t count;
    const struct shape *most;
    uint32_t batch;
    bool multiplies; /* matrices in many formats: worth the last pass */
};

/* *differs: whether the pass tests anything that those before did not. */
static inline int check_open(struct check *c, enum check_pass pass, bool *differs, struct error *error)
{
    *differs = true;
    if (pass == CHECK_TWIN) return cpu_backend_open(&c->backend, 0, error);
    int rc = gpu_backend_open(&c->backend, UINT32_MAX, pass == CHECK_GPU, error);
    if (rc == ERROR_FIT) {
        rc = gpu_backend_open(&c->backend, 0, true, error);
        if (!rc && pass == CHECK_GPU_HARDWARE) gpu_act_as_hardware(c->backend);
    }
    if (!rc && pass == CHECK_GPU_MATRICES) *differs = gpu_act_with_matrices(c->backend);
    c->halves = !rc && gpu_multiplies_halves(c->backend);
    return rc;
}

/* Failures of all tests on the backend of c, which is closed. */
static inline int check_pass(struct check *c, const struct check_plan *plan, enum check_pass pass)
{
    struct error error;
    struct CMUnitTest with_check[8];
    int failed;
    c->ops = c->backend->ops;
    if (c->ops->prepare(c->backend, plan->most, plan->batch, &error)) {
        printf("%s: %s\n", plan->name, error.text);
        c->ops->destroy(c->backend);
        return 1;
    }
    printf("%s: on %s%s\n", plan->name, c->backend->name,
           pass == CHECK_GPU_HARDWARE   ? ", as hardware"
           : pass == CHECK_GPU_MATRICES ? ", as hardware with matrices"
                                        : "");
    assert_true(plan->count <= 8);
    for (size_t i = 0; i < plan->count; i++) {
        with_check[i] = plan->tests[i];
        with_check[i].initial_state = c;
    }
    failed = _cmocka_run_group_tests(plan->name, with_check, plan->count, NULL, NULL);
    if (pass != CHECK_TWIN) {
        const uint32_t messages = gpu_validation_messages(c->backend);
        printf("%s: %u validation messages\n", plan->name, messages);
        failed += messages > 0;
    }
    c->ops->destroy(c->backend);
    return failed;
}

/* Runs all passes. Exit code of the program; CHECK_SKIP without a Vulkan device. */
static inline int check_run(const struct check_plan *plan)
{
    struct check c = {0};
    struct error error = {0};
    const char *seed = getenv("LECTERN_SEED");
    const uint64_t start = seed ? strtoull(seed, NULL, 0) : 20260214;
    int failed = 0, rc = 0;
    printf("%s: seed %llu\n", plan->name, (unsigned long long)start);
    for (enum check_pass pass = CHECK_TWIN; pass < CHECK_PASSES && !rc; pass++) {
        bool differs;
        if (pass == CHECK_GPU_MATRICES && !plan->multiplies) continue;
        rc = check_open(&c, pass, &differs, &error);
        if (rc && pass == CHECK_TWIN) return printf("%s: %s\n", plan->name, error.text), 1;
        c.seed = start;
        if (rc) continue;
        if (differs)
            failed += check_pass(&c, plan, pass);
        else
            c.backend->ops->destroy(c.backend);
    }
    if (rc) printf("%s: skipped: %s\n", plan->name, error.text);
    return failed ? 1 : rc ? CHECK_SKIP : 0;
}

static inline int check_main(const struct CMUnitTest *tests, size_t count, const char *name, const struct shape *most,
                             uint32_t batch)
{
    return check_run(&(struct check_plan){name, tests, count, most, batch, false});
}

#endif
