/* SPDX-License-Identifier: MIT
 *
 * The prefix tree: hash chain, the longest stored prefix, what a save must bring, sizes of what is shared, eviction,
 * and how checkpoints thin out.
 */
#include "tests/store_steps.h"

#include <time.h>

static void test_chain(void **state)
{
    (void)state;
    uint32_t ids[1100];
    uint8_t a[3][STORE_KEY], b[3][STORE_KEY];
    kit_ids(1, ids, 1100);
    kit_ok(store_chain(kit_model, ids, 1100, a, error));
    ids[512]++;
    kit_ok(store_chain(kit_model, ids, 1100, b, error));
    assert_memory_equal(a[1], b[1], STORE_KEY);
    assert_memory_not_equal(a[2], b[2], STORE_KEY);
    /* sha256("lectern-chain-1" | kit_model), by another program */
    static const char expected[] = "af03ab43ad371fbc5df7f96705af29fb309e1ef0b38a5163c86119dfe9144e7c";
    char hex[65];
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", a[0][i]);
    assert_string_equal(hex, expected);
}

static void test_prefix(void **state)
{
    (void)state;
    struct store *store = fresh("prefix");
    uint32_t a[3000], b[3000];
    kit_ids(1, a, 3000);
    kit_ids(2, b, 3000);
    memcpy(b, a, 1500 * sizeof *a); /* b leaves a at 1500 */
    assert_int_equal(find(store, a, 3000), 0);
    save(store, a, 100, 0, true); /* less than a segment */
    assert_int_equal(find(store, a, 3000), 100);
    assert_int_equal(find(store, a, 100), 100);
    assert_int_equal(find(store, a, 99), 0);
    save(store, a, 1024, 0, true); /* at a boundary: no tail */
    save(store, a, 1200, 0, true);
    save(store, a, 1400, 0, false);
    save(store, a, 2800, 0, true);
    save(store, b, 2700, 0, true);
    assert_int_equal(find(store, a, 3000), 2800);
    assert_int_equal(find(store, b, 3000), 2700);
    assert_int_equal(find(store, b, 2699), 1400);
    assert_int_equal(find(store, b, 1399), 1200);
    assert_int_equal(find(store, b, 1199), 1024);
    assert_int_equal(present(store, b, 3000), 5);
    reopen(&store);
    const size_t of_a[] = {100, 1024, 1200, 1400, 2800};
    for (size_t i = 0; i < sizeof of_a / sizeof *of_a; i++) load(store, a, of_a[i]);
    load(store, b, 2700);
    kit_fails(kit_load(store, b, 2600, ROWS, SNAP, error), ERROR_STATE, "2600");
    struct store_usage usage;
    kit_ok(store_usage(store, &usage, error));
    assert_int_equal(usage.n_segments, 5 + 3); /* b's first two are a's */
    assert_int_equal(usage.n_snapshots, 6);
    assert_int_equal(usage.snapshot_bytes, 6 * SNAP);
    uint8_t other[STORE_KEY] = "another model";
    size_t position;
    kit_ok(store_find_prefix(store, other, a, 3000, &position, error));
    assert_int_equal(position, 0);
    no_faults(store);
    store_close(&store);
}

