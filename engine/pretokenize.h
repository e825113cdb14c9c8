/* SPDX-License-Identifier: MIT
 *
 * The pre-tokeniser "kimi-k2": cuts text into the pieces inside which byte pairs are merged. It is Moonshot's pattern,
 * matched by hand with the meaning a backtracking engine gives it (leftmost alternative, greedy):
 *
 *   1  [\p{Han}]+
 *   2  [^\r\n\p{L}\p{N}]?[HEAD]*[TAIL]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
 *   3  [^\r\n\p{L}\p{N}]?[HEAD]+[TAIL]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
 *   4  \p{N}{1,3}
 *   5   ?[^\s\p{L}\p{N}]+[\r\n]*
 *   6  \s*[\r\n]+
 *   7  \s+(?!\S)
 *   8  \s+
 *   HEAD = \p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M} without Han, TAIL = \p{Ll}\p{Lm}\p{Lo}\p{M} without Han
 *
 * As in Moonshot's tokeniser, text is first cut inside every run of more than 25,000 characters that are all space or
 * all not space. Their other cut, after every 400,000 characters of the prompt, is left out: it would make the tokens
 * of a document depend on what stands before it. A byte that is not UTF-8 counts as a character of no class.
 */
#ifndef LECTERN_ENGINE_PRETOKENIZE_H
#define LECTERN_ENGINE_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>

#define PRETOKENIZE_MAX_RUN 25000u /* characters */

/* A walk over text[0, len). Start with the two set and the rest zero. */
struct pretokenizer {
    const char *text;
    size_t len;
    size_t at;  /* where the next piece starts */
    size_t cut; /* the part being matched ends here */
};

/* Gives the next piece as *piece, *n (never empty). false at the end of the text. The pieces in order are the text. */
bool pretokenizer_next(struct pretokenizer *, const char **piece, size_t *n);

#endif
