/* SPDX-License-Identifier: MIT
 *
 * Sessions and their turns. turn.sum = SHA-256(role | created | meta | ids as u32 LE | text), fields as in documents.c.
 * A fork shares turns and snapshots with its parent: only link rows are written.
 */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------------------------------------- turns */

static void ids_pack(const uint32_t *ids, size_t count, uint8_t *out)
{
    for (size_t i = 0; i < count; i++)
        for (int b = 0; b < 4; b++) out[4 * i + (size_t)b] = (uint8_t)(ids[i] >> (8 * b));
}

static void ids_unpack(uint32_t *ids, size_t count) /* in place */
{
    for (size_t i = 0; i < count; i++) {
        uint8_t b[4];
        memcpy(b, &ids[i], 4);
        ids[i] = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    }
}

static int turn_sum(const struct store_turn *t, const void *packed, uint8_t out[32], struct error *error)
{
    struct digest *digest;
    int rc = digest_begin(&digest, error);
    if (rc) return rc;
    digest_number(digest, t->role);
    digest_number(digest, t->created);
    digest_field(digest, t->meta, t->meta ? strlen(t->meta) : 0);
    digest_field(digest, packed, t->n_ids * 4);
    digest_field(digest, t->text ? t->text : "", t->text_len);
    return digest_end(&digest, out, error);
}

void turn_free(struct store_turn *t)
{
    free(t->text);
    free(t->meta);
    free(t->ids);
    *t = (struct store_turn){0};
}

int turn_verify(sqlite3_stmt *stmt, struct store_turn *out, struct error *error)
{
    uint8_t stored[32], sum[32];
    void *ids = NULL;
    size_t size = 0;
    *out = (struct store_turn){.id = sqlite3_column_int64(stmt, 0), .created = sqlite3_column_int64(stmt, 2)};
    int64_t role = sqlite3_column_int64(stmt, 1);
    out->role = role == STORE_SYSTEM ? STORE_SYSTEM : role == STORE_USER ? STORE_USER : STORE_ASSISTANT;
    int rc = db_copy_fixed(stmt, 3, stored, sizeof stored, error);
    if (!rc) rc = db_copy_text(stmt, 4, &out->meta, NULL, error);
    if (!rc) rc = db_copy(stmt, 5, &ids, &size, error);
    if (!rc) rc = db_copy_text(stmt, 6, &out->text, &out->text_len, error);
    out->ids = ids;
    out->n_ids = size / 4;
    if (!rc) rc = turn_sum(out, ids ? ids : "", sum, error);
    if (!rc && (size % 4 || memcmp(sum, stored, 32) != 0))
        rc = error_set(error, ERROR_STATE, "A turn of the session is damaged in the store (turn %lld).",
                       (long long)out->id);
    if (rc)
        turn_free(out);
    else if (ids)
        ids_unpack(ids, out->n_ids);
    return rc;
}

static int turn_insert(sqlite3 *db, const struct store_turn *t, const void *packed, struct error *error)
{
    uint8_t sum[32];
    int rc = turn_sum(t, packed, sum, error);
    if (rc) return rc;
    return db_run(db, "INSERT INTO turn (role, created, sum, meta, ids, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                  DB_VALUES(db_int(t->role), db_int(t->created), db_bytes(sum, sizeof sum), db_text(t->meta),
                            db_bytes(packed, t->n_ids * 4), db_bytes(t->text, t->text_len)),
                  error);
}

int session_append_turns(sqlite3 *db, int64_t session, const struct store_turn *turns, size_t count,
                         struct error *error)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < count; i++) {
        struct store_turn turn = turns[i];
        if (!turn.created) turn.created = store_now();
        uint8_t *packed = store_alloc(turn.n_ids * 4);
        if (!packed) return store_no_memory(error);
        ids_pack(turn.ids, turn.n_ids, packed);
        rc = turn_insert(db, &turn, packed, error);
        free(packed);
        if (!rc)
            rc = db_run(db,
                        "INSERT INTO session_turn (session, ordinal, turn)"
                        " SELECT ?1, coalesce(max(ordinal) + 1, 0), ?2 FROM session_turn WHERE session = ?1",
                        DB_VALUES(db_int(session), db_int(sqlite3_last_insert_rowid(db))), error);
    }
    return rc;
}

void store_turn_list_free(struct store_turn_list *list)
{
    for (size_t i = 0; i < list->count; i++) turn_free(&list->items[i]);
    free(list->items);
    *list = (struct store_turn_list){0};
}

