/* SPDX-License-Identifier: MIT
 *
 * The prefix tree: chain hashes, finding the longest stored prefix, dropping nodes nothing stands on. schema.sql
 * describes the tables. Saving is in save.c, loading in load.c.
 */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

#define SEGMENT_BYTES (STORE_SEGMENT * 4)

/* --------------------------------------------------------------------------------------------------- chain */

static void ids_to_bytes(const uint32_t *ids, size_t count, uint8_t *out)
{
    for (size_t i = 0; i < count; i++)
        for (int b = 0; b < 4; b++) out[4 * i + (size_t)b] = (uint8_t)(ids[i] >> (8 * b));
}

int store_chain(const uint8_t model[STORE_KEY], const uint32_t *ids, size_t count, uint8_t (*chain)[STORE_KEY],
                struct error *error)
{
    static const char domain[] = "lectern-chain-1";
    uint8_t bytes[STORE_KEY + SEGMENT_BYTES];
    memcpy(bytes, domain, sizeof domain - 1);
    memcpy(bytes + sizeof domain - 1, model, STORE_KEY);
    int rc = digest_bytes(bytes, sizeof domain - 1 + STORE_KEY, chain[0], error);
    for (size_t i = 0; !rc && i < count / STORE_SEGMENT; i++) {
        memcpy(bytes, chain[i], STORE_KEY);
        ids_to_bytes(ids + i * STORE_SEGMENT, STORE_SEGMENT, bytes + STORE_KEY);
        rc = digest_bytes(bytes, sizeof bytes, chain[i + 1], error);
    }
    return rc;
}

int prefix_make(struct prefix *p, const uint8_t model[STORE_KEY], const uint32_t *ids, size_t count,
                struct error *error)
{
    *p = (struct prefix){.segments = count / STORE_SEGMENT, .count = count};
    if (count > SIZE_MAX / 64) return error_set(error, ERROR_USAGE, "A prompt of %zu tokens is too long.", count);
    p->chain = store_alloc((p->segments + 1) * sizeof *p->chain);
    p->bytes = store_alloc(count * 4);
    int rc = p->chain && p->bytes ? store_chain(model, ids, count, p->chain, error) : store_no_memory(error);
    if (rc)
        prefix_free(p);
    else
        ids_to_bytes(ids, count, p->bytes);
    return rc;
}

void prefix_free(struct prefix *p)
{
    free(p->chain);
    free(p->bytes);
    *p = (struct prefix){0};
}

/* ------------------------------------------------------------------------------------------------- finding */

int segment_find(sqlite3_stmt *by_hash, const uint8_t hash[32], struct segment_row *out, struct error *error)
{
    *out = (struct segment_row){0};
    bool row = false;
    int rc = db_bind(by_hash, DB_VALUES(db_bytes(hash, STORE_KEY)), error);
    if (!rc) rc = db_step(by_hash, &row, error);
    if (row) *out = (struct segment_row){sqlite3_column_int64(by_hash, 0), sqlite3_column_int64(by_hash, 1)};
    sqlite3_reset(by_hash);
    return rc;
}

/* How many leading segments have their rows. */
static int segments_present(sqlite3 *db, const struct prefix *p, size_t *present, struct error *error)
{
    *present = 0;
    sqlite3_stmt *stmt;
    int rc = db_prepare(db, SEGMENT_BY_HASH, DB_NONE, &stmt, error);
    struct segment_row row = {.blob = 1};
    while (!rc && *present < p->segments) {
        rc = segment_find(stmt, p->chain[*present + 1], &row, error);
        if (rc || !row.blob) break;
        ++*present;
    }
    sqlite3_finalize(stmt);
    return rc;
}

struct snapshot_list {
    struct snapshot_row *items;
    size_t count, capacity;
};

static int snapshot_push(struct snapshot_list *list, struct snapshot_row row, struct error *error)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 16;
        struct snapshot_row *items = store_alloc(capacity * sizeof *items);
        if (!items) return store_no_memory(error);
        if (list->count) memcpy(items, list->items, list->count * sizeof *items);
        free(list->items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = row;
    return 0;
}

/* The snapshots under one node whose tails go on as the prefix does. */
static int snapshots_at(sqlite3_stmt *stmt, const struct prefix *p, size_t node, struct snapshot_list *list,
                        struct error *error)
{
    const uint8_t *after = p->bytes + node * SEGMENT_BYTES;
    size_t left = (p->count - node * STORE_SEGMENT) * 4;
    bool row = false;
    int rc = db_bind(stmt, DB_VALUES(db_bytes(p->chain[node], STORE_KEY)), error);
    if (!rc) rc = db_step(stmt, &row, error);
    while (!rc && row) {
        const void *tail = sqlite3_column_blob(stmt, 1);
        size_t size = (size_t)sqlite3_column_bytes(stmt, 1);
        bool fits = size < SEGMENT_BYTES && size % 4 == 0 && size <= left && (!size || tail) &&
                    (!size || memcmp(tail, after, size) == 0);
        if (fits)
            rc = snapshot_push(list,
                               (struct snapshot_row){.id = sqlite3_column_int64(stmt, 0),
                                                     .blob = sqlite3_column_int64(stmt, 2),
                                                     .tail_blob = sqlite3_column_int64(stmt, 3),
                                                     .keep = sqlite3_column_int(stmt, 4) != 0,
                                                     .position = node * STORE_SEGMENT + size / 4},
                               error);
        if (!rc) rc = db_step(stmt, &row, error);
    }
    return rc;
}

