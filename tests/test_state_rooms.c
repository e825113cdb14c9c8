/* SPDX-License-Identifier: MIT
 *
 * Rooms: staging memory lent for a restore, filled by other threads while the device copies what came before. Under the
 * validation layers, on a device that has memory of its own or acts as if it had.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/gpu_kit.h"

enum { PIECE = 3 * 1000 * 1000, AHEAD = 6, COUNT = 40 };

struct piece {
    uint32_t *room, seed;
    pthread_t thread;
};

static void *fill_piece(void *arg)
{
    const struct piece *p = arg;
    for (uint32_t i = 0; i < PIECE / 4; i++) p->room[i] = i * 2654435761u + p->seed;
    return NULL;
}

static void start_piece(struct piece *p, uint32_t seed)
{
    p->seed = seed;
    p->room = ops->room(gpu, PIECE);
    assert_non_null(p->room);
    assert_int_equal(pthread_create(&p->thread, NULL, fill_piece, p), 0);
}

static void expect_piece(uint64_t addr, uint32_t seed)
{
    struct error error;
    uint32_t *back = malloc(PIECE), *want = malloc(PIECE);
    assert_true(back && want);
    fill_piece(&(struct piece){.room = want, .seed = seed});
    ok(ops->download(gpu, back, addr, PIECE, &error), &error);
    assert_memory_equal(back, want, PIECE);
    free(back);
    free(want);
}

/* Many more pieces than rooms, and other uploads between them; a second time, with rooms of another size. */
static void test_stream(void **state)
{
    (void)state;
    static struct piece pieces[COUNT];
    static uint64_t addrs[COUNT];
    static unsigned char other[9 << 20], back[sizeof other];
    struct error error;
    const uint64_t aside = take(sizeof other);
    for (size_t i = 0; i < COUNT; i++) addrs[i] = take(PIECE);
    for (uint32_t round = 0; round < 2; round++) {
        if (round) ok(ops->upload(gpu, aside, ops->room(gpu, PIECE + 4096), 4, &error), &error);
        for (uint32_t i = 0; i < AHEAD; i++) start_piece(&pieces[i], round * COUNT + i);
        for (uint32_t i = 0; i < COUNT; i++) {
            pthread_join(pieces[i].thread, NULL);
            ok(ops->upload(gpu, addrs[i], pieces[i].room, PIECE / 2, &error), &error);
            ok(ops->upload(gpu, addrs[i] + PIECE / 2, pieces[i].room + PIECE / 8, PIECE / 2, &error), &error);
            if (i + AHEAD < COUNT) start_piece(&pieces[i + AHEAD], round * COUNT + i + AHEAD);
            memset(other, (int)(i + round), sizeof other);
            if (i % 10 == 9) ok(ops->upload(gpu, aside, other, sizeof other, &error), &error);
        }
        ops->rooms_end(gpu);
        for (uint32_t i = 0; i < COUNT; i++) expect_piece(addrs[i], round * COUNT + i);
        ok(ops->download(gpu, back, aside, sizeof back, &error), &error);
        assert_memory_equal(back, other, sizeof back);
    }
    for (size_t i = 0; i < COUNT; i++) ops->release(gpu, addrs[i]);
    ops->release(gpu, aside);
}

static void test_limits(void **state)
{
    (void)state;
    struct error error;
    unsigned char bytes[4] = {0};
    const uint64_t addr = take(PIECE);
    size_t lent = 0;
    unsigned char *first = ops->room(gpu, PIECE), *last = first;
    assert_non_null(first);
    for (unsigned char *room = first; room; room = ops->room(gpu, PIECE)) last = room, lent++;
    assert_true(lent >= AHEAD + 2 && lent < 100); /* until all are lent */
    assert_int_equal(ops->download(gpu, bytes, addr, sizeof bytes, &error), ERROR_FAILED);
    assert_int_equal(ops->upload(gpu, addr, last + PIECE - 4, PIECE, &error), ERROR_FAILED); /* beyond its end */
    ok(ops->upload(gpu, addr, first, 4, &error), &error);
    assert_ptr_equal(ops->room(gpu, PIECE), first);
    assert_null(ops->room(gpu, PIECE));
    ops->rooms_end(gpu);
    assert_null(ops->room(gpu, (size_t)1 << 40));
    assert_null(ops->room(gpu, SIZE_MAX));
    assert_non_null(ops->room(gpu, 1));
    assert_null(ops->room(gpu, PIECE)); /* the first one tells the size */
    ops->rooms_end(gpu);
    ok(ops->download(gpu, bytes, addr, sizeof bytes, &error), &error);
    ops->release(gpu, addr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stream), cmocka_unit_test(test_limits)};
    if (!gpu_kit_open("test_state_rooms")) return GPU_KIT_SKIP;
    gpu_act_as_hardware(gpu);
    return gpu_kit_close("test_state_rooms", cmocka_run_group_tests_name("test_state_rooms", tests, NULL, NULL));
}
