/* SPDX-License-Identifier: MIT
 *
 * The store from outside: round trips of everything, the prefix tree, forks and rewinds, sizes, eviction, thinning, and
 * (--bench) the speed of saving and loading at the 48B's sizes.
 */
#include "tests/faults/store_kit.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROWS 3000u /* bytes of a small test's row segment */
#define SNAP 2000u

static char dir[PATH_MAX];

static struct store *fresh(const char *name)
{
    struct store *store;
    kit_folder(dir, sizeof dir, name);
    kit_ok(store_open(&store, dir, error));
    return store;
}

static void reopen(struct store **store)
{
    store_close(store);
    kit_ok(store_open(store, dir, error));
}

static void no_faults(struct store *store)
{
    size_t faults;
    kit_ok(store_check(store, NULL, NULL, &faults, error));
    assert_int_equal(faults, 0);
}

static int64_t session_make(struct store *store, const char *name)
{
    int64_t id;
    kit_ok(store_session_create(store, name, NULL, 0, &id, error));
    return id;
}

static size_t find(struct store *store, const uint32_t *ids, size_t count)
{
    size_t position;
    kit_ok(store_find_prefix(store, kit_model, ids, count, &position, error));
    return position;
}

static size_t present(struct store *store, const uint32_t *ids, size_t count)
{
    size_t segments;
    kit_ok(store_rows_present(store, kit_model, ids, count, &segments, error));
    return segments;
}

static void save(struct store *store, const uint32_t *ids, size_t count, int64_t session, bool keep)
{
    size_t have = present(store, ids, count);
    kit_ok(kit_save(store,
                    &(struct kit_save){.ids = ids,
                                       .count = count,
                                       .first_segment = have,
                                       .session = session,
                                       .keep = keep,
                                       .row_bytes = ROWS,
                                       .snapshot_bytes = SNAP},
                    error));
}

static void load(struct store *store, const uint32_t *ids, size_t count)
{
    kit_ok(kit_load(store, ids, count, ROWS, SNAP, error));
}

static struct store_session session_get(struct store *store, int64_t id)
{
    struct store_session_list list;
    kit_ok(store_session_get(store, id, &list, error));
    struct store_session s = list.items[0];
    store_session_list_free(&list);
    s.name = s.model_name = NULL;
    return s;
}

/* ------------------------------------------------------------------------------------------------ documents */

static void test_files_are_private(void **state)
{
    (void)state;
    struct store *store = fresh("private/deeper");
    const char *const names[] = {"", "/lectern.db", "/lectern.db-wal", "/lectern.db-shm", "/lectern.lock"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_MAX + 32];
        struct stat st;
        snprintf(path, sizeof path, "%s%s", dir, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, i ? 0600 : 0700);
    }
    store_close(&store);
    assert_null(store);
}

static void test_documents(void **state)
{
    (void)state;
    struct store *store = fresh("documents");
    struct store_document d = {.path = "/books/moby.txt",
                               .title = "Moby-Dick",
                               .text = "Call me Ishmael.",
                               .text_len = 16,
                               .places = "\0\1",
                               .places_len = 2,
                               .mtime = 123,
                               .size = 16},
                          got;
    int64_t a, b, c;
    kit_ok(store_document_put(store, &d, &a, error));
    kit_ok(store_document_put(store, &d, &b, error));
    assert_int_equal(a, b);
    d.path = "/moved/moby.txt";
    d.places = NULL;
    d.places_len = 0;
    kit_ok(store_document_put(store, &d, &b, error));
    assert_int_equal(a, b);
    reopen(&store);
    kit_ok(store_document_get(store, a, &got, error));
    assert_string_equal(got.path, "/moved/moby.txt");
    assert_string_equal(got.title, "Moby-Dick");
    assert_int_equal(got.text_len, 16);
    assert_memory_equal(got.text, "Call me Ishmael.", 17);
    assert_null(got.places);
    assert_int_equal(got.mtime, 123);
    store_document_free(&got);
    d = (struct store_document){.text = "", .text_len = 0};
    kit_ok(store_document_put(store, &d, &c, error));
    kit_ok(store_document_get(store, c, &got, error));
    assert_int_equal(got.text_len, 0);
    assert_string_equal(got.text, "");
    assert_null(got.title);
    store_document_free(&got);
    kit_fails(store_document_get(store, 99, &got, error), ERROR_USAGE, "no document 99");
    no_faults(store);
    store_close(&store);
}

