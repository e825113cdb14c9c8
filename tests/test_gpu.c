/* SPDX-License-Identifier: MIT
 *
 * The Vulkan backend below its operations: memory, transfers, order of commands, failures. Under the validation layers.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/gpu_kit.h"

static void fill_pattern(uint32_t *words, size_t count, uint32_t seed)
{
    for (size_t i = 0; i < count; i++) words[i] = (uint32_t)i * 2654435761u + seed;
}

/* Up and down again, sizes around those of the staging blocks, at odd offsets. */
static void test_transfers(void **state)
{
    (void)state;
    static const size_t sizes[] = {4, 100, (32u << 20) - 4, 32u << 20, (32u << 20) + 4, (70u << 20) + 12};
    struct error error;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const size_t count = sizes[i] / 4;
        uint32_t *in = malloc(sizes[i]), *out = calloc(1, sizes[i]);
        assert_true(in && out);
        fill_pattern(in, count, (uint32_t)i);
        const uint64_t addr = take(sizes[i] + 8);
        ok(ops->upload(gpu, addr + 4, in, sizes[i], &error), &error);
        ok(ops->download(gpu, out, addr + 4, sizes[i], &error), &error);
        assert_memory_equal(in, out, sizes[i]);
        ops->release(gpu, addr);
        free(in);
        free(out);
    }
}

/* Many allocations, released in another order, never overlap and are found again. */
static void test_allocations(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    static uint64_t addrs[COUNT];
    struct error error;
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < COUNT; i++) {
            if (round && i % 3 != round) continue;
            if (round) ops->release(gpu, addrs[i]);
            const uint32_t words[2] = {round * COUNT + i, ~i};
            const size_t size = 8 + (i * 7919u + round * 104729u) % (i % 50 ? 5000 : 1000000);
            addrs[i] = take(size);
            ok(ops->upload(gpu, addrs[i], words, sizeof words, &error), &error);
            ok(ops->upload(gpu, addrs[i] + size - 4, &words[1], 4, &error), &error);
        }
        for (uint32_t i = 0; i < COUNT; i++) {
            uint32_t back;
            const uint32_t last = round && i % 3 == round ? round : i % 3 <= round ? i % 3 : 0;
            ok(ops->download(gpu, &back, addrs[i], 4, &error), &error);
            assert_int_equal(back, last * COUNT + i);
        }
    }
    for (uint32_t i = 0; i < COUNT; i++) ops->release(gpu, addrs[(i * 7) % COUNT]);
}

/* Chains of commands on the same memory: each sees the one before (read after write, write after read, write after
 * write), whatever the barriers. */
static void test_order(void **state)
{
    (void)state;
    enum { COUNT = 4099, STEPS = 100 };
    static float a[COUNT], out[COUNT];
    static double want[COUNT];
    struct error error;
    const uint64_t x = take(sizeof a), y = take(sizeof a), ones = take(sizeof a);
    for (uint32_t i = 0; i < COUNT; i++) want[i] = (double)(a[i] = (float)(i % 7 + 4));
    ok(ops->upload(gpu, x, a, sizeof a, &error), &error);
    for (uint32_t i = 0; i < COUNT; i++) a[i] = 1;
    ok(ops->upload(gpu, ones, a, sizeof a, &error), &error);
    ok(ops->begin(gpu, &error), &error);
    for (uint32_t step = 0; step < STEPS; step++) {
        ops->fill(gpu, y, 0, sizeof a);
        ops->copy(gpu, y, x, sizeof a);
        ops->swiglu(gpu, y, ones, y, 1, COUNT);
        ops->copy(gpu, x, y, sizeof a);
        ops->fill(gpu, y, 0x7fc00000, sizeof a);
        if (step % 50 == 9) ops->fill(gpu, x + 400, 0x40400000, 400); /* 3.0f */
        for (uint32_t i = 0; i < COUNT; i++) {
            want[i] /= 1 + exp(-want[i]);
            if (step % 50 == 9 && i >= 100 && i < 200) want[i] = 3;
        }
    }
    ok(ops->submit(gpu, &error), &error);
    ok(ops->download(gpu, out, x, sizeof out, &error), &error);
    for (uint32_t i = 0; i < COUNT; i++) assert_true(fabs((double)out[i] - want[i]) <= 1e-4 * want[i]);
    ops->release(gpu, x);
    ops->release(gpu, y);
    ops->release(gpu, ones);
}

