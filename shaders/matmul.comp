#version 460
// SPDX-License-Identifier: MIT
//
// y[t] (+)= W x[t] for many tokens, in f32, without shared memory: for software devices, where it
// would gain nothing. A subgroup computes a tile of SUBGROUP * ROWS output
// rows and TOKENS tokens. Each invocation decodes runs of its own ROWS rows into registers; the x of a run is loaded
// once by the subgroup together, and its elements are broadcast one after another, each meeting all rows.
//
// Grouped: the rows of x are sorted by matrix; `tiles` says of each tile which matrix and which rows (moe_sort.comp),
// and row i of x is token order[i] / share.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dequant.glsl"
#include "run.glsl"

layout(constant_id = 3) const uint ROWS = 4;
layout(constant_id = 4) const uint TOKENS = 8;
layout(constant_id = 5) const bool GROUPED = false;
layout(push_constant) uniform push { params_matmul p; };

const uint PART = SUBGROUP < RUN ? RUN / SUBGROUP : 1; // elements of x an invocation loads of a run

float acc[ROWS][TOKENS];

// This invocation's elements of a run of x: PART neighbours.
void load_part(uint64_t x, uint run, out float v[PART])
{
    uint first = PART * (gl_SubgroupInvocationID % (RUN / PART));
    uint column = run_column(run) + segment_column(first / 8) + first % 8;
    [[unroll]] for (uint i = 0; i < PART; i++)
        v[i] = WHOLE || column + i < p.n_in ? f32_ref(x).v[column + i] : 0.0;
}

void run_add(uint64_t w_row[ROWS], uint64_t x_row[TOKENS], uint run)
{
    float w[ROWS][RUN];
    [[unroll]] for (uint r = 0; r < ROWS; r++) load_w(w_row[r], run, p.n_in, w[r]);
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        float x[PART];
        load_part(x_row[t], run, x);
        [[unroll]] for (uint i = 0; i < RUN; i++) {
            float each = subgroupBroadcast(x[i % PART], i / PART);
            [[unroll]] for (uint r = 0; r < ROWS; r++) acc[r][t] += w[r][i] * each;
        }
    }
}

void main()
{
    uint first = 0, end = p.n;
    uint64_t w = p.w;
    if (GROUPED) {
        uvec4 tile = u32x4_in(p.tiles).v[gl_WorkGroupID.y];
        if (tile.y >= tile.z) return;
        w += tile.x * p.mat_bytes;
        first = tile.y;
        end = tile.z;
    } else {
        first = gl_WorkGroupID.y * TOKENS;
    }
    uint top = (gl_WorkGroupID.x * (GROUP / SUBGROUP) + gl_SubgroupID) * SUBGROUP * ROWS + gl_SubgroupInvocationID;
    uint64_t w_row[ROWS], x_row[TOKENS];
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        w_row[r] = w + uint64_t(min(top + r * SUBGROUP, p.n_out - 1)) * p.row_bytes;
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        uint row = min(first + t, end - 1);
        if (GROUPED && p.order != 0) row = u32_ref(p.order).v[row] / p.share;
        x_row[t] = p.x + uint64_t(row) * p.x_stride * 4;
    }
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        [[unroll]] for (uint t = 0; t < TOKENS; t++) acc[r][t] = 0.0;
    for (uint run = 0; run * RUN < p.n_in; run++) run_add(w_row, x_row, run);
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        f32_ref y = f32_ref(p.y + uint64_t(min(first + t, end - 1)) * p.n_out * 4);
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            uint row = top + r * SUBGROUP;
            if (first + t >= end || row >= p.n_out) continue;
            y.v[row] = (p.add != 0 ? y.v[row] : 0.0) + acc[r][t];
        }
    }
}
