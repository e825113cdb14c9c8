/* SPDX-License-Identifier: MIT
 *
 * The tokenizer's vocabulary (tokenizer_internal.h): token texts in one pool, an index of them by bytes, the pairs that
 * join, and the specials of the chat template. Whatever comes in here is hostile.
 */
#include "engine/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

static const char *const mark_names[N_MARKS] = {
    [MARK_BOS] = "[BOS]",
    [MARK_EOS] = "[EOS]",
    [MARK_EOT] = "[EOT]",
    [MARK_END] = "<|im_end|>",
    [MARK_USER] = "<|im_user|>",
    [MARK_ASSISTANT] = "<|im_assistant|>",
    [MARK_SYSTEM] = "<|im_system|>",
    [MARK_MIDDLE] = "<|im_middle|>",
};

static int out_of_memory(struct error *error)
{
    return error_set(error, ERROR_FAILED, "Out of memory for the tokenizer's vocabulary.");
}

int vocab_create(struct tokenizer **out, size_t n_vocab, struct error *error)
{
    *out = NULL;
    if (n_vocab == 0 || n_vocab > VOCAB_MOST)
        return error_set(error, ERROR_MODEL, "The vocabulary has %zu tokens; 1 to %d are possible.", n_vocab,
                         (int)VOCAB_MOST);
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t) return out_of_memory(error);
    *out = t;
    t->n_vocab = (uint32_t)n_vocab;
    t->tokens = calloc(n_vocab, sizeof *t->tokens);
    for (int i = 0; i < N_MARKS; i++) t->marks[i] = BPE_NONE;
    return t->tokens ? bpe_init(&t->bpe, error) : out_of_memory(error);
}

static int pool_reserve(struct tokenizer *t, size_t more, struct error *error)
{
    if (more <= t->pool_capacity - t->pool_len) return 0;
    size_t capacity = t->pool_capacity ? t->pool_capacity * 2 : 1 << 16;
    if (capacity > UINT32_MAX) return error_set(error, ERROR_MODEL, "The vocabulary's texts are over 4 GB.");
    char *pool = realloc(t->pool, capacity);
    if (!pool) return out_of_memory(error);
    t->pool = pool;
    t->pool_capacity = capacity;
    return 0;
}

