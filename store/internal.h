/* SPDX-License-Identifier: MIT
 *
 * What the files of the store share among themselves. Layers, lower first:
 *   db.c (statements, errors)  folder.c (directory, lock file)  lease.c (sessions in use)  blobs.c (checksums, parts)
 *   store.c (connections, transactions)  migrate.c
 *   documents.c  sessions.c  states.c  save.c  load.c  queue.c  housekeeping.c  check.c  salvage.c
 */
#ifndef LECTERN_STORE_INTERNAL_H
#define LECTERN_STORE_INTERNAL_H

#include <pthread.h>
#include <sqlite3.h>

#include "store/store.h"

#define STORE_VERSION 1              /* PRAGMA user_version */
#define STORE_APPLICATION 0x4c43544e /* PRAGMA application_id, "LCTN" */
#define STORE_PAGE 32768             /* see the measurements in blobs.c */
#define STORE_PART ((size_t)8 << 20) /* bytes of a full part */
#define STORE_PARTS 1024             /* parts a blob may have */
#define STORE_SUM 16                 /* bytes of a part's checksum */

struct queue;

struct store {
    char *dir;
    char *path;   /* dir/lectern.db */
    int lock_fd;  /* dir/lectern.lock; flock'ed by whoever writes */
    int lease_fd; /* the same file once more: lease.c */
    sqlite3 *writer;
    sqlite3 *reader;
    pthread_mutex_t write_mutex, read_mutex;
    struct queue *queue;
};

/* ------------------------------------------------------------------------------------------------- memory */

/* malloc, unless the test of failing allocations refuses. Zeroed. */
void *store_alloc(size_t size);
char *store_strdup(const char *); /* NULL for NULL */
/* Test hook: called with every size; false makes the allocation fail. NULL: all succeed. */
extern bool (*store_alloc_allowed)(size_t size);
int store_no_memory(struct error *);

/* ----------------------------------------------------------------------------------------------- statements */

enum db_kind { DB_NULL, DB_INT, DB_TEXT, DB_BLOB };
struct db_value {
    enum db_kind kind;
    int64_t number;
    const void *data; /* must live until the statement is finished */
    size_t size;
};
struct db_values {
    const struct db_value *items;
    size_t count;
};
struct db_value db_int(int64_t);
struct db_value db_id(int64_t);                 /* 0 is NULL */
struct db_value db_text(const char *);          /* NULL is NULL */
struct db_value db_bytes(const void *, size_t); /* NULL with size 0 is an empty blob */
struct db_value db_bytes_or_null(const void *, size_t);
#define DB_VALUES(...)                                                                                                 \
    ((struct db_values){(const struct db_value[]){__VA_ARGS__},                                                        \
                        sizeof((const struct db_value[]){__VA_ARGS__}) / sizeof(struct db_value)})
#define DB_NONE ((struct db_values){NULL, 0})

int db_fail(sqlite3 *, struct error *); /* the code and sentence for the connection's last error */
int db_prepare(sqlite3 *, const char *sql, struct db_values, sqlite3_stmt **out, struct error *);
int db_bind(sqlite3_stmt *, struct db_values, struct error *); /* resets first */
int db_step(sqlite3_stmt *, bool *row, struct error *);
int db_run(sqlite3 *, const char *sql, struct db_values, struct error *);
/* The first column of the first row; 0 when there is no row or it is NULL. */
int db_number(sqlite3 *, const char *sql, struct db_values, int64_t *out, struct error *);
/* Several statements without values. */
int db_script(sqlite3 *, const char *sql, struct error *);
/* A copy of a column, NUL-terminated beyond size (which may be NULL); NULL stays NULL. */
int db_copy(sqlite3_stmt *, int column, void **out, size_t *size, struct error *);
int db_copy_text(sqlite3_stmt *, int column, char **out, size_t *size, struct error *);
/* A column that must be a blob of exactly size bytes; ERROR_STATE when it is not. */
int db_copy_fixed(sqlite3_stmt *, int column, void *out, size_t size, struct error *);