/* ------------------------------------------------------------------------------------------------- sessions */

static int64_t put_text(struct store *store, const char *text)
{
    int64_t id;
    struct store_document d = {.text = (char *)text, .text_len = strlen(text)};
    kit_ok(store_document_put(store, &d, &id, error));
    return id;
}

static void hash_of(struct store *store, int64_t id, uint8_t out[32])
{
    struct store_document d;
    kit_ok(store_document_get(store, id, &d, error));
    memcpy(out, d.hash, 32);
    store_document_free(&d);
}

static void test_sessions(void **state)
{
    (void)state;
    struct store *store = fresh("sessions");
    int64_t docs[2] = {put_text(store, "one"), put_text(store, "two")}, s, t, none, found, *ids;
    size_t count;
    kit_ok(store_session_create(store, "first", docs, 2, &s, error));
    kit_ok(store_session_create(store, "second", docs, 1, &t, error));
    none = session_make(store, "empty");
    kit_ok(store_session_documents(store, s, &ids, &count, error));
    assert_int_equal(count, 2);
    assert_memory_equal(ids, docs, sizeof docs);
    free(ids);
    uint8_t hashes[2][32], swapped[2][32];
    hash_of(store, docs[0], hashes[0]);
    hash_of(store, docs[1], hashes[1]);
    memcpy(swapped[0], hashes[1], 32);
    memcpy(swapped[1], hashes[0], 32);
    kit_ok(store_session_find(store, (const uint8_t(*)[32])hashes, 2, &found, error));
    assert_int_equal(found, s);
    kit_ok(store_session_find(store, (const uint8_t(*)[32])hashes, 1, &found, error));
    assert_int_equal(found, t);
    kit_ok(store_session_find(store, (const uint8_t(*)[32])swapped, 2, &found, error));
    assert_int_equal(found, 0);
    kit_ok(store_session_find(store, NULL, 0, &found, error));
    assert_int_equal(found, none);
    kit_ok(store_session_add_document(store, t, docs[1], error));
    kit_ok(store_session_rename(store, t, "renamed", error));
    kit_ok(store_session_find(store, (const uint8_t(*)[32])hashes, 2, &found, error));
    assert_int_equal(found, t); /* as lately used as s, and newer */
    struct store_session_list list;
    kit_ok(store_session_list(store, &list, error));
    assert_int_equal(list.count, 3);
    assert_string_equal(list.items[1].name, "renamed");
    assert_int_equal(list.items[1].n_documents, 2);
    store_session_list_free(&list);
    kit_fails(store_session_rename(store, 77, "x", error), ERROR_USAGE, "no session 77");
    kit_fails(store_session_add_document(store, t, 77, error), ERROR_USAGE, "no document 77");
    kit_fails(store_session_remove(store, 77, error), ERROR_USAGE, "no session 77");
    kit_fails(store_session_fork(store, 77, 0, NULL, &found, error), ERROR_USAGE, "no session 77");
    kit_fails(store_session_create(store, "bad", (int64_t[]){docs[0], 55}, 2, &found, error), ERROR_USAGE,
              "document 55");
    kit_ok(store_session_list(store, &list, error));
    assert_int_equal(list.count, 3); /* "bad" left nothing */
    store_session_list_free(&list);
    kit_ok(store_session_remove(store, s, error));
    kit_ok(store_session_remove(store, t, error));
    struct store_usage usage;
    kit_ok(store_usage(store, &usage, error));
    assert_int_equal(usage.n_documents, 0);
    assert_int_equal(usage.n_sessions, 1);
    no_faults(store);
    store_close(&store);
}

