/* SPDX-License-Identifier: MIT
 *
 * Loading a state: big blobs in parts, where pieces are read to, who verifies them, what ends a load; and (--bench) the
 * speed of saving and loading at the 48B's sizes.
 */
#include "tests/store_steps.h"

#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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

/* ------------------------------------------------------------------------------------------- the caller's part */

enum { TOKENS = 24 * 512 + 100, PIECES = 26, BUFFERS = 20 };

static uint32_t text[TOKENS];

struct caller { /* keeps what it gets in `seen`, or compares with what was seen */
    struct store_blob seen[PIECES];
    size_t taken;
    bool compares;
    uint8_t *buffers[BUFFERS]; /* rooms, in turn; of every third piece none */
    size_t asked;
    atomic_size_t verified;
    bool refuses;
    struct store *removes; /* loses the session when the third piece comes */
};

static int take(void *ctx, const void *bytes, size_t size, struct error *error)
{
    struct caller *c = ctx;
    assert_true(c->taken < PIECES);
    struct store_blob *seen = &c->seen[c->taken++];
    if (!c->compares) {
        *seen = (struct store_blob){malloc(size), size};
        assert_non_null(seen->data);
        memcpy(seen->data, bytes, size);
    } else if (seen->size != size || memcmp(seen->data, bytes, size)) {
        return error_set(error, ERROR_STATE, "This is not what is due.");
    }
    return c->removes && c->taken == 3 ? store_session_remove(c->removes, 1, error) : 0;
}

static void *find_room(void *ctx, size_t size)
{
    struct caller *c = ctx;
    size_t i = c->asked++;
    if (i % 3 == 2) return NULL;
    assert_true(size <= ROWS);
    if (!c->buffers[i % BUFFERS]) c->buffers[i % BUFFERS] = malloc(ROWS);
    return c->buffers[i % BUFFERS];
}

/* The kit's pieces do not begin with zeros. */
static int verify(void *ctx, const void *bytes, size_t size, struct error *error)
{
    struct caller *c = ctx;
    static const uint8_t zeros[16];
    atomic_fetch_add(&c->verified, 1);
    if (c->refuses || size < sizeof zeros || !memcmp(bytes, zeros, sizeof zeros))
        return error_set(error, ERROR_STATE, "The caller refuses it.");
    return 0;
}

static int load_by(struct caller *c, struct store *store, struct error *error)
{
    struct store_load_times times;
    struct store_load load = {
        .rows = take, .snapshot = take, .ctx = c, .room = find_room, .verify = verify, .times = &times};
    c->taken = c->asked = 0;
    atomic_store(&c->verified, 0);
    int rc = store_load(store, kit_model, text, TOKENS, &load, error);
    if (!rc) assert_true(times.threads > 0 && times.read > 0 && times.verify >= 0);
    return rc;
}

static void caller_free(struct caller *c)
{
    for (size_t i = 0; i < PIECES; i++) free(c->seen[i].data);
    for (size_t i = 0; i < BUFFERS; i++) free(c->buffers[i]);
}

/* A store with one state; what loading it gives. */
static struct store *store_with_state(const char *name, struct caller *c)
{
    struct store *store = fresh(name);
    kit_ids(7, text, TOKENS);
    save(store, text, TOKENS, session_make(store, "s"), true);
    *c = (struct caller){0};
    kit_ok(load_by(c, store, error));
    assert_int_equal(c->taken, PIECES);
    c->compares = true;
    return store;
}

static void test_rooms(void **state)
{
    (void)state;
    struct caller c;
    struct store *store = store_with_state("rooms", &c);
    kit_ok(load_by(&c, store, error));
    assert_int_equal(c.taken, PIECES);
    assert_int_equal(c.asked, PIECES - 1); /* not for the snapshot */
    assert_int_equal(atomic_load(&c.verified), PIECES); /* each once */
    load(store, text, TOKENS);                          /* and it is what was saved */
    store_close(&store);
    caller_free(&c);
}