static void test_bad_saves(void **state)
{
    (void)state;
    struct store *store = fresh("bad");
    uint32_t ids[3000];
    kit_ids(5, ids, 3000);
    struct kit_save k = {.ids = ids, .count = 3000, .first_segment = 2, .row_bytes = ROWS, .snapshot_bytes = SNAP};
    kit_fails(kit_save(store, &k, error), ERROR_STATE, "tokens 0 to 512");
    assert_int_equal(present(store, ids, 3000), 0); /* nothing of it was kept */
    k.first_segment = 0;
    k.session = 12;
    kit_fails(kit_save(store, &k, error), ERROR_FAILED, "session 12");
    struct store_save odd = {.ids = malloc(4), .count = 1, .snapshot = {malloc(5), 5}}; /* the tail is missing */
    kit_fails(store_queue_save(store, &odd, error), ERROR_USAGE, "fit together");
    k.session = 0;
    k.rows_only = true;
    kit_ok(kit_save(store, &k, error));
    assert_int_equal(present(store, ids, 3000), 5);
    assert_int_equal(find(store, ids, 3000), 0);
    k.rows_only = false;
    k.first_segment = 5;
    kit_ok(kit_save(store, &k, error));
    load(store, ids, 3000);
    /* an error is told by the next call, which then queues nothing */
    k.session = 12;
    kit_ok(kit_queue(store, &k, error));
    struct timespec pause = {.tv_nsec = 1000000};
    struct error told = {0};
    struct kit_save turns_only = {.session = session_make(store, "s")};
    int tries = 0;
    while (kit_queue(store, &turns_only, &told) == 0 && ++tries < 5000) nanosleep(&pause, NULL);
    assert_non_null(strstr(told.text, "session 12"));
    kit_ok(store_queue_flush(store, error));
    store_close(&store);
}

static uint64_t stored(struct store *store)
{
    struct store_usage usage;
    kit_ok(store_usage(store, &usage, error));
    return usage.rows_bytes + usage.snapshot_bytes;
}

static void test_sizes_and_gc(void **state)
{
    (void)state;
    struct store *store = fresh("sizes");
    uint32_t a[2048], b[2048];
    kit_ids(1, a, 2048);
    kit_ids(2, b, 2048);
    memcpy(b, a, 1024 * sizeof *a);
    int64_t sa = session_make(store, "a"), sb = session_make(store, "b");
    save(store, a, 1024, sa, true);
    save(store, a, 2048, sa, true);
    assert_int_equal(session_get(store, sa).bytes_own, 4 * ROWS + 2 * SNAP);
    save(store, b, 2048, sb, true); /* adopts the snapshot at 1024 */
    struct store_session ia = session_get(store, sa), ib = session_get(store, sb);
    assert_int_equal(ia.bytes_shared, 2 * ROWS + SNAP);
    assert_int_equal(ia.bytes_own, 2 * ROWS + SNAP);
    assert_int_equal(ib.bytes_shared, ia.bytes_shared);
    assert_int_equal(ib.bytes_own, 2 * ROWS + SNAP);
    assert_int_equal(stored(store), ia.bytes_shared + ia.bytes_own + ib.bytes_own);
    kit_ok(store_session_remove(store, sa, error));
    assert_int_equal(stored(store), 4 * ROWS + 2 * SNAP);
    assert_int_equal(find(store, a, 2048), 1024);
    load(store, b, 2048);
    a[0]++;
    save(store, a, 2000, 0, true); /* belongs to nobody */
    uint64_t freed;
    size_t lost;
    kit_ok(store_gc(store, &freed, error));
    assert_int_equal(freed, 3 * ROWS + ROWS * (2000 % 512) / 512 + 1 + SNAP);
    assert_int_equal(find(store, a, 2000), 0);
    struct store_usage before, after;
    kit_ok(store_usage(store, &before, error));
    kit_ok(store_evict(store, 0, &freed, &lost, error));
    assert_int_equal(lost, 1);
    assert_int_equal(freed, 4 * ROWS + 2 * SNAP);
    assert_int_equal(stored(store), 0);
    kit_ok(store_usage(store, &after, error));
    assert_true(after.file_bytes <= before.file_bytes);
    no_faults(store);
    store_close(&store);
}

