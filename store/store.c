/* SPDX-License-Identifier: MIT
 *
 * Opening, connections and transactions.
 *
 * One process has two connections: the writer, and a reader that never writes (query_only) and so never waits for the
 * big transactions of a save; store_load opens one more reader for its time.
 *
 * Two lecterns on one store. SQLite before 3.51.3 (Debian 12 has 3.40.1) may corrupt a database when two connections
 * write or checkpoint in WAL mode at the same instant. So here nobody writes, checkpoints, creates, recovers at opening
 * or closes the last connection without holding an exclusive flock on DIR/lectern.lock (write_begin ... write_end):
 * over all processes there is one writer at a time, whatever the SQLite. Readers take no lock. The kernel drops the
 * lock when a process dies. A lectern that waits longer than 30 s says so.
 *
 * The write-ahead log holds what was committed since the last checkpoint; the writer checkpoints inside its commit when
 * the log exceeds 16 MiB, so that the log is started anew by the next transaction and is about as long as the biggest
 * single save. A checkpoint that fails (disk full) loses nothing: the log keeps the pages for the next one.
 */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BUSY_MS 10000

static const struct migration_plan released = {.steps = NULL, .count = 0, .version = STORE_VERSION};

int64_t store_now(void)
{
    return (int64_t)time(NULL);
}

int64_t store_now_micros(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

double store_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --------------------------------------------------------------------------------------------- connections */

static int configure(sqlite3 *db, enum connect_kind kind, struct error *error)
{
    static const char shared[] = "PRAGMA foreign_keys = ON; PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;"
                                 "PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;";
    /* These take effect on a new file only; auto_vacuum would be written to an old one, with all that waits for it. */
    static const char fresh[] = "PRAGMA page_size = 32768; PRAGMA auto_vacuum = INCREMENTAL;";
    static const char writer[] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = FAST;"
                                 "PRAGMA wal_autocheckpoint = 512; PRAGMA journal_size_limit = 67108864;"
                                 "PRAGMA cache_size = -8192;";
    static const char reader[] = "PRAGMA query_only = ON; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -1024;";
    sqlite3_busy_timeout(db, BUSY_MS);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (kind == CONNECT_READER) sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    int64_t pages = 1;
    int rc = db_script(db, shared, error);
    if (!rc && kind == CONNECT_WRITER) rc = db_number(db, "PRAGMA page_count", DB_NONE, &pages, error);
    if (!rc && !pages) rc = db_script(db, fresh, error);
    return rc ? rc : db_script(db, kind == CONNECT_WRITER ? writer : reader, error);
}

int store_connect(const char *path, enum connect_kind kind, sqlite3 **out, struct error *error)
{
    sqlite3 *db = NULL;
    int rc = 0;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
        rc = db_fail(db, error);
    } else {
        sqlite3_extended_result_codes(db, 1);
        rc = configure(db, kind, error);
    }
    if (rc) {
        sqlite3_close(db);
        db = NULL;
    }
    *out = db;
    return rc;
}

static int require_wal(sqlite3 *db, struct error *error)
{
    sqlite3_stmt *stmt;
    int rc = db_prepare(db, "PRAGMA journal_mode", DB_NONE, &stmt, error);
    if (rc) return rc;
    bool row = false;
    rc = db_step(stmt, &row, error);
    const char *mode = row ? (const char *)sqlite3_column_text(stmt, 0) : "";
    if (!rc && !mode) rc = store_no_memory(error);
    bool is_wal = mode && strcmp(mode, "wal") == 0;
    sqlite3_finalize(stmt);
    if (rc || is_wal) return rc;
    return error_set(error, ERROR_DISK, "The store's folder does not allow a write-ahead log: choose a local folder.");
}

/* Under the lock file: creates or migrates, then leaves both connections open. Nothing is written to a store that is as
 * it should be. */
static int open_database(struct store *store, struct error *error)
{
    int64_t tables = 0;
    int rc = folder_create_file(store->path, error);
    if (!rc) rc = store_connect(store->path, CONNECT_WRITER, &store->writer, error);
    if (!rc) rc = require_wal(store->writer, error);
    if (!rc) rc = db_number(store->writer, "SELECT count(*) FROM sqlite_schema", DB_NONE, &tables, error);
    if (!rc) rc = store_migrate(store->writer, store->path, &released, error);
    if (!rc) rc = store_verify_schema(store->writer, store->path, error);
    if (!rc && !tables) rc = folder_sync(store->dir, error);
    if (!rc) rc = store_connect(store->path, CONNECT_READER, &store->reader, error);
    return rc;
}

