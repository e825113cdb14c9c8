/* SPDX-License-Identifier: MIT
 *
 * Push constants and memory layouts of the mla_* kernels, read by C and GLSL. H heads; R latent, N nope, P rope and V
 * value channels; a row of the timeline is [R | P] in the dtype of the rows.
 */
#ifndef LECTERN_SHADERS_PARAMS_MLA_H
#define LECTERN_SHADERS_PARAMS_MLA_H

#define MLA_SEGMENT 512 /* = STATE_SEGMENT: rows of a layer in a block */
#define MLA_TILE 32     /* keys of a tile in the expanded K and P */
/* Of a workgroup of the mla_*_coop kernels. */
#define MLA_EXPAND_ROWS 128
#define MLA_EXPAND_COLUMNS 256
#define MLA_FLASH_TOKENS 128

struct params_mla_store {
    uint64_t c, gain, table;
    uint32_t n, first, layer, row_bytes;
    float eps;
};

/* y[t][h][row] = sum_i w[h][row][i] x[t][h][i] */
struct params_mla_heads {
    uint64_t w, mat_bytes, x, y;
    uint32_t n, n_head, n_in, n_out, row_bytes;
    uint32_t x_pitch; /* floats from head to head */
};

#define MLA_QUERIES 16 /* queries (t, h) of a split are padded to a multiple of this: pitch */
#define MLA_SPLITS 256 /* at most */

/* One split of the rows for all queries (t, h) of a tile. */
struct params_mla_split {
    uint64_t qa;     /* [n][H][R] */
    uint64_t q;      /* [n][H][N + P] */
    uint64_t table;
    uint64_t part;   /* [splits][pitch][R]: sums */
    uint64_t totals; /* [splits][pitch][2]: maximum, sum of the exponentials */
    uint32_t n, first, n_head, layer, row_bytes, nope;
    uint32_t keys; /* of a split */
    uint32_t splits, pitch;
    float scale;
};

struct params_mla_combine {
    uint64_t part, totals, latent; /* latent [n * H][R] */
    uint32_t splits, pitch;
};

/* to[mat * mat_pitch + row * row_pitch + column * column_pitch] = w[mat][row][column] */
struct params_mla_unpack {
    uint64_t w, mat_bytes, to;
    uint32_t n_in, n_out, row_bytes, mat_pitch, row_pitch, column_pitch;
};

/* Rows [first, first + count) of the timeline, for all heads; what is missing of the last tile becomes 0. For
 * mla_expand_coop, where w, k and v are f16: k [H][tiles * MLA_TILE][N], and there is no pe.
 * w [H][R][N + V]; k [H][tiles][N][MLA_TILE], pe [tiles][P][MLA_TILE], v [H][tiles * MLA_TILE][V] */
struct params_mla_expand {
    uint64_t w, table, k, pe, v;
    uint32_t first, count, tiles, n_head, layer, row_bytes;
};

/* Queries of a batch against the expanded rows [start, start + count). running: [n][H][2], maximum and sum, and o is
 * not divided by the sum yet, until a query has seen its last row. For mla_flash_coop scale is for powers of two, and so
 * is the maximum, a past one. */
struct params_mla_flash {
    uint64_t q, k, pe, v, running, o;
    uint64_t table; /* and layer, row_bytes: for mla_flash_coop, in place of pe */
    uint32_t n, first, n_head, start, count, tiles, layer, row_bytes;
    float scale;
};

#endif
