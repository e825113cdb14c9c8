/* SPDX-License-Identifier: MIT
 *
 * Versions of the schema. A new database gets schema.sql; an older one is copied to lectern.db.vN.bak (N its version)
 * and brought forward step by step in one transaction; a newer one, or one that is not ours, is refused untouched.
 */
#include "store/internal.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

static int set_version(sqlite3 *db, int version, struct error *error)
{
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA user_version = %d", version);
    return db_run(db, sql, DB_NONE, error);
}

static int create_tables(sqlite3 *db, struct error *error)
{
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA application_id = %d", STORE_APPLICATION);
    int rc = db_script(db, (const char *)store_schema, error);
    if (!rc) rc = db_run(db, sql, DB_NONE, error);
    return rc ? rc : set_version(db, STORE_VERSION, error);
}

/* Ends the open transaction: commits when rc is 0, else rolls back. */
static int finish(sqlite3 *db, int rc, struct error *error)
{
    if (!rc) rc = db_run(db, "COMMIT", DB_NONE, error);
    if (!sqlite3_get_autocommit(db)) sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

int store_create(sqlite3 *db, struct error *error)
{
    int rc = db_run(db, "BEGIN IMMEDIATE", DB_NONE, error);
    return rc ? rc : finish(db, create_tables(db, error), error);
}

int store_backup(sqlite3 *from, sqlite3 *to, struct error *error)
{
    sqlite3_backup *backup = sqlite3_backup_init(to, "main", from, "main");
    if (!backup) return db_fail(to, error);
    int code = sqlite3_backup_step(backup, -1);
    sqlite3_backup_finish(backup); /* leaves its error in `to` */
    return code == SQLITE_DONE ? 0 : db_fail(to, error);
}

static int backup_file(sqlite3 *db, const char *path, int version, struct error *error)
{
    char name[PATH_MAX], part[PATH_MAX];
    int length = snprintf(name, sizeof name, "%s.v%d.bak", path, version);
    if (length < 0 || (size_t)length + sizeof ".part" > sizeof part)
        return error_set(error, ERROR_USAGE, "The name of the store's folder is too long.");
    snprintf(part, sizeof part, "%.*s.part", length, name);
    unlink(part);
    sqlite3 *copy = NULL;
    int rc = folder_create_file(part, error);
    if (!rc && sqlite3_open_v2(part, &copy, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK) rc = db_fail(copy, error);
    if (!rc) rc = store_backup(db, copy, error);
    sqlite3_close(copy);
    if (!rc && rename(part, name))
        rc = error_set(error, ERROR_DISK, "The backup %s cannot be written: the store was not migrated.", name);
    if (rc) unlink(part);
    return rc;
}

/* Tables and indexes must be those of schema.sql, letter for letter: neither damaged nor somebody's own triggers. */
int store_verify_schema(sqlite3 *db, const char *path, struct error *error)
{
    const char *schema = (const char *)store_schema;
    sqlite3_stmt *stmt;
    bool row = false, ours = true;
    int objects = 0, expected = 0;
    for (const char *at = schema; (at = strstr(at, "\nCREATE ")); at++) expected++;
    int rc = db_prepare(db, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL", DB_NONE, &stmt, error);
    if (!rc) rc = db_step(stmt, &row, error);
    for (; !rc && row; objects++) {
        const char *sql = (const char *)sqlite3_column_text(stmt, 0);
        ours = ours && sql && strstr(schema, sql);
        rc = sql ? db_step(stmt, &row, error) : store_no_memory(error);
    }
    sqlite3_finalize(stmt);
    if (rc || (ours && objects == expected)) return rc;
    return error_set(error, ERROR_STATE, "The tables of the store %s are damaged: move it away, and it is made anew.",
                     path);
}

static int run_steps(sqlite3 *db, int version, const struct migration_plan *plan, struct error *error)
{
    int rc = db_run(db, "BEGIN IMMEDIATE", DB_NONE, error);
    if (rc) return rc;
    for (size_t i = 0; !rc && i < plan->count; i++) {
        if (plan->steps[i].from != version) continue;
        rc = db_script(db, plan->steps[i].sql, error);
        version++;
    }
    if (!rc && version != plan->version)
        rc = error_set(error, ERROR_FAILED, "The store's version %d cannot be brought to version %d.", version,
                       plan->version);
    if (!rc) rc = set_version(db, version, error);
    return finish(db, rc, error);
}

int store_migrate(sqlite3 *db, const char *path, const struct migration_plan *plan, struct error *error)
{
    int64_t version, application, tables;
    int rc = db_number(db, "PRAGMA user_version", DB_NONE, &version, error);
    if (!rc) rc = db_number(db, "PRAGMA application_id", DB_NONE, &application, error);
    if (!rc) rc = db_number(db, "SELECT count(*) FROM sqlite_schema", DB_NONE, &tables, error);
    if (rc) return rc;
    if (version == 0 && application == 0 && tables == 0) return store_create(db, error);
    if (application != STORE_APPLICATION || version < 1)
        return error_set(error, ERROR_FAILED, "%s is not a store of lectern: move it away or choose another folder.",
                         path);
    if (version > plan->version)
        return error_set(
            error, ERROR_FAILED,
            "The store %s was written by a newer lectern (version %d; this one knows %d): upgrade lectern.", path,
            (int)version, plan->version);
    if (version == plan->version) return 0;
    rc = backup_file(db, path, (int)version, error);
    return rc ? rc : run_steps(db, (int)version, plan, error);
}
