/* SPDX-License-Identifier: MIT
 *
 * store_check verifies everything that store_repair could mend; both walk the same list of checks. A check names its
 * faults one sentence each; when fixing, it drops the thing. Rows that are lost leave their segment as a hole, so that
 * what stands above it becomes usable again as soon as the hole's tokens have been read once more.
 */
#include "store/internal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void report_add(struct report *report, const char *format, ...)
{
    char sentence[480];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    report->count++;
    if (report->sentence) report->sentence(report->ctx, sentence);
}

/* ---------------------------------------------------------------------------------------------- the structure */

static int check_pages(sqlite3 *db, struct report *report, struct error *error)
{
    sqlite3_stmt *stmt;
    bool row = false;
    int rc = db_prepare(db, "PRAGMA integrity_check(100)", DB_NONE, &stmt, error);
    if (!rc) rc = db_step(stmt, &row, error);
    while (!rc && row) {
        const char *text = (const char *)sqlite3_column_text(stmt, 0);
        if (text && strcmp(text, "ok") != 0) report_add(report, "The database file is damaged: %s.", text);
        rc = db_step(stmt, &row, error);
    }
    sqlite3_finalize(stmt);
    if (rc == ERROR_STATE) { /* so damaged that the check itself stops */
        report_add(report, "The database file is damaged: %s.", sqlite3_errmsg(db));
        rc = 0;
    }
    return rc;
}

/* -------------------------------------------------------------------------------------- rows of one table each */

/* Deletes row id of a kind, with what depends on it. */
typedef int drop_function(sqlite3 *db, int64_t id, struct error *error);
/* ERROR_STATE: the row is bad. */
typedef int verify_function(sqlite3_stmt *row, struct error *error);

struct row_check {
    const char *what, *sql; /* the first column is the id */
    verify_function *verify;
    drop_function *drop;
};

static int verify_document(sqlite3_stmt *row, struct error *error)
{
    struct store_document d;
    int rc = document_verify(row, &d, error);
    if (!rc) store_document_free(&d);
    return rc;
}

/* The session keeps its states and turns; app notices that the document is gone and reads it again. */
static int drop_document(sqlite3 *db, int64_t id, struct error *error)
{
    int rc = db_run(db, "DELETE FROM session_document WHERE document = ?1", DB_VALUES(db_int(id)), error);
    return rc ? rc : db_run(db, "DELETE FROM document WHERE id = ?1", DB_VALUES(db_int(id)), error);
}

static int verify_turn(sqlite3_stmt *row, struct error *error)
{
    struct store_turn t;
    int rc = turn_verify(row, &t, error);
    if (!rc) turn_free(&t);
    return rc;
}

/* A conversation cannot be continued over a missing turn: the session ends before it, in every fork. */
static int drop_turn(sqlite3 *db, int64_t id, struct error *error)
{
    static const char *const steps[] = {
        "DELETE FROM session_state WHERE EXISTS (SELECT 1 FROM session_turn l WHERE l.turn = ?1"
        " AND l.session = session_state.session AND session_state.turns > l.ordinal)",
        "DELETE FROM session_turn WHERE EXISTS (SELECT 1 FROM session_turn l WHERE l.turn = ?1"
        " AND l.session = session_turn.session AND session_turn.ordinal > l.ordinal)",
        "DELETE FROM session_turn WHERE turn = ?1",
        "DELETE FROM turn WHERE id = ?1",
    };
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof steps / sizeof *steps; i++)
        rc = db_run(db, steps[i], DB_VALUES(db_int(id)), error);
    return rc;
}

