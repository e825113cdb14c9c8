/* SPDX-License-Identifier: MIT
 *
 * What happens to a store from outside: kill -9 at any instant, flipped bits and lost rows, two lecterns at once, a
 * folder that cannot be written, a database of a newer version or of somebody else, and migrations.
 */
#include "store/internal.h"
#include "tests/faults/store_kit.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROWS 20000u
#define SNAP 50000u

static uint32_t ids[20000];
static char dir[PATH_MAX];

static void fresh(struct store **store, const char *name)
{
    kit_folder(dir, sizeof dir, name);
    kit_ok(store_open(store, dir, error));
}

static void database(char *out, size_t size)
{
    snprintf(out, size, "%.4000s/lectern.db", dir);
}

/* A connection of its own, past the store. */
static void raw(const char *sql)
{
    char path[PATH_MAX];
    sqlite3 *db;
    database(path, sizeof path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static size_t faults_of(struct store *store)
{
    size_t faults;
    kit_ok(store_check(store, NULL, NULL, &faults, error));
    return faults;
}

static size_t find(struct store *store, size_t count)
{
    size_t position;
    kit_ok(store_find_prefix(store, kit_model, ids, count, &position, error));
    return position;
}

static int save_to(struct store *store, size_t count, int64_t session, size_t n_turns, struct error *error)
{
    struct store_turn turns[2] = {{.role = STORE_USER, .text = "q", .text_len = 1}, {.role = STORE_ASSISTANT}};
    size_t have;
    int rc = store_rows_present(store, kit_model, ids, count, &have, error);
    if (rc) return rc;
    struct kit_save k = {.ids = ids,
                         .count = count,
                         .first_segment = have,
                         .session = session,
                         .keep = true,
                         .turns = turns,
                         .n_turns = n_turns,
                         .row_bytes = ROWS,
                         .snapshot_bytes = SNAP};
    return kit_save(store, &k, error);
}

/* --------------------------------------------------------------------------------------------------- kill -9 */

/* In the child: saves from `turn` on, telling each commit; never returns. */
static void keep_saving(size_t turn, int out)
{
    struct store *store;
    struct error error;
    if (store_open(&store, dir, &error)) _exit(3);
    for (;; turn++) {
        if (save_to(store, (turn + 1) * 300, 1, 1, &error)) _exit(4);
        uint32_t done = (uint32_t)turn + 1;
        if (write(out, &done, sizeof done) != sizeof done) _exit(5);
    }
}

/* One round: starts a child that goes on saving, kills it, returns the turns it told to be committed. */
static size_t kill_round(size_t turns, uint64_t *rng)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) keep_saving(turns, ends[1]);
    close(ends[1]);
    struct timespec wait = {.tv_nsec = (long)kit_below(rng, 30000000)};
    nanosleep(&wait, NULL);
    kill(child, SIGKILL);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    uint32_t done;
    while (read(ends[0], &done, sizeof done) == sizeof done) turns = done;
    close(ends[0]);
    return turns;
}

static void test_kill(void **state)
{
    (void)state;
    struct store *store;
    uint64_t rng = 5;
    int64_t session;
    size_t committed = 0;
    fresh(&store, "kill");
    kit_ok(store_session_create(store, "s", NULL, 0, &session, error));
    store_close(&store);
    for (int round = 0; round < 200; round++) {
        size_t told = kill_round(committed, &rng);
        kit_ok(store_open(&store, dir, error));
        struct store_session_list list;
        kit_ok(store_session_get(store, 1, &list, error));
        committed = (size_t)list.items[0].n_turns;
        store_session_list_free(&list);
        assert_true(committed == told || committed == told + 1); /* + 1: killed between commit and telling */
        assert_int_equal(find(store, 20000), committed * 300);
        if (committed) kit_ok(kit_load(store, ids, committed * 300, ROWS, SNAP, error));
        if (committed > 1) kit_ok(kit_load(store, ids, committed / 2 * 300, ROWS, SNAP, error));
        if (round % 10 == 9) assert_int_equal(faults_of(store), 0);
        if (committed > 40) {
            committed = 3;
            kit_ok(store_session_truncate(store, 1, committed, error));
        }
        store_close(&store);
    }
}