static int read_turns(sqlite3 *db, int64_t session, struct store_turn_list *out, struct error *error)
{
    int64_t count;
    int rc = db_number(db, "SELECT count(*) FROM session_turn WHERE session = ?1", DB_VALUES(db_int(session)), &count,
                       error);
    if (rc) return rc;
    out->items = store_alloc((size_t)count * sizeof *out->items);
    if (!out->items) return store_no_memory(error);
    sqlite3_stmt *stmt;
    bool row = false;
    rc = db_prepare(db,
                    "SELECT " TURN_COLUMNS " FROM session_turn l JOIN turn t ON t.id = l.turn WHERE l.session = ?1"
                    " ORDER BY l.ordinal",
                    DB_VALUES(db_int(session)), &stmt, error);
    if (!rc) rc = db_step(stmt, &row, error);
    while (!rc && row && out->count < (size_t)count) {
        rc = turn_verify(stmt, &out->items[out->count], error);
        if (!rc) out->count++;
        if (!rc) rc = db_step(stmt, &row, error);
    }
    sqlite3_finalize(stmt);
    if (!rc && out->count != (size_t)count)
        rc = error_set(error, ERROR_STATE, "Session %lld has lost turns: `lectern sessions repair` keeps the others.",
                       (long long)session);
    return rc;
}

int store_turns(struct store *store, int64_t session, struct store_turn_list *out, struct error *error)
{
    *out = (struct store_turn_list){0};
    int rc = read_begin(store, error);
    if (rc) return rc;
    rc = read_turns(store->reader, session, out, error);
    read_end(store);
    if (rc) store_turn_list_free(out);
    return rc;
}

/* ------------------------------------------------------------------------------------------------- listing */

#define SESSION_COLUMNS                                                                                                \
    "SELECT s.id, s.name, s.created, s.used, s.parent, s.model, s.model_name, s.n_tokens,"                             \
    " (SELECT count(*) FROM session_document WHERE session = s.id),"                                                   \
    " (SELECT count(*) FROM session_turn WHERE session = s.id), coalesce(b.shared, 0), coalesce(b.own, 0)"             \
    " FROM session s LEFT JOIN session_bytes b ON b.session = s.id"

static int session_read(sqlite3_stmt *stmt, struct store_session *out, struct error *error)
{
    *out = (struct store_session){.id = sqlite3_column_int64(stmt, 0),
                                  .created = sqlite3_column_int64(stmt, 2),
                                  .used = sqlite3_column_int64(stmt, 3),
                                  .parent = sqlite3_column_int64(stmt, 4),
                                  .n_tokens = (uint64_t)sqlite3_column_int64(stmt, 7),
                                  .n_documents = (uint64_t)sqlite3_column_int64(stmt, 8),
                                  .n_turns = (uint64_t)sqlite3_column_int64(stmt, 9),
                                  .bytes_shared = (uint64_t)sqlite3_column_int64(stmt, 10),
                                  .bytes_own = (uint64_t)sqlite3_column_int64(stmt, 11)};
    int rc = db_copy_text(stmt, 1, &out->name, NULL, error);
    if (!rc && sqlite3_column_type(stmt, 5) != SQLITE_NULL) rc = db_copy_fixed(stmt, 5, out->model, STORE_KEY, error);
    return rc ? rc : db_copy_text(stmt, 6, &out->model_name, NULL, error);
}

void store_session_list_free(struct store_session_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
        free(list->items[i].model_name);
    }
    free(list->items);
    *list = (struct store_session_list){0};
}

static int read_sessions(sqlite3 *db, const char *sql, struct db_values values, struct store_session_list *out,
                         struct error *error)
{
    int64_t most;
    int rc = db_number(db, "SELECT count(*) FROM session", DB_NONE, &most, error);
    if (rc) return rc;
    out->items = store_alloc((size_t)most * sizeof *out->items);
    if (!out->items) return store_no_memory(error);
    sqlite3_stmt *stmt;
    bool row = false;
    rc = db_prepare(db, sql, values, &stmt, error);
    if (!rc) rc = db_step(stmt, &row, error);
    while (!rc && row && out->count < (size_t)most) {
        rc = session_read(stmt, &out->items[out->count++], error);
        if (!rc) rc = db_step(stmt, &row, error);
    }
    sqlite3_finalize(stmt);
    return rc;
}

static int list_sessions(struct store *store, const char *sql, struct db_values values, struct store_session_list *out,
                         struct error *error)
{
    *out = (struct store_session_list){0};
    int rc = read_begin(store, error);
    if (rc) return rc;
    rc = read_sessions(store->reader, sql, values, out, error);
    read_end(store);
    if (rc) store_session_list_free(out);
    return rc;
}

static int no_session(int64_t id, struct error *error)
{
    return error_set(error, ERROR_USAGE, "There is no session %lld in the store.", (long long)id);
}

int store_session_list(struct store *store, struct store_session_list *out, struct error *error)
{
    return list_sessions(store, SESSION_COLUMNS " ORDER BY s.used DESC, s.id DESC", DB_NONE, out, error);
}

int store_session_get(struct store *store, int64_t id, struct store_session_list *out, struct error *error)
{
    int rc = list_sessions(store, SESSION_COLUMNS " WHERE s.id = ?1", DB_VALUES(db_int(id)), out, error);
    if (rc || out->count) return rc;
    store_session_list_free(out);
    return no_session(id, error);
}

