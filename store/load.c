/* SPDX-License-Identifier: MIT
 *
 * Loading a state. The caller's thread plans which pieces there are and hands them to the callbacks in order, while up
 * to AHEAD of them are on their way: readers, a few threads each with a connection of its own, take the parts of these
 * pieces one by one, read them to where the caller wants them and verify them there: by the caller's own checksum, if it
 * has one, else by the store's. Whose fault it is when the caller's is wrong, the store's tell.
 *
 * A read transaction of the planning connection spans the load, so that another lectern's eviction cannot pull a row
 * away in the middle. The readers' transactions may be younger: what they find under a name is right when its checksum
 * is, whenever it was written; and what a reader does not find, or cannot read, is read again by the connection that
 * planned. Its word counts. So a load also ends well, only later, where no thread can be started.
 *
 * Reading by memory maps (mmap_size) would spare a copy, and make a signal of what is an error of the disk here.
 */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { AHEAD = 14, READERS_MOST = 8 };

struct piece {
    struct blob_place from;
    int64_t segment; /* of rows; 0 for the tail and the snapshot */
    size_t size;     /* known when its slot is opened */
};

struct slot {            /* of a piece on its way */
    uint8_t *own, *data; /* data: own, or the caller's */
    size_t capacity;     /* of own */
    size_t n_done;       /* units that readers are done with */
    bool ready;          /* all of them, and verified, unless it failed */
    bool failed;
};

struct loader {
    const char *path;
    const struct store_load *load;
    sqlite3 *db;
    struct blob_reader reader; /* of db */
    struct piece *pieces;      /* the snapshot, then the rows */
    size_t count;
    int64_t snapshot;
    size_t failed; /* the piece that is damaged; SIZE_MAX: none */

    pthread_mutex_t mutex;           /* over what follows */
    pthread_cond_t opened, finished; /* work for readers; news from them */
    struct slot slots[AHEAD + 1];    /* the last is the snapshot's */
    size_t n_open;                   /* pieces that may be read */
    size_t next_piece, next_part;    /* for the next reader that is free */
    size_t n_readers;                /* that live */
    struct store_load_times times;
    bool stop; /* the caller is done */
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
        if (rc) break;
        struct piece *piece = &l->pieces[l->count++];
        *piece = (struct piece){.from = {.id = row.blob, .name.kind = BLOB_ROWS}, .segment = row.id};
        memcpy(piece->from.name.name, p->chain[i + 1], STORE_KEY);
    }
    sqlite3_finalize(by_hash);
    return rc;
}

/* The snapshot, and the rows of its tail, which may be none. */
static int plan_snapshot(struct loader *l, const struct prefix *p, struct piece *tail, struct error *error)
{
    struct snapshot_row *rows;
    size_t n, full = p->segments * STORE_SEGMENT;
    struct blob_place from = {.name.kind = BLOB_SNAPSHOT};
    int rc = prefix_snapshots(l->db, p, p->segments, &rows, &n, error);
    if (rc) return rc;
    const struct snapshot_row row = n ? rows[n - 1] : (struct snapshot_row){0};
    free(rows);
    if (row.position != p->count)
        return error_set(error, ERROR_STATE, "The state at token %zu is not in the store any more.", p->count);
    rc = snapshot_name(p->chain[p->segments], p->bytes + full * 4, (p->count - full) * 4, from.name.name, error);
    from.id = row.blob;
    l->snapshot = row.id;
    l->pieces[l->count++] = (struct piece){.from = from};
    from.name.kind = BLOB_TAIL;
    from.id = row.tail_blob;
    *tail = (struct piece){.from = from};
    return rc;
}

static int plan(struct loader *l, const struct prefix *p, struct error *error)
{
    bool with_rows = l->load->rows != NULL;
    struct piece tail = {0};
    l->pieces = store_alloc((p->segments + 2) * sizeof *l->pieces);
    if (!l->pieces) return store_no_memory(error);
    int rc = db_run(l->db, "BEGIN", DB_NONE, error);
    if (!rc) rc = plan_snapshot(l, p, &tail, error);
    if (!rc && with_rows) rc = plan_segments(l, p, error);
    if (!rc && with_rows && tail.from.id) l->pieces[l->count++] = tail;
    return rc ? rc : blob_reader_open(&l->reader, l->db, error);
}

/* ------------------------------------------------------------------------------------------------- readers */

struct unit { /* what a reader reads at a time */
    size_t piece, part;
};

static size_t piece_units(const struct piece *piece)
{
    size_t parts = blob_parts(piece->size);
    return parts ? parts : 1;
}

static size_t slot_of(size_t piece)
{
    return piece ? piece % AHEAD : AHEAD;
}