/* ----------------------------------------------------------------------------------------------- folder */

/* Creates dir (0700) and opens its lock file; refuses a folder that cannot be written or lies on a network. */
int folder_open(const char *dir, int *lock_fd, struct error *);
const char *folder_network_name(long type); /* statfs f_type -> "NFS", ...; NULL for a local file system */
int folder_lock(int lock_fd, struct error *);
void folder_unlock(int lock_fd);
void folder_close(int lock_fd);
int folder_create_file(const char *path, struct error *); /* empty, 0600, unless it is there */
int folder_sync(const char *dir, struct error *);

/* ---------------------------------------------------------------------------------------------------- lease */

int lease_open(const char *dir, int *fd, struct error *);  /* the folder is open */
bool lease_is_held(const struct store *, int64_t session); /* by this process or another */
bool lease_is_held_by_another(const struct store *, int64_t session);

/* ------------------------------------------------------------------------------------------- connections */

extern const unsigned char store_schema[]; /* schema.sql, NUL-terminated; made by CMake */

enum connect_kind { CONNECT_WRITER, CONNECT_READER };
int store_connect(const char *path, enum connect_kind, sqlite3 **out, struct error *);
int store_backup(sqlite3 *from, sqlite3 *to, struct error *); /* all pages, in one transaction of `to` */

/* A step from version `from` to from + 1, run in one transaction. */
struct store_migration {
    int from;
    const char *sql;
};
struct migration_plan {
    const struct store_migration *steps;
    size_t count;
    int version; /* the version to arrive at */
};
int store_verify_schema(sqlite3 *, const char *path, struct error *);
int store_create(sqlite3 *, struct error *); /* schema and version, in one transaction */
int store_migrate(sqlite3 *, const char *path, const struct migration_plan *, struct error *);

/* Transactions. A write holds the mutex of the process and the lock file of all processes; end commits when rc is 0,
 * else rolls back, and returns what came of it. Nothing else may write or checkpoint: see store.c. */
int write_begin(struct store *, struct error *);
int write_end(struct store *, int rc, struct error *);
/* The same without a transaction: for pragmas that make their own. */
int write_hold(struct store *, struct error *);
void write_release(struct store *);
int read_begin(struct store *, struct error *);
void read_end(struct store *);
int64_t store_now(void);        /* unix seconds */
int64_t store_now_micros(void); /* unix microseconds */
double store_clock(void);       /* monotonic seconds */

/* --------------------------------------------------------------------------------------- checksums and blobs */

struct digest; /* SHA-256 over fields, each preceded by its length */
int digest_begin(struct digest **, struct error *);
void digest_field(struct digest *, const void *, size_t); /* NULL counts as absent, not as empty */
void digest_number(struct digest *, int64_t);
int digest_end(struct digest **, uint8_t out[32], struct error *);
int digest_bytes(const void *, size_t, uint8_t out[32], struct error *); /* plain SHA-256 */

enum blob_kind { BLOB_ROWS = 0, BLOB_TAIL = 1, BLOB_SNAPSHOT = 2 };
struct blob_name {
    uint8_t name[32];
    enum blob_kind kind;
};
int blob_write(sqlite3 *, const struct blob_name *, const struct store_blob *, int64_t *id, struct error *);
size_t blob_parts(size_t size); /* how many parts so many bytes take */
struct blob_place { /* where a blob is, and under which name it was written */
    int64_t id;
    struct blob_name name;
};
struct blob_reader {
    sqlite3 *db;
    sqlite3_stmt *sizes, *sums;
    sqlite3_blob *handle;
    bool leaves_sums;                    /* somebody else verifies */
    double read_seconds, verify_seconds; /* so far */
};
int blob_reader_open(struct blob_reader *, sqlite3 *, struct error *);
int blob_reader_size(struct blob_reader *, const struct blob_place *, size_t *size, struct error *);
/* Part `ordinal` into its place in whole [size], verified unless the reader leaves that. ERROR_STATE when anything is not as it was written. */
int blob_reader_part(struct blob_reader *, const struct blob_place *, size_t ordinal, struct store_blob whole,
                     struct error *);
