/* SPDX-License-Identifier: MIT
 *
 * One save, one transaction: the new row segments, the snapshot with its tail, the links of the session, its turns.
 *
 * Thinning. A session keeps a snapshot at every turn and at the end of its documents (keep) and, on the way, so many
 * that going back from its end P to any earlier point T evaluates at most an eighth of the distance P - T again, as far
 * as snapshots were made that close (app/ladder.h makes them). Between neighbours a < b the worst T is b - 1, so that a
 * checkpoint m with neighbours a < m < b may go when b - a <= (P - b) / 8. The condition only becomes easier as P grows,
 * hence what was thinned stays right.
 */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

struct saving {
    sqlite3 *db;
    const struct store_save *save;
    struct prefix prefix;
    int64_t snapshot; /* 0: rows only */
    int64_t turns;    /* the session's turns before this save */
};

/* --------------------------------------------------------------------------------------------------- rows */

static const struct store_blob *brought(const struct store_save *save, size_t segment)
{
    bool in = segment >= save->first_segment && segment - save->first_segment < save->n_rows;
    return in ? &save->rows[segment - save->first_segment] : NULL;
}

static int segment_insert(sqlite3 *db, const uint8_t hash[32], int64_t parent, const struct store_blob *rows,
                          int64_t *id, struct error *error)
{
    struct blob_name name = {.kind = BLOB_ROWS};
    memcpy(name.name, hash, 32);
    int64_t blob;
    int rc = blob_write(db, &name, rows, &blob, error);
    if (!rc && *id)
        return db_run(db, "UPDATE segment SET blob = ?2 WHERE id = ?1", DB_VALUES(db_int(*id), db_int(blob)), error);
    if (!rc)
        rc = db_run(db, "INSERT INTO segment (hash, parent, blob) VALUES (?1, ?2, ?3)",
                    DB_VALUES(db_bytes(hash, 32), db_id(parent), db_int(blob)), error);
    if (!rc) *id = sqlite3_last_insert_rowid(db);
    return rc;
}

/* Walks down the chain, adding what is brought and not there; *last gets the deepest node. */
static int rows_write(struct saving *s, sqlite3_stmt *by_hash, int64_t *last, struct error *error)
{
    const struct store_save *save = s->save;
    size_t end = save->snapshot.size ? s->prefix.segments : save->first_segment + save->n_rows;
    int rc = 0;
    *last = 0;
    for (size_t i = 0; !rc && i < end; i++) {
        struct segment_row row;
        rc = segment_find(by_hash, s->prefix.chain[i + 1], &row, error);
        if (rc) break;
        const struct store_blob *rows = brought(save, i);
        if (!row.blob && !rows)
            return error_set(error, ERROR_STATE, "The rows of tokens %zu to %zu are not in the store any more.",
                             i * STORE_SEGMENT, (i + 1) * STORE_SEGMENT);
        if (!row.blob) rc = segment_insert(s->db, s->prefix.chain[i + 1], *last, rows, &row.id, error);
        *last = row.id;
    }
    return rc;
}

/* ------------------------------------------------------------------------------------------------ snapshot */

static int snapshot_insert(struct saving *s, int64_t segment, const uint8_t *tail, size_t tail_size,
                           struct error *error)
{
    const struct store_save *save = s->save;
    const uint8_t *hash = s->prefix.chain[s->prefix.segments];
    struct blob_name name = {.kind = BLOB_SNAPSHOT};
    int64_t blob = 0, tail_blob = 0, now = store_now_micros();
    int rc = snapshot_name(hash, tail, tail_size, name.name, error);
    if (!rc) rc = blob_write(s->db, &name, &save->snapshot, &blob, error);
    name.kind = BLOB_TAIL;
    if (!rc && tail_size) rc = blob_write(s->db, &name, &save->tail, &tail_blob, error);
    if (!rc)
        rc = db_run(s->db,
                    "INSERT INTO snapshot (hash, tail, segment, position, keep, created, used, tail_blob, blob)"
                    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8)",
                    DB_VALUES(db_bytes(hash, 32), db_bytes(tail, tail_size), db_id(segment),
                              db_int((int64_t)save->count), db_int(save->keep), db_int(now), db_id(tail_blob),
                              db_int(blob)),
                    error);
    if (!rc) s->snapshot = sqlite3_last_insert_rowid(s->db);
    return rc;
}

static int snapshot_write(struct saving *s, int64_t segment, struct error *error)
{
    size_t full = s->prefix.segments * STORE_SEGMENT;
    const uint8_t *tail = s->prefix.bytes + full * 4;
    size_t tail_size = (s->save->count - full) * 4;
    int rc = db_number(s->db, "SELECT id FROM snapshot WHERE hash = ?1 AND tail = ?2",
                       DB_VALUES(db_bytes(s->prefix.chain[s->prefix.segments], 32), db_bytes(tail, tail_size)),
                       &s->snapshot, error);
    if (rc) return rc;
    if (!s->snapshot) return snapshot_insert(s, segment, tail, tail_size, error);
    return db_run(s->db, "UPDATE snapshot SET used = ?2, keep = max(keep, ?3) WHERE id = ?1",
                  DB_VALUES(db_int(s->snapshot), db_int(store_now_micros()), db_int(s->save->keep)), error);
}

/* ------------------------------------------------------------------------------------------------- session */

