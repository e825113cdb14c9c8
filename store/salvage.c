/* SPDX-License-Identifier: MIT
 *
 * When the pages themselves are damaged: a new database is filled with every row that can still be read, mended by the
 * row checks, and copied over the damaged one by SQLite's backup, in one transaction: a crash leaves one or the other.
 * Rows are looked for by rowid alone, from both ends of a table and, between the first and the last failure, one by
 * one: a bad leaf loses its own rows and no others. Indexes are made anew.
 */
#include "store/internal.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#define MOST_PROBES 1000000

struct salvage {
    sqlite3 *from, *to;
    const char *table;
    int columns;
    sqlite3_stmt *insert;
    size_t copied;
};

static const char *const tables[] = {
    "document", "session", "session_document", "turn",     "session_turn",
    "blob",     "part",    "segment",          "snapshot", "session_state",
};

/* A row that violates a constraint of the new database was damaged: it is left out. */
static int copy_row(struct salvage *s, sqlite3_stmt *row, struct error *error)
{
    sqlite3_reset(s->insert);
    for (int i = 0; i < s->columns; i++)
        if (sqlite3_bind_value(s->insert, i + 1, sqlite3_column_value(row, i)) != SQLITE_OK)
            return db_fail(s->to, error);
    int code = sqlite3_step(s->insert);
    sqlite3_reset(s->insert);
    if (code == SQLITE_DONE) s->copied += (size_t)sqlite3_changes(s->to);
    return code == SQLITE_DONE || (code & 0xff) == SQLITE_CONSTRAINT ? 0 : db_fail(s->to, error);
}

/* Copies rows in rowid order until the end or a fault; *last gets the id of the last row seen. */
static int copy_run(struct salvage *s, bool forward, int64_t *last, bool *whole, struct error *error)
{
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT * FROM %s ORDER BY rowid %s", s->table, forward ? "ASC" : "DESC");
    sqlite3_stmt *stmt = NULL;
    int rc = 0, code = sqlite3_prepare_v2(s->from, sql, -1, &stmt, NULL);
    s->columns = stmt ? sqlite3_column_count(stmt) : 0;
    if (code == SQLITE_OK)
        while (!rc && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
            *last = sqlite3_column_int64(stmt, 0);
            rc = copy_row(s, stmt, error);
        }
    *whole = code == SQLITE_DONE;
    sqlite3_finalize(stmt);
    return rc;
}

/* The ids between the two runs, one by one. Of parts only those that a blob can have. */
static int copy_between(struct salvage *s, int64_t low, int64_t high, struct error *error)
{
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT * FROM %s WHERE rowid = ?1", s->table);
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(s->from, sql, -1, &stmt, NULL) != SQLITE_OK) return 0;
    int rc = 0;
    for (int64_t id = low + 1, probes = 0; !rc && id < high && probes < MOST_PROBES; probes++) {
        sqlite3_reset(stmt);
        sqlite3_bind_int64(stmt, 1, id);
        int code = sqlite3_step(stmt);
        if (code == SQLITE_ROW) rc = copy_row(s, stmt, error);
        bool next_blob = code == SQLITE_DONE && s->table[0] == 'p'; /* parts of a blob have no gaps */
        id = next_blob ? (id / STORE_PARTS + 1) * STORE_PARTS : id + 1;
    }
    sqlite3_finalize(stmt);
    return rc;
}

static int prepare_insert(struct salvage *s, struct error *error)
{
    int64_t columns;
    int rc =
        db_number(s->to, "SELECT count(*) FROM pragma_table_info(?1)", DB_VALUES(db_text(s->table)), &columns, error);
    if (rc) return rc;
    char sql[256];
    int n = snprintf(sql, sizeof sql, "INSERT OR IGNORE INTO %s VALUES (?1", s->table);
    for (int i = 2; i <= columns; i++) n += snprintf(sql + n, sizeof sql - (size_t)n, ", ?%d", i);
    snprintf(sql + n, sizeof sql - (size_t)n, ")");
    return db_prepare(s->to, sql, DB_NONE, &s->insert, error);
}

static int copy_table(struct salvage *s, struct report *report, struct error *error)
{
    int64_t low = 0, high = INT64_MAX;
    bool whole = false;
    int rc = prepare_insert(s, error);
    s->copied = 0;
    if (!rc) rc = copy_run(s, true, &low, &whole, error);
    if (!rc && !whole) {
        rc = copy_run(s, false, &high, &whole, error);
        if (!rc && high != INT64_MAX) rc = copy_between(s, low, high, error);
        if (!rc)
            report_add(report, "The table %s was damaged: %zu of its rows could be read and were kept.", s->table,
                       s->copied);
    }
    sqlite3_finalize(s->insert);
    s->insert = NULL;
    return rc;
}

static int copy_tables(struct salvage *s, struct report *report, struct error *error)
{
    int rc = db_run(s->to, "BEGIN IMMEDIATE", DB_NONE, error);
    for (size_t i = 0; !rc && i < sizeof tables / sizeof *tables; i++) {
        s->table = tables[i];
        rc = copy_table(s, report, error);
    }
    return rc ? rc : db_run(s->to, "COMMIT", DB_NONE, error);
}

/* The salvaged database, made beside the damaged one. It needs no log of its own: a crash only leaves the file over. */
static int make_new(const char *path, sqlite3 **out, struct error *error)
{
    unlink(path);
    int rc = folder_create_file(path, error);
    if (!rc && sqlite3_open_v2(path, out, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        rc = db_fail(*out, error);
    if (rc) return rc;
    sqlite3_extended_result_codes(*out, 1);
    rc = db_script(*out,
                   "PRAGMA page_size = 32768; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = OFF;"
                   "PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF;",
                   error);
    return rc ? rc : store_create(*out, error);
}

int store_salvage(struct store *store, struct report *report, struct error *error)
{
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s.salvage", store->path) >= sizeof path)
        return error_set(error, ERROR_USAGE, "The name of the store's folder is too long.");
    int rc = write_hold(store, error);
    if (rc) return rc;
    struct salvage s = {.from = store->writer};
    rc = make_new(path, &s.to, error);
    if (!rc) rc = copy_tables(&s, report, error);
    if (!rc) rc = store_backup(s.to, store->writer, error);
    sqlite3_close(s.to);
    unlink(path);
    write_release(store);
    return rc;
}