static void change(const char *sql)
{
    char path[PATH_MAX + 16];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/lectern.db", dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* What the caller alone finds bad is good for the store; what both find bad is dropped. */
static void test_whose_fault(void **state)
{
    (void)state;
    struct caller c;
    struct store *store = store_with_state("fault", &c);
    c.refuses = true;
    kit_fails(load_by(&c, store, error), ERROR_STATE, "The caller refuses it.");
    assert_int_equal(find(store, text, TOKENS), TOKENS);
    c.refuses = false;
    kit_ok(load_by(&c, store, error));
    store_close(&store);
    change("UPDATE part SET bytes = zeroblob(length(bytes)) WHERE id = 1024 * (SELECT blob FROM segment WHERE id = 9)");
    kit_ok(store_open(&store, dir, error));
    kit_fails(load_by(&c, store, error), ERROR_STATE, "wrong checksum");
    assert_int_equal(find(store, text, TOKENS), 0);
    assert_int_equal(present(store, text, TOKENS), 8);
    store_close(&store);
    caller_free(&c);
}

/* Rows that are good of themselves and stand under another text's name. */
static void test_in_anothers_place(void **state)
{
    (void)state;
    struct caller c;
    struct store *store = store_with_state("place", &c);
    store_close(&store);
    change("UPDATE segment SET blob = (SELECT blob FROM segment WHERE id = 12) WHERE id = 11");
    kit_ok(store_open(&store, dir, error));
    kit_fails(load_by(&c, store, error), ERROR_STATE, "not what is due");
    assert_int_equal(find(store, text, TOKENS), 0);
    store_close(&store);
    caller_free(&c);
}

/* Another lectern removes the session, and the pages are used again, while its state is being loaded. */
static void test_removed_meanwhile(void **state)
{
    (void)state;
    struct caller c;
    uint32_t others[6000];
    struct store *store = store_with_state("removed", &c), *other;
    kit_ids(8, others, 6000);
    kit_ok(store_open(&other, dir, error));
    c.removes = other;
    kit_ok(load_by(&c, store, error));
    assert_int_equal(c.taken, PIECES);
    assert_int_equal(find(store, text, TOKENS), 0);
    save(other, others, 6000, 0, true);
    load(store, others, 6000);
    no_faults(store);
    store_close(&other);
    store_close(&store);
    caller_free(&c);
}

struct loading {
    pthread_t thread;
    struct store *store;
    int rc;
};

static void *load_often(void *arg)
{
    struct loading *l = arg;
    struct error error;
    for (int i = 0; !l->rc && i < 10; i++) l->rc = kit_load(l->store, text, TOKENS, ROWS, SNAP, &error);
    return NULL;
}

static void test_several_at_once(void **state)
{
    (void)state;
    struct caller c;
    struct loading l[4] = {0};
    uint32_t others[6000];
    struct store *store = store_with_state("several", &c);
    kit_ids(8, others, 6000);
    for (size_t i = 0; i < 4; i++) {
        l[i].store = store;
        assert_int_equal(pthread_create(&l[i].thread, NULL, load_often, &l[i]), 0);
    }
    for (size_t count = 500; count <= 6000; count += 500) save(store, others, count, 0, false); /* meanwhile */
    for (size_t i = 0; i < 4; i++) pthread_join(l[i].thread, NULL);
    for (size_t i = 0; i < 4; i++) assert_int_equal(l[i].rc, 0);
    no_faults(store);
    store_close(&store);
    caller_free(&c);
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
    struct store_usage usage;
    kit_ok(store_usage(store, &usage, error));
    printf("save: %.2f GB in %.1f s\n", (double)(usage.rows_bytes + usage.snapshot_bytes) * 1e-9, seconds() - start);
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
        cmocka_unit_test(test_big_blobs),
        cmocka_unit_test(test_load_stops),
        cmocka_unit_test(test_rooms),
        cmocka_unit_test(test_whose_fault),
        cmocka_unit_test(test_in_anothers_place),
        cmocka_unit_test(test_removed_meanwhile),
        cmocka_unit_test(test_several_at_once),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kit_cleanup();
    return failed;
}
