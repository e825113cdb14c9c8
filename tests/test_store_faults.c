/* SPDX-License-Identifier: MIT
 *
 * The store on a failing machine: the n-th write, sync, opening, truncation, read or allocation fails, for n = 1, 2,
 * ... until a whole run succeeds; the power goes before the n-th change of a file. After each: what was committed is
 * there and bit-exact, what failed left nothing, the database is sound, and the next save works.
 */
#include "store/internal.h"
#include "tests/faults/fault_vfs.h"
#include "tests/faults/store_kit.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS 5000u
#define SNAP 12000u

static uint32_t ids[4000];

/* -------------------------------------------------------------------------------------------------- the run */

/* What the store holds after each step: turns of the session, and how far its state reaches. */
enum { STEPS = 9 };
static const struct {
    size_t turns, position;
} after[STEPS + 1] = {
    {0, 0},    /* nothing */
    {0, 0},    /* opened */
    {0, 0},    /* a document */
    {0, 0},    /* a session */
    {2, 1300}, /* a save with two turns */
    {4, 2600}, /* another */
    {6, 3900}, /* another */
    {4, 2600}, /* rewound */
    {4, 2600}, /* loaded, collected */
    {4, 2600}, /* checked */
};

static int run_save(struct store *store, size_t first, size_t count, struct error *error)
{
    struct store_turn turns[2] = {{.role = STORE_USER, .text = "Why?", .text_len = 4, .ids = ids, .n_ids = 3},
                                  {.role = STORE_ASSISTANT, .text = "So.", .text_len = 3, .meta = "{}"}};
    return kit_save(store,
                    &(struct kit_save){.ids = ids,
                                       .count = count,
                                       .first_segment = first,
                                       .session = 1,
                                       .keep = true,
                                       .turns = turns,
                                       .n_turns = 2,
                                       .row_bytes = ROWS,
                                       .snapshot_bytes = SNAP},
                    error);
}

static int run_step(struct store **store, const char *dir, size_t step, struct error *error)
{
    static char text[40000];
    struct store_document d = {.path = "/a", .title = "b", .text = text, .text_len = sizeof text};
    int64_t id;
    uint64_t freed;
    size_t faults = 0;
    memset(text, 'x', sizeof text);
    int rc = 0;
    switch (step) {
    case 1:
        return store_open(store, dir, error);
    case 2:
        return store_document_put(*store, &d, &id, error);
    case 3:
        return store_session_create(*store, "s", (int64_t[]){1}, 1, &id, error);
    case 4:
        return run_save(*store, 0, 1300, error);
    case 5:
        return run_save(*store, 2, 2600, error);
    case 6:
        return run_save(*store, 5, 3900, error);
    case 7:
        return store_session_truncate(*store, 1, 4, error);
    case 8:
        rc = kit_load(*store, ids, 2600, ROWS, SNAP, error);
        return rc ? rc : store_gc(*store, &freed, error);
    default:
        rc = store_check(*store, NULL, NULL, &faults, error);
        return rc || !faults ? rc : error_set(error, ERROR_FAILED, "TEST: %zu faults", faults);
    }
}

/* How many steps succeeded; the error of the next one. */
static size_t run(const char *dir, struct error *error)
{
    struct store *store = NULL;
    size_t done = 0;
    *error = (struct error){0};
    while (done < STEPS && run_step(&store, dir, done + 1, error) == 0) done++;
    store_close(&store);
    return done;
}

static void look_turns(struct store *store, size_t expected)
{
    struct store_turn_list list;
    kit_ok(store_turns(store, 1, &list, error));
    assert_int_equal(list.count, expected);
    for (size_t i = 0; i < list.count; i++) assert_string_equal(list.items[i].text, i % 2 ? "So." : "Why?");
    store_turn_list_free(&list);
}

/* On a healthy machine again: the state is that after `done` steps or, when the failed step was committed at its very
 * end, that after one more; and it can be continued. */
