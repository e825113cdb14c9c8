/* SPDX-License-Identifier: MIT
 *
 * Making, forking, rewinding and removing sessions. Each is one transaction over link rows; states and turns that lose
 * their last session go with it.
 */
#include "store/internal.h"

static int session_exists(sqlite3 *db, int64_t id, struct error *error)
{
    int64_t n;
    int rc = db_number(db, "SELECT count(*) FROM session WHERE id = ?1", DB_VALUES(db_int(id)), &n, error);
    if (rc || n) return rc;
    return error_set(error, ERROR_USAGE, "There is no session %lld in the store.", (long long)id);
}

static int add_document(sqlite3 *db, int64_t id, int64_t document, struct error *error)
{
    int64_t n;
    int rc = db_number(db, "SELECT count(*) FROM document WHERE id = ?1", DB_VALUES(db_int(document)), &n, error);
    if (rc) return rc;
    if (!n) return error_set(error, ERROR_USAGE, "There is no document %lld in the store.", (long long)document);
    return db_run(db,
                  "INSERT INTO session_document (session, ordinal, document)"
                  " SELECT ?1, coalesce(max(ordinal) + 1, 0), ?2 FROM session_document WHERE session = ?1",
                  DB_VALUES(db_int(id), db_int(document)), error);
}

static int create(sqlite3 *db, const char *name, const int64_t *documents, size_t count, int64_t *id,
                  struct error *error)
{
    int64_t now = store_now();
    int rc = db_run(db, "INSERT INTO session (name, created, used, parent, n_tokens) VALUES (?1, ?2, ?2, 0, 0)",
                    DB_VALUES(db_text(name ? name : ""), db_int(now)), error);
    if (rc) return rc;
    *id = sqlite3_last_insert_rowid(db);
    for (size_t i = 0; !rc && i < count; i++) rc = add_document(db, *id, documents[i], error);
    return rc;
}

int store_session_create(struct store *store, const char *name, const int64_t *documents, size_t n_documents,
                         int64_t *id, struct error *error)
{
    *id = 0;
    int rc = write_begin(store, error);
    if (!rc) rc = write_end(store, create(store->writer, name, documents, n_documents, id, error), error);
    if (rc) *id = 0;
    return rc;
}

int store_session_add_document(struct store *store, int64_t id, int64_t document, struct error *error)
{
    int rc = write_begin(store, error);
    if (rc) return rc;
    rc = session_exists(store->writer, id, error);
    if (!rc) rc = add_document(store->writer, id, document, error);
    return write_end(store, rc, error);
}

int store_session_rename(struct store *store, int64_t id, const char *name, struct error *error)
{
    int rc = write_begin(store, error);
    if (rc) return rc;
    rc = session_exists(store->writer, id, error);
    if (!rc)
        rc = db_run(store->writer, "UPDATE session SET name = ?2 WHERE id = ?1", DB_VALUES(db_int(id), db_text(name)),
                    error);
    return write_end(store, rc, error);
}

/* ------------------------------------------------------------------------------------------------- dropping */

/* The session gives up the states saved with more than `turns` turns; those nobody else has are deleted. */
static int release_states(sqlite3 *db, int64_t id, int64_t turns, struct error *error)
{
    for (;;) {
        int64_t snapshot, users;
        int rc = db_number(db, "SELECT snapshot FROM session_state WHERE session = ?1 AND turns > ?2 LIMIT 1",
                           DB_VALUES(db_int(id), db_int(turns)), &snapshot, error);
        if (rc || !snapshot) return rc;
        rc = db_run(db, "DELETE FROM session_state WHERE session = ?1 AND snapshot = ?2",
                    DB_VALUES(db_int(id), db_int(snapshot)), error);
        if (!rc)
            rc = db_number(db, "SELECT count(*) FROM session_state WHERE snapshot = ?1", DB_VALUES(db_int(snapshot)),
                           &users, error);
        if (!rc && !users) rc = snapshot_drop(db, snapshot, NULL, error);
        if (rc) return rc;
    }
}

static int drop_turns(sqlite3 *db, struct error *error)
{
    return db_run(db, "DELETE FROM turn WHERE NOT EXISTS (SELECT 1 FROM session_turn WHERE turn = turn.id)", DB_NONE,
                  error);
}

int session_drop_orphans(sqlite3 *db, struct error *error)
{
    int rc = drop_turns(db, error);
    if (rc) return rc;
    return db_run(db,
                  "DELETE FROM document WHERE NOT EXISTS (SELECT 1 FROM session_document WHERE document = document.id)",
                  DB_NONE, error);
}

static int drop_documents(sqlite3 *db, int64_t session, struct error *error)
{
    return db_run(db,
                  "DELETE FROM document WHERE id IN (SELECT document FROM session_document WHERE session = ?1)"
                  " AND NOT EXISTS (SELECT 1 FROM session_document WHERE document = document.id AND session <> ?1)",
                  DB_VALUES(db_int(session)), error);
}