int prefix_snapshots(sqlite3 *db, const struct prefix *p, size_t segments, struct snapshot_row **out, size_t *count,
                     struct error *error)
{
    struct snapshot_list list = {0};
    sqlite3_stmt *stmt;
    int rc =
        db_prepare(db, "SELECT id, tail, blob, tail_blob, keep FROM snapshot WHERE hash = ?1 ORDER BY length(tail)",
                   DB_NONE, &stmt, error);
    for (size_t node = 0; !rc && node <= segments; node++) rc = snapshots_at(stmt, p, node, &list, error);
    sqlite3_finalize(stmt);
    if (rc) {
        free(list.items);
        list = (struct snapshot_list){0};
    }
    *out = list.items;
    *count = list.count;
    return rc;
}

int store_find_prefix(struct store *store, const uint8_t model[STORE_KEY], const uint32_t *ids, size_t count,
                      size_t *position, struct error *error)
{
    *position = 0;
    struct prefix p;
    int rc = prefix_make(&p, model, ids, count, error);
    if (rc) return rc;
    struct snapshot_row *rows = NULL;
    size_t n = 0, present;
    rc = read_begin(store, error);
    if (!rc) {
        rc = segments_present(store->reader, &p, &present, error);
        if (!rc) rc = prefix_snapshots(store->reader, &p, present, &rows, &n, error);
        read_end(store);
    }
    if (!rc && n) *position = rows[n - 1].position;
    free(rows);
    prefix_free(&p);
    return rc;
}

int store_rows_present(struct store *store, const uint8_t model[STORE_KEY], const uint32_t *ids, size_t count,
                       size_t *segments, struct error *error)
{
    *segments = 0;
    struct prefix p;
    int rc = prefix_make(&p, model, ids, count, error);
    if (rc) return rc;
    rc = read_begin(store, error);
    if (!rc) {
        rc = segments_present(store->reader, &p, segments, error);
        read_end(store);
    }
    prefix_free(&p);
    return rc;
}

/* ------------------------------------------------------------------------------------------------ dropping */

int segment_prune(sqlite3 *db, int64_t segment, uint64_t *freed, struct error *error)
{
    int rc = 0;
    while (!rc && segment) {
        int64_t used, parent, blob;
        rc = db_number(db,
                       "SELECT EXISTS (SELECT 1 FROM segment WHERE parent = ?1)"
                       " OR EXISTS (SELECT 1 FROM snapshot WHERE segment = ?1)",
                       DB_VALUES(db_int(segment)), &used, error);
        if (rc || used) break;
        rc = db_number(db, "SELECT parent FROM segment WHERE id = ?1", DB_VALUES(db_int(segment)), &parent, error);
        if (!rc) rc = db_number(db, "SELECT blob FROM segment WHERE id = ?1", DB_VALUES(db_int(segment)), &blob, error);
        if (!rc) rc = db_run(db, "DELETE FROM segment WHERE id = ?1", DB_VALUES(db_int(segment)), error);
        if (!rc) rc = blob_delete(db, blob, freed, error);
        segment = parent;
    }
    return rc;
}

int snapshot_drop(sqlite3 *db, int64_t id, uint64_t *freed, struct error *error)
{
    int64_t segment, blob, tail;
    int rc = db_number(db, "SELECT segment FROM snapshot WHERE id = ?1", DB_VALUES(db_int(id)), &segment, error);
    if (!rc) rc = db_number(db, "SELECT blob FROM snapshot WHERE id = ?1", DB_VALUES(db_int(id)), &blob, error);
    if (!rc) rc = db_number(db, "SELECT tail_blob FROM snapshot WHERE id = ?1", DB_VALUES(db_int(id)), &tail, error);
    if (!rc) rc = db_run(db, "DELETE FROM snapshot WHERE id = ?1", DB_VALUES(db_int(id)), error);
    if (!rc) rc = blob_delete(db, blob, freed, error);
    if (!rc) rc = blob_delete(db, tail, freed, error);
    return rc ? rc : segment_prune(db, segment, freed, error);
}

int segments_drop_orphans(sqlite3 *db, uint64_t *freed, struct error *error)
{
    static const char sql[] = "SELECT id FROM segment g WHERE NOT EXISTS (SELECT 1 FROM segment WHERE parent = g.id)"
                              " AND NOT EXISTS (SELECT 1 FROM snapshot WHERE segment = g.id) LIMIT 1";
    for (;;) {
        int64_t leaf;
        int rc = db_number(db, sql, DB_NONE, &leaf, error);
        if (rc || !leaf) return rc;
        rc = segment_prune(db, leaf, freed, error);
        if (rc) return rc;
    }
}

int segment_lose(sqlite3 *db, int64_t segment, int64_t blob, struct error *error)
{
    int rc = db_run(db, "UPDATE segment SET blob = NULL WHERE id = ?1 AND blob IS ?2",
                    DB_VALUES(db_int(segment), db_id(blob)), error);
    return rc ? rc : blob_delete(db, blob, NULL, error);
}