int vocab_add(struct tokenizer *t, enum token_kind kind, const char *bytes, size_t len, struct error *error)
{
    uint32_t id = t->count;
    if (id == t->n_vocab) return error_set(error, ERROR_MODEL, "There are more than %u tokens.", t->n_vocab);
    if (len > VOCAB_TOKEN_MOST)
        return error_set(error, ERROR_MODEL, "Token %u is %zu bytes long; %d are possible.", id, len,
                         (int)VOCAB_TOKEN_MOST);
    if (len == 0 && kind != TOKEN_UNUSED) return error_set(error, ERROR_MODEL, "Token %u is empty.", id);
    if (kind == TOKEN_SPECIAL && memchr(bytes, 0, len))
        return error_set(error, ERROR_MODEL, "The name of special token %u has a NUL byte in it.", id);
    int rc = pool_reserve(t, len + 1, error);
    if (rc) return rc;
    if (len > 0) memcpy(t->pool + t->pool_len, bytes, len);
    t->pool[t->pool_len + len] = 0;
    t->tokens[id] = (struct token){.at = (uint32_t)t->pool_len, .len = (uint32_t)len, .kind = kind};
    t->pool_len += len + 1;
    if (kind == TOKEN_ORDINARY && len > t->longest) t->longest = len;
    t->count++;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------- index */

/* A multiplicative hash over eight bytes at a time; words are short, so two or three rounds. */
static uint64_t hash_bytes(const char *bytes, size_t len)
{
    const uint64_t factor = UINT64_C(0x9E3779B97F4A7C15);
    uint64_t h = len * factor, word;
    for (; len >= sizeof word; bytes += sizeof word, len -= sizeof word) {
        memcpy(&word, bytes, sizeof word);
        h = (h ^ word) * factor;
        h ^= h >> 29;
    }
    word = 0;
    memcpy(&word, bytes, len);
    h = (h ^ word) * factor;
    h ^= h >> 32;
    return h * factor;
}

static struct word_slot *find_word(const struct tokenizer *t, const char *bytes, size_t len)
{
    uint64_t h = hash_bytes(bytes, len);
    uint32_t tag = (uint32_t)h;
    size_t at = (size_t)(h >> 32) & (t->n_words - 1);
    for (;; at = (at + 1) & (t->n_words - 1)) {
        struct word_slot *slot = &t->words[at];
        if (slot->id == BPE_NONE) break;
        const struct token *token = &t->tokens[slot->id];
        if (slot->hash == tag && token->len == len && memcmp(t->pool + token->at, bytes, len) == 0) break;
    }
    return &t->words[at];
}

uint32_t vocab_find(const struct tokenizer *t, const char *bytes, size_t len)
{
    return len > t->longest ? BPE_NONE : find_word(t, bytes, len)->id;
}

static int index_token(struct tokenizer *t, uint32_t id, struct error *error)
{
    const struct token *token = &t->tokens[id];
    const char *bytes = t->pool + token->at;
    struct word_slot *slot = find_word(t, bytes, token->len);
    if (slot->id != BPE_NONE) return error_set(error, ERROR_MODEL, "Tokens %u and %u are the same text.", slot->id, id);
    *slot = (struct word_slot){(uint32_t)hash_bytes(bytes, token->len), id};
    if (token->len == 1) t->bpe.byte_token[(unsigned char)bytes[0]] = id;
    return 0;
}

int vocab_index(struct tokenizer *t, struct error *error)
{
    if (t->count != t->n_vocab)
        return error_set(error, ERROR_MODEL, "There are %u tokens where %u were announced.", t->count, t->n_vocab);
    for (t->n_words = 256; t->n_words < 2 * (size_t)t->n_vocab;) t->n_words *= 2;
    t->words = malloc(t->n_words * sizeof *t->words);
    if (!t->words) return out_of_memory(error);
    for (size_t i = 0; i < t->n_words; i++) t->words[i].id = BPE_NONE;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        int rc = t->tokens[id].kind == TOKEN_ORDINARY ? index_token(t, id, error) : 0;
        if (rc) return rc;
    }
    for (unsigned i = 0; i < 256; i++) {
        if (t->bpe.byte_token[i] != BPE_NONE) continue;
        /* Bytes that no UTF-8 has: a vocabulary learned from text may be without them. */
        t->lacks_bytes = true;
        if (i < 0xF5 && i != 0xC0 && i != 0xC1)
            return error_set(error, ERROR_MODEL, "The byte alphabet is broken: no token stands for byte %u.", i);
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------------- pairs */

static int join_splits(struct tokenizer *t, uint32_t id, struct error *error)
{
    const char *bytes = t->pool + t->tokens[id].at;
    size_t len = t->tokens[id].len;
    for (size_t cut = 1; cut < len; cut++) {
        uint32_t left = vocab_find(t, bytes, cut);
        uint32_t right = left == BPE_NONE ? BPE_NONE : vocab_find(t, bytes + cut, len - cut);
        if (right == BPE_NONE) continue;
        int rc = bpe_add(&t->bpe, (struct bpe_pair){left, right, id, id}, NULL, error);
        if (rc) return rc;
    }
    return 0;
}

int vocab_join_all(struct tokenizer *t, struct error *error)
{
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        if (t->tokens[id].kind != TOKEN_ORDINARY) continue;
        t->tokens[id].is_whole = true;
        int rc = join_splits(t, id, error);
        if (rc) return rc;
    }
    return 0;
}

int vocab_join(struct tokenizer *t, uint32_t rank, const char *bytes, size_t left, size_t right, struct error *error)
{
    struct bpe_pair pair = {vocab_find(t, bytes, left), vocab_find(t, bytes + left, right), rank,
                            vocab_find(t, bytes, left + right)};
    if (pair.left == BPE_NONE || pair.right == BPE_NONE || pair.joined == BPE_NONE)
        return error_set(error, ERROR_MODEL, "Merge %u names a token that is not in the vocabulary.", rank);
    bool is_new = false;
    int rc = bpe_add(&t->bpe, pair, &is_new, error);
    if (rc) return rc;
    if (!is_new) return error_set(error, ERROR_MODEL, "Merge %u repeats an earlier one.", rank);
    return 0;
}

int vocab_find_whole(struct tokenizer *t, struct error *error)
{
    uint32_t ids[VOCAB_TOKEN_MOST];
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        struct token *token = &t->tokens[id];
        if (token->kind != TOKEN_ORDINARY) continue;
        size_t count = 0;
        int rc = bpe_merge(&t->bpe, t->pool + token->at, token->len, ids, &count, error);
        if (rc) return rc;
        token->is_whole = count == 1;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------------- marks */

static bool is_needed(const struct tokenizer *t, int mark)
{
    if (mark == MARK_BOS) return t->add_bos;
    if (t->chat == CHAT_DEEPSEEK) return mark == MARK_EOS;
    return mark >= MARK_END;
}

int vocab_find_marks(struct tokenizer *t, struct error *error)
{
    for (int mark = 0; mark < N_MARKS; mark++) {
        if (t->marks[mark] != BPE_NONE || tokenizer_find_special(t, mark_names[mark], &t->marks[mark])) continue;
        if (is_needed(t, mark))
            return error_set(error, ERROR_MODEL, "The vocabulary has no special token %s.", mark_names[mark]);
    }
    return 0;
}
