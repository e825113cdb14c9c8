#version 460
// SPDX-License-Identifier: MIT
//
// The delta rule token by token, for few tokens: a workgroup for each (head, slice of value columns) reads its part of
// the state once and writes it once. The rows of the state are divided among the teams; lanes are columns.
// Because o = q^T (diag(alpha) S + beta k u^T), both sums over rows are taken from the old state at once:
// u = v - (alpha k)^T S, o = (alpha q)^T S + beta (q . k) u. Workgroups: (slices, n_head).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "lanes.glsl"
#include "params_kda.h"

layout(constant_id = 2) const uint D = 128;  // a multiple of 8
layout(constant_id = 3) const uint PER = 1;  // columns of a lane
const uint ROWS = D / TEAMS;                 // of a team; TEAMS divides 8
const uint PARTS = (ROWS + LANES - 1) / LANES;
const uint COLUMNS = LANES * PER;

layout(push_constant) uniform push {
    params_kda_step p;
};

// Partial sums of two tokens in turn, so that one barrier a token is enough.
shared float read_k[2][TEAMS][COLUMNS];
shared float read_q[2][TEAMS][COLUMNS];
shared float k_dot_q[2][TEAMS];

void main()
{
    const uint head = gl_WorkGroupID.y, width = p.n_head * D, lane = lane_id(), team = team_id();
    const uint column = gl_WorkGroupID.x * COLUMNS + lane, row = team * ROWS;
    f32_ref state = f32_ref(p.state), q = f32_ref(p.q), k = f32_ref(p.k), v = f32_ref(p.v), g = f32_ref(p.g);

    float s[ROWS][PER];
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        [[unroll]] for (uint c = 0; c < PER; c++)
            s[r][c] = state.v[(head * D + row + r) * D + min(column + c * LANES, D - 1)];

    for (uint t = 0; t < p.n; t++) {
        const uint at = t * width + head * D, turn = t & 1;
        float key[PARTS], decay[PARTS], decayed_k[PARTS], decayed_q[PARTS], dot_kq = 0;
        [[unroll]] for (uint i = 0; i < PARTS; i++) {
            const uint r = i * LANES + lane;
            const bool mine = r < ROWS;
            const float query = mine ? q.v[at + row + r] : 0;
            key[i] = mine ? k.v[at + row + r] : 0;
            decay[i] = mine ? exp(g.v[at + row + r]) : 0;
            decayed_k[i] = decay[i] * key[i];
            decayed_q[i] = decay[i] * query;
            dot_kq += key[i] * query;
        }
        float sum_k[PER], sum_q[PER];
        [[unroll]] for (uint c = 0; c < PER; c++)
            sum_k[c] = sum_q[c] = 0;
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            const float dk = lane_get(decayed_k[r / LANES], r % LANES);
            const float dq = lane_get(decayed_q[r / LANES], r % LANES);
            [[unroll]] for (uint c = 0; c < PER; c++) {
                sum_k[c] += dk * s[r][c];
                sum_q[c] += dq * s[r][c];
            }
        }
        [[unroll]] for (uint c = 0; c < PER; c++) {
            read_k[turn][team][c * LANES + lane] = sum_k[c];
            read_q[turn][team][c * LANES + lane] = sum_q[c];
        }
        dot_kq = lanes_sum(dot_kq);
        if (lane == 0) k_dot_q[turn][team] = dot_kq;
        float value[PER]; // before the barrier: o may be v
        [[unroll]] for (uint c = 0; c < PER; c++) value[c] = v.v[at + min(column + c * LANES, D - 1)];
        barrier();

        const float beta = f32_ref(p.beta).v[t * p.n_head + head];
        float kq = 0, u[PER];
        [[unroll]] for (uint i = 0; i < TEAMS; i++)
            kq += k_dot_q[turn][i];
        [[unroll]] for (uint c = 0; c < PER; c++) {
            float all_k = 0, all_q = 0;
            [[unroll]] for (uint i = 0; i < TEAMS; i++) {
                all_k += read_k[turn][i][c * LANES + lane];
                all_q += read_q[turn][i][c * LANES + lane];
            }
            const bool mine = column + c * LANES < D;
            u[c] = mine ? beta * (value[c] - all_k) : 0;
            if (mine && team == 0) f32_ref(p.o).v[at + column + c * LANES] = all_q + kq * u[c];
        }
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            const float alpha = lane_get(decay[r / LANES], r % LANES);
            const float kr = lane_get(key[r / LANES], r % LANES);
            [[unroll]] for (uint c = 0; c < PER; c++)
                s[r][c] = alpha * s[r][c] + kr * u[c];
        }
    }
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        [[unroll]] for (uint c = 0; c < PER; c++)
            if (column + c * LANES < D) state.v[(head * D + row + r) * D + column + c * LANES] = s[r][c];
}
