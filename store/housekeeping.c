/* SPDX-License-Identifier: MIT
 *
 * Sizes, eviction, garbage collection.
 *
 * Eviction goes through the snapshots in this order until the states fit: (0) of no session; (1) checkpoints on the
 * way; (2) a session's turns before its last state; (3) the last state of a session. Inside a class the least recently
 * used goes first, and of equals the deepest: it is the leaf that frees rows. A snapshot takes along the segments that
 * nothing stands on any more. A session in use, here or in another process (lease.c), keeps all of its.
 *
 * Dropping is quick (a gigabyte in 0.05 s) and leaves free pages, which the next saves fill. Giving them back to the
 * file system takes 1 to 4 s for a gigabyte: only store_gc and store_repair do it.
 */
#include "store/internal.h"

#include <stdlib.h>

int store_usage(struct store *store, struct store_usage *out, struct error *error)
{
    *out = (struct store_usage){0};
    int rc = read_begin(store, error);
    if (rc) return rc;
    const struct {
        const char *sql;
        uint64_t *into;
    } sums[] = {
        {"SELECT (SELECT page_count FROM pragma_page_count()) * (SELECT page_size FROM pragma_page_size())",
         &out->file_bytes},
        {"SELECT sum(size) FROM blob WHERE kind IN (0, 1)", &out->rows_bytes},
        {"SELECT sum(size) FROM blob WHERE kind = 2", &out->snapshot_bytes},
        {"SELECT sum(length(text) + coalesce(length(places), 0)) FROM document", &out->document_bytes},
        {"SELECT count(*) FROM segment WHERE blob IS NOT NULL", &out->n_segments},
        {"SELECT count(*) FROM snapshot", &out->n_snapshots},
        {"SELECT count(*) FROM document", &out->n_documents},
        {"SELECT count(*) FROM session", &out->n_sessions},
    };
    for (size_t i = 0; !rc && i < sizeof sums / sizeof *sums; i++) {
        int64_t number;
        rc = db_number(store->reader, sums[i].sql, DB_NONE, &number, error);
        *sums[i].into = (uint64_t)number;
    }
    read_end(store);
    return rc;
}

/* ------------------------------------------------------------------------------------------------- eviction */

struct victim {
    int64_t snapshot;
    int rank;
};

#define VICTIMS                                                                                                        \
    "SELECT s.id, CASE"                                                                                                \
    " WHEN NOT EXISTS (SELECT 1 FROM session_state WHERE snapshot = s.id) THEN 0"                                      \
    " WHEN EXISTS (SELECT 1 FROM session_state l WHERE l.snapshot = s.id AND NOT EXISTS ("                             \
    "   SELECT 1 FROM session_state o JOIN snapshot t ON t.id = o.snapshot WHERE o.session = l.session"                \
    "   AND (t.position > s.position OR (t.position = s.position AND t.id > s.id)))) THEN 3"                           \
    " WHEN s.keep = 0 THEN 1 ELSE 2 END AS rank"                                                                       \
    " FROM snapshot s ORDER BY rank, s.used, s.position DESC, s.id"

static int list_victims(sqlite3 *db, struct victim **out, size_t *count, struct error *error)
{
    int64_t most;
    *count = 0;
    *out = NULL;
    int rc = db_number(db, "SELECT count(*) FROM snapshot", DB_NONE, &most, error);
    if (rc) return rc;
    struct victim *list = *out = store_alloc((size_t)most * sizeof *list);
    if (!list) return store_no_memory(error);
    sqlite3_stmt *stmt;
    bool row = false;
    rc = db_prepare(db, VICTIMS, DB_NONE, &stmt, error);
    if (!rc) rc = db_step(stmt, &row, error);
    while (!rc && row && *count < (size_t)most) {
        list[(*count)++] = (struct victim){sqlite3_column_int64(stmt, 0), sqlite3_column_int(stmt, 1)};
        rc = db_step(stmt, &row, error);
    }
    sqlite3_finalize(stmt);
    return rc;
}