/* -------------------------------------------------------------------------------------------------- two at once */

static int work_beside(int who)
{
    struct store *store;
    struct error error;
    int64_t session;
    if (store_open(&store, dir, &error)) return 2;
    if (store_session_create(store, "beside", NULL, 0, &session, &error)) return 3;
    for (size_t i = 1; i <= 20; i++) {
        uint64_t freed;
        size_t lost;
        if (save_to(store, i * 700 + (size_t)who, session, 1, &error)) return 4;
        if (kit_load(store, ids, i * 700 + (size_t)who, ROWS, SNAP, &error)) return 5;
        if (i % 7 == 0 && store_evict(store, (uint64_t)1 << 40, &freed, &lost, &error)) return 6;
        if (i % 9 == 0 && store_gc(store, &freed, &error)) return 7;
    }
    store_close(&store);
    return 0;
}

static void test_several_at_once(void **state)
{
    (void)state;
    enum { N = 3 };
    struct store *store;
    fresh(&store, "several");
    store_close(&store);
    pid_t children[N];
    for (int i = 0; i < N; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (!children[i]) _exit(work_beside(i));
    }
    for (int i = 0; i < N; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    kit_ok(store_open(&store, dir, error));
    assert_int_equal(faults_of(store), 0);
    struct store_session_list list;
    kit_ok(store_session_list(store, &list, error));
    assert_int_equal(list.count, N);
    for (size_t i = 0; i < list.count; i++) assert_int_equal(list.items[i].n_turns, 20);
    store_session_list_free(&list);
    for (size_t i = 0; i < N; i++) kit_ok(kit_load(store, ids, 20 * 700 + i, ROWS, SNAP, error));
    store_close(&store);
}

/* A writer waits for another lectern's transaction. */
static void test_waits_for_the_lock(void **state)
{
    (void)state;
    struct store *store;
    fresh(&store, "waits");
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.4000s/lectern.lock", dir);
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        int fd = open(path, O_RDWR);
        bool ok = flock(fd, LOCK_EX) == 0 && write(ready[1], "x", 1) == 1;
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
        _exit(ok ? 0 : 1);
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    struct timespec before, later;
    int64_t id;
    clock_gettime(CLOCK_MONOTONIC, &before);
    struct store_session_list list;
    kit_ok(store_session_list(store, &list, error)); /* reading does not wait */
    store_session_list_free(&list);
    kit_ok(store_session_create(store, "s", NULL, 0, &id, error));
    clock_gettime(CLOCK_MONOTONIC, &later);
    long waited = (later.tv_sec - before.tv_sec) * 1000 + (later.tv_nsec - before.tv_nsec) / 1000000;
    assert_true(waited >= 100);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(ready[0]);
    close(ready[1]);
    store_close(&store);
}

/* ------------------------------------------------------------------------------------------------------ damage */

static void fill(struct store *store)
{
    int64_t session, document;
    struct store_document d = {.path = "/x", .text = "A text that was read.", .text_len = 21};
    kit_ok(store_document_put(store, &d, &document, error));
    kit_ok(store_session_create(store, "s", &document, 1, &session, error));
    for (size_t i = 1; i <= 4; i++) kit_ok(save_to(store, i * 1100, session, 2, error));
}

static void test_lost_rows(void **state)
{
    (void)state;
    struct store *store;
    fresh(&store, "lost");
    fill(store);
    store_close(&store);
    /* the fourth segment lies between the snapshots at 1100 and 2200 */
    raw("DELETE FROM part WHERE id / 1024 = (SELECT blob FROM segment ORDER BY id LIMIT 1 OFFSET 3)");
    kit_ok(store_open(&store, dir, error));
    assert_int_equal(faults_of(store), 1);
    assert_int_equal(find(store, 4400), 4400);
    kit_fails(kit_load(store, ids, 4400, ROWS, SNAP, error), ERROR_STATE, "missing");
    assert_int_equal(find(store, 4400), 1100); /* the next best */
    kit_ok(kit_load(store, ids, 1100, ROWS, SNAP, error));
    assert_int_equal(faults_of(store), 0);
    size_t have;
    kit_ok(store_rows_present(store, kit_model, ids, 4400, &have, error));
    assert_int_equal(have, 3);
    kit_ok(save_to(store, 2048, 1, 0, error)); /* read again as far as the hole ... */
    assert_int_equal(find(store, 4400), 4400); /* ... makes all that stands above good again */
    kit_ok(kit_load(store, ids, 4400, ROWS, SNAP, error));
    assert_int_equal(faults_of(store), 0);
    store_close(&store);
    raw("UPDATE part SET bytes = zeroblob(length(bytes)) WHERE id / 1024 ="
        " (SELECT blob FROM snapshot WHERE position = 4400)");
    kit_ok(store_open(&store, dir, error));
    kit_fails(kit_load(store, ids, 4400, ROWS, SNAP, error), ERROR_STATE, "checksum");
    assert_int_equal(find(store, 4400), 3300);
    kit_ok(kit_load(store, ids, 3300, ROWS, SNAP, error));
    store_close(&store);
    /* rows of one segment in the place of another, with their checksum: they know where they belong */
    raw("UPDATE segment SET blob = (SELECT blob FROM segment ORDER BY id LIMIT 1 OFFSET 1)"
        " WHERE id = (SELECT id FROM segment ORDER BY id LIMIT 1)");
    kit_ok(store_open(&store, dir, error));
    kit_fails(kit_load(store, ids, 3300, ROWS, SNAP, error), ERROR_STATE, "checksum");
    store_close(&store);
}

static uint8_t *file_read(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *size = (size_t)ftell(f);
    rewind(f);
    uint8_t *bytes = malloc(*size);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, f), *size);
    fclose(f);
    return bytes;
}

