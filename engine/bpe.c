/* SPDX-License-Identifier: MIT
 *
 * Byte-pair merging (bpe.h). A word is short: its pairs are scanned for the lowest rank, in place, which is quicker
 * than any order kept beside them. Longer input (a line of dashes, a base64 blob) keeps its pairs in a binary heap over
 * a linked list.
 */
#include "engine/bpe.h"

#include <stdlib.h>
#include <string.h>

enum { BPE_SHORT = 48, BPE_FIRST_SLOTS = 1024 };

struct join {
    uint32_t rank, joined;
};

static size_t hash_pair(uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(h ^ h >> 32);
}

/* The slot that holds the pair, or the empty one where it belongs. */
static struct bpe_pair *find_slot(struct bpe_pair *slots, size_t n_slots, uint32_t left, uint32_t right)
{
    size_t at = hash_pair(left, right) & (n_slots - 1);
    while (slots[at].left != BPE_NONE && (slots[at].left != left || slots[at].right != right))
        at = (at + 1) & (n_slots - 1);
    return &slots[at];
}

static struct join find_join(const struct bpe *bpe, uint32_t left, uint32_t right)
{
    const struct bpe_pair *pair = find_slot(bpe->slots, bpe->n_slots, left, right);
    return pair->left == BPE_NONE ? (struct join){BPE_NONE, BPE_NONE} : (struct join){pair->rank, pair->joined};
}

static struct bpe_pair *create_slots(size_t n_slots, struct error *error)
{
    struct bpe_pair *slots = malloc(n_slots * sizeof *slots);
    if (!slots) error_set(error, ERROR_FAILED, "Out of memory for the tokenizer's merges.");
    for (size_t i = 0; slots && i < n_slots; i++) slots[i].left = BPE_NONE;
    return slots;
}

int bpe_init(struct bpe *bpe, struct error *error)
{
    *bpe = (struct bpe){.n_slots = BPE_FIRST_SLOTS};
    for (int i = 0; i < 256; i++) bpe->byte_token[i] = BPE_NONE;
    bpe->slots = create_slots(bpe->n_slots, error);
    return bpe->slots ? 0 : ERROR_FAILED;
}

void bpe_free(struct bpe *bpe)
{
    free(bpe->slots);
    *bpe = (struct bpe){0};
}

static int bpe_grow(struct bpe *bpe, struct error *error)
{
    size_t n_slots = bpe->n_slots * 2;
    struct bpe_pair *slots = create_slots(n_slots, error);
    if (!slots) return ERROR_FAILED;
    for (size_t i = 0; i < bpe->n_slots; i++) {
        struct bpe_pair pair = bpe->slots[i];
        if (pair.left != BPE_NONE) *find_slot(slots, n_slots, pair.left, pair.right) = pair;
    }
    free(bpe->slots);
    bpe->slots = slots;
    bpe->n_slots = n_slots;
    return 0;
}

int bpe_add(struct bpe *bpe, struct bpe_pair pair, bool *is_new, struct error *error)
{
    if (bpe->count >= bpe->n_slots / 2) {
        int rc = bpe_grow(bpe, error);
        if (rc) return rc;
    }
    struct bpe_pair *slot = find_slot(bpe->slots, bpe->n_slots, pair.left, pair.right);
    bool is_free = slot->left == BPE_NONE;
    if (is_free) {
        *slot = pair;
        bpe->count++;
    }
    if (is_new) *is_new = is_free;
    return 0;
}

/* ------------------------------------------------------------------------------------------------- short input */

/* ids[0, n) are tokens of single bytes. Returns how many are left. */
static size_t merge_short(const struct bpe *bpe, uint32_t *ids, size_t n)
{
    struct join joins[BPE_SHORT]; /* joins[i] is of ids[i] and ids[i + 1] */
    for (size_t i = 0; i + 1 < n; i++) joins[i] = find_join(bpe, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++) {
            if (joins[i].rank < joins[best].rank) best = i;
        }
        if (joins[best].rank == BPE_NONE) break;
        ids[best] = joins[best].joined;
        memmove(ids + best + 1, ids + best + 2, (n - best - 2) * sizeof *ids);
        memmove(joins + best, joins + best + 1, (n - best - 2) * sizeof *joins);
        n--;
        if (best > 0) joins[best - 1] = find_join(bpe, ids[best - 1], ids[best]);
        if (best + 1 < n) joins[best] = find_join(bpe, ids[best], ids[best + 1]);
    }
    return n;
}

