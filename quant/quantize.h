/* SPDX-License-Identifier: MIT
 *
 * Quantising a model file: which tensor gets which format, and the streaming rewrite of a GGUF file into another type.
 */
#ifndef LECTERN_QUANT_QUANTIZE_H
#define LECTERN_QUANT_QUANTIZE_H

#include "quant/gguf.h"
#include "quant/imatrix.h"

/* The format that rows of row_len weights get when `wanted` was asked for: wanted itself where the row is whole blocks
 * of it; else the nearest one with blocks of 32 (IQ1..IQ4_XS, Q2_K, Q3_K and TQ: IQ4_NL; Q4_K: Q5_0; Q5_K: Q5_1; Q6_K:
 * Q8_0), as llama-quantize falls back; else F16. */
const struct quant_format *quantize_fallback(const struct quant_format *wanted, uint64_t row_len);

/* A type for a whole model: one format ("Q8_0") or a mix ("Q4_K_M") which gives some tensors more bits. */
struct quantize_mix;
const struct quantize_mix *quantize_mix_named(const char *name); /* case-insensitive; NULL when unknown */
const char *quantize_mix_name(size_t index);                     /* for listing; NULL after the last */
uint32_t quantize_mix_file_type(const struct quantize_mix *);    /* its general.file_type */

/* Tensors that stay F32 in every type: vectors, everything that is no ".weight", the router, the short convolutions. */
bool quantize_keeps_f32(const struct gguf_tensor *);

/* What the choice depends on beside the tensor. */
struct quantize_source {
    const struct gguf *file;
    uint32_t layers, experts;
    uint32_t values; /* tensors attn_v and attn_kv_b */
    bool grouped;    /* four or more query heads share a key */
    bool weighed;    /* importance is given */
};
void quantize_source(struct quantize_source *out, const struct gguf *, bool weighed);

/* The format of a tensor of this model under a mix, before quantize_fallback. */
const struct quant_format *quantize_choose(const struct quantize_mix *, const struct quantize_source *,
                                           const struct gguf_tensor *);

/* Tensors whose name matches the POSIX extended regular expression get this format instead of the mix's (the last match
 * counts); those that stay F32 are not touched. */
struct quantize_override {
    const char *pattern;
    const struct quant_format *format;
};

struct quantize_progress {
    size_t tensor, n_tensors; /* tensor counts from 0 */
    struct gguf_string name;
    const struct quant_format *from, *to;
    uint64_t done, total; /* weights of the whole model */
};

struct quantize_params {
    const char *in, *out; /* may be the same path: the new file replaces the old one when it is whole */
    const struct quantize_mix *mix;
    const struct quantize_override *overrides;
    size_t n_overrides;
    const struct imatrix *importance; /* tensors it tells of are encoded by it; NULL = all weights alike */
    uint32_t threads;                 /* 0 = 1 */
    bool keep_split;                  /* as many files as the input has, with its tensors in the same ones */
    bool dry_run;                     /* nothing is written; the result is filled */
    /* Called after each piece (and, in a dry run, each tensor), on the calling thread. false stops: ERROR_CANCELLED,
     * and no file is left. May be NULL. */
    bool (*progress)(void *user, const struct quantize_progress *);
    void *user;
};

struct quantize_result {
    uint64_t weights;
    uint64_t in_bytes, out_bytes; /* of tensor data */
    size_t weighed;               /* tensors encoded by importance */
};

/* Rewrites params->in as params->out. Metadata is copied but general.file_type, which is set, and the split.* keys:
 * shards become one file, or with keep_split stay as many. Memory: a few MiB a thread and what the importance takes;
 * pages of the input are given back as it goes. Errors: ERROR_MODEL (input), ERROR_USAGE (pattern), ERROR_DISK
 * (output), ERROR_CANCELLED, ERROR_FAILED (memory). */
int quantize_model(const struct quantize_params *, struct quantize_result *, struct error *);

#endif