static void look(const char *dir, size_t done)
{
    struct store *store;
    struct store_session_list list;
    size_t faults, position, next = done < STEPS ? done + 1 : done;
    kit_ok(store_open(&store, dir, error));
    kit_ok(store_session_list(store, &list, error));
    bool has = list.count == 1;
    assert_true(has || (list.count == 0 && done < 3));
    size_t turns = has ? (size_t)list.items[0].n_turns : 0;
    assert_true(turns == after[done].turns || turns == after[next].turns);
    size_t expected = turns == after[done].turns ? after[done].position : after[next].position;
    kit_ok(store_find_prefix(store, kit_model, ids, 4000, &position, error));
    assert_int_equal(position, expected);
    if (position) kit_ok(kit_load(store, ids, position, ROWS, SNAP, error));
    look_turns(store, turns);
    kit_ok(store_check(store, NULL, NULL, &faults, error));
    assert_int_equal(faults, 0);
    size_t have;
    kit_ok(store_rows_present(store, kit_model, ids, 4000, &have, error));
    struct kit_save k = {.ids = ids,
                         .count = 4000,
                         .first_segment = have,
                         .session = has ? list.items[0].id : 0,
                         .row_bytes = ROWS,
                         .snapshot_bytes = SNAP};
    kit_ok(kit_save(store, &k, error));
    kit_ok(kit_load(store, ids, 4000, ROWS, SNAP, error));
    store_session_list_free(&list);
    store_close(&store);
}

/* --------------------------------------------------------------------------------------------------- faults */

struct fault_run {
    enum fault_call call;
    int code;                 /* what SQLite is told */
    enum error_code expected; /* what the caller is */
    const char *words;        /* ... and told, in one sentence */
    bool forever;
    unsigned every; /* n goes on by 1 + n / every */
};

static bool is_sentence(const char *text, const char *words)
{
    size_t length = strlen(text);
    return strstr(text, words) && length && text[length - 1] == '.' && !strchr(text, '\n');
}

static void fault_each(const struct fault_run *r)
{
    char dir[PATH_MAX];
    unsigned n = 1, reached = 0;
    for (bool fired = true; fired; n += 1 + n / r->every) {
        struct error error;
        kit_folder(dir, sizeof dir, "fault");
        fault_arm(r->call, n, r->code, r->forever);
        size_t done = run(dir, &error);
        fired = fault_fired();
        fault_arm(r->call, 0, 0, false);
        if (done < STEPS && (error.code != r->expected || !is_sentence(error.text, r->words)))
            fail_msg("call %d, n = %u, step %zu: code %d, \"%s\"", (int)r->call, n, done + 1, (int)error.code,
                     error.text);
        assert_true(done == STEPS || fired);
        reached += done < STEPS;
        look(dir, done);
    }
    assert_true(reached >= 1); /* some fault was met, not all were absorbed */
}

static void test_write_fails(void **state)
{
    (void)state;
    fault_each(&(struct fault_run){FAULT_WRITE, SQLITE_IOERR_WRITE, ERROR_DISK,
                                   "The disk failed while the store was written: ", false, UINT_MAX});
    fault_each(&(struct fault_run){FAULT_WRITE, SQLITE_FULL, ERROR_DISK,
                                   "The disk is full: the store could not be written and is as it was before.", false,
                                   20});
    fault_each(&(struct fault_run){FAULT_WRITE, SQLITE_FULL, ERROR_DISK,
                                   "The disk is full: the store could not be written and is as it was before.", true,
                                   20});
}

static void test_sync_fails(void **state)
{
    (void)state;
    fault_each(&(struct fault_run){FAULT_SYNC, SQLITE_IOERR_FSYNC, ERROR_DISK,
                                   "The disk failed while the store was written: ", false, UINT_MAX});
    fault_each(&(struct fault_run){FAULT_SYNC, SQLITE_IOERR_FSYNC, ERROR_DISK,
                                   "The disk failed while the store was written: ", true, UINT_MAX});
}

static void test_open_fails(void **state)
{
    (void)state;
    fault_each(&(struct fault_run){FAULT_OPEN, SQLITE_CANTOPEN, ERROR_DISK,
                                   "The store's database cannot be opened: ", false, UINT_MAX});
}

/* Truncations only happen while the log is shortened: all are absorbed. */
static void test_truncate_fails(void **state)
{
    (void)state;
    char dir[PATH_MAX];
    unsigned n = 1;
    for (bool fired = true; fired; n++) {
        struct error error;
        kit_folder(dir, sizeof dir, "truncate");
        fault_arm(FAULT_TRUNCATE, n, SQLITE_IOERR_TRUNCATE, false);
        size_t done = run(dir, &error);
        fired = fault_fired();
        fault_arm(FAULT_TRUNCATE, 0, 0, false);
        assert_true(done == STEPS || error.code == ERROR_DISK);
        look(dir, done);
    }
}

