/* SPDX-License-Identifier: MIT
 *
 * The envelope of saved state: the header of docs/state-format.md, made and checked. It knows bytes and engines, not
 * timelines.
 */
#ifndef LECTERN_ENGINE_STATE_BLOB_H
#define LECTERN_ENGINE_STATE_BLOB_H

#include "engine/engine_internal.h"

enum { STATE_HEADER = 176, STATE_DIMS = 8, STATE_HASH = 32 };

enum state_kind { STATE_ROWS = 1, STATE_SNAPSHOT = 2 };

/* What a piece says of itself. */
struct state_piece {
    enum state_kind kind;
    uint64_t first, count; /* tokens; a snapshot has first = 0 and count = length */
    size_t payload;        /* bytes */
};

/* SHA-256 of ids[0, count) as little-endian u32, continued from call to call while count grows. */
int id_hash_at(struct id_hash *, const uint32_t *ids, size_t count, unsigned char out[STATE_HASH], struct error *error);
void id_hash_free(struct id_hash *);

/* Bytes of payload a piece of this engine has. */
size_t state_payload_bytes(const struct engine *, enum state_kind kind, uint64_t count);

/* Allocates header + payload; the payload is the caller's to fill. */
int state_blob_begin(const struct state_piece *, struct blob *out, struct error *error);
/* Fills the header over the finished payload. */
int state_blob_seal(struct timeline *, const struct state_piece *, struct blob *, struct error *error);

/* Checks bytes given back to us in every field, the checksum included, and that they belong to ids[0, count_ids).
 * ERROR_STATE with the reason. */
struct state_check {
    const void *bytes;
    size_t size;
    enum state_kind kind;
    const uint32_t *ids;
    size_t count_ids;
    bool is_verified; /* state_blob_verify has passed them: not again */
};
/* Form and checksum alone: needs nothing but the bytes. */
int state_blob_verify(const void *bytes, size_t size, struct error *error);
int state_blob_check(const struct engine *, const struct state_check *, struct id_hash *, struct state_piece *out,
                     struct error *error);

#endif
