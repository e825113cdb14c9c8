/* SPDX-License-Identifier: MIT
 *
 * One flipped bit in each and every blob of a store, one at a time: in each segment's rows, each tail, each snapshot,
 * in the bytes or in their checksum. The check finds that one and no other; a load says what is lost, and the next best
 * state is there, bit-exact; a repair drops that one and keeps the rest.
 */
#include "store/internal.h"
#include "tests/faults/store_kit.h"

#include <limits.h>

enum { SAVES = 4, STEP = 1100, ROWS = 20000, SNAP = 50000, BLOBS_MOST = 64 };

static uint32_t ids[SAVES * STEP + 600];
static char dir[PATH_MAX];

static sqlite3 *database(void)
{
    char path[PATH_MAX];
    sqlite3 *db;
    snprintf(path, sizeof path, "%.4000s/lectern.db", dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    return db;
}

/* A session with four states; every one has a tail, and its own segments. */
static void fill(void)
{
    struct store *store;
    int64_t session;
    kit_folder(dir, sizeof dir, "flips");
    kit_ok(store_open(&store, dir, error));
    kit_ok(store_session_create(store, "s", NULL, 0, &session, error));
    for (size_t i = 1; i <= SAVES; i++) {
        struct store_turn turn = {.role = STORE_USER, .text = "q", .text_len = 1};
        struct kit_save k = {.ids = ids,
                             .count = i * STEP,
                             .first_segment = (i - 1) * STEP / STORE_SEGMENT,
                             .session = session,
                             .keep = true,
                             .turns = &turn,
                             .n_turns = 1,
                             .row_bytes = ROWS,
                             .snapshot_bytes = SNAP};
        kit_ok(kit_save(store, &k, error));
    }
    store_close(&store);
}

/* ------------------------------------------------------------------------------------------------- the blobs */

struct stored {
    int64_t part;
    bool is_rows;    /* of a full segment */
    size_t position; /* rows: the tokens before their end; else of the snapshot */
};

static size_t list_blobs(struct stored out[BLOBS_MOST])
{
    static const char sql[] = "SELECT blob * 1024, 1, row_number() OVER (ORDER BY id) * 512 FROM segment UNION ALL"
                              " SELECT blob * 1024, 0, position FROM snapshot UNION ALL"
                              " SELECT tail_blob * 1024, 0, position FROM snapshot";
    sqlite3 *db = database();
    sqlite3_stmt *stmt;
    size_t n = 0;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    for (; sqlite3_step(stmt) == SQLITE_ROW && n < BLOBS_MOST; n++)
        out[n] = (struct stored){sqlite3_column_int64(stmt, 0), sqlite3_column_int(stmt, 1) != 0,
                                 (size_t)sqlite3_column_int64(stmt, 2)};
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return n;
}

static bool is_needed(const struct stored *s, size_t position)
{
    return s->is_rows ? position >= s->position : position == s->position;
}

/* The best state at or below `position` that does without it. */
static size_t best_without(const struct stored *s, size_t position)
{
    size_t best = 0;
    for (size_t i = 1; i <= SAVES; i++)
        if (i * STEP <= position && !is_needed(s, i * STEP)) best = i * STEP;
    return best;
}

static void flip(const struct stored *s, const char *column, uint64_t *random)
{
    sqlite3 *db = database();
    sqlite3_blob *blob;
    uint8_t byte;
    assert_int_equal(sqlite3_blob_open(db, "main", "part", column, s->part, 1, &blob), SQLITE_OK);
    int at = (int)kit_below(random, (size_t)sqlite3_blob_bytes(blob));
    assert_int_equal(sqlite3_blob_read(blob, &byte, 1, at), SQLITE_OK);
    byte = (uint8_t)(byte ^ 1u << kit_below(random, 8));
    assert_int_equal(sqlite3_blob_write(blob, &byte, 1, at), SQLITE_OK);
    assert_int_equal(sqlite3_blob_close(blob), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* ------------------------------------------------------------------------------------------------ what is left */

struct told {
    size_t count;
    char sentence[512];
};

static void tell(void *ctx, const char *sentence)
{
    struct told *told = ctx;
    told->count++;
    snprintf(told->sentence, sizeof told->sentence, "%s", sentence);
}

static void expect_told(const struct told *told, const struct stored *s)
{
    assert_int_equal(told->count, 1);
    if (strncmp(told->sentence, s->is_rows ? "Segment " : "Snapshot ", 8) ||
        !strstr(told->sentence,
                "A stored state is damaged: part 0 has the wrong checksum; its tokens must be read again."))
        fail_msg("\"%s\"", told->sentence);
}

static size_t find(struct store *store, size_t count)
{
    size_t position;
    kit_ok(store_find_prefix(store, kit_model, ids, count, &position, error));
    return position;
}

/* Every state that does without it loads bit-exact; the others are not found. */
static void expect_rest(struct store *store, const struct stored *s)
{
    size_t faults, turns;
    for (size_t i = 1; i <= SAVES; i++) {
        size_t position = i * STEP;
        assert_int_equal(find(store, position), is_needed(s, position) ? best_without(s, position) : position);
        if (!is_needed(s, position)) kit_ok(kit_load(store, ids, position, ROWS, SNAP, error));
    }
    struct store_turn_list list;
    kit_ok(store_turns(store, 1, &list, error));
    turns = list.count;
    store_turn_list_free(&list);
    assert_int_equal(turns, SAVES);
    kit_ok(store_check(store, NULL, NULL, &faults, error));
    assert_int_equal(faults, 0);
}

/* What was lost is read again: then all that stood on it is good again. */
static void read_again(struct store *store)
{
    size_t have, faults;
    kit_ok(store_rows_present(store, kit_model, ids, SAVES * STEP, &have, error));
    struct kit_save k = {.ids = ids,
                         .count = SAVES * STEP,
                         .first_segment = have,
                         .session = 1,
                         .keep = true,
                         .row_bytes = ROWS,
                         .snapshot_bytes = SNAP};
    kit_ok(kit_save(store, &k, error));
    assert_int_equal(find(store, SAVES * STEP), SAVES * STEP);
    kit_ok(kit_load(store, ids, SAVES * STEP, ROWS, SNAP, error));
    kit_ok(store_check(store, NULL, NULL, &faults, error));
    assert_int_equal(faults, 0);
}

/* ------------------------------------------------------------------------------------------------------- tests */

static void flip_and_load(const struct stored *s, const char *column, uint64_t *random)
{
    struct store *store;
    struct told told = {0};
    size_t faults;
    fill();
    flip(s, column, random);
    kit_ok(store_open(&store, dir, error));
    kit_ok(store_check(store, tell, &told, &faults, error));
    expect_told(&told, s);
    size_t position = s->is_rows ? SAVES * STEP : s->position;
    kit_fails(kit_load(store, ids, position, ROWS, SNAP, error), ERROR_STATE,
              "A stored state is damaged: part 0 has the wrong checksum; its tokens must be read again.");
    expect_rest(store, s);
    read_again(store);
    store_close(&store);
}

static void flip_and_repair(const struct stored *s, const char *column, uint64_t *random)
{
    struct store *store;
    struct told told = {0};
    size_t dropped;
    fill();
    flip(s, column, random);
    kit_ok(store_open(&store, dir, error));
    kit_ok(store_repair(store, tell, &told, &dropped, error));
    assert_int_equal(dropped, 1);
    expect_told(&told, s);
    expect_rest(store, s);
    read_again(store);
    store_close(&store);
}

static void each_blob(void (*run)(const struct stored *, const char *, uint64_t *))
{
    struct stored blobs[BLOBS_MOST];
    uint64_t random = 99;
    fill();
    size_t n = list_blobs(blobs);
    assert_int_equal(n, SAVES * STEP / STORE_SEGMENT + 2 * SAVES);
    for (size_t i = 0; i < n; i++) {
        run(&blobs[i], "bytes", &random);
        run(&blobs[i], "sum", &random);
    }
}

static void a_load_drops_what_is_damaged(void **state)
{
    (void)state;
    each_blob(flip_and_load);
}

static void a_repair_drops_what_is_damaged(void **state)
{
    (void)state;
    each_blob(flip_and_repair);
}

int main(void)
{
    kit_ids(21, ids, sizeof ids / sizeof *ids);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_load_drops_what_is_damaged),
        cmocka_unit_test(a_repair_drops_what_is_damaged),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kit_cleanup();
    return failed;
}
