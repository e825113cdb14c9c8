/* SPDX-License-Identifier: MIT
 *
 * Inside the tokenizer: its vocabulary, and how an opener fills it. The order is: create, add every token in the order
 * of ids, index, then the pairs by one of the two rules, then the marks.
 */
#ifndef LECTERN_ENGINE_TOKENIZER_INTERNAL_H
#define LECTERN_ENGINE_TOKENIZER_INTERNAL_H

#include "engine/bpe.h"
#include "engine/pretokenize.h"
#include "engine/tokenizer.h"

enum { VOCAB_MOST = 1 << 24, VOCAB_TOKEN_MOST = 1024 }; /* tokens; bytes of a token */

enum token_kind { TOKEN_ORDINARY, TOKEN_SPECIAL, TOKEN_UNUSED };

struct token {
    uint32_t at, len; /* its bytes or its name in the pool, with a NUL behind */
    enum token_kind kind;
    bool is_whole; /* ordinary, and a pre-token of these bytes is this one token */
};

struct word_slot {
    uint32_t hash;
    uint32_t id; /* BPE_NONE: empty */
};

struct tokenizer {
    struct token *tokens; /* [n_vocab] */
    uint32_t n_vocab;     /* capacity of tokens */
    uint32_t count;       /* added so far */
    char *pool;
    size_t pool_len, pool_capacity;
    size_t longest; /* bytes of the longest ordinary token */

    struct word_slot *words; /* ordinary tokens by their bytes; open addressing */
    size_t n_words;          /* slots, a power of two */
    struct bpe bpe;

    uint32_t marks[N_MARKS]; /* BPE_NONE: the file has none */
    bool lacks_bytes;        /* some bytes that UTF-8 never has stand for no token */
    bool add_bos;
    enum pretokenizer_kind pre;
    enum chat_form chat;
    const char *chat_note;
};

int vocab_create(struct tokenizer **out, size_t n_vocab, struct error *error);
/* The next id. bytes: what an ordinary token stands for, or the name of another one. */
int vocab_add(struct tokenizer *, enum token_kind kind, const char *bytes, size_t len, struct error *error);
/* Builds the index by bytes. Fails unless all tokens came, no two ordinary ones are alike and each byte of UTF-8 has
 * one. */
int vocab_index(struct tokenizer *, struct error *error);
/* The ordinary token of these bytes, or BPE_NONE. */
uint32_t vocab_find(const struct tokenizer *, const char *bytes, size_t len);

/* tiktoken's rule: whatever two tokens make a third may join, the lowest id first. */
int vocab_join_all(struct tokenizer *, struct error *error);
/* The rule of a list: pair number `rank` joins left and right, given as bytes that follow each other. */
int vocab_join(struct tokenizer *, uint32_t rank, const char *bytes, size_t left, size_t right, struct error *error);
/* After the last vocab_join: finds which tokens the merges reach from their own bytes. */
int vocab_find_whole(struct tokenizer *, struct error *error);

/* Finds the marks by name, except those already set. Fails when one that a chat of the form t->chat needs is missing.
 */
int vocab_find_marks(struct tokenizer *, struct error *error);

#endif