/* Drops one snapshot and counts the sessions that have no other. */
static int evict_one(sqlite3 *db, int64_t snapshot, uint64_t *freed, size_t *lost, struct error *error)
{
    int64_t alone;
    int rc = db_number(db,
                       "SELECT count(*) FROM session_state l WHERE l.snapshot = ?1 AND NOT EXISTS"
                       " (SELECT 1 FROM session_state o WHERE o.session = l.session AND o.snapshot <> ?1)",
                       DB_VALUES(db_int(snapshot)), &alone, error);
    if (rc) return rc;
    *lost += (size_t)alone;
    return snapshot_drop(db, snapshot, freed, error);
}

/* Whether a session in use has the snapshot. by_snapshot: its sessions. */
static int is_in_use(const struct store *store, sqlite3_stmt *by_snapshot, int64_t snapshot, bool *yes,
                     struct error *error)
{
    bool row = false;
    *yes = false;
    int rc = db_bind(by_snapshot, DB_VALUES(db_int(snapshot)), error);
    if (!rc) rc = db_step(by_snapshot, &row, error);
    while (!rc && row && !*yes) {
        *yes = lease_is_held(store, sqlite3_column_int64(by_snapshot, 0));
        rc = db_step(by_snapshot, &row, error);
    }
    sqlite3_reset(by_snapshot);
    return rc;
}

static int evict(struct store *store, uint64_t most, uint64_t *freed, size_t *lost, struct error *error)
{
    sqlite3 *db = store->writer;
    sqlite3_stmt *by_snapshot = NULL;
    int64_t total;
    int rc = db_number(db, "SELECT sum(size) FROM blob", DB_NONE, &total, error);
    if (rc || (uint64_t)total <= most) return rc;
    rc = segments_drop_orphans(db, freed, error);
    struct victim *victims = NULL;
    size_t count = 0;
    if (!rc) rc = list_victims(db, &victims, &count, error);
    if (!rc) rc = db_prepare(db, "SELECT session FROM session_state WHERE snapshot = ?1", DB_NONE, &by_snapshot, error);
    for (size_t i = 0; !rc && i < count && (uint64_t)total - *freed > most; i++) {
        bool in_use;
        rc = is_in_use(store, by_snapshot, victims[i].snapshot, &in_use, error);
        if (!rc && !in_use) rc = evict_one(db, victims[i].snapshot, freed, lost, error);
    }
    sqlite3_finalize(by_snapshot);
    free(victims);
    return rc;
}

int store_evict(struct store *store, uint64_t most, uint64_t *freed, size_t *lost, struct error *error)
{
    *freed = 0;
    *lost = 0;
    int rc = write_begin(store, error);
    return rc ? rc : write_end(store, evict(store, most, freed, lost, error), error);
}

/* ---------------------------------------------------------------------------------------------- collection */

int store_shrink(struct store *store, struct error *error)
{
    int rc = write_hold(store, error);
    if (rc) return rc;
    rc = db_run(store->writer, "PRAGMA incremental_vacuum", DB_NONE, error);
    /* A reader at work keeps the log from being emptied; the next checkpoint does it. */
    sqlite3_wal_checkpoint_v2(store->writer, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    write_release(store);
    return rc;
}

static int collect(sqlite3 *db, uint64_t *freed, struct error *error)
{
    for (;;) {
        int64_t unreached;
        int rc = db_number(db,
                           "SELECT id FROM snapshot s WHERE NOT EXISTS"
                           " (SELECT 1 FROM session_state WHERE snapshot = s.id) LIMIT 1",
                           DB_NONE, &unreached, error);
        if (!rc && !unreached) rc = segments_drop_orphans(db, freed, error);
        if (!rc && !unreached) rc = session_drop_orphans(db, error);
        if (rc || !unreached) return rc;
        rc = snapshot_drop(db, unreached, freed, error);
        if (rc) return rc;
    }
}

int store_gc(struct store *store, uint64_t *freed, struct error *error)
{
    *freed = 0;
    int rc = write_begin(store, error);
    if (!rc) rc = write_end(store, collect(store->writer, freed, error), error);
    return rc ? rc : store_shrink(store, error);
}
