/* SPDX-License-Identifier: MIT
 *
 * Loading a state. A thread with a connection of its own reads and verifies the pieces in order, up to SLOTS ahead; the
 * caller's thread hands them to the callbacks. One read transaction spans the load, so that another lectern's
 * eviction cannot pull a row away in the middle.
 *
 * Measured (test_store --bench; 1.10 GB, page cache warm): 2.9 GB/s from call to return, 0.37 s of processor time for
 * reading and verifying; one thread is enough.
 */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS 3

struct piece {
    struct blob_name name;
    int64_t blob;
    int64_t segment; /* of rows; 0 for the tail and the snapshot */
    size_t size;
};

struct slot {
    uint8_t *data;
    size_t capacity;
    bool full; /* read, not yet handed over */
};

struct loader {
    sqlite3 *db;
    struct piece *pieces;
    size_t count;
    int64_t snapshot;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct slot slots[SLOTS];
    bool stop;          /* the caller gives up */
    int rc;             /* of the reading thread */
    struct error error; /* of the reading thread */
    size_t failed;      /* the piece it failed at */
};

/* ---------------------------------------------------------------------------------------------------- plan */

static int plan_segments(struct loader *l, const struct prefix *p, struct error *error)
{
    sqlite3_stmt *by_hash;
    int rc = db_prepare(l->db, SEGMENT_BY_HASH, DB_NONE, &by_hash, error);
    for (size_t i = 0; !rc && i < p->segments; i++) {
        struct segment_row row;
        rc = segment_find(by_hash, p->chain[i + 1], &row, error);
        if (!rc && !row.blob)
            rc = error_set(error, ERROR_STATE, "The rows of tokens %zu to %zu are not in the store any more.",
                           i * STORE_SEGMENT, (i + 1) * STORE_SEGMENT);
        struct piece *piece = &l->pieces[l->count];
        *piece = (struct piece){.blob = row.blob, .segment = row.id, .name.kind = BLOB_ROWS};
        memcpy(piece->name.name, p->chain[i + 1], STORE_KEY);
        if (!rc) l->count++;
    }
    sqlite3_finalize(by_hash);
    return rc;
}

static int plan_snapshot(struct loader *l, const struct prefix *p, struct error *error)
{
    struct snapshot_row *rows;
    size_t n;
    int rc = prefix_snapshots(l->db, p, p->segments, &rows, &n, error);
    if (rc) return rc;
    struct piece snapshot = {.name.kind = BLOB_SNAPSHOT}, tail = {.name.kind = BLOB_TAIL};
    size_t full = p->segments * STORE_SEGMENT;
    if (n && rows[n - 1].position == p->count) {
        l->snapshot = rows[n - 1].id;
        snapshot.blob = rows[n - 1].blob;
        tail.blob = rows[n - 1].tail_blob;
        rc =
            snapshot_name(p->chain[p->segments], p->bytes + full * 4, (p->count - full) * 4, snapshot.name.name, error);
        memcpy(tail.name.name, snapshot.name.name, sizeof tail.name.name);
    } else {
        rc = error_set(error, ERROR_STATE, "The state at token %zu is not in the store any more.", p->count);
    }
    free(rows);
    if (!rc && tail.blob) l->pieces[l->count++] = tail;
    if (!rc) l->pieces[l->count++] = snapshot;
    return rc;
}

static int plan(struct loader *l, const struct prefix *p, struct error *error)
{
    l->pieces = store_alloc((p->segments + 2) * sizeof *l->pieces);
    if (!l->pieces) return store_no_memory(error);
    int rc = db_run(l->db, "BEGIN", DB_NONE, error);
    if (!rc) rc = plan_segments(l, p, error);
    return rc ? rc : plan_snapshot(l, p, error);
}

/* -------------------------------------------------------------------------------------------------- reading */

static int slot_reserve(struct slot *slot, size_t size, struct error *error)
{
    if (slot->capacity >= size && slot->data) return 0;
    free(slot->data);
    slot->data = store_alloc(size);
    slot->capacity = slot->data ? size : 0;
    return slot->data ? 0 : store_no_memory(error);
}

/* Waits until the slot is free; false when the caller gave up. */
static bool slot_wait_free(struct loader *l, const struct slot *slot)
{
    pthread_mutex_lock(&l->mutex);
    while (slot->full && !l->stop) pthread_cond_wait(&l->changed, &l->mutex);
    bool go_on = !l->stop;
    pthread_mutex_unlock(&l->mutex);
    return go_on;
}

static int read_piece(struct loader *l, struct blob_reader *reader, size_t i)
{
    struct slot *slot = &l->slots[i % SLOTS];
    struct piece *piece = &l->pieces[i];
    int rc = blob_size(l->db, piece->blob, &piece->name, &piece->size, &l->error);
    if (!rc) rc = slot_reserve(slot, piece->size, &l->error);
    if (!rc)
        rc = blob_reader_read(reader, piece->blob, &piece->name, (struct store_blob){slot->data, piece->size},
                              &l->error);
    return rc;
}

