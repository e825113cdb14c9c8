/* SPDX-License-Identifier: MIT
 *
 * What the engine's own files know of struct engine and struct timeline.
 */
#ifndef LECTERN_ENGINE_ENGINE_INTERNAL_H
#define LECTERN_ENGINE_ENGINE_INTERNAL_H

#include "engine/engine.h"
#include "engine/graph.h"
#include "engine/model.h"
#include "engine/tokenizer.h"

struct engine {
    struct engine_info info;
    struct model *model;
    struct tokenizer *tokenizer;
    struct backend *backend;
    struct observer *observer; /* NULL: nobody looks */
    struct graph graph;
    size_t kda_bytes, history_bytes; /* of one timeline */
    uint32_t row_bytes;              /* one row of one layer */
};

const struct tokenizer *engine_tokenizer(const struct engine *);

/* A copy of the state at some length; the rows stay where they are. */
struct mark {
    size_t length;
    uint64_t kda, history; /* device memory, as in struct graph_state */
    float *logits;
};

/* A hash over leading ids that goes on from where it stood: state_blob.h. Zero-initialise. */
struct id_hash {
    void *context; /* EVP_MD_CTX */
    size_t count;  /* ids it covers */
};

struct timeline {
    struct engine *engine;
    uint32_t *ids; /* [length], capacity for the whole context */
    size_t length;
    float *logits; /* [vocabulary], meaningful when length > 0 */
    struct graph_state state;
    uint64_t *blocks; /* device addresses of row blocks, [n_blocks] of [most_blocks]; the device has the same table */
    size_t n_blocks, most_blocks;
    struct mark *marks; /* by increasing length */
    size_t n_marks, marks_capacity;
    struct id_hash hash; /* of what was saved; of no more than length ids */
};

/* Bytes of a block of rows: STATE_SEGMENT tokens, all MLA layers. */
static inline size_t engine_block_bytes(const struct engine *e)
{
    return (size_t)e->info.n_mla * STATE_SEGMENT * e->row_bytes;
}

/* Forgets the tokens after `length`, and the marks; the state is the caller's to set. */
void timeline_cut(struct timeline *, size_t length);
/* Sees to it that tokens [0, length) have rows. Fresh ones are zeros, but for blocks of which all tokens are in
 * [0, written): those the caller fills before anything reads them. */
int timeline_reserve(struct timeline *, size_t length, size_t written, struct error *error);

#endif