static void file_write(const char *path, const uint8_t *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

/* Damage of one kind: bits, a page of zeros, a page of noise, the end cut off. */
static size_t damage(uint8_t *bytes, size_t size, uint64_t *rng)
{
    size_t page = 32768, at = kit_below(rng, size / page) * page, kind = kit_below(rng, 8);
    for (size_t i = 0; i < (kind < 5 ? kind * kind + 1 : 0); i++)
        bytes[kit_below(rng, size)] ^= (uint8_t)(1u << kit_below(rng, 8));
    if (kind == 5) memset(bytes + at, 0, page);
    if (kind == 6)
        for (size_t i = 0; i < page; i++) bytes[at + i] = (uint8_t)kit_random(rng);
    return kind == 7 ? page * (1 + kit_below(rng, size / page - 1)) : size;
}

/* Whatever is found loads bit-exact or is refused; returns whether something was refused. */
static bool try_all(struct store *store)
{
    bool refused = false;
    for (size_t count = 4400; count;) {
        struct error error = {0};
        size_t position;
        if (store_find_prefix(store, kit_model, ids, count, &position, &error)) return true;
        if (!position) break;
        int rc = kit_load(store, ids, position, ROWS, SNAP, &error);
        if (strstr(error.text, "TEST: ")) fail_msg("wrong bytes were loaded: %s", error.text);
        refused |= rc != 0;
        if (rc && rc != ERROR_STATE) fail_msg("load: %d, %s", rc, error.text);
        count = position - 1;
    }
    struct store_turn_list turns;
    struct error error;
    if (store_turns(store, 1, &turns, &error)) return true;
    for (size_t i = 0; i < turns.count; i++) assert_string_equal(turns.items[i].text, i % 2 ? "" : "q");
    store_turn_list_free(&turns);
    return refused;
}

/* After a repair nothing is wrong and all that is found loads. */
static void after_repair(struct store *store)
{
    size_t dropped;
    kit_ok(store_repair(store, NULL, NULL, &dropped, error));
    size_t faults = faults_of(store);
    if (faults) fail_msg("%zu faults after a repair", faults);
    assert_false(try_all(store));
    kit_ok(save_to(store, 5000, 0, 0, error));
    kit_ok(kit_load(store, ids, 5000, ROWS, SNAP, error));
}

static void test_damage(void **state)
{
    (void)state;
    char path[PATH_MAX];
    struct store *store;
    size_t size, opened = 0, repaired = 0;
    fresh(&store, "damage");
    fill(store);
    store_close(&store);
    database(path, sizeof path);
    uint8_t *good = file_read(path, &size), *bad = malloc(size);
    assert_non_null(bad);
    for (uint64_t seed = 1; seed <= 300; seed++) {
        uint64_t rng = seed * 7919;
        struct error error = {0};
        memcpy(bad, good, size);
        size_t left = damage(bad, size, &rng);
        kit_remove(dir);
        assert_int_equal(mkdir(dir, 0700), 0);
        file_write(path, bad, left);
        if (store_open(&store, dir, &error)) {
            assert_true(strlen(error.text) > 20);
            continue;
        }
        opened++;
        bool checked = seed % 2;
        size_t faults = checked ? faults_of(store) : 0;
        bool refused = try_all(store);
        if (checked && refused && !faults) fail_msg("seed %d: refused, but the check found nothing", (int)seed);
        after_repair(store);
        repaired += refused || faults;
        store_close(&store);
    }
    assert_true(opened > 150);
    assert_true(repaired > 100);
    free(good);
    free(bad);
}

/* A bad leaf in the middle of a table loses its own rows and no others. */
static void test_repair_keeps_the_rest(void **state)
{
    (void)state;
    char path[PATH_MAX];
    struct store *store;
    fresh(&store, "keeps");
    for (int i = 0; i < 3000; i++) {
        int64_t id;
        kit_ok(
            store_session_create(store, "a session with quite a long name, so that pages fill", NULL, 0, &id, error));
    }
    fill(store);
    store_close(&store);
    size_t size, dropped, leaf = 0;
    database(path, sizeof path);
    uint8_t *bytes = file_read(path, &size);
    for (size_t at = 32768; at < size && !leaf; at += 32768) /* a leaf full of sessions, not the first or last */
        if (bytes[at] == 13 && bytes[at + 3] == 1 && memmem(bytes + at, 32768, "quite a long", 12)) leaf = at;
    assert_true(leaf != 0);
    memset(bytes + leaf, 0xff, 32768);
    file_write(path, bytes, size);
    free(bytes);
    kit_ok(store_open(&store, dir, error));
    assert_true(faults_of(store) > 0);
    kit_ok(store_repair(store, NULL, NULL, &dropped, error));
    assert_int_equal(faults_of(store), 0);
    struct store_session_list list;
    kit_ok(store_session_list(store, &list, error));
    assert_true(list.count > 2400 && list.count < 3001);
    store_session_list_free(&list);
    assert_int_equal(find(store, 4400), 4400);
    kit_ok(kit_load(store, ids, 4400, ROWS, SNAP, error));
    store_close(&store);
}

/* ------------------------------------------------------------------------------------------- what is refused */

static void test_versions(void **state)
{
    (void)state;
    struct store *store;
    fresh(&store, "versions");
    fill(store);
    store_close(&store);
    raw("PRAGMA user_version = 99");
    kit_fails(store_open(&store, dir, error), ERROR_FAILED, "newer lectern (version 99");
    assert_null(store);
    raw("PRAGMA user_version = 1; PRAGMA application_id = 7");
    kit_fails(store_open(&store, dir, error), ERROR_FAILED, "not a store of lectern");
    char path[PATH_MAX];
    database(path, sizeof path);
    file_write(path, (const uint8_t *)"This is a letter to my aunt, not a database of anything at all.", 64);
    kit_fails(store_open(&store, dir, error), ERROR_STATE, "damaged");
}

static void migrate(const struct store_migration *steps, size_t count, int version, enum error_code expected)
{
    char path[PATH_MAX];
    sqlite3 *db;
    database(path, sizeof path);
    kit_ok(store_connect(path, CONNECT_WRITER, &db, error));
    struct migration_plan plan = {steps, count, version};
    struct error error = {0};
    if (store_migrate(db, path, &plan, &error) != (int)expected) fail_msg("migration: %s", error.text);
    sqlite3_close(db);
}

static int64_t version_of(const char *path)
{
    sqlite3 *db;
    int64_t version;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    kit_ok(db_number(db, "PRAGMA user_version", DB_NONE, &version, error));
    sqlite3_close(db);
    return version;
}

static void test_migration(void **state)
{
    (void)state;
    static const struct store_migration steps[] = {
        {1, "ALTER TABLE session ADD COLUMN colour TEXT; UPDATE session SET colour = 'blue'"},
        {2, "CREATE TABLE shelf (id INTEGER PRIMARY KEY)"},
        {3, "CREATE TABLE shelf (id INTEGER PRIMARY KEY)"}, /* fails */
    };
    struct store *store;
    char path[PATH_MAX], backup[PATH_MAX];
    struct stat st;
    fresh(&store, "migration");
    fill(store);
    store_close(&store);
    database(path, sizeof path);
    snprintf(backup, sizeof backup, "%.4000s.v1.bak", path);
    migrate(steps, 3, 4, ERROR_FAILED);
    assert_int_equal(version_of(path), 1); /* all steps or none */
    kit_ok(store_open(&store, dir, error));
    assert_int_equal(find(store, 4400), 4400);
    store_close(&store);
    migrate(steps, 1, 3, ERROR_FAILED); /* no step leads there */
    migrate(steps, 2, 3, ERROR_NONE);
    assert_int_equal(version_of(path), 3);
    raw("INSERT INTO shelf VALUES (1); SELECT colour FROM session");
    kit_fails(store_open(&store, dir, error), ERROR_FAILED, "newer lectern (version 3");
    assert_int_equal(stat(backup, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(rename(backup, path), 0); /* the way back */
    kit_ok(store_open(&store, dir, error));
    kit_ok(kit_load(store, ids, 4400, ROWS, SNAP, error));
    assert_int_equal(faults_of(store), 0);
    store_close(&store);
}

/* In a child without root's rights, to whom modes apply. */
static int open_unprivileged(const char *words)
{
    struct store *store;
    struct error error;
    if (geteuid() == 0 && (setgid(65534) || setuid(65534))) return 2;
    int rc = store_open(&store, dir, &error);
    return rc == ERROR_DISK && strstr(error.text, words) ? 0 : 3;
}

static void test_readonly_folder(void **state)
{
    (void)state;
    struct store *store;
    fresh(&store, "readonly");
    store_close(&store);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.4000s/..", dir);
    assert_int_equal(chmod(path, 0755), 0); /* reachable */
    snprintf(path, sizeof path, "%.4000s/lectern.lock", dir);
    for (int existing = 0; existing < 2; existing++) {
        assert_int_equal(chmod(dir, 0555), 0);
        if (existing)
            assert_int_equal(chmod(path, 0444), 0);
        else
            kit_remove(path);
        int status;
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child) _exit(open_unprivileged("cannot be written: Permission denied"));
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        assert_int_equal(chmod(dir, 0755), 0);
        kit_ok(store_open(&store, dir, error)); /* root again: unharmed */
        store_close(&store);
    }
}

static void test_places_that_cannot_be(void **state)
{
    (void)state;
    struct store *store;
    kit_folder(dir, sizeof dir, "file");
    file_write(dir, (const uint8_t *)"x", 1);
    kit_fails(store_open(&store, dir, error), ERROR_DISK, "cannot be");
    strcat(dir, "/below");
    kit_fails(store_open(&store, dir, error), ERROR_DISK, "cannot be");
    kit_fails(store_open(&store, "", error), ERROR_USAGE, "empty");
    assert_string_equal(folder_network_name(0x6969), "NFS");
    assert_string_equal(folder_network_name((long)0xFF534D42), "SMB");
    assert_string_equal(folder_network_name((long)(int)0xFE534D42), "SMB");
    assert_string_equal(folder_network_name(0x01021997), "9p");
    assert_null(folder_network_name(0xEF53));     /* ext4 */
    assert_null(folder_network_name(0x01021994)); /* tmpfs */
}

int main(void)
{
    kit_ids(12, ids, sizeof ids / sizeof *ids);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill),
        cmocka_unit_test(test_several_at_once),
        cmocka_unit_test(test_waits_for_the_lock),
        cmocka_unit_test(test_lost_rows),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_repair_keeps_the_rest),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_migration),
        cmocka_unit_test(test_readonly_folder),
        cmocka_unit_test(test_places_that_cannot_be),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kit_cleanup();
    return failed;
}
