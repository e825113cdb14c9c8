#version 460
// SPDX-License-Identifier: MIT
//
// Chunked KDA, pass 2: a workgroup for each (head, slice of value columns) walks over the chunks with its part of the
// state in shared memory; lanes are columns, the 16 tokens of a chunk are divided among the teams.
//
//   V' = U - W S      o = (q exp(G)) S + A_qk V'      S <- diag(exp(G_last)) S + (k exp(G_last - G))^T V'
//
// Workgroups: (slices, n_head). Records: params_kda.h.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "lanes.glsl"
#include "params_kda.h"

layout(constant_id = 2) const uint D = 128; // a multiple of 8
layout(constant_id = 3) const uint PER = 2; // columns of a lane
const uint COLUMNS = LANES * PER;
const uint TOKENS = KDA_CHUNK / TEAMS;       // of a team; TOKENS * 16 is a multiple of LANES
const uint WQ_LOADS = TOKENS * 16 / LANES;   // of 8 key channels, W and q: 16 f32_ref a token
const uint A_LOADS = TOKENS * KDA_CHUNK / LANES;
const uint K_LOADS = KDA_CHUNK * 8 / LANES;

layout(push_constant) uniform push {
    params_kda_scan p;
};

shared float state[D * COLUMNS];
shared float fresh[KDA_CHUNK * COLUMNS]; // V'

// w = W S and o = (q exp(G)) S for the tokens of the team
void read_state(f32_ref record, uint team, uint lane, out float w[TOKENS][PER], out float o[TOKENS][PER])
{
    [[unroll]] for (uint r = 0; r < TOKENS; r++)
        [[unroll]] for (uint c = 0; c < PER; c++)
            w[r][c] = o[r][c] = 0;
    for (uint block = 0; block < D / 8; block++) {
        float wq[WQ_LOADS];
        [[unroll]] for (uint i = 0; i < WQ_LOADS; i++)
            wq[i] = record.v[block * 256 + team * TOKENS * 16 + i * LANES + lane];
        [[unroll]] for (uint d = 0; d < 8; d++) {
            float s[PER];
            [[unroll]] for (uint c = 0; c < PER; c++)
                s[c] = state[(block * 8 + d) * COLUMNS + c * LANES + lane];
            [[unroll]] for (uint r = 0; r < TOKENS; r++) {
                const uint at = r * 16 + d;
                const float wr = lane_get(wq[at / LANES], at % LANES);
                const float qr = lane_get(wq[(at + 8) / LANES], (at + 8) % LANES);
                [[unroll]] for (uint c = 0; c < PER; c++) {
                    w[r][c] += wr * s[c];
                    o[r][c] += qr * s[c];
                }
            }
        }
    }
}

// o += A_qk V'; v gets all of V'
void read_fresh(f32_ref record, uint team, uint lane, inout float o[TOKENS][PER], out float v[KDA_CHUNK][PER])
{
    float a[A_LOADS];
    [[unroll]] for (uint i = 0; i < A_LOADS; i++) {
        const uint at = i * LANES + lane, row = team * TOKENS + at / KDA_CHUNK, column = at % KDA_CHUNK;
        a[i] = column <= row ? record.v[65 * D + row * KDA_CHUNK + column] : 0;
    }
    [[unroll]] for (uint j = 0; j < KDA_CHUNK; j++) {
        [[unroll]] for (uint c = 0; c < PER; c++)
            v[j][c] = fresh[j * COLUMNS + c * LANES + lane];
        [[unroll]] for (uint r = 0; r < TOKENS; r++) {
            const uint at = r * KDA_CHUNK + j;
            const float x = lane_get(a[at / LANES], at % LANES);
            [[unroll]] for (uint c = 0; c < PER; c++)
                o[r][c] += x * v[j][c];
        }
    }
}

void write_state(f32_ref record, uint team, uint lane, float v[KDA_CHUNK][PER])
{
    for (uint block = team; block < D / 8; block += TEAMS) {
        float k[K_LOADS];
        [[unroll]] for (uint i = 0; i < K_LOADS; i++)
            k[i] = record.v[32 * D + block * 128 + i * LANES + lane];
        const float through = record.v[64 * D + block * 8 + (lane & 7)];
        [[unroll]] for (uint d = 0; d < 8; d++) {
            const uint at = (block * 8 + d) * COLUMNS + lane;
            const float keep = lane_get(through, d);
            float s[PER];
            [[unroll]] for (uint c = 0; c < PER; c++)
                s[c] = keep * state[at + c * LANES];
            [[unroll]] for (uint i = 0; i < KDA_CHUNK; i++) {
                const float x = lane_get(k[(i * 8 + d) / LANES], (i * 8 + d) % LANES);
                [[unroll]] for (uint c = 0; c < PER; c++)
                    s[c] += x * v[i][c];
            }
            [[unroll]] for (uint c = 0; c < PER; c++)
                state[at + c * LANES] = s[c];
        }
    }
}

void main()
{
    const uint head = gl_WorkGroupID.y, lane = lane_id(), team = team_id();
    const uint column = gl_WorkGroupID.x * COLUMNS + lane;
    f32_ref outer = f32_ref(p.state);
    for (uint d = team; d < D; d += TEAMS)
        [[unroll]] for (uint c = 0; c < PER; c++)
            state[d * COLUMNS + c * LANES + lane] = outer.v[(head * D + d) * D + min(column + c * LANES, D - 1)];
    barrier();

    for (uint first = 0; first < p.n; first += KDA_CHUNK) {
        const uint chunk = first / KDA_CHUNK;
        f32_ref record = f32_ref(p.records + 4ul * KDA_RECORD(D) * (chunk * p.n_head + head));
        float w[TOKENS][PER], o[TOKENS][PER], v[KDA_CHUNK][PER];
        read_state(record, team, lane, w, o);
        [[unroll]] for (uint r = 0; r < TOKENS; r++) {
            const uint t = team * TOKENS + r;
            [[unroll]] for (uint c = 0; c < PER; c++)
                fresh[t * COLUMNS + c * LANES + lane] =
                    record.v[48 * D + t * D + min(column + c * LANES, D - 1)] - w[r][c];
        }
        barrier();
        read_fresh(record, team, lane, o, v);
        [[unroll]] for (uint r = 0; r < TOKENS; r++) {
            const uint t = first + team * TOKENS + r;
            [[unroll]] for (uint c = 0; c < PER; c++)
                if (t < p.n && column + c * LANES < D)
                    f32_ref(p.o).v[(t * p.n_head + head) * D + column + c * LANES] = o[r][c];
        }
        write_state(record, team, lane, v);
        barrier();
    }
    for (uint d = team; d < D; d += TEAMS)
        [[unroll]] for (uint c = 0; c < PER; c++)
            if (column + c * LANES < D)
                outer.v[(head * D + d) * D + column + c * LANES] = state[d * COLUMNS + c * LANES + lane];
}
