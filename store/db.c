/* SPDX-License-Identifier: MIT
 *
 * Statements and errors: the thin layer between SQL and the rest of the store.
 */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

bool (*store_alloc_allowed)(size_t size);

void *store_alloc(size_t size)
{
    if (store_alloc_allowed && !store_alloc_allowed(size)) return NULL;
    return calloc(1, size ? size : 1);
}

char *store_strdup(const char *text)
{
    if (!text) return NULL;
    size_t size = strlen(text) + 1;
    char *copy = store_alloc(size);
    if (copy) memcpy(copy, text, size);
    return copy;
}

int store_no_memory(struct error *error)
{
    return error_set(error, ERROR_FAILED, "Out of memory in the store.");
}

struct db_value db_int(int64_t number)
{
    return (struct db_value){.kind = DB_INT, .number = number};
}

struct db_value db_id(int64_t id)
{
    return (struct db_value){.kind = id ? DB_INT : DB_NULL, .number = id};
}

struct db_value db_text(const char *text)
{
    if (!text) return (struct db_value){.kind = DB_NULL};
    return (struct db_value){.kind = DB_TEXT, .data = text, .size = strlen(text)};
}

struct db_value db_bytes(const void *data, size_t size)
{
    return (struct db_value){.kind = DB_BLOB, .data = data ? data : "", .size = data ? size : 0};
}

struct db_value db_bytes_or_null(const void *data, size_t size)
{
    return data ? db_bytes(data, size) : (struct db_value){.kind = DB_NULL};
}

static int fail_disk(int code, sqlite3 *db, struct error *error)
{
    switch (code) {
    case SQLITE_FULL:
        return error_set(error, ERROR_DISK,
                         "The disk is full: the store could not be written and is as it was before.");
    case SQLITE_READONLY:
        return error_set(error, ERROR_DISK, "The store cannot be written: its file or folder is read-only.");
    case SQLITE_CANTOPEN:
        return error_set(error, ERROR_DISK, "The store's database cannot be opened: %s.", sqlite3_errmsg(db));
    default:
        return error_set(error, ERROR_DISK, "The disk failed while the store was written: %s (%d).", sqlite3_errmsg(db),
                         sqlite3_extended_errcode(db));
    }
}

int db_fail(sqlite3 *db, struct error *error)
{
    if (!db) return store_no_memory(error);
    int code = sqlite3_errcode(db) & 0xff, extended = sqlite3_extended_errcode(db);
    switch (code) {
    case SQLITE_NOMEM:
        return store_no_memory(error);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return error_set(error, ERROR_STATE, "The store is damaged (%s): `lectern sessions repair` keeps what is good.",
                         sqlite3_errmsg(db));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(error, ERROR_FAILED, "Another program keeps the store locked: try again when it is done.");
    case SQLITE_IOERR:
        if (extended == SQLITE_IOERR_NOMEM) return store_no_memory(error);
        if (extended == SQLITE_IOERR_READ || extended == SQLITE_IOERR_SHORT_READ)
            return error_set(error, ERROR_STATE, "The disk failed while the store was read.");
        return fail_disk(code, db, error);
    case SQLITE_FULL:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
        return fail_disk(code, db, error);
    default:
        return error_set(error, ERROR_FAILED, "The store failed: %s (%d).", sqlite3_errmsg(db), extended);
    }
}

static int bind_one(sqlite3_stmt *stmt, int index, const struct db_value *v)
{
    switch (v->kind) {
    case DB_INT:
        return sqlite3_bind_int64(stmt, index, v->number);
    case DB_TEXT:
        return sqlite3_bind_text64(stmt, index, v->data, v->size, SQLITE_STATIC, SQLITE_UTF8);
    case DB_BLOB:
        return sqlite3_bind_blob64(stmt, index, v->data, v->size, SQLITE_STATIC);
    default:
        return sqlite3_bind_null(stmt, index);
    }
}

int db_bind(sqlite3_stmt *stmt, struct db_values values, struct error *error)
{
    sqlite3_reset(stmt);
    for (size_t i = 0; i < values.count; i++)
        if (bind_one(stmt, (int)i + 1, &values.items[i]) != SQLITE_OK) return db_fail(sqlite3_db_handle(stmt), error);
    return 0;
}

int db_prepare(sqlite3 *db, const char *sql, struct db_values values, sqlite3_stmt **out, struct error *error)
{
    *out = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, out, NULL) != SQLITE_OK) return db_fail(db, error);
    int rc = db_bind(*out, values, error);
    if (rc) {
        sqlite3_finalize(*out);
        *out = NULL;
    }
    return rc;
}

int db_step(sqlite3_stmt *stmt, bool *row, struct error *error)
{
    int code = sqlite3_step(stmt);
    *row = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE ? 0 : db_fail(sqlite3_db_handle(stmt), error);
}

int db_run(sqlite3 *db, const char *sql, struct db_values values, struct error *error)
{
    sqlite3_stmt *stmt;
    int rc = db_prepare(db, sql, values, &stmt, error);
    if (rc) return rc;
    bool row = true;
    while (!rc && row) rc = db_step(stmt, &row, error);
    sqlite3_finalize(stmt);
    return rc;
}

int db_number(sqlite3 *db, const char *sql, struct db_values values, int64_t *out, struct error *error)
{
    *out = 0;
    sqlite3_stmt *stmt;
    int rc = db_prepare(db, sql, values, &stmt, error);
    if (rc) return rc;
    bool row;
    rc = db_step(stmt, &row, error);
    if (!rc && row) *out = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return rc;
}

int db_script(sqlite3 *db, const char *sql, struct error *error)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_fail(db, error);
}

int db_copy(sqlite3_stmt *stmt, int column, void **out, size_t *size, struct error *error)
{
    *out = NULL;
    if (size) *size = 0;
    if (sqlite3_column_type(stmt, column) == SQLITE_NULL) return 0;
    const void *data = sqlite3_column_blob(stmt, column);
    size_t n = (size_t)sqlite3_column_bytes(stmt, column);
    if (!data && n) return store_no_memory(error);
    unsigned char *copy = store_alloc(n + 1);
    if (!copy) return store_no_memory(error);
    if (n) memcpy(copy, data, n);
    *out = copy;
    if (size) *size = n;
    return 0;
}

int db_copy_text(sqlite3_stmt *stmt, int column, char **out, size_t *size, struct error *error)
{
    void *copy;
    int rc = db_copy(stmt, column, &copy, size, error);
    *out = copy;
    return rc;
}

int db_copy_fixed(sqlite3_stmt *stmt, int column, void *out, size_t size, struct error *error)
{
    const void *data = sqlite3_column_blob(stmt, column);
    if (!data || (size_t)sqlite3_column_bytes(stmt, column) != size)
        return error_set(error, ERROR_STATE, "A row of the store is damaged: `lectern sessions repair` drops it.");
    memcpy(out, data, size);
    return 0;
}