/* -------------------------------------------------------------------------------------------------- long input */

struct node {
    uint32_t id, previous, next; /* BPE_NONE at the ends; id is BPE_NONE once joined to the node before */
    struct join join;            /* with the next node */
};

struct heap {
    uint64_t *keys; /* rank << 32 | node: lowest rank first, leftmost of equals; may be out of date */
    size_t count;
};

static void heap_push(struct heap *heap, uint64_t key)
{
    size_t at = heap->count++;
    for (; at > 0 && heap->keys[(at - 1) / 2] > key; at = (at - 1) / 2) heap->keys[at] = heap->keys[(at - 1) / 2];
    heap->keys[at] = key;
}

static uint64_t heap_pop(struct heap *heap)
{
    uint64_t top = heap->keys[0], last = heap->keys[--heap->count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= heap->count) break;
        if (child + 1 < heap->count && heap->keys[child + 1] < heap->keys[child]) child++;
        if (heap->keys[child] >= last) break;
        heap->keys[at] = heap->keys[child];
        at = child;
    }
    heap->keys[at] = last;
    return top;
}

/* Looks up what node `at` and its next one join to, and queues it. */
static void queue_join(const struct bpe *bpe, struct node *nodes, uint32_t at, struct heap *heap)
{
    uint32_t next = nodes[at].next;
    nodes[at].join = (struct join){BPE_NONE, BPE_NONE};
    if (next == BPE_NONE) return;
    nodes[at].join = find_join(bpe, nodes[at].id, nodes[next].id);
    if (nodes[at].join.rank != BPE_NONE) heap_push(heap, (uint64_t)nodes[at].join.rank << 32 | at);
}

static void join_next(const struct bpe *bpe, struct node *nodes, uint32_t at, struct heap *heap)
{
    struct node *node = &nodes[at], *gone = &nodes[node->next];
    node->id = node->join.joined;
    node->next = gone->next;
    if (gone->next != BPE_NONE) nodes[gone->next].previous = at;
    gone->id = BPE_NONE;
    gone->join.rank = BPE_NONE;
    if (node->previous != BPE_NONE) queue_join(bpe, nodes, node->previous, heap);
    queue_join(bpe, nodes, at, heap);
}

static int merge_long(const struct bpe *bpe, uint32_t *ids, size_t *count, struct error *error)
{
    size_t n = *count;
    if (n > UINT32_MAX / 2) return error_set(error, ERROR_FAILED, "A single word of %zu bytes is too long.", n);
    struct node *nodes = malloc(n * sizeof *nodes);
    /* n - 1 pairs at first, and a join takes one away and adds at most two */
    struct heap heap = {malloc(2 * n * sizeof *heap.keys), 0};
    if (!nodes || !heap.keys) {
        free(nodes);
        free(heap.keys);
        return error_set(error, ERROR_FAILED, "Out of memory for a word of %zu bytes.", n);
    }
    for (uint32_t i = 0; i < n; i++)
        nodes[i] = (struct node){.id = ids[i], .previous = i - 1u, .next = i + 1 < n ? i + 1 : BPE_NONE};
    for (uint32_t i = 0; i < n; i++) queue_join(bpe, nodes, i, &heap);
    while (heap.count > 0) {
        uint64_t key = heap_pop(&heap);
        uint32_t at = (uint32_t)key;
        if (nodes[at].join.rank == key >> 32) join_next(bpe, nodes, at, &heap);
    }
    *count = 0;
    for (uint32_t i = 0; i != BPE_NONE; i = nodes[i].next) ids[(*count)++] = nodes[i].id;
    free(nodes);
    free(heap.keys);
    return 0;
}

int bpe_merge(const struct bpe *bpe, const char *bytes, size_t n, uint32_t *ids, size_t *count, struct error *error)
{
    for (size_t i = 0; i < n; i++) ids[i] = bpe->byte_token[(unsigned char)bytes[i]];
    *count = n;
    if (n > BPE_SHORT) return merge_long(bpe, ids, count, error);
    *count = merge_short(bpe, ids, n);
    return 0;
}