static void test_eviction_order(void **state)
{
    (void)state;
    struct store *store = fresh("evict");
    uint32_t a[5000], b[5000], c[5000];
    kit_ids(1, a, 5000);
    kit_ids(2, b, 5000);
    kit_ids(3, c, 5000);
    int64_t sa = session_make(store, "a"), sb = session_make(store, "b");
    save(store, c, 600, 0, true); /* nobody's */
    save(store, a, 512, sa, true);
    save(store, a, 1024, sa, false);
    save(store, a, 2048, sa, true);
    save(store, b, 1024, sb, true);
    load(store, a, 512); /* used later than b's */
    kit_ok(store_queue_flush(store, error));
    uint64_t freed;
    size_t lost;
    kit_ok(store_evict(store, stored(store), &freed, &lost, error));
    assert_int_equal(freed, 0);
    kit_ok(store_evict(store, stored(store) - 1, &freed, &lost, error));
    assert_int_equal(find(store, c, 600), 0);
    assert_int_equal(find(store, a, 1100), 1024);
    kit_ok(store_evict(store, stored(store) - 1, &freed, &lost, error));
    assert_int_equal(freed, SNAP); /* the checkpoint: its rows carry the rest */
    assert_int_equal(find(store, a, 1100), 512);
    kit_ok(store_evict(store, stored(store) - 1, &freed, &lost, error));
    assert_int_equal(find(store, a, 1100), 0); /* the turn before the last state */
    assert_int_equal(lost, 0);
    assert_int_equal(find(store, a, 5000), 2048);
    load(store, a, 2048); /* now b is the one used least recently */
    kit_ok(store_queue_flush(store, error));
    kit_ok(store_evict(store, stored(store) - 1, &freed, &lost, error));
    assert_int_equal(lost, 1);
    assert_int_equal(find(store, b, 5000), 0);
    load(store, a, 2048);
    store_close(&store);
}

/* Going back from the end to any point evaluates at most an eighth of the way again, or what lies between two
 * checkpoints as they were made; and not many are kept. */
static void test_thinning(void **state)
{
    (void)state;
    enum { STEP = 512, COUNT = 400 };
    static uint32_t ids[STEP * COUNT];
    static bool kept[COUNT + 1];
    struct store *store = fresh("thin");
    int64_t s = session_make(store, "long");
    kit_ids(6, ids, STEP * COUNT);
    size_t turn_at = 37; /* one turn in the middle stays */
    for (size_t i = 1; i <= COUNT; i++) {
        struct kit_save k = {.ids = ids,
                             .count = i * STEP,
                             .first_segment = i - 1,
                             .session = s,
                             .keep = i == turn_at,
                             .row_bytes = 64,
                             .snapshot_bytes = 64};
        kit_ok(kit_queue(store, &k, error));
    }
    kit_ok(store_queue_flush(store, error));
    size_t n = 0;
    for (size_t i = 1; i <= COUNT; i++) {
        kept[i] = find(store, ids, i * STEP) == i * STEP;
        n += kept[i];
    }
    assert_true(kept[turn_at]);
    assert_true(kept[COUNT]);
    assert_true(n >= 20 && n <= 60);
    for (size_t target = 0; target < STEP * COUNT; target++) {
        size_t from = target / STEP;
        while (from && !kept[from]) from--;
        size_t again = target - from * STEP, distance = STEP * COUNT - target;
        assert_true(again < STEP || again <= distance / 8);
    }
    no_faults(store);
    store_close(&store);
}

/* A fork keeps the checkpoints near its own end though its parent thins them. */
static void test_thinning_spares_forks(void **state)
{
    (void)state;
    static uint32_t ids[512 * 100];
    struct store *store = fresh("thinfork");
    int64_t s = session_make(store, "parent"), f;
    kit_ids(8, ids, 512 * 100);
    for (size_t i = 1; i <= 100; i++) {
        struct kit_save k = {
            .ids = ids, .count = i * 512, .first_segment = i - 1, .session = s, .row_bytes = 64, .snapshot_bytes = 64};
        kit_ok(kit_save(store, &k, error));
        if (i == 20) kit_ok(store_session_fork(store, s, SIZE_MAX, "fork", &f, error));
    }
    for (size_t i = 14; i <= 20; i++) assert_int_equal(find(store, ids, i * 512), i * 512);
    kit_ok(store_session_remove(store, f, error));
    size_t n = 0;
    for (size_t i = 10; i <= 20; i++) n += find(store, ids, i * 512) == i * 512;
    assert_true(n < 6);
    store_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_bad_saves),
        cmocka_unit_test(test_sizes_and_gc),
        cmocka_unit_test(test_eviction_order),
        cmocka_unit_test(test_thinning),
        cmocka_unit_test(test_thinning_spares_forks),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kit_cleanup();
    return failed;
}