static void test_turns(void **state)
{
    (void)state;
    struct store *store = fresh("turns");
    int64_t s = session_make(store, "talk"), f;
    uint32_t ids[1300], turn_ids[3] = {5, 0, UINT32_MAX};
    kit_ids(3, ids, 1300);
    struct store_turn turns[2] = {
        {.role = STORE_USER, .text = "Why?", .text_len = 4, .ids = turn_ids, .n_ids = 3, .created = 42},
        {.role = STORE_ASSISTANT, .text = "a\0b", .text_len = 3, .meta = "{}"}};
    struct kit_save k = {.ids = ids,
                         .session = s,
                         .keep = true,
                         .turns = turns,
                         .n_turns = 2,
                         .row_bytes = ROWS,
                         .snapshot_bytes = SNAP};
    kit_ok(kit_save(store, &k, error)); /* turns alone */
    k.count = 1300;
    kit_ok(kit_save(store, &k, error));
    reopen(&store);
    struct store_turn_list list;
    kit_ok(store_turns(store, s, &list, error));
    assert_int_equal(list.count, 4);
    assert_int_equal(list.items[0].role, STORE_USER);
    assert_int_equal(list.items[0].created, 42);
    assert_string_equal(list.items[0].text, "Why?");
    assert_null(list.items[0].meta);
    assert_int_equal(list.items[2].n_ids, 3);
    assert_memory_equal(list.items[2].ids, turn_ids, sizeof turn_ids);
    assert_int_equal(list.items[3].text_len, 3);
    assert_memory_equal(list.items[3].text, "a\0b", 3);
    assert_string_equal(list.items[3].meta, "{}");
    assert_true(list.items[3].created > 1600000000);
    store_turn_list_free(&list);
    struct store_session info = session_get(store, s);
    assert_int_equal(info.n_turns, 4);
    assert_int_equal(info.n_tokens, 1300);
    assert_memory_equal(info.model, kit_model, STORE_KEY);
    kit_ok(store_session_fork(store, s, 2, "branch", &f, error));
    info = session_get(store, f);
    assert_int_equal(info.n_turns, 2);
    assert_int_equal(info.n_tokens, 0); /* the state was saved with four turns */
    assert_int_equal(info.parent, s);
    kit_ok(store_session_fork(store, s, SIZE_MAX, NULL, &f, error));
    assert_int_equal(session_get(store, f).n_tokens, 1300);
    assert_int_equal(session_get(store, f).n_turns, 4);
    kit_ok(store_session_remove(store, s, error));
    load(store, ids, 1300); /* the fork has it */
    kit_ok(store_turns(store, f, &list, error));
    assert_int_equal(list.count, 4);
    store_turn_list_free(&list);
    no_faults(store);
    store_close(&store);
}

/* --------------------------------------------------------------------------------------------------- states */

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

static void test_big_blobs(void **state)
{
    (void)state;
    struct store *store = fresh("big");
    uint32_t ids[700];
    kit_ids(9, ids, 700);
    const size_t part = (size_t)8 << 20, sizes[] = {part - 1, part, part + 1, 2 * part + 12345};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        ids[0] = (uint32_t)i;
        struct kit_save k = {.ids = ids, .count = 700, .keep = true, .row_bytes = 1000, .snapshot_bytes = sizes[i]};
        kit_ok(kit_save(store, &k, error));
        kit_ok(kit_load(store, ids, 700, 1000, sizes[i], error));
    }
    no_faults(store);
    store_close(&store);
}

static int refuse(void *ctx, const void *bytes, size_t size, struct error *error)
{
    (void)bytes, (void)size;
    return *(int *)ctx ? error_set(error, ERROR_CANCELLED, "Enough.") : 0;
}