static struct store_blob slot_bytes(const struct loader *l, size_t piece)
{
    return (struct store_blob){l->slots[slot_of(piece)].data, l->pieces[piece].size};
}

/* Waits for something to read; false when there will be nothing more. */
static bool take_unit(struct loader *l, struct unit *out)
{
    pthread_mutex_lock(&l->mutex);
    while (!l->stop && l->next_piece == l->n_open) pthread_cond_wait(&l->opened, &l->mutex);
    bool go_on = !l->stop;
    *out = (struct unit){l->next_piece, l->next_part};
    if (go_on && ++l->next_part == piece_units(&l->pieces[l->next_piece])) {
        l->next_piece++;
        l->next_part = 0;
    }
    pthread_mutex_unlock(&l->mutex);
    return go_on;
}

static int verify_piece(const struct loader *l, size_t piece, struct error *error)
{
    struct store_blob bytes = slot_bytes(l, piece);
    return l->load->verify ? l->load->verify(l->load->ctx, bytes.data, bytes.size, error) : 0;
}

/* Whoever finishes the last part verifies the whole. */
static void finish_unit(struct loader *l, const struct unit *u, bool good)
{
    struct slot *slot = &l->slots[slot_of(u->piece)];
    struct error ignored;
    pthread_mutex_lock(&l->mutex);
    slot->failed = slot->failed || !good;
    bool last = ++slot->n_done == piece_units(&l->pieces[u->piece]), whole = last && !slot->failed;
    pthread_mutex_unlock(&l->mutex);
    if (!last) return;
    const double began = store_clock();
    whole = whole && !verify_piece(l, u->piece, &ignored);
    pthread_mutex_lock(&l->mutex);
    l->times.verify += store_clock() - began;
    slot->failed = !whole;
    slot->ready = true;
    pthread_cond_signal(&l->finished);
    pthread_mutex_unlock(&l->mutex);
}

static void *read_units(void *arg)
{
    struct loader *l = arg;
    struct blob_reader reader = {0};
    struct unit u;
    struct error ignored;
    sqlite3 *db = NULL;
    int rc = store_connect(l->path, CONNECT_READER, &db, &ignored);
    if (!rc) rc = db_run(db, "BEGIN", DB_NONE, &ignored);
    if (!rc) rc = blob_reader_open(&reader, db, &ignored);
    reader.leaves_sums = l->load->verify != NULL;
    while (!rc && take_unit(l, &u)) {
        const struct blob_place *from = &l->pieces[u.piece].from;
        finish_unit(l, &u, !blob_reader_part(&reader, from, u.part, slot_bytes(l, u.piece), &ignored));
    }
    const double read = reader.read_seconds, verify = reader.verify_seconds;
    blob_reader_close(&reader);
    sqlite3_close(db);
    pthread_mutex_lock(&l->mutex);
    l->times.read += read;
    l->times.verify += verify;
    l->n_readers--;
    pthread_cond_signal(&l->finished);
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* ------------------------------------------------------------------------------------------------ handing over */

static int slot_reserve(struct slot *slot, size_t size, struct error *error)
{
    if (slot->capacity >= size && slot->own) return 0;
    free(slot->own);
    slot->own = store_alloc(size);
    slot->capacity = slot->own ? size : 0;
    return slot->own ? 0 : store_no_memory(error);
}

/* Finds room for the next piece, and lets readers at it. */
static int open_piece(struct loader *l, struct error *error)
{
    struct piece *piece = &l->pieces[l->n_open];
    struct slot *slot = &l->slots[slot_of(l->n_open)];
    int rc = blob_reader_size(&l->reader, &piece->from, &piece->size, error);
    if (rc == ERROR_STATE) l->failed = l->n_open;
    if (rc) return rc;
    slot->data = l->n_open && l->load->room ? l->load->room(l->load->ctx, piece->size) : NULL;
    if (!slot->data && (rc = slot_reserve(slot, piece->size, error))) return rc;
    if (!slot->data) slot->data = slot->own;
    slot->n_done = 0;
    slot->ready = slot->failed = false;
    pthread_mutex_lock(&l->mutex);
    l->n_open++;
    pthread_cond_broadcast(&l->opened);
    pthread_mutex_unlock(&l->mutex);
    return 0;
}

/* Waits until readers have read a piece; false when they could not. */
static bool wait_ready(struct loader *l, size_t piece)
{
    const struct slot *slot = &l->slots[slot_of(piece)];
    pthread_mutex_lock(&l->mutex);
    while (!slot->ready && l->n_readers) pthread_cond_wait(&l->finished, &l->mutex);
    bool good = slot->ready && !slot->failed;
    pthread_mutex_unlock(&l->mutex);
    return good;
}

static int read_here(struct loader *l, size_t piece, struct error *error)
{
    int rc = blob_reader_read(&l->reader, &l->pieces[piece].from, slot_bytes(l, piece), error);
    if (rc == ERROR_STATE) l->failed = piece;
    return rc ? rc : verify_piece(l, piece, error);
}

static int hand_over(struct loader *l, size_t piece, struct error *error)
{
    const struct store_load *load = l->load;
    struct store_blob bytes = slot_bytes(l, piece);
    int rc = wait_ready(l, piece) ? 0 : read_here(l, piece, error);
    if (rc) return rc;
    rc = l->pieces[piece].from.name.kind == BLOB_SNAPSHOT ? load->snapshot(load->ctx, bytes.data, bytes.size, error)
                                                          : load->rows(load->ctx, bytes.data, bytes.size, error);
    if (rc == ERROR_STATE) l->failed = piece; /* good of itself perhaps, and in another's place */
    return rc;
}

/* The snapshot is read first, for it takes longest, and handed over last: rows need not wait for it. */
static int hand_over_all(struct loader *l, struct error *error)
{
    int rc = open_piece(l, error);
    for (size_t i = 1; !rc && i < l->count; i++) {
        while (!rc && l->n_open < l->count && l->n_open - i < AHEAD) rc = open_piece(l, error);
        if (!rc) rc = hand_over(l, i, error);
    }
    return rc ? rc : hand_over(l, 0, error);
}

/* No more than cores; the caller's own thread is mostly waiting. */
static size_t readers_wanted(size_t units)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t most = cores < 1 ? 1 : cores < READERS_MOST ? (size_t)cores : READERS_MOST;
    return units < most ? units : most;
}

