/* SPDX-License-Identifier: MIT
 *
 * Timelines to bytes and back (docs/state-format.md). A restore builds a timeline of its own, so that whatever is
 * refused on the way has changed nothing else.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/state_blob.h"
#include "engine/state_half.h"

/* -------------------------------------------------------------------------------------------------------- rows */

/* The part of a token range that lies in one block, and where its payload begins. */
struct row_part {
    size_t block, at, count; /* tokens [at, at + count) of the block */
};

static struct row_part next_part(size_t first, size_t end)
{
    size_t at = first % STATE_SEGMENT, room = STATE_SEGMENT - at;
    return (struct row_part){first / STATE_SEGMENT, at, end - first < room ? end - first : room};
}

/* Moves rows between the device and a payload: for each block [n_mla][tokens][row_bytes]; a whole block is one piece.
 */
typedef int move_bytes(struct backend *, uint64_t device, char *host, size_t bytes, struct error *);

static int move_rows(struct timeline *t, size_t first, size_t count, char *payload, move_bytes *move,
                     struct error *error)
{
    const struct engine *e = t->engine;
    size_t end = first + count;
    while (first < end) {
        struct row_part part = next_part(first, end);
        size_t bytes = part.count * e->row_bytes, layers = e->info.n_mla, pieces = layers;
        if (part.count == STATE_SEGMENT && layers) {
            bytes *= layers;
            pieces = 1;
        }
        for (size_t i = 0; i < pieces; i++, payload += bytes) {
            uint64_t row = t->blocks[part.block] + (i * STATE_SEGMENT + part.at) * e->row_bytes;
            int rc = move(e->backend, row, payload, bytes, error);
            if (rc) return rc;
        }
        first += part.count;
    }
    return 0;
}

static int move_down(struct backend *b, uint64_t device, char *host, size_t bytes, struct error *error)
{
    return b->ops->download(b, host, device, bytes, error);
}

static int move_up(struct backend *b, uint64_t device, char *host, size_t bytes, struct error *error)
{
    return b->ops->upload(b, device, host, bytes, error);
}

int timeline_save_rows(struct timeline *t, size_t first, size_t count, struct blob *out, struct error *error)
{
    *out = (struct blob){0};
    if (!count || first > t->length || count > t->length - first)
        return error_set(error, ERROR_USAGE, "Rows of tokens %zu to %zu were asked for, %zu are there.", first,
                         first + count, t->length);
    struct state_piece piece = {
        .kind = STATE_ROWS,
        .first = first,
        .count = count,
        .payload = state_payload_bytes(t->engine, STATE_ROWS, count),
    };
    int rc = state_blob_begin(&piece, out, error);
    if (!rc) rc = move_rows(t, first, count, (char *)out->data + STATE_HEADER, move_down, error);
    if (!rc) rc = state_blob_seal(t, &piece, out, error);
    if (rc) blob_free(out);
    return rc;
}

/* ---------------------------------------------------------------------------------------------------- snapshot */

enum { HALF_CHUNK = 1 << 20 }; /* numbers converted at a time */

/* f16 state: what is saved is also what the timeline goes on with, so that staying and coming back are the same. */
static int save_half(struct timeline *t, unsigned char *payload, struct error *error)
{
    struct backend *b = t->engine->backend;
    size_t n = t->engine->kda_bytes / sizeof(float), chunk = n < HALF_CHUNK ? n : HALF_CHUNK;
    float *state = malloc((chunk + 1) * sizeof *state);
    int rc = state ? 0 : error_set(error, ERROR_FAILED, "Out of memory for a state of %zu numbers.", n);
    for (size_t at = 0; !rc && at < n; at += chunk) {
        size_t count = n - at < chunk ? n - at : chunk;
        uint64_t device = t->state.kda + at * sizeof *state;
        rc = b->ops->download(b, state, device, count * sizeof *state, error);
        if (rc) break;
        state_half_round(state, payload + 2 * at, count);
        rc = b->ops->upload(b, device, state, count * sizeof *state, error);
    }
    free(state);
    return rc;
}