static int link_state(struct saving *s, int64_t snapshot, int64_t turns, struct error *error)
{
    return db_run(s->db,
                  "INSERT INTO session_state (session, snapshot, turns) VALUES (?1, ?2, ?3)"
                  " ON CONFLICT (session, snapshot) DO NOTHING",
                  DB_VALUES(db_int(s->save->session), db_int(snapshot), db_int(turns)), error);
}

static int belongs(struct saving *s, int64_t snapshot, bool *yes, struct error *error)
{
    int64_t n;
    int rc = s->save->session
                 ? db_number(s->db, "SELECT count(*) FROM session_state WHERE session = ?1 AND snapshot = ?2",
                             DB_VALUES(db_int(s->save->session), db_int(snapshot)), &n, error)
                 : db_number(s->db, "SELECT count(*) = 0 FROM session_state WHERE snapshot = ?1",
                             DB_VALUES(db_int(snapshot)), &n, error);
    *yes = !rc && n;
    return rc;
}

/* Takes the checkpoint from the session; deletes it when nobody else has it. */
static int unlink_state(struct saving *s, int64_t snapshot, struct error *error)
{
    int64_t users;
    int rc = db_run(s->db, "DELETE FROM session_state WHERE session = ?1 AND snapshot = ?2",
                    DB_VALUES(db_int(s->save->session), db_int(snapshot)), error);
    if (!rc)
        rc = db_number(s->db, "SELECT count(*) FROM session_state WHERE snapshot = ?1", DB_VALUES(db_int(snapshot)),
                       &users, error);
    return rc || users ? rc : snapshot_drop(s->db, snapshot, NULL, error);
}

/* path: the snapshots on the way to the new one, which is its last; all of them belong to the session. */
static int thin(struct saving *s, const struct snapshot_row *path, size_t count, struct error *error)
{
    size_t end = s->save->count, after = end; /* after: the neighbour above that stays */
    int rc = 0;
    for (size_t i = count - 1; !rc && i-- > 0;) {
        size_t before = i ? path[i - 1].position : 0;
        if (!path[i].keep && after - before <= (end - after) / 8)
            rc = unlink_state(s, path[i].id, error);
        else
            after = path[i].position;
    }
    return rc;
}

/* The session takes over the snapshots it passed on its way (another session may have made them), then thins them. */
static int adopt_path(struct saving *s, struct error *error)
{
    struct snapshot_row *path;
    size_t count, n = 0;
    int rc = prefix_snapshots(s->db, &s->prefix, s->prefix.segments, &path, &count, error);
    for (size_t i = 0; !rc && i < count; i++) {
        bool mine = path[i].id == s->snapshot;
        if (s->save->session && !mine) rc = link_state(s, path[i].id, s->turns, error);
        if (!rc && !mine) rc = belongs(s, path[i].id, &mine, error);
        if (mine) path[n++] = path[i];
    }
    if (!rc && n) rc = thin(s, path, n, error);
    free(path);
    return rc;
}

static int session_write(struct saving *s, struct error *error)
{
    const struct store_save *save = s->save;
    int rc = session_append_turns(s->db, save->session, save->turns, save->n_turns, error);
    if (!rc && s->snapshot) rc = link_state(s, s->snapshot, s->turns + (int64_t)save->n_turns, error);
    if (!rc)
        rc = db_run(s->db,
                    "UPDATE session SET used = ?2, model = ?3, model_name = coalesce(?4, model_name),"
                    " n_tokens = CASE WHEN ?5 > 0 THEN ?5 ELSE n_tokens END WHERE id = ?1",
                    DB_VALUES(db_int(save->session), db_int(store_now()), db_bytes(save->model, STORE_KEY),
                              db_text(save->model_name), db_int((int64_t)save->count)),
                    error);
    return rc;
}

/* -------------------------------------------------------------------------------------------------- commit */

static int save_rows_and_snapshot(struct saving *s, struct error *error)
{
    sqlite3_stmt *by_hash;
    int64_t last;
    int rc = db_prepare(s->db, SEGMENT_BY_HASH, DB_NONE, &by_hash, error);
    if (!rc) rc = rows_write(s, by_hash, &last, error);
    sqlite3_finalize(by_hash);
    if (!rc && s->save->snapshot.size) rc = snapshot_write(s, last, error);
    return rc;
}

static int save_inside(struct saving *s, struct error *error)
{
    int64_t session = s->save->session, exists;
    int rc = db_number(s->db, "SELECT count(*) FROM session WHERE id = ?1", DB_VALUES(db_int(session)), &exists, error);
    if (!rc && session && !exists)
        rc = error_set(error, ERROR_FAILED, "The session %lld was removed meanwhile: nothing was saved.",
                       (long long)session);
    if (!rc)
        rc = db_number(s->db, "SELECT count(*) FROM session_turn WHERE session = ?1", DB_VALUES(db_int(session)),
                       &s->turns, error);
    if (!rc) rc = save_rows_and_snapshot(s, error);
    if (!rc && session) rc = session_write(s, error);
    if (!rc && s->snapshot) rc = adopt_path(s, error);
    return rc;
}

int save_commit(struct store *store, const struct store_save *save, struct error *error)
{
    struct saving s = {.db = store->writer, .save = save};
    int rc = prefix_make(&s.prefix, save->model, save->ids, save->count, error);
    if (rc) return rc;
    rc = write_begin(store, error);
    if (!rc) rc = write_end(store, save_inside(&s, error), error);
    prefix_free(&s.prefix);
    return rc;
}
