/* SPDX-License-Identifier: MIT
 *
 * The manifest of a model file: what it is, where it came from, and the SHA-256 of every chunk of it that is here. It
 * lies beside the file, as NAME.part.manifest while the file is on its way and as NAME.manifest afterwards.
 *
 * Text, one field a line, in this order; '-' stands for "not known":
 *     lectern-manifest 1
 *     url https://...              as asked; not used for anything but asking again
 *     revision COMMIT              40 hex digits
 *     etag "..."                   as the server wrote it
 *     size BYTES
 *     chunk BYTES
 *     sha256 HEX SOURCE            of the whole; SOURCE: catalogue, user, server, computed; "- none"
 *     have INDEX HEX               for each chunk that is here, ascending
 *     end HEX                      SHA-256 of all bytes above: a cut or edited manifest is refused
 */
#ifndef LECTERN_APP_MANIFEST_H
#define LECTERN_APP_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/error.h"

#define MANIFEST_URL_MOST 2000u
#define MANIFEST_ETAG_MOST 200u
#define MANIFEST_CHUNKS_MOST (1u << 18)
#define MANIFEST_CHUNK_LEAST 4096u
#define MANIFEST_CHUNK_MOST (1u << 30)

enum manifest_trust { TRUST_NONE, TRUST_CATALOGUE, TRUST_USER, TRUST_SERVER, TRUST_COMPUTED };

enum chunk_state {
    CHUNK_MISSING,
    CHUNK_HERE,
    CHUNK_SUSPECT, /* here, but to be fetched a second time: the whole file's hash is wrong */
};

struct manifest_chunk {
    uint8_t sha256[32];
    enum chunk_state state;
    bool is_taken; /* a transfer is busy with it; not written */
};

struct manifest {
    char url[MANIFEST_URL_MOST + 1];
    char revision[41];
    char etag[MANIFEST_ETAG_MOST + 1];
    uint64_t size, chunk; /* bytes */
    uint8_t sha256[32];
    enum manifest_trust trust; /* who says so; TRUST_NONE: sha256 is not known */
    struct manifest_chunk *chunks;
    size_t n_chunks;
};

/* An empty one: no chunk is here. ERROR_FAILED when size or chunk is out of range, or out of memory. */
int manifest_init(struct manifest *, const char *url, uint64_t size, uint64_t chunk, struct error *);
/* *found is false, and nothing else set, when there is none. A broken one is ERROR_FAILED. */
int manifest_read(struct manifest *, int dir, const char *name, bool *found, struct error *);
/* Replaces the file atomically; it is on the disk on return. ERROR_DISK. */
int manifest_write(const struct manifest *, int dir, const char *name, struct error *);
void manifest_free(struct manifest *);

uint64_t manifest_chunk_bytes(const struct manifest *, size_t index); /* the last may be shorter */
uint64_t manifest_bytes_here(const struct manifest *);                /* of the chunks that are here */
const char *manifest_trust_name(enum manifest_trust);

/* 64 hex digits and a NUL; false when the text is not exactly 64 hex digits. */
const char *hash_to_hex(const uint8_t hash[32], char out[65]);
bool hash_from_hex(const char *text, uint8_t out[32]);

#endif