/* A read error makes a state unusable at most: it must not be taken for one that is lost for good. */
static void test_read_fails(void **state)
{
    (void)state;
    char dir[PATH_MAX];
    unsigned n = 1, reached = 0;
    for (bool fired = true; fired; n += 1 + n / 40) {
        struct error error;
        kit_folder(dir, sizeof dir, "read");
        fault_arm(FAULT_READ, n, SQLITE_IOERR_READ, false);
        size_t done = run(dir, &error);
        fired = fault_fired();
        fault_arm(FAULT_READ, 0, 0, false);
        if (done < STEPS && error.code != ERROR_STATE && !strstr(error.text, "TEST: "))
            fail_msg("n = %u, step %zu: code %d, \"%s\"", n, done + 1, (int)error.code, error.text);
        reached += done < STEPS;
        look(dir, done);
    }
    assert_true(reached > 3);
}

/* ---------------------------------------------------------------------------------------------------- memory */

static unsigned memory_n, memory_seen;
static bool memory_forever, memory_fired, memory_in_sqlite, memory_in_store;
static sqlite3_mem_methods memory_usual;
static pthread_mutex_t memory_mutex = PTHREAD_MUTEX_INITIALIZER;

static bool memory_refuses(void)
{
    pthread_mutex_lock(&memory_mutex);
    bool now = memory_n && (++memory_seen == memory_n || (memory_forever && memory_seen > memory_n));
    memory_fired |= now;
    pthread_mutex_unlock(&memory_mutex);
    return now;
}

static void *sqlite_malloc(int n)
{
    return memory_in_sqlite && memory_refuses() ? NULL : memory_usual.xMalloc(n);
}

static void *sqlite_realloc(void *p, int n)
{
    return memory_in_sqlite && memory_refuses() ? NULL : memory_usual.xRealloc(p, n);
}

static bool store_allows(size_t size)
{
    (void)size;
    return !(memory_in_store && memory_refuses());
}

static void memory_arm(unsigned n, bool forever)
{
    memory_n = n;
    memory_seen = 0;
    memory_forever = forever;
    memory_fired = false;
}

static void memory_each(bool forever, unsigned every)
{
    char dir[PATH_MAX];
    unsigned n = 1, reached = 0;
    for (bool fired = true; fired; n += 1 + n / every) {
        struct error error;
        kit_folder(dir, sizeof dir, "memory");
        memory_arm(n, forever);
        size_t done = run(dir, &error);
        fired = memory_fired;
        memory_arm(0, false);
        if (done < STEPS && (error.code != ERROR_FAILED || !strstr(error.text, "memory")))
            fail_msg("n = %u, step %zu: code %d, \"%s\"", n, done + 1, (int)error.code, error.text);
        reached += done < STEPS;
        look(dir, done);
    }
    assert_true(reached >= 3);
}

static void test_store_allocation_fails(void **state)
{
    (void)state;
    memory_in_store = true;
    memory_each(false, 1000000); /* every single one */
    memory_each(true, 20);
    memory_in_store = false;
}

/* Tens of thousands: each of the first fifteen, then in steps that grow by a fifteenth. */
static void test_sqlite_allocation_fails(void **state)
{
    (void)state;
    memory_in_sqlite = true;
    memory_each(false, 15);
    memory_each(true, 10);
    memory_in_sqlite = false;
}

/* ----------------------------------------------------------------------------------------------------- power */

static void test_power_fails(void **state)
{
    (void)state;
    char dir[PATH_MAX], left[PATH_MAX];
    uint64_t seed = 1;
    unsigned n = 1;
    for (bool cut = true; cut; n++) {
        struct error error;
        kit_folder(dir, sizeof dir, "before");
        kit_folder(left, sizeof left, "after");
        assert_int_equal(mkdir(left, 0700), 0);
        power_start(n);
        size_t done = run(dir, &error);
        cut = power_is_cut();
        power_restore(dir, left, seed++);
        assert_true(done == STEPS || error.code == ERROR_DISK);
        look(left, done);
    }
    assert_true(n > 60);
}

/* ---------------------------------------------------------------------------------------------------- mending */