/* A failure while recording comes out of submit, once, and the backend works on. */
static void test_failures(void **state)
{
    (void)state;
    struct error error = {0};
    uint64_t addr = 0;
    assert_int_equal(ops->alloc(gpu, SIZE_MAX / 2, "huge", &addr, &error), ERROR_FIT);
    assert_true(addr == 0 && strlen(error.text) > 0);
    assert_int_not_equal(ops->submit(gpu, &error), 0);

    const uint64_t x = take(64);
    const float words[16] = {1};
    ok(ops->begin(gpu, &error), &error);
    ops->copy(gpu, x, 16, 64);
    ops->fill(gpu, x, 0, 64);
    assert_int_not_equal(ops->submit(gpu, &error), 0);
    assert_non_null(strstr(error.text, "not allocated"));
    assert_int_not_equal(ops->upload(gpu, x, words, (size_t)1 << 40, &error), 0);
    ok(ops->begin(gpu, &error), &error);
    ops->fill(gpu, x, 0, 64);
    ok(ops->begin(gpu, &error), &error); /* drops that */
    ops->fill(gpu, x, 0x3f800000, 64);
    ok(ops->submit(gpu, &error), &error);
    float out[16];
    ok(ops->download(gpu, out, x, sizeof out, &error), &error);
    assert_true(out[15] == 1.0f);
    ops->release(gpu, x);
}

/* A batch recorded while another runs takes along what its source holds when it starts, unless something comes between.
 */
static void test_ahead(void **state)
{
    (void)state;
    struct error error;
    const uint64_t x = take(64), y = take(64);
    uint32_t in[16] = {1}, out[16] = {0}, later[16] = {0};
    ok(ops->begin(gpu, &error), &error);
    ops->put(gpu, x, in, sizeof in);
    ops->fetch(gpu, out, x, sizeof out);
    in[0] = 2;
    ok(ops->start(gpu, &error), &error);
    ok(ops->begin(gpu, &error), &error);
    const uint64_t number = ops->recorded(gpu);
    ops->put(gpu, y, in, sizeof in);
    ops->fetch(gpu, later, y, sizeof later);
    ok(ops->finish(gpu, &error), &error);
    assert_int_equal(out[0], 2);
    assert_true(number && ops->recorded(gpu) == number);
    in[0] = 3;
    ok(ops->submit(gpu, &error), &error);
    assert_int_equal(later[0], 3);
    ok(ops->begin(gpu, &error), &error);
    ok(ops->upload(gpu, x, in, sizeof in, &error), &error);
    assert_true(ops->recorded(gpu) == 0);
    assert_int_not_equal(ops->submit(gpu, &error), 0);
    ops->release(gpu, x);
    ops->release(gpu, y);
}

static void test_devices(void **state)
{
    (void)state;
    struct engine_device list[8];
    struct error error;
    struct backend *none = NULL;
    size_t count = 0;
    ok(gpu_devices(list, 8, &count, &error), &error);
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) assert_true(list[i].name[0] && list[i].note[0] && list[i].memory > 0);
    assert_int_equal(gpu_backend_open(&none, 1000, false, &error), ERROR_FIT);
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transfers), cmocka_unit_test(test_allocations), cmocka_unit_test(test_order),
        cmocka_unit_test(test_failures),  cmocka_unit_test(test_ahead),       cmocka_unit_test(test_devices),
    };
    if (!gpu_kit_open("test_gpu")) return GPU_KIT_SKIP;
    return gpu_kit_close("test_gpu", cmocka_run_group_tests_name("test_gpu", tests, NULL, NULL));
}
