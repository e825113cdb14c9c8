/* SPDX-License-Identifier: MIT
 *
 * What lectern keeps on disk: documents, sessions with their turns, and model states, in one SQLite database
 * (DIR/lectern.db; schema.sql is the design). The store knows no model and no screen: a state is bytes under a key.
 *
 * The prefix tree. A prompt is a list of token ids. For a model key M (32 bytes: engine_info.state_key) the hash chain
 * is H(0) = SHA-256("lectern-chain-1" | M), H(i+1) = SHA-256(H(i) | ids of segment i as u32 LE), segments of
 * STORE_SEGMENT tokens. Row segments are stored once under H(i+1), shared by every session and branch whose prompt
 * starts alike. A snapshot stands at any position p: it is stored under H(floor(p / STORE_SEGMENT)) with its tail of
 * p % STORE_SEGMENT ids, and brings the rows of that tail with it.
 *
 * Guarantees: WAL, synchronous=FULL, file mode 0600 in a 0700 directory; what was committed survives kill -9 and power
 * loss bit-exact; every blob carries a checksum that is verified when read. Failures roll back and leave one sentence.
 * SQLITE_FULL -> ERROR_DISK; a bad page, a lost row or a wrong checksum -> ERROR_STATE with what is lost.
 * Threads: a store may be used from several threads (a mutex inside); writing big blobs goes through the store's own
 * thread (store_queue_*), so the caller never waits for the disk.
 */
#ifndef LECTERN_STORE_STORE_H
#define LECTERN_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/error.h"

#define STORE_SEGMENT 512u
#define STORE_KEY 32

struct store;

/* Opens, creates or migrates DIR/lectern.db (a migration first copies the file to lectern.db.vN.bak). A database of a
 * newer version, or a read-only folder, is refused with a sentence. */
int store_open(struct store **out, const char *dir, struct error *error);
void store_close(struct store **); /* finishes the queue first */

/* -------------------------------------------------------------------------------------------- documents */

struct store_document {
    int64_t id;
    uint8_t hash[32]; /* SHA-256 of text: the document's identity; the same text is stored once */
    char *path;       /* where it was read, absolute */
    char *title;
    char *text; /* clean UTF-8 */
    size_t text_len;
    char *places; /* opaque to the store (app/doc.h encodes pages, chapters, paths, lines); may be NULL */
    size_t places_len;
    int64_t mtime, size; /* of the file, to notice a change cheaply */
};
/* Stores a text, or finds it when it is there (its path, title, places, mtime and size then become the new ones). The
 * hash is computed here: the caller need not fill it. */
int store_document_put(struct store *, const struct store_document *, int64_t *id, struct error *);
int store_document_get(struct store *, int64_t id, struct store_document *out, struct error *); /* free with _free */
void store_document_free(struct store_document *);

/* --------------------------------------------------------------------------------------------- sessions */

struct store_session {
    int64_t id;
    char *name;
    int64_t created, used;    /* unix seconds */
    int64_t parent;           /* the session it was forked from, 0 = none */
    uint8_t model[STORE_KEY]; /* state key it was last used with */
    char *model_name;
    uint64_t n_documents, n_turns, n_tokens;
    uint64_t bytes_shared, bytes_own; /* stored state reachable from it: also used by others, and by it alone */
};
enum store_role { STORE_SYSTEM, STORE_USER, STORE_ASSISTANT };
struct store_turn {
    int64_t id;
    enum store_role role;
    char *text;
    size_t text_len;
    char *meta;    /* JSON of app (citations, speed, stopped); may be NULL */
    uint32_t *ids; /* the turn's exact tokens, so that a reopened session never tokenises anew */
    size_t n_ids;
    int64_t created;
};
struct store_session_list {
    struct store_session *items; /* latest used first */
    size_t count;
};
struct store_turn_list {
    struct store_turn *items; /* in order */
    size_t count;
};

int store_session_create(struct store *, const char *name, const int64_t *documents, size_t n_documents, int64_t *id,
                         struct error *);
int store_session_list(struct store *, struct store_session_list *out, struct error *);
void store_session_list_free(struct store_session_list *);
int store_session_get(struct store *, int64_t id, struct store_session_list *out, struct error *);     /* 1 item */
int store_session_documents(struct store *, int64_t id, int64_t **ids, size_t *count, struct error *); /* free(ids) */
int store_session_add_document(struct store *, int64_t id, int64_t document, struct error *);
int store_session_rename(struct store *, int64_t id, const char *name, struct error *);
/* With what only it used. One that another lectern has open is ERROR_USAGE. */
int store_session_remove(struct store *, int64_t id, struct error *);
/* A new session with the first n_turns turns (SIZE_MAX: all): a few rows, no state is copied. name NULL: as it was. */
int store_session_fork(struct store *, int64_t id, size_t n_turns, const char *name, int64_t *out, struct error *);
int store_session_truncate(struct store *, int64_t id, size_t n_turns, struct error *); /* rewind */
/* The session whose documents have exactly these hashes in this order, latest used; *id = 0 when there is none. */
int store_session_find(struct store *, const uint8_t (*hashes)[32], size_t count, int64_t *id, struct error *);
/* The session with the most documents from these paths, whatever their text, of equals the latest used; *id = 0 when
 * none has one. */
int store_session_resembling(struct store *, char *const *paths, size_t count, int64_t *id, struct error *);
/* Marks a session as in use until it is released, the store closed or the process gone, killed or not: no lectern evicts
 * its states, no other one removes it; and it is the latest used. Once for each session; releasing what is not held does
 * nothing. */