/* A store after its third save, with a flipped bit in its last blob or with one whole page lost. */
static void make_damaged(char *dir, size_t size, bool page)
{
    struct store *store = NULL;
    struct error error;
    char path[PATH_MAX + 16];
    unsigned char noise[4096];
    kit_folder(dir, size, "damaged");
    for (size_t i = 1; i <= 6; i++)
        if (run_step(&store, dir, i, &error)) fail_msg("%s", error.text);
    store_close(&store);
    snprintf(path, sizeof path, "%s/lectern.db", dir);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    long at = page ? ftell(f) / STORE_PAGE / 2 * STORE_PAGE : ftell(f) - 200;
    memset(noise, 0xff, sizeof noise);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_true(fwrite(noise, page ? sizeof noise : 1, 1, f) == 1);
    assert_int_equal(fclose(f), 0);
}

static int mend(const char *dir, size_t *dropped, struct error *error)
{
    struct store *store;
    int rc = store_open(&store, dir, error);
    if (rc) return rc;
    rc = store_repair(store, NULL, NULL, dropped, error);
    store_close(&store);
    return rc;
}

/* Mended again on a healthy machine: sound, as good as if nothing had come between, and it goes on. */
static void look_mended(const char *dir, size_t position)
{
    struct store *store;
    size_t dropped, faults, found;
    kit_ok(mend(dir, &dropped, error));
    kit_ok(store_open(&store, dir, error));
    kit_ok(store_check(store, NULL, NULL, &faults, error));
    assert_int_equal(faults, 0);
    kit_ok(store_find_prefix(store, kit_model, ids, 3900, &found, error));
    assert_int_equal(found, position);
    if (found) kit_ok(kit_load(store, ids, found, ROWS, SNAP, error));
    look_turns(store, 6);
    size_t have;
    kit_ok(store_rows_present(store, kit_model, ids, 4000, &have, error));
    struct kit_save k = {
        .ids = ids, .count = 4000, .first_segment = have, .session = 1, .row_bytes = ROWS, .snapshot_bytes = SNAP};
    kit_ok(kit_save(store, &k, error));
    kit_ok(kit_load(store, ids, 4000, ROWS, SNAP, error));
    store_close(&store);
}

static size_t mended_position(bool page)
{
    char dir[PATH_MAX];
    struct store *store;
    size_t dropped, position;
    make_damaged(dir, sizeof dir, page);
    kit_ok(mend(dir, &dropped, error));
    assert_true(dropped > 0);
    kit_ok(store_open(&store, dir, error));
    kit_ok(store_find_prefix(store, kit_model, ids, 3900, &position, error));
    store_close(&store);
    return position;
}

/* The power goes, or the disk is full, before each change that a repair makes. */
static void mend_each(bool page, bool power)
{
    char dir[PATH_MAX], left[PATH_MAX];
    size_t dropped, position = mended_position(page);
    unsigned n = 1, reached = 0;
    for (bool fired = true; fired; n += 1 + n / 20) {
        struct error error = {0};
        make_damaged(dir, sizeof dir, page);
        if (power)
            power_start(n);
        else
            fault_arm(FAULT_WRITE, n, SQLITE_FULL, true);
        int rc = mend(dir, &dropped, &error);
        fired = power ? power_is_cut() : fault_fired();
        fault_arm(FAULT_WRITE, 0, 0, false);
        if (power) {
            kit_folder(left, sizeof left, "left");
            assert_int_equal(mkdir(left, 0700), 0);
            power_restore(dir, left, n);
        }
        if (rc && rc != ERROR_DISK) fail_msg("n = %u: %d, %s", n, rc, error.text);
        reached += rc != 0;
        look_mended(power ? left : dir, position);
    }
    assert_true(reached > 3);
}

static void test_mending_is_cut_off(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) mend_each(i & 1, i & 2);
}

int main(void)
{
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &memory_usual);
    sqlite3_mem_methods failing = memory_usual;
    failing.xMalloc = sqlite_malloc;
    failing.xRealloc = sqlite_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &failing);
    store_alloc_allowed = store_allows;
    fault_install();
    kit_ids(11, ids, 4000);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_fails),
        cmocka_unit_test(test_sync_fails),
        cmocka_unit_test(test_open_fails),
        cmocka_unit_test(test_truncate_fails),
        cmocka_unit_test(test_read_fails),
        cmocka_unit_test(test_store_allocation_fails),
        cmocka_unit_test(test_sqlite_allocation_fails),
        cmocka_unit_test(test_power_fails),
        cmocka_unit_test(test_mending_is_cut_off),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fault_uninstall();
    kit_cleanup();
    return failed;
}