/* The readers connect while the pieces are planned. */
static int run(struct loader *l, const struct prefix *p, struct error *error)
{
    pthread_t threads[READERS_MOST];
    size_t n = 0, wanted = readers_wanted(l->load->rows ? p->segments + 1 : READERS_MOST);
    pthread_mutex_lock(&l->mutex);
    while (n < wanted && !pthread_create(&threads[n], NULL, read_units, l)) n++;
    l->n_readers = n;
    l->times.threads = (uint32_t)n;
    pthread_mutex_unlock(&l->mutex);
    int rc = plan(l, p, error);
    if (!rc) rc = hand_over_all(l, error);
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_broadcast(&l->opened);
    pthread_mutex_unlock(&l->mutex);
    while (n) pthread_join(threads[--n], NULL);
    return rc;
}

/* --------------------------------------------------------------------------------------------------- damage */

/* Whether the piece is damaged also at one more reading: a disk may fail once. Under the write transaction. */
static bool is_lost(sqlite3 *db, const struct piece *piece)
{
    struct blob_reader reader;
    struct error ignored;
    struct slot slot = {0};
    size_t size = 0;
    int rc = blob_reader_open(&reader, db, &ignored);
    if (!rc) rc = blob_reader_size(&reader, &piece->from, &size, &ignored);
    if (!rc) rc = slot_reserve(&slot, size, &ignored);
    if (!rc) rc = blob_reader_read(&reader, &piece->from, (struct store_blob){slot.own, size}, &ignored);
    blob_reader_close(&reader);
    free(slot.own);
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
        rc = piece->segment ? segment_lose(store->writer, piece->segment, piece->from.id, &ignored)
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
    blob_reader_close(&l->reader);
    sqlite3_close(l->db);
    for (size_t i = 0; i <= AHEAD; i++) free(l->slots[i].own);
    free(l->pieces);
    pthread_mutex_destroy(&l->mutex);
    pthread_cond_destroy(&l->opened);
    pthread_cond_destroy(&l->finished);
}

int store_load(struct store *store, const uint8_t model[STORE_KEY], const uint32_t *ids, size_t position,
               const struct store_load *load, struct error *error)
{
    struct prefix p;
    int rc = prefix_make(&p, model, ids, position, error);
    if (rc) return rc;
    struct loader l = {.path = store->path,
                       .load = load,
                       .mutex = PTHREAD_MUTEX_INITIALIZER,
                       .opened = PTHREAD_COND_INITIALIZER,
                       .finished = PTHREAD_COND_INITIALIZER,
                       .failed = SIZE_MAX};
    rc = store_connect(store->path, CONNECT_READER, &l.db, error);
    if (!rc) rc = run(&l, &p, error);
    prefix_free(&p);
    bool damaged = l.failed < l.count;
    struct piece piece = damaged ? l.pieces[l.failed] : (struct piece){0};
    int64_t snapshot = l.snapshot;
    loader_free(&l);
    if (load->times) *load->times = l.times;
    if (damaged) drop_damaged(store, &piece, snapshot);
    if (!rc) queue_touch(store, snapshot);
    return rc;
}
