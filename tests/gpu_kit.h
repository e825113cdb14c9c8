/* SPDX-License-Identifier: MIT
 *
 * What tests of the GPU backend itself share: one device under the validation layers, a software one where there is no
 * other. Included once, after cmocka.h.
 */
#ifndef LECTERN_TESTS_GPU_KIT_H
#define LECTERN_TESTS_GPU_KIT_H

#include <stdio.h>

#include "engine/ops.h"

enum { GPU_KIT_SKIP = 77 };

static struct backend *gpu;
static const struct backend_ops *ops;

static inline void ok(int rc, const struct error *error)
{
    if (rc) fail_msg("%s", error->text);
}

static inline uint64_t take(size_t bytes)
{
    struct error error;
    uint64_t addr = 0;
    ok(ops->alloc(gpu, bytes, "test", &addr, &error), &error);
    assert_true(addr % 16 == 0 && addr != 0);
    return addr;
}

/* False, having said why, where there is no device: the program exits with GPU_KIT_SKIP. */
static inline bool gpu_kit_open(const char *name)
{
    struct error error;
    int rc = gpu_backend_open(&gpu, UINT32_MAX, true, &error);
    if (rc == ERROR_FIT) rc = gpu_backend_open(&gpu, 0, true, &error);
    if (rc) printf("%s: skipped: %s\n", name, error.text);
    if (!rc) ops = gpu->ops;
    return !rc;
}

/* The program's exit code after `failed` tests: validation messages are failures too. */
static inline int gpu_kit_close(const char *name, int failed)
{
    const uint32_t messages = gpu_validation_messages(gpu);
    printf("%s: %u validation messages on %s\n", name, messages, gpu->name);
    ops->destroy(gpu);
    return failed + (messages > 0);
}

#endif