/* A blob of known name: all its parts, with their checksums. */
static int read_whole(struct blob_reader *reader, const struct blob_place *from, struct error *error)
{
    size_t size = 0, there = 0;
    int64_t stored;
    int rc = blob_reader_size(reader, from, &size, error);
    if (!rc)
        rc = db_number(reader->db, "SELECT sum(length(bytes)) FROM part WHERE id >= ?1 AND id < ?2",
                       DB_VALUES(db_int(from->id * STORE_PARTS), db_int((from->id + 1) * STORE_PARTS)), &stored, error);
    if (rc) return rc;
    there = (size_t)stored; /* before size is believed and allocated */
    if (there != size) return error_set(error, ERROR_STATE, "%zu of its %zu bytes are there", there, size);
    void *bytes = store_alloc(size);
    if (!bytes) return store_no_memory(error);
    rc = blob_reader_read(reader, from, (struct store_blob){bytes, size}, error);
    free(bytes);
    return rc;
}

static int verify_blob(sqlite3 *db, int64_t blob, const struct blob_name *name, struct error *error)
{
    struct blob_place from = {blob, *name};
    struct blob_reader reader;
    int rc = blob_reader_open(&reader, db, error);
    if (!rc) rc = read_whole(&reader, &from, error);
    blob_reader_close(&reader);
    return rc;
}

static int verify_segment(sqlite3_stmt *row, struct error *error)
{
    struct blob_name name = {.kind = BLOB_ROWS};
    int rc = db_copy_fixed(row, 1, name.name, sizeof name.name, error);
    return rc ? rc : verify_blob(sqlite3_db_handle(row), sqlite3_column_int64(row, 2), &name, error);
}

static int drop_segment(sqlite3 *db, int64_t id, struct error *error)
{
    int64_t blob;
    int rc = db_number(db, "SELECT blob FROM segment WHERE id = ?1", DB_VALUES(db_int(id)), &blob, error);
    return rc ? rc : segment_lose(db, id, blob, error);
}

/* Columns: id, hash, tail, position, blob, tail_blob, hash of the segment. */
static int verify_snapshot(sqlite3_stmt *row, struct error *error)
{
    sqlite3 *db = sqlite3_db_handle(row);
    struct blob_name name = {.kind = BLOB_SNAPSHOT};
    uint8_t hash[STORE_KEY], node[STORE_KEY];
    int rc = db_copy_fixed(row, 1, hash, sizeof hash, error);
    int64_t position = sqlite3_column_int64(row, 3);
    const void *tail = sqlite3_column_blob(row, 2);
    size_t tail_size = (size_t)sqlite3_column_bytes(row, 2);
    if (!rc && (position < 1 || tail_size != (size_t)(position % STORE_SEGMENT) * 4))
        rc = error_set(error, ERROR_STATE, "its position does not fit its tail");
    if (!rc && position >= STORE_SEGMENT) rc = db_copy_fixed(row, 6, node, sizeof node, error);
    if (!rc && position >= STORE_SEGMENT && memcmp(hash, node, sizeof hash) != 0)
        rc = error_set(error, ERROR_STATE, "it stands on the wrong segment");
    if (!rc) rc = snapshot_name(hash, tail, tail_size, name.name, error);
    if (!rc) rc = verify_blob(db, sqlite3_column_int64(row, 4), &name, error);
    name.kind = BLOB_TAIL;
    if (!rc && tail_size) rc = verify_blob(db, sqlite3_column_int64(row, 5), &name, error);
    return rc;
}

static int drop_snapshot(sqlite3 *db, int64_t id, struct error *error)
{
    return snapshot_drop(db, id, NULL, error);
}

/* The rest: rows that point nowhere, and bytes that nothing points to. Every row found is bad. */
static int verify_nothing(sqlite3_stmt *row, struct error *error)
{
    (void)row;
    return error_set(error, ERROR_STATE, "it belongs to nothing");
}

static int drop_blob(sqlite3 *db, int64_t id, struct error *error)
{
    return blob_delete(db, id, NULL, error);
}

static int drop_part(sqlite3 *db, int64_t id, struct error *error)
{
    return db_run(db, "DELETE FROM part WHERE id = ?1", DB_VALUES(db_int(id)), error);
}

