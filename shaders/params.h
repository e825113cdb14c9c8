/* SPDX-License-Identifier: MIT
 *
 * Push constants of the kernels: read by C and by GLSL. At most 128 bytes a struct; addresses first, so that both
 * languages lay them out alike (GLSL's std430 rounds the size up to 8, as C does).
 */
#ifndef LECTERN_SHADERS_PARAMS_H
#define LECTERN_SHADERS_PARAMS_H

#ifdef GL_core_profile
#define STRUCT(name) name
#else
#include <stdint.h>
#define STRUCT(name) struct name
#endif

struct params_embed {
    uint64_t table, ids, x;
    uint32_t n_in, row_bytes, n_vocab;
};

struct params_rms_norm {
    uint64_t x, gain, y;
    uint32_t width;
    float eps;
};

struct params_swiglu {
    uint64_t gate, up, y;
    uint32_t width, gate_stride, up_stride, y_stride; /* floats */
};

#define MATVEC_JOBS 6

/* Matrices of one format and width that meet the same x. The workgroups of a job follow those of the job before. */
struct matvec_jobs {
    uint32_t n_in, row_bytes;
    uint32_t adds;              /* bit j: y_j += */
    uint32_t w_at[MATVEC_JOBS]; /* from w, in 16 bytes */
    uint32_t y_at[MATVEC_JOBS]; /* from y, in floats */
    uint32_t n_out[MATVEC_JOBS];
};

struct params_matvec {
    uint64_t x, w, y;
    STRUCT(matvec_jobs) jobs;
    uint32_t n;
};

struct params_matmul {
    uint64_t w, x, y;
    uint64_t tiles, order; /* grouped only; order 0 = rows are in place */
    uint64_t mat_bytes;
    uint64_t scale; /* where x is halves: f32 of each row of x, to multiply its products with */
    uint32_t n_in, x_stride, n_out, n, row_bytes, add, share;
};

struct params_pack {
    uint64_t x, up, y, scale;
    uint32_t width, x_stride, y_stride; /* floats; halves */
};

struct params_moe_route {
    uint64_t logits, bias, chosen, weight;
    uint32_t n, n_expert, n_used;
    float scale;
};

/* A slot is a choice of a token, t * n_used + k; a place its rank when slots are sorted by expert. */
struct params_moe_sort {
    uint64_t chosen, order, place;
    uint64_t tiles[2]; /* u32 [..][4]: expert, first place, end, 0 */
    uint64_t groups;   /* u32 [2][2][3]: workgroups of a product with row_tiles[i] tiles of rows over tiles[j] */
    uint32_t slots;
    uint32_t tokens[2]; /* most of a tile, the larger second; that 0: there are only tiles[0] */
    uint32_t row_tiles[2];
};

struct params_moe_combine {
    uint64_t z, place, weight, y;
    uint32_t width, n_used;
};

struct params_moe_up {
    uint64_t x, chosen, h;
    uint64_t gate, up, gate_bytes, up_bytes; /* bytes of an expert's matrix */
    uint32_t n_in, n_out, row_bytes, n_used;
};

struct params_moe_down {
    uint64_t h, chosen, weight, y;
    uint64_t w, mat_bytes;
    uint32_t n_in, n_out, row_bytes, n_used;
};

struct params_peak_copy {
    uint64_t from, to;
    uint32_t count; /* of 16 bytes */
};

struct params_peak_product {
    uint64_t never;
    uint32_t rounds;
    float value;
};

#endif
