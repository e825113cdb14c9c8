/* SPDX-License-Identifier: MIT
 *
 * Scoring text: log-probabilities, means with standard errors, and reference files, which hold what one model gave so
 * that another (the same one in fewer bits) can be compared with it.
 *
 * A reference file, little-endian:
 *   offset 0   8 bytes   "LECTREF1"
 *          8   u32       n_vocab
 *         12   u32       chunk: tokens evaluated from an empty state each time
 *         16   u32       n_tokens, a multiple of chunk
 *         20   u32       n_scored
 *         24   u32[]     the n_tokens ids as evaluated
 *   then n_scored rows, in order of the text, of 8 + 2 * n_vocab bytes:
 *          0   f32       the highest log-probability
 *          4   f32       step, not negative
 *          8   u16[]     code of each id: its log-probability is highest - step * code
 * The lowest code stands for everything at or below highest - 32: such tokens (e^-32) weigh nothing in a divergence.
 * The error of a log-probability is at most 16 / 65535.
 */
#ifndef LECTERN_APP_SCORE_H
#define LECTERN_APP_SCORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/error.h"

/* A text as it is (malloc), at most 1 GiB; "-" is stdin. ERROR_INPUT. */
int score_read_text(const char *path, char **text, size_t *len, struct error *);

/* ------------------------------------------------------------------------------------------------- numbers */

/* A mean that is gathered value by value (Welford, 1962). */
struct mean {
    size_t count;
    double value;   /* the mean so far */
    double squares; /* sum of squared deviations from it */
};
void mean_add(struct mean *, double x);
double mean_error(const struct mean *); /* standard error of the mean; NaN with fewer than two values */

/* Logits -> log-probabilities, in place. false when they are not finite. */
bool score_log_softmax(float *row, size_t n);
size_t score_best(const float *row, size_t n); /* the first of the highest */
/* KL(p || q) of two rows of log-probabilities, in nats. */
double score_divergence(const float *p, const float *q, size_t n);

/* ----------------------------------------------------------------------------------------- reference files */

struct reference_head {
    uint32_t n_vocab, chunk, n_tokens, n_scored;
};
struct reference;

/* Writes to path.part; finish renames. Errors: ERROR_DISK. */
int reference_create(struct reference **out, const char *path, const struct reference_head *, const uint32_t *ids,
                     struct error *);
int reference_write(struct reference *, const float *row, struct error *); /* log-probabilities [n_vocab] */
int reference_finish(struct reference **, struct error *); /* fails unless n_scored rows came; frees in any case */

/* Opens a file made from the same tokens in the same chunks. Errors: ERROR_INPUT, with what differs. */
int reference_open(struct reference **out, const char *path, const struct reference_head *, const uint32_t *ids,
                   struct error *);
/* The next row as log-probabilities that sum to one. Errors: ERROR_INPUT. */
int reference_read(struct reference *, float *row, struct error *);

/* Frees, and removes a file not finished; accepts NULL. */
void reference_close(struct reference **);

#endif