static int drop_state_link(sqlite3 *db, int64_t id, struct error *error)
{
    return db_run(db, "DELETE FROM session_state WHERE id = ?1", DB_VALUES(db_int(id)), error);
}

static int drop_document_link(sqlite3 *db, int64_t id, struct error *error)
{
    return db_run(db, "DELETE FROM session_document WHERE id = ?1", DB_VALUES(db_int(id)), error);
}

static int drop_turn_link(sqlite3 *db, int64_t id, struct error *error)
{
    static const char *const steps[] = {
        "DELETE FROM session_state WHERE EXISTS (SELECT 1 FROM session_turn l WHERE l.id = ?1"
        " AND l.session = session_state.session AND session_state.turns > l.ordinal)",
        "DELETE FROM session_turn WHERE id <> ?1 AND EXISTS (SELECT 1 FROM session_turn l WHERE l.id = ?1"
        " AND l.session = session_turn.session AND session_turn.ordinal > l.ordinal)",
        "DELETE FROM session_turn WHERE id = ?1",
    };
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof steps / sizeof *steps; i++)
        rc = db_run(db, steps[i], DB_VALUES(db_int(id)), error);
    return rc;
}

/* A segment whose parent is gone can never be part of a prefix again. */
static int drop_segment_tree(sqlite3 *db, int64_t id, struct error *error)
{
    static const char above[] = "WITH RECURSIVE above (id) AS (SELECT ?1 UNION SELECT g.id FROM above a"
                                " JOIN segment g ON g.parent = a.id)"
                                " SELECT s.id FROM snapshot s JOIN above a ON s.segment = a.id LIMIT 1";
    for (;;) {
        int64_t snapshot;
        int rc = db_number(db, above, DB_VALUES(db_int(id)), &snapshot, error);
        if (!rc && !snapshot) return segments_drop_orphans(db, NULL, error);
        if (!rc) rc = snapshot_drop(db, snapshot, NULL, error);
        if (rc) return rc;
    }
}

static const struct row_check checks[] = {
    {"Document", "SELECT " DOCUMENT_COLUMNS " FROM document", verify_document, drop_document},
    {"Turn", "SELECT " TURN_COLUMNS " FROM turn t", verify_turn, drop_turn},
    {"Segment", "SELECT id, hash, blob FROM segment WHERE blob IS NOT NULL", verify_segment, drop_segment},
    {"Segment (cut off)",
     "SELECT id FROM segment g WHERE parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM segment WHERE id = g.parent)",
     verify_nothing, drop_segment_tree},
    {"Snapshot",
     "SELECT s.id, s.hash, s.tail, s.position, s.blob, s.tail_blob, g.hash FROM snapshot s"
     " LEFT JOIN segment g ON g.id = s.segment",
     verify_snapshot, drop_snapshot},
    {"Document link",
     "SELECT id FROM session_document l WHERE NOT EXISTS (SELECT 1 FROM document WHERE id = l.document)"
     " OR NOT EXISTS (SELECT 1 FROM session WHERE id = l.session)",
     verify_nothing, drop_document_link},
    {"Turn link",
     "SELECT id FROM session_turn l WHERE NOT EXISTS (SELECT 1 FROM turn WHERE id = l.turn)"
     " OR NOT EXISTS (SELECT 1 FROM session WHERE id = l.session)",
     verify_nothing, drop_turn_link},
    {"State link",
     "SELECT id FROM session_state l WHERE NOT EXISTS (SELECT 1 FROM snapshot WHERE id = l.snapshot)"
     " OR NOT EXISTS (SELECT 1 FROM session WHERE id = l.session)",
     verify_nothing, drop_state_link},
    {"Blob",
     "SELECT id FROM blob b WHERE NOT EXISTS (SELECT 1 FROM segment WHERE blob = b.id)"
     " AND NOT EXISTS (SELECT 1 FROM snapshot WHERE blob = b.id OR tail_blob = b.id)",
     verify_nothing, drop_blob},
    {"Part", "SELECT id FROM part p WHERE NOT EXISTS (SELECT 1 FROM blob WHERE id = p.id / 1024)", verify_nothing,
     drop_part},
};