static void test_load_stops(void **state)
{
    (void)state;
    struct store *store = fresh("stops");
    uint32_t ids[6000];
    kit_ids(4, ids, 6000);
    save(store, ids, 6000, 0, true);
    int no = 1;
    kit_fails(store_load(store, kit_model, ids, 6000,
                         &(struct store_load){.rows = refuse, .snapshot = refuse, .ctx = &no}, error),
              ERROR_CANCELLED, "Enough");
    assert_int_equal(find(store, ids, 6000), 6000); /* nothing was dropped */
    load(store, ids, 6000);
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

/* ----------------------------------------------------------------------------------- sizes, eviction, thinning */

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

static void test_rewind(void **state)
{
    (void)state;
    struct store *store = fresh("rewind");
    uint32_t ids[4000];
    kit_ids(1, ids, 4000);
    int64_t s = session_make(store, "s");
    struct store_turn turns[2] = {{.role = STORE_USER, .text = "q", .text_len = 1},
                                  {.role = STORE_ASSISTANT, .text = "a", .text_len = 1}};
    const size_t ends[] = {1000, 1500, 2600, 4000}; /* the documents, then three answers */
    for (size_t i = 0; i < 4; i++) {
        struct kit_save k = {.ids = ids,
                             .count = ends[i],
                             .first_segment = present(store, ids, ends[i]),
                             .session = s,
                             .keep = true,
                             .turns = turns,
                             .n_turns = i ? 2 : 0,
                             .row_bytes = ROWS,
                             .snapshot_bytes = SNAP};
        kit_ok(kit_save(store, &k, error));
    }
    kit_ok(store_session_truncate(store, s, 4, error));
    assert_int_equal(find(store, ids, 4000), 2600);
    assert_int_equal(session_get(store, s).n_turns, 4);
    assert_int_equal(session_get(store, s).n_tokens, 2600);
    load(store, ids, 2600);
    kit_ok(store_session_truncate(store, s, 0, error));
    assert_int_equal(find(store, ids, 4000), 1000);
    assert_int_equal(session_get(store, s).n_turns, 0);
    kit_ok(store_session_truncate(store, s, 9, error));
    no_faults(store);
    store_close(&store);
}

/* ---------------------------------------------------------------------------------------------------- bench */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int touch_bytes(void *ctx, const void *bytes, size_t size, struct error *error)
{
    (void)bytes, (void)error;
    *(uint64_t *)ctx += size;
    return 0;
}

static void drop_page_cache(void)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/lectern.db", dir);
    int fd = open(path, O_RDONLY);
    fsync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static void bench_load(struct store *store, const uint32_t *ids, size_t count, const char *what)
{
    uint64_t bytes = 0;
    double start = seconds(), cpu = (double)clock();
    kit_ok(store_load(store, kit_model, ids, count,
                      &(struct store_load){.rows = touch_bytes, .snapshot = touch_bytes, .ctx = &bytes}, error));
    double took = seconds() - start, busy = ((double)clock() - cpu) / CLOCKS_PER_SEC;
    printf("load, %s: %.2f GB in %.3f s (%.3f s of CPU), %.2f GB/s\n", what, (double)bytes * 1e-9, took, busy,
           (double)bytes * 1e-9 / took);
}

/* 131,072 tokens of the 48B: 256 segments of 4.13 MB, a snapshot of 43 MB at every sixteenth. */
static int bench(void)
{
    enum { COUNT = 131072, EVERY = 8192 };
    static uint32_t ids[COUNT];
    setenv("TMPDIR", "/tmp", 0); /* a disk, not memory */
    struct store *store = fresh("bench");
    int64_t s = session_make(store, "bench");
    kit_ids(1, ids, COUNT);
    double start = seconds(), called = 0;
    for (size_t at = EVERY; at <= COUNT; at += EVERY) {
        struct kit_save k = {.ids = ids,
                             .count = at,
                             .first_segment = (at - EVERY) / STORE_SEGMENT,
                             .session = s,
                             .row_bytes = 4132032,
                             .snapshot_bytes = 44900000};
        double before = seconds();
        kit_ok(kit_queue(store, &k, error));
        called += seconds() - before;
    }
    kit_ok(store_queue_flush(store, error));
    printf("save: %.2f GB in %.1f s\n", (double)stored(store) * 1e-9, seconds() - start);
    struct stat st;
    char wal[PATH_MAX + 32];
    snprintf(wal, sizeof wal, "%s/lectern.db-wal", dir);
    if (stat(wal, &st) == 0) printf("log: %.0f MB\n", (double)st.st_size * 1e-6);
    for (int i = 0; i < 3; i++) bench_load(store, ids, COUNT, "page cache warm");
    drop_page_cache();
    bench_load(store, ids, COUNT, "page cache cold");
    start = seconds();
    size_t position = find(store, ids, COUNT);
    printf("find %zu: %.2f ms\n", position, (seconds() - start) * 1e3);
    start = seconds();
    struct store_session_list list;
    kit_ok(store_session_list(store, &list, error));
    store_session_list_free(&list);
    printf("list: %.2f ms\n", (seconds() - start) * 1e3);
    start = seconds();
    no_faults(store);
    printf("check: %.1f s\n", seconds() - start);
    start = seconds();
    kit_ok(store_session_remove(store, s, error));
    printf("remove: %.2f s\n", seconds() - start);
    start = seconds();
    uint64_t freed;
    kit_ok(store_gc(store, &freed, error));
    printf("gc, giving the pages back: %.1f s\n", seconds() - start);
    store_close(&store);
    kit_cleanup();
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) return bench();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_are_private),
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_big_blobs),
        cmocka_unit_test(test_load_stops),
        cmocka_unit_test(test_bad_saves),
        cmocka_unit_test(test_sizes_and_gc),
        cmocka_unit_test(test_eviction_order),
        cmocka_unit_test(test_thinning),
        cmocka_unit_test(test_thinning_spares_forks),
        cmocka_unit_test(test_rewind),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kit_cleanup();
    return failed;
}