int blob_reader_read(struct blob_reader *, const struct blob_place *, struct store_blob into, struct error *); /* all */
void blob_reader_close(struct blob_reader *);
int blob_delete(sqlite3 *, int64_t id, uint64_t *freed, struct error *);
int snapshot_name(const uint8_t hash[32], const void *tail, size_t tail_size, uint8_t out[32], struct error *);

/* ----------------------------------------------------------------------------------------------- the tree */

struct segment_row {
    int64_t id, blob; /* 0: not there */
};
int segment_find(sqlite3_stmt *by_hash, const uint8_t hash[32], struct segment_row *out, struct error *);
#define SEGMENT_BY_HASH "SELECT id, blob FROM segment WHERE hash = ?1"

struct prefix {
    uint8_t (*chain)[STORE_KEY]; /* [segments + 1] */
    size_t segments;             /* full ones */
    uint8_t *bytes;              /* the ids as u32 LE */
    size_t count;
};
int prefix_make(struct prefix *, const uint8_t model[STORE_KEY], const uint32_t *ids, size_t count, struct error *);
void prefix_free(struct prefix *);

struct snapshot_row {
    int64_t id, blob, tail_blob;
    size_t position;
    bool keep;
};
/* The snapshots that stand on the prefix within its first `segments` nodes, shallowest first; free(*out). */
int prefix_snapshots(sqlite3 *, const struct prefix *, size_t segments, struct snapshot_row **out, size_t *count,
                     struct error *);

/* Deletes a snapshot, its links and the segments nothing stands on any more. */
int snapshot_drop(sqlite3 *, int64_t id, uint64_t *freed, struct error *);
/* Deletes segment and its parents as far as neither a child nor a snapshot stands on them. */
int segment_prune(sqlite3 *, int64_t segment, uint64_t *freed, struct error *);
int segments_drop_orphans(sqlite3 *, uint64_t *freed, struct error *);
/* Makes segment a hole (blob NULL), or drops the snapshot, because their bytes are lost. */
int segment_lose(sqlite3 *, int64_t segment, int64_t blob, struct error *);

int save_commit(struct store *, const struct store_save *, struct error *);

/* ------------------------------------------------------------------------------------------------- sessions */

int session_append_turns(sqlite3 *, int64_t session, const struct store_turn *, size_t count, struct error *);
int turn_verify(sqlite3_stmt *, struct store_turn *out, struct error *); /* of TURN_COLUMNS; free with turn_free */
void turn_free(struct store_turn *);
#define TURN_COLUMNS "t.id, t.role, t.created, t.sum, t.meta, t.ids, t.text"
int document_verify(sqlite3_stmt *, struct store_document *out, struct error *); /* of DOCUMENT_COLUMNS */
#define DOCUMENT_COLUMNS "id, hash, sum, path, title, mtime, size, places, text"
/* Deletes turns and documents that no session has. */
int session_drop_orphans(sqlite3 *, struct error *);

/* ---------------------------------------------------------------------------------------------------- queue */

int queue_start(struct store *, struct error *);
void queue_stop(struct store *); /* finishes what is queued */
/* Marks a snapshot as used, some time; not an error when it fails. */
void queue_touch(struct store *, int64_t snapshot);

/* ---------------------------------------------------------------------------------------------- housekeeping */

/* Gives free pages back to the file system and empties the write-ahead log. */
int store_shrink(struct store *, struct error *);

struct report {
    void (*sentence)(void *ctx, const char *sentence);
    void *ctx;
    size_t count;
    bool fix; /* drop what is bad */
};
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void report_add(struct report *, const char *format, ...);
/* Copies every row that can still be read into a new database and puts it in the place of the old, atomically. */
int store_salvage(struct store *, struct report *, struct error *);

#endif
