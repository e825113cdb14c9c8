#version 460
// SPDX-License-Identifier: MIT
//
// mla_expand.comp on cooperative matrices, for rows kept as f16: keys and values as f16, a product through shared
// memory. A workgroup makes 128 rows of 256 of a head's channels, a subgroup 64 by 64 of them. What comes next is
// fetched while the products of what is there run. Rows past the last become 0.
//
// Workgroups: (tiles of 128 rows, n_head, tiles of 256 channels), each of eight subgroups. R is a multiple of 32, N and V
// are of 16.
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

const uint ROWS = MLA_EXPAND_ROWS, COLUMNS = MLA_EXPAND_COLUMNS, STEP = 32, OWN = 64 / SIDE, DOWN = ROWS / 64;
const uint THREADS = DOWN * (COLUMNS / 64) * SUBGROUP, WIDTH = R + P, WIDE = N + V;
// In words of 16 bytes; rows in shared memory are a word longer against bank conflicts.
const uint A_WORDS = STEP / 8, A_PITCH = A_WORDS + 1, A_OWN = ROWS * A_WORDS / THREADS;
const uint B_WORDS = COLUMNS / 8, B_PITCH = B_WORDS + 1, B_OWN = STEP * B_WORDS / THREADS;

layout(push_constant) uniform push {
    params_mla_expand p;
};

shared uvec4 a_tile[ROWS * A_PITCH];
shared uvec4 b_tile[STEP * B_PITCH];

uvec4 a_raw[A_OWN], b_raw[B_OWN];
SUMS sums[OWN][OWN];

// STEP of the latent channels from k on. rows: how many there are; columns: the first of the last word there is.
void fetch(uint64_t a, uint64_t w, uint rows, uint columns, uint k)
{
    [[unroll]] for (uint i = 0; i < A_OWN; i++) {
        const uint at = gl_LocalInvocationID.x + i * THREADS, row = at / A_WORDS;
        a_raw[i] = uvec4(0);
        if (row < rows) a_raw[i] = load_u32x4(a + 2 * (row * WIDTH + k + at % A_WORDS * 8));
    }
    [[unroll]] for (uint i = 0; i < B_OWN; i++) {
        const uint at = gl_LocalInvocationID.x + i * THREADS;
        b_raw[i] = load_u32x4(w + 2 * ((k + at / B_WORDS) * WIDE + min(at % B_WORDS * 8, columns)));
    }
}

void fill()
{
    [[unroll]] for (uint i = 0; i < A_OWN; i++) {
        const uint at = gl_LocalInvocationID.x + i * THREADS;
        a_tile[at / A_WORDS * A_PITCH + at % A_WORDS] = a_raw[i];
    }
    [[unroll]] for (uint i = 0; i < B_OWN; i++) {
        const uint at = gl_LocalInvocationID.x + i * THREADS;
        b_tile[at / B_WORDS * B_PITCH + at % B_WORDS] = b_raw[i];
    }
}

void multiply(uint own_row, uint own_column)
{
    [[unroll]] for (uint k = 0; k < STEP; k += SIDE) {
        HALF_A a[OWN];
        [[unroll]] for (uint i = 0; i < OWN; i++)
            coopMatLoad(a[i], a_tile, (own_row + i * SIDE) * A_PITCH + k / 8, A_PITCH,
                        gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint j = 0; j < OWN; j++) {
            HALF_B b;
            coopMatLoad(b, b_tile, k * B_PITCH + (own_column + j * SIDE) / 8, B_PITCH,
                        gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint i = 0; i < OWN; i++) sums[i][j] = coopMatMulAdd(a[i], b, sums[i][j]);
        }
    }
}

// The matrix of channels [column, ...) from row `row` of the range.
void write(SUMS m, uint head, uint row, uint column)
{
    const uint all = p.tiles * MLA_TILE;
    if (column < N) {
        half_ref k = half_ref(p.k + uint64_t(head * all + row) * N * 2);
        coopMatStore(HALF_SUMS(m), k.v, column, N, gl_CooperativeMatrixLayoutRowMajor);
    } else if (column < WIDE) {
        half_ref v = half_ref(p.v + uint64_t(head * all + row) * V * 2);
        coopMatStore(HALF_SUMS(m), v.v, column - N, V, gl_CooperativeMatrixLayoutRowMajor);
    }
}

void main()
{
    const uint head = gl_WorkGroupID.y, row = gl_WorkGroupID.x * ROWS, column = gl_WorkGroupID.z * COLUMNS;
    const uint64_t a = row_address(p.table, p.layer, p.row_bytes, p.first + row);
    const uint64_t w = p.w + (uint64_t(head) * R * WIDE + column) * 2;
    const uint rows = p.count - row, columns = WIDE - column - 8;
    const uint own_row = gl_SubgroupID % DOWN * 64, own_column = gl_SubgroupID / DOWN * 64;
    [[unroll]] for (uint i = 0; i < OWN; i++)
        [[unroll]] for (uint j = 0; j < OWN; j++) sums[i][j] = SUMS(0.0);
    fetch(a, w, rows, columns, 0);
    [[dont_unroll]] for (uint k = 0; k < R; k += STEP) {
        barrier(); // the products of the step before
        fill();
        barrier();
        if (k + STEP < R) fetch(a, w, rows, columns, k + STEP);
        multiply(own_row, own_column);
    }
    [[unroll]] for (uint i = 0; i < OWN; i++)
        [[unroll]] for (uint j = 0; j < OWN; j++)
            write(sums[i][j], head, row + own_row + i * SIDE, column + own_column + j * SIDE);
}
