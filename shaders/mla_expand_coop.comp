#version 460
// SPDX-License-Identifier: MIT
//
// mla_expand.comp on cooperative matrices, for rows kept as f16: keys and values of a head from 64 rows, as f16. A
// subgroup makes 64 channels of them at a time. Nothing is padded: rows past the last give what flash does not look at.
//
// Workgroups: (tiles of 64 rows, n_head), each of four subgroups. R, N and V are multiples of 16.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_mla.h"

layout(constant_id = 2) const uint R = 512;
layout(constant_id = 3) const uint P = 64;
layout(constant_id = 4) const uint N = 128;
layout(constant_id = 5) const uint V = 128;
const uint DTYPE = 1;
#include "mla_row.glsl"
#include "mla_coop.glsl"

const uint ROWS = 4, COLUMNS = 4; // matrices of a subgroup, down and across
const uint WIDTH = R + P, CHANNELS = (N + V) / SIDE;

layout(push_constant) uniform push {
    params_mla_expand p;
};

// The matrix of channels [16 * column, ...) from row `row` of the range.
void write(SUMS sums, uint head, uint row, uint column)
{
    const HALF_SUMS halves = HALF_SUMS(sums);
    const uint all = p.tiles * MLA_TILE, at = column * SIDE;
    if (at < N) {
        half_ref k = half_ref(p.k + uint64_t(head * all + row) * N * 2);
        coopMatStore(halves, k.v, at, N, gl_CooperativeMatrixLayoutRowMajor);
    } else {
        half_ref v = half_ref(p.v + uint64_t(head * all + row) * V * 2);
        coopMatStore(halves, v.v, at - N, V, gl_CooperativeMatrixLayoutRowMajor);
    }
}

void main()
{
    const uint head = gl_WorkGroupID.y, row = gl_WorkGroupID.x * ROWS * SIDE;
    half_in rows = half_in(row_address(p.table, p.layer, p.row_bytes, p.first + row));
    half_in w = half_in(p.w + uint64_t(head) * R * (N + V) * 2);
    [[dont_unroll]] for (uint column = gl_SubgroupID * COLUMNS; column < CHANNELS; column += 4 * COLUMNS) {
        SUMS sums[ROWS][COLUMNS];
        [[unroll]] for (uint i = 0; i < ROWS; i++)
            [[unroll]] for (uint j = 0; j < COLUMNS; j++) sums[i][j] = SUMS(0.0);
        [[dont_unroll]] for (uint k = 0; k < R; k += SIDE) {
            HALF_A a[ROWS];
            [[unroll]] for (uint i = 0; i < ROWS; i++)
                coopMatLoad(a[i], rows.v, i * SIDE * WIDTH + k, WIDTH, gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint j = 0; j < COLUMNS; j++) {
                HALF_B b;
                coopMatLoad(b, w.v, k * (N + V) + min(column + j, CHANNELS - 1) * SIDE, N + V,
                            gl_CooperativeMatrixLayoutRowMajor);
                [[unroll]] for (uint i = 0; i < ROWS; i++) sums[i][j] = coopMatMulAdd(a[i], b, sums[i][j]);
            }
        }
        [[unroll]] for (uint i = 0; i < ROWS; i++)
            [[unroll]] for (uint j = 0; j < COLUMNS; j++)
                if (column + j < CHANNELS) write(sums[i][j], head, row + i * SIDE, column + j);
    }
}
