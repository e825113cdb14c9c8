/* SPDX-License-Identifier: MIT
 *
 * Loading a state is a pipeline over pieces, up to SLOTS of them on their way: one thread with a connection of its own
 * reads them in order, a few others verify their checksums, the caller's thread hands them to the callbacks. One read
 * transaction spans the load, so that another lectern's eviction cannot pull a row away in the middle; that is why one
 * connection reads everything.
 *
 * Measured (test_store --bench; 1.10 GB in 257 pieces, two shared cores, callbacks that do nothing): 3.0 to 4.8 GB/s
 * from call to return with a warm page cache, 1.5 with a cold one.
 */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOTS = 8, CHECKERS_MOST = 3 };

struct piece {
    struct blob_name name;
    int64_t blob;
    int64_t segment; /* of rows; 0 for the tail and the snapshot */
    size_t size;
};

struct slot {
    uint8_t *data;
    size_t capacity;
    uint8_t (*sums)[STORE_SUM]; /* as stored, one a part */
    bool full;                  /* the reader's no longer, until it is handed over */
    bool ready;                 /* verified, or rc says why not */
    int rc;
    struct error error;
};

struct loader {
    sqlite3 *db;
    struct piece *pieces;
    size_t count;
    int64_t snapshot;
    pthread_mutex_t mutex; /* over what follows */
    pthread_cond_t changed;
    struct slot slots[SLOTS];
    size_t n_read, n_taken; /* pieces read; pieces that a checker took */
    bool stop;              /* the caller is done */
    size_t failed;          /* the piece that is damaged; SIZE_MAX: none */
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

static int plan_snapshot(struct loader *l, const struct prefix *p, bool with_tail, struct error *error)
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
    if (!rc && tail.blob && with_tail) l->pieces[l->count++] = tail;
    if (!rc) l->pieces[l->count++] = snapshot;
    return rc;
}

static int plan(struct loader *l, const struct prefix *p, bool with_rows, struct error *error)
{
    l->pieces = store_alloc((p->segments + 2) * sizeof *l->pieces);
    if (!l->pieces) return store_no_memory(error);
    int rc = db_run(l->db, "BEGIN", DB_NONE, error);
    if (!rc && with_rows) rc = plan_segments(l, p, error);
    return rc ? rc : plan_snapshot(l, p, with_rows, error);
}

/* -------------------------------------------------------------------------------------------------- reading */

static int slot_reserve(struct slot *slot, size_t size, struct error *error)
{
    if (slot->capacity >= size && slot->data && slot->sums) return 0;
    free(slot->data);
    free(slot->sums);
    slot->data = store_alloc(size);
    slot->sums = store_alloc(blob_parts(size) * sizeof *slot->sums);
    bool ok = slot->data && slot->sums;
    slot->capacity = ok ? size : 0;
    return ok ? 0 : store_no_memory(error);
}

static void slot_free(struct slot *slot)
{
    free(slot->data);
    free(slot->sums);
}

/* Waits until the slot is free; false when the caller is done. */
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
    int rc = reader->db ? 0 : blob_reader_open(reader, l->db, &slot->error);
    if (!rc) rc = blob_size(l->db, piece->blob, &piece->name, &piece->size, &slot->error);
    if (!rc) rc = slot_reserve(slot, piece->size, &slot->error);
    if (rc) return rc;
    return blob_reader_fetch(reader, piece->blob, (struct store_blob){slot->data, piece->size}, slot->sums,
                             &slot->error);
}

/* A piece that cannot be read is the last: the caller learns of it in its turn. */
static void *read_all(void *arg)
{
    struct loader *l = arg;
    struct blob_reader reader = {0};
    int rc = 0;
    for (size_t i = 0; !rc && i < l->count && slot_wait_free(l, &l->slots[i % SLOTS]); i++) {
        rc = read_piece(l, &reader, i);
        pthread_mutex_lock(&l->mutex);
        l->slots[i % SLOTS].rc = rc;
        l->slots[i % SLOTS].ready = rc != 0;
        l->slots[i % SLOTS].full = true;
        if (!rc) l->n_read++;
        pthread_cond_broadcast(&l->changed);
        pthread_mutex_unlock(&l->mutex);
    }
    blob_reader_close(&reader);
    return NULL;
}

/* ------------------------------------------------------------------------------------------------- verifying */

static void *check_pieces(void *arg)
{
    struct loader *l = arg;
    pthread_mutex_lock(&l->mutex);
    for (;;) {
        while (!l->stop && l->n_taken == l->n_read) pthread_cond_wait(&l->changed, &l->mutex);
        if (l->stop) break;
        size_t i = l->n_taken++;
        struct slot *slot = &l->slots[i % SLOTS];
        const struct piece *piece = &l->pieces[i];
        pthread_mutex_unlock(&l->mutex);
        int rc = blob_verify(&piece->name, (struct store_blob){slot->data, piece->size}, slot->sums, &slot->error);
        pthread_mutex_lock(&l->mutex);
        slot->rc = rc;
        slot->ready = true;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* ------------------------------------------------------------------------------------------------ handing over */

static int hand_over(struct loader *l, const struct store_load *load, struct error *error)
{
    for (size_t i = 0; i < l->count; i++) {
        struct slot *slot = &l->slots[i % SLOTS];
        pthread_mutex_lock(&l->mutex);
        while (!slot->full || !slot->ready) pthread_cond_wait(&l->changed, &l->mutex);
        pthread_mutex_unlock(&l->mutex);
        if (slot->rc == ERROR_STATE) l->failed = i;
        if (slot->rc) return error_set(error, slot->error.code, "%s", slot->error.text);
        const struct piece *piece = &l->pieces[i];
        int rc = piece->name.kind == BLOB_SNAPSHOT ? load->snapshot(load->ctx, slot->data, piece->size, error)
                                                   : load->rows(load->ctx, slot->data, piece->size, error);
        if (rc) return rc;
        pthread_mutex_lock(&l->mutex);
        slot->full = slot->ready = false;
        pthread_cond_broadcast(&l->changed);
        pthread_mutex_unlock(&l->mutex);
    }
    return 0;
}

/* One checker is enough where it has a core of its own: the others are for cores that are slow or shared. */
static size_t checkers_wanted(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores <= 2 ? 1 : cores > CHECKERS_MOST + 1 ? CHECKERS_MOST : (size_t)cores - 1;
}

static int run(struct loader *l, const struct store_load *load, struct error *error)
{
    pthread_t threads[1 + CHECKERS_MOST];
    size_t n = 0, wanted = 1 + checkers_wanted();
    while (n < wanted && !pthread_create(&threads[n], NULL, n ? check_pieces : read_all, l)) n++;
    int rc = n >= 2 ? hand_over(l, load, error) : error_set(error, ERROR_FAILED, "No thread can be started.");
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->mutex);
    while (n) pthread_join(threads[--n], NULL);
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
    slot_free(&slot);
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
    for (size_t i = 0; i < SLOTS; i++) slot_free(&l->slots[i]);
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
    struct loader l = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .failed = SIZE_MAX};
    rc = store_connect(store->path, CONNECT_READER, &l.db, error);
    if (!rc) rc = plan(&l, &p, load->rows != NULL, error);
    if (!rc) rc = run(&l, load, error);
    prefix_free(&p);
    bool damaged = l.failed < l.count;
    struct piece piece = damaged ? l.pieces[l.failed] : (struct piece){0};
    int64_t snapshot = l.snapshot;
    loader_free(&l);
    if (damaged) drop_damaged(store, &piece, snapshot);
    if (!rc) queue_touch(store, snapshot);
    return rc;
}