int store_session_hold(struct store *, int64_t id, struct error *);
void store_session_release(struct store *, int64_t id);
int store_turns(struct store *, int64_t session, struct store_turn_list *out, struct error *);
void store_turn_list_free(struct store_turn_list *);

/* ----------------------------------------------------------------------------------------------- states */

/* H(i) for i = 0 .. count / STORE_SEGMENT, written to chain[i]; the caller gives count / STORE_SEGMENT + 1 keys. */
int store_chain(const uint8_t model[STORE_KEY], const uint32_t *ids, size_t count, uint8_t (*chain)[STORE_KEY],
                struct error *error);

/* The longest stored prefix of ids: *position tokens (0 = none) have a snapshot and all their rows. */
int store_find_prefix(struct store *, const uint8_t model[STORE_KEY], const uint32_t *ids, size_t count,
                      size_t *position, struct error *);

struct store_load_times { /* seconds of all reading threads together */
    uint32_t threads;
    double read, verify;
};
/* Reads it: calls rows for each segment in order, then for the tail, then snapshot; meanwhile the next ones are read and
 * checked by threads of the store's own. A callback's error ends the load and is returned. What proves damaged is
 * dropped, so that store_find_prefix then answers with the next best position. rows NULL: the caller has them, the
 * snapshot alone is read. */
struct store_load {
    int (*rows)(void *ctx, const void *bytes, size_t size, struct error *error);
    int (*snapshot)(void *ctx, const void *bytes, size_t size, struct error *error);
    void *ctx;
    /* The others may be NULL. room: where rows of that size are to be read, the load's until it has been handed over; NULL:
     * into memory of the store's. Called on the caller's thread, in the order in which pieces are handed over. */
    void *(*room)(void *ctx, size_t size);
    /* The caller's own checksum of a piece, where it has one: called by several threads at once, before the piece's
     * turn, in place of the store's. What is not a piece of the caller's, or not the one that is due, must be refused
     * with ERROR_STATE, here or in its turn; the store then looks whether it is damaged. */
    int (*verify)(void *ctx, const void *bytes, size_t size, struct error *error);
    struct store_load_times *times; /* NULL, or what it took */
};
int store_load(struct store *, const uint8_t model[STORE_KEY], const uint32_t *ids, size_t position,
               const struct store_load *, struct error *);

/* How many leading full segments of ids have their rows stored: the next save need only bring the others. */
int store_rows_present(struct store *, const uint8_t model[STORE_KEY], const uint32_t *ids, size_t count,
                       size_t *segments, struct error *);

/* One save = one transaction: new row segments, a snapshot with its tail rows, and (optionally) the turns of an answer.
 * Blobs are taken over by the queue (freed with free) in every case. */
struct store_blob {
    void *data;
    size_t size;
};
struct store_save {
    uint8_t model[STORE_KEY];
    uint32_t *ids; /* the whole prefix up to the snapshot; taken over */
    size_t count;
    size_t first_segment;    /* index of the first row segment brought */
    struct store_blob *rows; /* [n_rows], full segments first_segment ...; taken over, the array too */
    size_t n_rows;
    struct store_blob tail;     /* rows of the last count % STORE_SEGMENT tokens; empty when there are none */
    struct store_blob snapshot; /* empty: rows only */
    bool keep;       /* a session's own point (turn, end of document): evicted last; else a checkpoint on the way */
    int64_t session; /* 0 = none: the state belongs to no session yet */
    const char *model_name;   /* copied */
    struct store_turn *turns; /* [n_turns] appended to the session in the same transaction; deep-copied */
    size_t n_turns;
};
/* Queues a save and returns at once (it waits only when more than two saves are pending). Errors of the disk appear
 * at the next store_queue_* call: that call returns them once and does not queue what it was given, for that may stand
 * on what was lost. A save that fails leaves nothing behind, neither blobs nor turns. With rows only (no snapshot) the
 * segments belong to no session until a snapshot stands on them. A save may also bring turns alone (count = 0).
 * A segment before first_segment that is not stored fails the save with ERROR_STATE. */
int store_queue_save(struct store *, struct store_save *, struct error *);
/* Waits until everything queued is committed; returns the first error since the last call. */
int store_queue_flush(struct store *, struct error *);

/* ------------------------------------------------------------------------------------------ housekeeping */

struct store_usage {
    uint64_t file_bytes, rows_bytes, snapshot_bytes, document_bytes;
    uint64_t n_segments, n_snapshots, n_documents, n_sessions;
};
int store_usage(struct store *, struct store_usage *out, struct error *);
/* Removes states until they take at most `most` bytes: unreferenced first, then checkpoints, then least recently used
 * leaves. What a session in use stands on stays (store_session_hold), also where that leaves more than `most`. Sessions
 * that lose their last state are counted in *lost: the caller tells. Here and in store_session_remove the freed pages
 * are used again by later saves (that is quick); store_gc gives them back to the file system. */
int store_evict(struct store *, uint64_t most, uint64_t *freed, size_t *lost, struct error *);
/* Drops what no session reaches and gives the pages back. */
int store_gc(struct store *, uint64_t *freed, struct error *);
/* Verifies every page and checksum; for each fault calls report with one sentence. *faults gets their number. */
int store_check(struct store *, void (*report)(void *ctx, const char *sentence), void *ctx, size_t *faults,
                struct error *);
/* Drops what store_check finds bad, keeps what is good; same reporting. */
int store_repair(struct store *, void (*report)(void *ctx, const char *sentence), void *ctx, size_t *dropped,
                 struct error *);

#endif