static int open_locked(struct store *store, struct error *error)
{
    int rc = folder_lock(store->lock_fd, error);
    if (rc) return rc;
    rc = open_database(store, error);
    if (rc) { /* closing may checkpoint: still under the lock */
        sqlite3_close(store->reader);
        sqlite3_close(store->writer);
        store->reader = store->writer = NULL;
    }
    folder_unlock(store->lock_fd);
    return rc;
}

static void store_free(struct store *store)
{
    if (store->lock_fd >= 0) folder_close(store->lock_fd);
    if (store->lease_fd >= 0) folder_close(store->lease_fd);
    pthread_mutex_destroy(&store->write_mutex);
    pthread_mutex_destroy(&store->read_mutex);
    free(store->path);
    free(store->dir);
    free(store);
}

int store_open(struct store **out, const char *dir, struct error *error)
{
    *out = NULL;
    struct store *store = store_alloc(sizeof *store);
    if (!store) return store_no_memory(error);
    store->lock_fd = store->lease_fd = -1;
    pthread_mutex_init(&store->write_mutex, NULL);
    pthread_mutex_init(&store->read_mutex, NULL);
    store->dir = store_strdup(dir);
    size_t size = strlen(dir) + sizeof "/lectern.db";
    store->path = store_alloc(size);
    int rc = store->dir && store->path ? 0 : store_no_memory(error);
    if (!rc) {
        snprintf(store->path, size, "%s/lectern.db", dir);
        rc = folder_open(dir, &store->lock_fd, error);
    }
    if (!rc) rc = lease_open(dir, &store->lease_fd, error);
    if (!rc) rc = open_locked(store, error);
    if (!rc) rc = queue_start(store, error);
    if (rc) {
        if (store->writer)
            store_close(&store);
        else
            store_free(store);
        return rc;
    }
    *out = store;
    return 0;
}

void store_close(struct store **pointer)
{
    struct store *store = *pointer;
    if (!store) return;
    queue_stop(store);
    sqlite3_close(store->reader);
    /* Without the lock the last connection must not checkpoint: the log then stays for the next opening. */
    struct error ignored;
    bool locked = folder_lock(store->lock_fd, &ignored) == 0;
    if (!locked) sqlite3_db_config(store->writer, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(store->writer);
    if (locked) folder_unlock(store->lock_fd);
    store_free(store);
    *pointer = NULL;
}

/* --------------------------------------------------------------------------------------------- transactions */

int write_hold(struct store *store, struct error *error)
{
    pthread_mutex_lock(&store->write_mutex);
    int rc = folder_lock(store->lock_fd, error);
    if (rc) pthread_mutex_unlock(&store->write_mutex);
    return rc;
}

void write_release(struct store *store)
{
    folder_unlock(store->lock_fd);
    pthread_mutex_unlock(&store->write_mutex);
}

int write_begin(struct store *store, struct error *error)
{
    int rc = write_hold(store, error);
    if (rc) return rc;
    rc = db_run(store->writer, "BEGIN IMMEDIATE", DB_NONE, error);
    if (rc) write_release(store);
    return rc;
}

int write_end(struct store *store, int rc, struct error *error)
{
    if (!rc) rc = db_run(store->writer, "COMMIT", DB_NONE, error);
    if (!sqlite3_get_autocommit(store->writer)) sqlite3_exec(store->writer, "ROLLBACK", NULL, NULL, NULL);
    write_release(store);
    return rc;
}

int read_begin(struct store *store, struct error *error)
{
    pthread_mutex_lock(&store->read_mutex);
    int rc = db_run(store->reader, "BEGIN", DB_NONE, error);
    if (rc) pthread_mutex_unlock(&store->read_mutex);
    return rc;
}

void read_end(struct store *store)
{
    if (!sqlite3_get_autocommit(store->reader)) sqlite3_exec(store->reader, "ROLLBACK", NULL, NULL, NULL);
    pthread_mutex_unlock(&store->read_mutex);
}