static int restore_half(struct timeline *t, const unsigned char *payload, struct error *error)
{
    struct backend *b = t->engine->backend;
    size_t n = t->engine->kda_bytes / sizeof(float), chunk = n < HALF_CHUNK ? n : HALF_CHUNK;
    float *state = malloc((chunk + 1) * sizeof *state);
    int rc = state ? 0 : error_set(error, ERROR_FAILED, "Out of memory for a state of %zu numbers.", n);
    for (size_t at = 0; !rc && at < n; at += chunk) {
        size_t count = n - at < chunk ? n - at : chunk;
        state_half_widen(payload + 2 * at, state, count);
        rc = b->ops->upload(b, t->state.kda + at * sizeof *state, state, count * sizeof *state, error);
    }
    free(state);
    return rc;
}

static int save_payload(struct timeline *t, unsigned char *payload, struct error *error)
{
    const struct engine *e = t->engine;
    struct backend *b = e->backend;
    bool half = e->info.state_dtype == ENGINE_F16;
    size_t kda = half ? e->kda_bytes / 2 : e->kda_bytes;
    int rc = 0;
    if (half)
        rc = save_half(t, payload, error);
    else if (kda)
        rc = b->ops->download(b, payload, t->state.kda, kda, error);
    if (!rc && e->history_bytes) rc = b->ops->download(b, payload + kda, t->state.history, e->history_bytes, error);
    memcpy(payload + kda + e->history_bytes, t->logits, e->info.n_vocab * sizeof *t->logits);
    return rc;
}

int timeline_save_snapshot(struct timeline *t, struct blob *out, struct error *error)
{
    *out = (struct blob){0};
    if (!t->length) return error_set(error, ERROR_USAGE, "An empty timeline has no state to save.");
    struct state_piece piece = {
        .kind = STATE_SNAPSHOT,
        .count = t->length,
        .payload = state_payload_bytes(t->engine, STATE_SNAPSHOT, t->length),
    };
    int rc = state_blob_begin(&piece, out, error);
    if (!rc) rc = save_payload(t, (unsigned char *)out->data + STATE_HEADER, error);
    if (!rc) rc = state_blob_seal(t, &piece, out, error);
    if (rc) blob_free(out);
    return rc;
}

/* ----------------------------------------------------------------------------------------------------- restore */

struct restore {
    struct timeline *timeline; /* length 0 until finish */
    size_t count;              /* tokens it will have */
    size_t rows;               /* tokens whose rows are there */
    bool has_snapshot;
    struct backend *rooms; /* that lends them; NULL: none was lent */
    bool is_verified;      /* pieces have passed restore_verify when they come */
    struct id_hash hash;
};

enum {
    RESERVE = 16 * STATE_SEGMENT, /* tokens whose rows find memory at once, while others are read */
    ROOM_ALIGNMENT = 256,         /* of a payload that the device copies */
};

int restore_begin(struct restore **out, struct engine *engine, const uint32_t *ids, size_t count, struct error *error)
{
    *out = NULL;
    if (!count) return error_set(error, ERROR_USAGE, "An empty timeline cannot be restored.");
    if (count > engine->info.context)
        return error_set(error, ERROR_FIT, "The state has %zu tokens, the context holds %u.", count,
                         engine->info.context);
    struct restore *r = calloc(1, sizeof *r);
    if (!r) return error_set(error, ERROR_FAILED, "Out of memory for a restore.");
    r->count = count;
    int rc = timeline_create(&r->timeline, engine, error);
    if (rc) {
        restore_abort(&r);
        return rc;
    }
    memcpy(r->timeline->ids, ids, count * sizeof *ids);
    *out = r;
    return 0;
}

void *restore_room(struct restore *r, size_t size)
{
    const struct engine *e = r->timeline->engine;
    const size_t most = STATE_HEADER + state_payload_bytes(e, STATE_ROWS, STATE_SEGMENT);
    if (!e->backend->ops->room || size > most) return NULL;
    const size_t before = (ROOM_ALIGNMENT - STATE_HEADER % ROOM_ALIGNMENT) % ROOM_ALIGNMENT;
    unsigned char *room = e->backend->ops->room(e->backend, before + most);
    if (room) r->rooms = e->backend;
    return room ? room + before : NULL;
}

int restore_verify(const void *bytes, size_t size, struct error *error)
{
    return state_blob_verify(bytes, size, error);
}

void restore_expect_verified(struct restore *r)
{
    r->is_verified = true;
}

static int check_piece(struct restore *r, const void *bytes, size_t size, enum state_kind kind,
                       struct state_piece *piece, struct error *error)
{
    struct timeline *t = r->timeline;
    struct state_check check = {.bytes = bytes,
                                .size = size,
                                .kind = kind,
                                .ids = t->ids,
                                .count_ids = r->count,
                                .is_verified = r->is_verified};
    return state_blob_check(t->engine, &check, &r->hash, piece, error);
}

