/* SPDX-License-Identifier: MIT
 *
 * Pre-tokenisers: they cut text into the pieces inside which byte pairs are merged. A byte that is not UTF-8 counts as
 * a character of no class.
 *
 * "kimi-k2" is Moonshot's pattern, matched by hand with the meaning a backtracking engine gives it (leftmost
 * alternative, greedy):
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
 * of a document depend on what stands before it.
 *
 * "deepseek-llm" is DeepSeek's of the models up to V2: a list of patterns, each of which is looked for in the pieces
 * that those before it left. What matches is a piece, and what lies between two matches.
 *
 *   1  [\r\n]
 *   2  \s?[LETTERS]+          of scripts with upper and lower case
 *   3  \s?[!-/:-~！-／：-～‘-‟　-。]+
 *   4  \s+$                   at the end of a piece
 *   5  [一-龥ࠀ-一가-퟿]+
 *   6  \p{N}                  single digits
 *
 * Source: pre_tokenizer of DeepSeek-V2's tokenizer.json; DeepSeek LLM, arXiv 2401.02954, section 2.1.
 */
#ifndef LECTERN_ENGINE_PRETOKENIZE_H
#define LECTERN_ENGINE_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>

#define PRETOKENIZE_MAX_RUN 25000u /* characters */

enum pretokenizer_kind { PRETOKENIZE_KIMI_K2, PRETOKENIZE_DEEPSEEK_LLM };
enum { PRETOKENIZE_STAGES = 6 };

/* A walk over text[0, len). Start with these and the kind set, and the rest zero. */
struct pretokenizer {
    const char *text;
    size_t len;
    enum pretokenizer_kind kind;
    size_t at;                       /* where the next piece starts */
    size_t cut;                      /* kimi-k2: the part being matched ends here */
    size_t ends[PRETOKENIZE_STAGES]; /* deepseek-llm: where the present piece of each pattern ends */
};

/* Gives the next piece as *piece, *n (never empty). false at the end of the text. The pieces in order are the text. */
bool pretokenizer_next(struct pretokenizer *, const char **piece, size_t *n);

#endif
