#version 460
// SPDX-License-Identifier: MIT
//
// Keys and values of a range of rows: K = K_b^T c and V = V_b c, one product with [K_b | V_b^T]. A team computes ROWS
// rows times LANES * PER columns; lanes are columns. Workgroups: (columns, rows / (ROWS * TEAMS), n_head); ROWS * TEAMS
// divides MLA_TILE.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "lanes.glsl"
#include "params_mla.h"

layout(constant_id = 2) const uint DTYPE = 0;
layout(constant_id = 3) const uint R = 512;
layout(constant_id = 4) const uint N = 128;
layout(constant_id = 5) const uint STEP = 4; // channels unrolled: LANES, or less where a driver takes long to compile
layout(constant_id = 6) const uint V = 128;
layout(constant_id = 7) const uint PER = 2; // columns of a lane
#include "mla_row.glsl"
const uint ROWS = 16;

layout(push_constant) uniform push {
    params_mla_expand p;
};

// Row i of the range; past its end the last one, which is masked by in_range.
uint64_t range_row(uint i)
{
    return row_address(p.table, p.layer, p.row_bytes, p.first + min(i, p.count - 1));
}

uint tiled(uint row, uint width, uint channel)
{
    return (row / MLA_TILE * width + channel) * MLA_TILE + row % MLA_TILE;
}

void main()
{
    const uint lane = lane_id(), head = gl_WorkGroupID.z, column = gl_WorkGroupID.x * LANES * PER + lane;
    const uint row = (gl_WorkGroupID.y * TEAMS + team_id()) * ROWS;
    uint64_t rows[ROWS];
    float sum[ROWS][PER];
    [[unroll]] for (uint i = 0; i < ROWS; i++) {
        rows[i] = range_row(row + i);
        [[unroll]] for (uint c = 0; c < PER; c++) sum[i][c] = 0;
    }
    f32_in w = f32_in(p.w + uint64_t(head) * R * (N + V) * 4);
    for (uint first = 0; first < R; first += LANES) {
        float latent[ROWS];
        [[unroll]] for (uint i = 0; i < ROWS; i++)
            latent[i] = first + lane < R ? row_load(rows[i], first + lane) : 0;
        const uint left = STEP < LANES ? min(LANES, R - first) : LANES;
        for (uint part = 0; part < left; part += STEP) {
            [[unroll]] for (uint k = part; k < part + STEP; k++) {
                float b[PER];
                [[unroll]] for (uint c = 0; c < PER; c++)
                    b[c] = w.v[min(first + k, R - 1) * (N + V) + min(column + c * LANES, N + V - 1)];
                [[unroll]] for (uint i = 0; i < ROWS; i++) {
                    const float x = lane_get(latent[i], k);
                    [[unroll]] for (uint c = 0; c < PER; c++) sum[i][c] += x * b[c];
                }
            }
        }
    }
    [[unroll]] for (uint c = 0; c < PER; c++) {
        const uint at = column + c * LANES;
        [[unroll]] for (uint i = 0; i < ROWS; i++) {
            const float x = row + i < p.count ? sum[i][c] : 0;
            if (at < N)
                f32_ref(p.k + uint64_t(head) * p.tiles * MLA_TILE * N * 4).v[tiled(row + i, N, at)] = x;
            else if (at < N + V)
                f32_ref(p.v).v[(head * p.tiles * MLA_TILE + row + i) * V + at - N] = x;
        }
    }
}