static int remove_session(sqlite3 *db, int64_t id, struct error *error)
{
    int rc = session_exists(db, id, error);
    if (!rc) rc = release_states(db, id, -1, error);
    if (!rc) rc = db_run(db, "DELETE FROM session_turn WHERE session = ?1", DB_VALUES(db_int(id)), error);
    if (!rc) rc = drop_turns(db, error);
    if (!rc) rc = db_run(db, "PRAGMA defer_foreign_keys = ON", DB_NONE, error); /* documents go before their links */
    if (!rc) rc = drop_documents(db, id, error);
    return rc ? rc : db_run(db, "DELETE FROM session WHERE id = ?1", DB_VALUES(db_int(id)), error);
}

int store_session_remove(struct store *store, int64_t id, struct error *error)
{
    int rc = write_begin(store, error);
    if (rc) return rc;
    if (lease_is_held_by_another(store, id))
        rc = error_set(error, ERROR_USAGE, "The session %lld is open in another lectern.", (long long)id);
    return write_end(store, rc ? rc : remove_session(store->writer, id, error), error);
}

/* --------------------------------------------------------------------------------------- forking, rewinding */

static int count_tokens(sqlite3 *db, int64_t id, struct error *error)
{
    return db_run(db,
                  "UPDATE session SET n_tokens = coalesce((SELECT max(s.position) FROM session_state l"
                  " JOIN snapshot s ON s.id = l.snapshot WHERE l.session = ?1), 0) WHERE id = ?1",
                  DB_VALUES(db_int(id)), error);
}

static int fork_session(sqlite3 *db, int64_t id, int64_t turns, const char *name, int64_t *out, struct error *error)
{
    int rc = session_exists(db, id, error);
    if (!rc)
        rc = db_run(db,
                    "INSERT INTO session (name, created, used, parent, model, model_name, n_tokens)"
                    " SELECT coalesce(?2, name), ?3, ?3, id, model, model_name, n_tokens FROM session WHERE id = ?1",
                    DB_VALUES(db_int(id), db_text(name), db_int(store_now())), error);
    if (rc) return rc;
    *out = sqlite3_last_insert_rowid(db);
    static const char *const links[] = {
        "INSERT INTO session_document (session, ordinal, document)"
        " SELECT ?2, ordinal, document FROM session_document WHERE session = ?1 AND ?3 >= 0",
        "INSERT INTO session_turn (session, ordinal, turn)"
        " SELECT ?2, ordinal, turn FROM session_turn WHERE session = ?1 AND ordinal < ?3",
        "INSERT INTO session_state (session, snapshot, turns)"
        " SELECT ?2, snapshot, turns FROM session_state WHERE session = ?1 AND turns <= ?3",
    };
    for (size_t i = 0; !rc && i < sizeof links / sizeof *links; i++)
        rc = db_run(db, links[i], DB_VALUES(db_int(id), db_int(*out), db_int(turns)), error);
    int64_t all;
    if (!rc)
        rc = db_number(db, "SELECT count(*) FROM session_turn WHERE session = ?1", DB_VALUES(db_int(id)), &all, error);
    return rc || turns >= all ? rc : count_tokens(db, *out, error);
}

static int64_t clamp_turns(size_t n_turns)
{
    return n_turns > INT32_MAX ? INT32_MAX : (int64_t)n_turns;
}

int store_session_fork(struct store *store, int64_t id, size_t n_turns, const char *name, int64_t *out,
                       struct error *error)
{
    *out = 0;
    int rc = write_begin(store, error);
    if (!rc) rc = write_end(store, fork_session(store->writer, id, clamp_turns(n_turns), name, out, error), error);
    if (rc) *out = 0;
    return rc;
}

static int truncate_session(sqlite3 *db, int64_t id, int64_t turns, struct error *error)
{
    int64_t all;
    int rc = session_exists(db, id, error);
    if (!rc)
        rc = db_number(db, "SELECT count(*) FROM session_turn WHERE session = ?1", DB_VALUES(db_int(id)), &all, error);
    if (rc || turns >= all) return rc;
    rc = release_states(db, id, turns, error);
    if (!rc)
        rc = db_run(db, "DELETE FROM session_turn WHERE session = ?1 AND ordinal >= ?2",
                    DB_VALUES(db_int(id), db_int(turns)), error);
    if (!rc) rc = drop_turns(db, error);
    return rc ? rc : count_tokens(db, id, error);
}

int store_session_truncate(struct store *store, int64_t id, size_t n_turns, struct error *error)
{
    int rc = write_begin(store, error);
    return rc ? rc : write_end(store, truncate_session(store->writer, id, clamp_turns(n_turns), error), error);
}
