/* SPDX-License-Identifier: MIT
 *
 * Byte-pair merging: the adjacent pair of lowest rank is joined, the leftmost of equals first, until no pair can be.
 * Source: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units", 2016.
 */
#ifndef LECTERN_ENGINE_BPE_H
#define LECTERN_ENGINE_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/error.h"

#define BPE_NONE 0xFFFFFFFFu /* no token; also the rank of a pair that cannot be joined */

struct bpe_pair {
    uint32_t left, right; /* tokens; left is BPE_NONE in an empty slot */
    uint32_t rank;        /* below BPE_NONE */
    uint32_t joined;      /* token */
};

struct bpe {
    struct bpe_pair *slots; /* open addressing */
    size_t n_slots;         /* a power of two, at least twice the pairs */
    size_t count;
    uint32_t byte_token[256]; /* the token of each byte */
};

int bpe_init(struct bpe *, struct error *error); /* no pairs yet; byte_token, all BPE_NONE, is the caller's to fill */
void bpe_free(struct bpe *);
/* Adds a pair. *is_new (may be NULL) is false when its left and right were there already: nothing changes then. */
int bpe_add(struct bpe *, struct bpe_pair pair, bool *is_new, struct error *error);

/* Merges bytes[0, n), n > 0, into ids, which has room for n; *count gets their number. O(n log n). */
int bpe_merge(const struct bpe *, const char *bytes, size_t n, uint32_t *ids, size_t *count, struct error *error);

#endif