static void *read_all(void *arg)
{
    struct loader *l = arg;
    struct blob_reader reader;
    int rc = blob_reader_open(&reader, l->db, &l->error);
    size_t i = 0;
    for (; !rc && i < l->count && slot_wait_free(l, &l->slots[i % SLOTS]); i++) {
        rc = read_piece(l, &reader, i);
        if (rc) break;
        pthread_mutex_lock(&l->mutex);
        l->slots[i % SLOTS].full = true;
        pthread_cond_signal(&l->changed);
        pthread_mutex_unlock(&l->mutex);
    }
    blob_reader_close(&reader);
    pthread_mutex_lock(&l->mutex);
    l->failed = i;
    l->rc = rc;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* ------------------------------------------------------------------------------------------------ handing over */

static int hand_over(struct loader *l, const struct store_load *load, struct error *error)
{
    for (size_t i = 0; i < l->count; i++) {
        struct slot *slot = &l->slots[i % SLOTS];
        pthread_mutex_lock(&l->mutex);
        while (!slot->full && !l->rc) pthread_cond_wait(&l->changed, &l->mutex);
        bool ready = slot->full;
        pthread_mutex_unlock(&l->mutex);
        if (!ready) return error_set(error, l->error.code, "%s", l->error.text);
        const struct piece *piece = &l->pieces[i];
        int rc = piece->name.kind == BLOB_SNAPSHOT ? load->snapshot(load->ctx, slot->data, piece->size, error)
                                                   : load->rows(load->ctx, slot->data, piece->size, error);
        if (rc) return rc;
        pthread_mutex_lock(&l->mutex);
        slot->full = false;
        pthread_cond_signal(&l->changed);
        pthread_mutex_unlock(&l->mutex);
    }
    return 0;
}

static int run(struct loader *l, const struct store_load *load, struct error *error)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, read_all, l)) return error_set(error, ERROR_FAILED, "No thread can be started.");
    int rc = hand_over(l, load, error);
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->mutex);
    pthread_join(thread, NULL);
    return rc;
}

/* Whether the piece is damaged also at a second reading: a disk may fail once. Under the write transaction. */
static bool is_lost(sqlite3 *db, struct piece *piece)
{
    struct blob_reader reader;
    struct error ignored;
    struct slot slot = {0};
    int rc = blob_size(db, piece->blob, &piece->name, &piece->size, &ignored);
    if (!rc) rc = slot_reserve(&slot, piece->size, &ignored);
    if (!rc) {
        rc = blob_reader_open(&reader, db, &ignored);
        if (!rc)
            rc = blob_reader_read(&reader, piece->blob, &piece->name, (struct store_blob){slot.data, piece->size},
                                  &ignored);
        blob_reader_close(&reader);
    }
    free(slot.data);
    return rc == ERROR_STATE;
}

/* What is lost is dropped, so that it is not found again. When that fails too (a full or broken disk), the caller has
 * its error all the same, and meets it again next time. */
static void drop_damaged(struct store *store, struct piece *piece, int64_t snapshot)
{
    struct error ignored;
    if (write_begin(store, &ignored)) return;
    int rc = 0;
    bool lost = is_lost(store->writer, piece);
    if (lost)
        rc = piece->segment ? segment_lose(store->writer, piece->segment, piece->blob, &ignored)
                            : snapshot_drop(store->writer, snapshot, NULL, &ignored);
    rc = write_end(store, rc, &ignored);
    if (!lost || !rc || write_begin(store, &ignored)) return;
    /* The parts cannot be deleted when their own pages are bad: forget them, store_repair cleans up. */
    rc = piece->segment
             ? db_run(store->writer, "UPDATE segment SET blob = NULL WHERE id = ?1", DB_VALUES(db_int(piece->segment)),
                      &ignored)
             : db_run(store->writer, "DELETE FROM snapshot WHERE id = ?1", DB_VALUES(db_int(snapshot)), &ignored);
    write_end(store, rc, &ignored);
}

static void loader_free(struct loader *l)
{
    sqlite3_close(l->db);
    for (size_t i = 0; i < SLOTS; i++) free(l->slots[i].data);
    free(l->pieces);
    pthread_mutex_destroy(&l->mutex);
    pthread_cond_destroy(&l->changed);
}

int store_load(struct store *store, const uint8_t model[STORE_KEY], const uint32_t *ids, size_t position,
               const struct store_load *load, struct error *error)
{
    struct prefix p;
    int rc = prefix_make(&p, model, ids, position, error);
    if (rc) return rc;
    struct loader l = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    rc = store_connect(store->path, CONNECT_READER, &l.db, error);
    if (!rc) rc = plan(&l, &p, error);
    if (!rc) rc = run(&l, load, error);
    prefix_free(&p);
    bool damaged = rc && l.rc == ERROR_STATE && l.failed < l.count;
    struct piece piece = damaged ? l.pieces[l.failed] : (struct piece){0};
    int64_t snapshot = l.snapshot;
    loader_free(&l);
    if (damaged) drop_damaged(store, &piece, snapshot);
    if (!rc) queue_touch(store, snapshot);
    return rc;
}
