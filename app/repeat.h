/* SPDX-License-Identifier: MIT
 *
 * Recognises an answer that has become periodic: a model caught in a loop says the same 1 to 64 tokens for ever. Tokens
 * are given one by one; each costs 64 comparisons. Nothing is allocated.
 *
 * A loop is told from what people repeat on purpose by its length:
 *
 *   a period of  1 .. 4 tokens   48 tokens          a word, a phrase
 *                5 .. 19         10 times           lines of code that are all alike
 *               20 .. 48         192 tokens         sentences
 *               49 .. 64         4 times            paragraphs
 *   without a word in it         400 tokens         rules, empty tables, rows of numbers
 *
 * Words are letters side by side, of any script. What a document itself repeats so often is not for us to judge: the
 * caller looks for it there (repeat_is_quoted).
 */
#ifndef LECTERN_APP_REPEAT_H
#define LECTERN_APP_REPEAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPEAT_MOST_PERIOD 64

/* Zeroed at the start of an answer. */
struct repeat {
    uint32_t last[REPEAT_MOST_PERIOD]; /* a ring: the token at position i is last[i % 64] */
    size_t run[REPEAT_MOST_PERIOD];    /* [p - 1]: tokens at the end of which each equals the one p before it */
    size_t count, word;                /* tokens so far; the position behind the last with a word in it */
};

void repeat_push(struct repeat *, uint32_t id, bool has_word);
/* Whether a token's bytes have a word, or a part of one, in them. */
bool repeat_has_word(const char *bytes, size_t n);

/* Tokens at the end that say again what stands before them, and may yet turn out to be a loop. */
size_t repeat_held(const struct repeat *);
/* The same where they are a loop: all but the first time its period is said. 0: they are none. *stretch: with it. */
size_t repeat_found(const struct repeat *, size_t *stretch);
/* Whether a text has these tokens too. */
bool repeat_is_quoted(const uint32_t *ids, size_t n_ids, const uint32_t *stretch, size_t n);

#endif