int restore_rows(struct restore *r, const void *bytes, size_t size, struct error *error)
{
    struct timeline *t = r->timeline;
    struct state_piece piece;
    int rc = check_piece(r, bytes, size, STATE_ROWS, &piece, error);
    if (rc) return rc;
    if (piece.first != r->rows)
        return error_set(error, ERROR_STATE, "Rows from token %llu came where those from %zu were due.",
                         (unsigned long long)piece.first, r->rows);
    const size_t end = r->rows + (size_t)piece.count, ahead = (end + RESERVE - 1) / RESERVE * RESERVE;
    rc = timeline_reserve(t, ahead < r->count ? ahead : r->count, r->count, error);
    if (rc) return rc;
    /* move_up only reads: the cast drops a const that move_down cannot promise. */
    char *payload = (char *)(uintptr_t)bytes + STATE_HEADER;
    rc = move_rows(t, (size_t)piece.first, (size_t)piece.count, payload, move_up, error);
    if (!rc) r->rows += (size_t)piece.count;
    return rc;
}

/* The payload of a snapshot becomes the timeline's state. */
static int upload_snapshot(struct timeline *t, const unsigned char *payload, struct error *error)
{
    const struct engine *e = t->engine;
    struct backend *b = e->backend;
    bool half = e->info.state_dtype == ENGINE_F16;
    size_t kda = half ? e->kda_bytes / 2 : e->kda_bytes;
    int rc = 0;
    if (half)
        rc = restore_half(t, payload, error);
    else if (kda)
        rc = b->ops->upload(b, t->state.kda, payload, kda, error);
    if (!rc && e->history_bytes) rc = b->ops->upload(b, t->state.history, payload + kda, e->history_bytes, error);
    if (!rc) memcpy(t->logits, payload + kda + e->history_bytes, e->info.n_vocab * sizeof *t->logits);
    return rc;
}

int restore_snapshot(struct restore *r, const void *bytes, size_t size, struct error *error)
{
    struct state_piece piece;
    int rc = check_piece(r, bytes, size, STATE_SNAPSHOT, &piece, error);
    if (rc) return rc;
    if (piece.count != r->count)
        return error_set(error, ERROR_STATE, "The snapshot is of %llu tokens, %zu were to be restored.",
                         (unsigned long long)piece.count, r->count);
    rc = upload_snapshot(r->timeline, (const unsigned char *)bytes + STATE_HEADER, error);
    if (!rc) r->has_snapshot = true;
    return rc;
}

int timeline_go_back(struct timeline *t, const void *snapshot, size_t size, struct error *error)
{
    struct state_check check = {
        .bytes = snapshot, .size = size, .kind = STATE_SNAPSHOT, .ids = t->ids, .count_ids = t->length};
    struct id_hash hash = {0};
    struct state_piece piece;
    int rc = state_blob_check(t->engine, &check, &hash, &piece, error);
    id_hash_free(&hash);
    if (rc) return rc;
    rc = upload_snapshot(t, (const unsigned char *)snapshot + STATE_HEADER, error);
    if (rc)
        timeline_clear(t); /* the state is neither this nor that */
    else
        timeline_cut(t, (size_t)piece.count);
    return rc;
}

int restore_finish(struct restore **restore, struct timeline **out, struct error *error)
{
    struct restore *r = *restore;
    int rc = 0;
    *out = NULL;
    if (!r->has_snapshot)
        rc = error_set(error, ERROR_STATE, "The snapshot of the state is missing.");
    else if (r->rows != r->count && r->timeline->engine->info.n_mla)
        rc = error_set(error, ERROR_STATE, "Rows of %zu of %zu tokens are missing.", r->count - r->rows, r->count);
    if (!rc) {
        r->timeline->length = r->count;
        *out = r->timeline;
        r->timeline = NULL;
    }
    restore_abort(restore);
    return rc;
}

void restore_abort(struct restore **restore)
{
    struct restore *r = *restore;
    if (!r) return;
    if (r->rooms) r->rooms->ops->rooms_end(r->rooms);
    timeline_destroy(&r->timeline);
    id_hash_free(&r->hash);
    free(r);
    *restore = NULL;
}
