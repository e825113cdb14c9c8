/* SPDX-License-Identifier: MIT
 *
 * Push constants of the kda_* kernels, read by C and GLSL. Addresses are buffer device addresses of f32 arrays.
 *
 * Chunked form (docs/model.md, "KDA in chunks"): tokens are taken in chunks of KDA_CHUNK. Pass 1 leaves a record for
 * each (chunk, head), pass 2 walks over the chunks of a head. A record, in floats, for head width D:
 *
 *   0        WQ  [D/8][16][2][8]  W and q exp(G), in blocks of 8 key channels
 *   32 D     K   [D/8][16][8]     k exp(G_last - G)
 *   48 D     U   [16][D]
 *   64 D     E   [D]              exp(G_last)
 *   65 D     A   [16][16]         A_qk; above the diagonal undefined
 */
#ifndef LECTERN_SHADERS_PARAMS_KDA_H
#define LECTERN_SHADERS_PARAMS_KDA_H

#define KDA_CHUNK 16
#define KDA_RECORD(D) (65 * (D) + KDA_CHUNK * KDA_CHUNK)

struct params_kda_halo {
    uint64_t x[3];    /* [n][width] */
    uint64_t history; /* [3 streams][width][3] */
    uint64_t halo;    /* [segments][3 streams][width][3]: the three inputs before each segment */
    uint32_t width, segment;
};

struct params_kda_conv {
    uint64_t x[3], kernel[3], y[3];
    uint64_t prior;   /* [segments][3 streams][width][3] */
    uint64_t history; /* [3 streams][width][3], written after the last token */
    uint32_t n, n_head, segment;
    float scale; /* of normalised q */
};

struct params_kda_gate {
    uint64_t f, dt, a, beta;
    uint32_t n, n_head;
};

struct params_kda_step {
    uint64_t q, k, v, g, beta, state, o;
    uint32_t n, n_head;
};

struct params_kda_chunk {
    uint64_t q, k, v, g, beta;
    uint64_t records; /* [chunks][n_head] */
    uint32_t n, n_head;
};

struct params_kda_scan {
    uint64_t records, state, o;
    uint32_t n, n_head;
};

struct params_kda_out {
    uint64_t o, gain, z;
    uint32_t rows; /* n * n_head */
    float eps;
};

#endif
