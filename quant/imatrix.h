/* SPDX-License-Identifier: MIT
 *
 * Importance of weights: for every matrix of a model, the mean square of each of its inputs, gathered over a text. An
 * encoder that minimises sum_i importance_i (w_i - q_i)^2 keeps what the matrix gives, rather than the matrix.
 * Files are GGUF with general.type "imatrix": for a matrix NAME, or a stack of n_mat, the F32 tensors NAME.in_sum2
 * [n_in, n_mat], sums of squares, and NAME.counts [1, n_mat], how many inputs they are of. The format is llama.cpp's;
 * the binary one that it wrote before is read too.
 */
#ifndef LECTERN_QUANT_IMATRIX_H
#define LECTERN_QUANT_IMATRIX_H

#include "quant/gguf.h"

struct imatrix;

/* Empty, for the matrices of a model. */
int imatrix_create(struct imatrix **out, const struct gguf *model, struct error *);
/* Adds n inputs [n][width] of matrix `mat` of a stack. ERROR_MODEL: no such matrix. */
int imatrix_add(struct imatrix *, const char *name, uint32_t mat, const float *x, uint32_t n, uint32_t width,
                struct error *);

struct imatrix_origin { /* what is told of the text */
    const struct gguf_string *files;
    size_t n_files;
    uint32_t chunks, chunk; /* pieces read, tokens of a piece */
};
/* Stacks without any input are left out. ERROR_MODEL when inputs were not finite. */
int imatrix_write(const struct imatrix *, const char *path, const struct imatrix_origin *, struct error *);
/* ERROR_MODEL for anything that is no imatrix file. */
int imatrix_read(struct imatrix **out, const char *path, struct error *);
void imatrix_free(struct imatrix **); /* accepts NULL */

/* Does it tell of this tensor? ERROR_MODEL through *error when it tells of one of another shape. */
int imatrix_find(const struct imatrix *, const struct gguf_tensor *, bool *found, struct error *);
/* The importance of weights [first, first + n) of a tensor that was found, counted through all its rows. A matrix that
 * had no input (an expert that was never chosen) has 1 everywhere. */
void imatrix_fill(const struct imatrix *, const struct gguf_tensor *, uint64_t first, size_t n, float *out);

/* Of the matrices that were multiplied with anything (all of a stack count): how many have inputs, of how many. */
void imatrix_coverage(const struct imatrix *, size_t *seen, size_t *all);

#endif