struct bad_rows {
    int64_t *ids;
    size_t count, capacity;
};

static int bad_push(struct bad_rows *bad, int64_t id, struct error *error)
{
    if (bad->count == bad->capacity) {
        size_t capacity = bad->capacity ? bad->capacity * 2 : 16;
        int64_t *ids = store_alloc(capacity * sizeof *ids);
        if (!ids) return store_no_memory(error);
        if (bad->count) memcpy(ids, bad->ids, bad->count * sizeof *ids);
        free(bad->ids);
        *bad = (struct bad_rows){ids, bad->count, capacity};
    }
    bad->ids[bad->count++] = id;
    return 0;
}

static int find_bad(sqlite3 *db, const struct row_check *check, struct report *report, struct bad_rows *bad,
                    struct error *error)
{
    sqlite3_stmt *stmt;
    bool row = false;
    int rc = db_prepare(db, check->sql, DB_NONE, &stmt, error);
    if (!rc) rc = db_step(stmt, &row, error);
    while (!rc && row) {
        struct error why;
        int64_t id = sqlite3_column_int64(stmt, 0);
        int verdict = check->verify(stmt, &why);
        if (verdict == ERROR_STATE) {
            report_add(report, "%s %lld: %s", check->what, (long long)id, why.text);
            rc = bad_push(bad, id, error);
        } else if (verdict) {
            rc = error_set(error, why.code, "%s", why.text);
        }
        if (!rc) rc = db_step(stmt, &row, error);
    }
    sqlite3_finalize(stmt);
    return rc;
}

static int run_check(sqlite3 *db, const struct row_check *check, struct report *report, struct error *error)
{
    struct bad_rows bad = {0};
    int rc = find_bad(db, check, report, &bad, error);
    for (size_t i = 0; !rc && report->fix && i < bad.count; i++) rc = check->drop(db, bad.ids[i], error);
    free(bad.ids);
    return rc;
}

static int run_checks(sqlite3 *db, struct report *report, struct error *error)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof checks / sizeof *checks; i++) rc = run_check(db, &checks[i], report, error);
    return rc;
}

/* -------------------------------------------------------------------------------------------------- public */

int store_check(struct store *store, void (*sentence)(void *ctx, const char *), void *ctx, size_t *faults,
                struct error *error)
{
    struct report report = {.sentence = sentence, .ctx = ctx};
    *faults = 0;
    int rc = read_begin(store, error);
    if (rc) return rc;
    rc = check_pages(store->reader, &report, error);
    size_t structural = report.count;
    if (!rc) rc = run_checks(store->reader, &report, error);
    if (rc == ERROR_STATE && structural) rc = 0; /* said already: a table cannot be walked to its end */
    read_end(store);
    *faults = report.count;
    return rc;
}

static int fix_rows(struct store *store, struct report *report, struct error *error)
{
    int rc = write_begin(store, error);
    if (rc) return rc;
    rc = db_run(store->writer, "PRAGMA defer_foreign_keys = ON", DB_NONE, error);
    if (!rc) rc = run_checks(store->writer, report, error);
    return write_end(store, rc, error);
}

int store_repair(struct store *store, void (*sentence)(void *ctx, const char *), void *ctx, size_t *dropped,
                 struct error *error)
{
    struct report report = {.sentence = sentence, .ctx = ctx, .fix = true};
    *dropped = 0;
    int rc = read_begin(store, error);
    if (rc) return rc;
    rc = check_pages(store->reader, &report, error);
    read_end(store);
    if (!rc && report.count) rc = store_salvage(store, &report, error);
    if (!rc) rc = fix_rows(store, &report, error);
    if (!rc) rc = store_shrink(store, error);
    *dropped = report.count;
    return rc;
}
