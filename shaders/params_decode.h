/* SPDX-License-Identifier: MIT
 *
 * Push constants of the kernels for one token on hardware (..._one.comp), read by C and GLSL.
 */
#ifndef LECTERN_SHADERS_PARAMS_DECODE_H
#define LECTERN_SHADERS_PARAMS_DECODE_H

#include "params.h"

struct params_matvec_one {
    uint64_t x, gain, a; /* gain and a: with NORM; a = 0: not wanted */
    uint64_t w, y;
    STRUCT(matvec_jobs) jobs;
    float eps;
};

struct params_moe_up_one {
    uint64_t x, logits, bias;
    uint64_t chosen, weight;                 /* u32 [n_used], [n_used]; written */
    uint64_t h;                              /* [n_used][n_out] */
    uint64_t gate, up, gate_bytes, up_bytes; /* bytes of an expert's matrix */
    uint32_t n_in, n_out, row_bytes, n_expert, n_used;
    float scale;
};

struct params_moe_down_one {
    uint64_t h, chosen, weight, y;
    uint64_t w, mat_bytes;
    uint64_t shared_gate, shared_up, shared_w; /* [n_in], [n_in], one matrix: with SHARED */
    uint32_t n_in, n_out, row_bytes, n_used;
};

/* y[h] = w[h] x[h], x_pitch floats from x[h] to x[h + 1]; with COMBINE x is [splits][pitch][n_in], sums over splits of
 * the rows, and totals [splits][pitch][2]: maximum, sum of the exponentials. */
struct params_mla_heads_one {
    uint64_t w, mat_bytes, x, y, totals;
    uint32_t n_in, n_out, row_bytes, x_pitch, splits, pitch;
};

/* Activations count from x, in floats. */
struct params_kda_one {
    uint64_t x;
    uint64_t kernel[3], history;          /* of q, k, v: [H*D][4]; [3][H*D][3] */
    uint64_t f_b, g_b, dt, a, state, gain; /* both matrices of one format and width */
    uint32_t q, k, v, f_a, g_a, beta, o;
    uint32_t n_head, row_bytes;
    float eps;
};

#endif