static int read_documents(sqlite3 *db, int64_t id, int64_t **ids, size_t *count, struct error *error)
{
    int64_t n;
    int rc =
        db_number(db, "SELECT count(*) FROM session_document WHERE session = ?1", DB_VALUES(db_int(id)), &n, error);
    if (rc) return rc;
    *ids = store_alloc((size_t)n * sizeof **ids);
    if (!*ids) return store_no_memory(error);
    sqlite3_stmt *stmt;
    bool row = false;
    rc = db_prepare(db, "SELECT document FROM session_document WHERE session = ?1 ORDER BY ordinal",
                    DB_VALUES(db_int(id)), &stmt, error);
    if (!rc) rc = db_step(stmt, &row, error);
    while (!rc && row && *count < (size_t)n) {
        (*ids)[(*count)++] = sqlite3_column_int64(stmt, 0);
        rc = db_step(stmt, &row, error);
    }
    sqlite3_finalize(stmt);
    return rc;
}

int store_session_documents(struct store *store, int64_t id, int64_t **ids, size_t *count, struct error *error)
{
    *ids = NULL;
    *count = 0;
    int rc = read_begin(store, error);
    if (rc) return rc;
    rc = read_documents(store->reader, id, ids, count, error);
    read_end(store);
    if (!rc) return 0;
    free(*ids);
    *ids = NULL;
    *count = 0;
    return rc;
}

/* Walks sessions, latest used first, each with its documents' hashes in order; a session matches when it has exactly
 * the hashes asked for. */
static int find_session(sqlite3_stmt *stmt, const uint8_t (*hashes)[32], size_t count, int64_t *id, struct error *error)
{
    int64_t at = 0;
    size_t n = 0;
    bool same = false, row;
    int rc = db_step(stmt, &row, error);
    while (!rc) {
        int64_t session = row ? sqlite3_column_int64(stmt, 0) : 0;
        if (session != at) {
            if (at && same && n == count) *id = at;
            if (*id || !row) return 0;
            at = session;
            n = 0;
            same = true;
        }
        if (!row) return 0;
        if (sqlite3_column_type(stmt, 1) == SQLITE_BLOB) { /* else a session without documents */
            same = same && n < count && sqlite3_column_bytes(stmt, 1) == 32 &&
                   memcmp(sqlite3_column_blob(stmt, 1), hashes[n], 32) == 0;
            n++;
        }
        rc = db_step(stmt, &row, error);
    }
    return rc;
}

int store_session_find(struct store *store, const uint8_t (*hashes)[32], size_t count, int64_t *id, struct error *error)
{
    *id = 0;
    int rc = read_begin(store, error);
    if (rc) return rc;
    sqlite3_stmt *stmt;
    rc = db_prepare(store->reader,
                    "SELECT s.id, d.hash FROM session s LEFT JOIN session_document l ON l.session = s.id"
                    " LEFT JOIN document d ON d.id = l.document ORDER BY s.used DESC, s.id DESC, l.ordinal",
                    DB_NONE, &stmt, error);
    if (!rc) rc = find_session(stmt, hashes, count, id, error);
    sqlite3_finalize(stmt);
    read_end(store);
    return rc;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Walks the documents of all sessions, latest used first, and counts for each session those whose path is among the
 * sorted. */
static int find_resembling(sqlite3_stmt *stmt, char *const *sorted, size_t count, int64_t *id, struct error *error)
{
    int64_t at = 0;
    size_t matches = 0, best = 0;
    bool row;
    int rc = db_step(stmt, &row, error);
    while (!rc && row) {
        int64_t session = sqlite3_column_int64(stmt, 0);
        const char *path = (const char *)sqlite3_column_text(stmt, 1);
        matches = session == at ? matches : 0;
        at = session;
        if (path && bsearch(&path, sorted, count, sizeof *sorted, compare_paths)) matches++;
        if (matches > best) best = matches, *id = session;
        rc = db_step(stmt, &row, error);
    }
    return rc;
}

int store_session_resembling(struct store *store, char *const *paths, size_t count, int64_t *id, struct error *error)
{
    *id = 0;
    char **sorted = store_alloc((count + 1) * sizeof *sorted);
    if (!sorted) return store_no_memory(error);
    for (size_t i = 0; i < count; i++) sorted[i] = paths[i];
    qsort(sorted, count, sizeof *sorted, compare_paths);
    sqlite3_stmt *stmt = NULL;
    int rc = read_begin(store, error);
    if (!rc) {
        rc = db_prepare(store->reader,
                        "SELECT s.id, d.path FROM session s JOIN session_document l ON l.session = s.id"
                        " JOIN document d ON d.id = l.document ORDER BY s.used DESC, s.id DESC",
                        DB_NONE, &stmt, error);
        if (!rc) rc = find_resembling(stmt, sorted, count, id, error);
        sqlite3_finalize(stmt);
        read_end(store);
    }
    free(sorted);
    return rc;
}
