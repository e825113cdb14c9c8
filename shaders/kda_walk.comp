#version 460
// SPDX-License-Identifier: MIT
//
// Chunked KDA, pass 2, as kda_scan.comp, for real GPUs: a chunk's record is fetched while the one before is worked on,
// and lies in shared memory then, where an element that all columns need is read by all at once.
//
//   V' = U - W S      o = (q exp(G)) S + A_qk V'      S <- diag(exp(G_last)) S + (k exp(G_last - G))^T V'
//
// Workgroups: (slices of 32 value columns, n_head), of 256 invocations: 8 teams of one for each column. A team has two
// tokens of a chunk, and every eighth block of 8 key channels.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_kda.h"

layout(constant_id = 2) const uint D = 128; // a multiple of 8
const uint COLUMNS = 32, TEAMS = 8, WIDTH = COLUMNS * TEAMS, TOKENS = KDA_CHUNK / TEAMS;
const uint WQ_QUADS = 8 * D, KEY_QUADS = 4 * D; // of a record
const uint WQ_OWN = (WQ_QUADS + WIDTH - 1) / WIDTH, KEY_OWN = (KEY_QUADS + WIDTH - 1) / WIDTH;
const uint THROUGH_OWN = (D + WIDTH - 1) / WIDTH;

layout(push_constant) uniform push {
    params_kda_scan p;
};

shared vec4 wq[WQ_QUADS], keys[KEY_QUADS];     // parts WQ and K of a record
shared float through[D];                       // E
shared vec4 coupling[KDA_CHUNK * KDA_CHUNK / 4]; // A
shared float fresh[KDA_CHUNK * COLUMNS];       // V'
shared float state[D * COLUMNS];

// What this invocation fetched of the next record.
vec4 next_wq[WQ_OWN], next_keys[KEY_OWN];
float next_through[THROUGH_OWN], next_coupling, next_u[TOKENS];

void record_fetch(uint chunk, uint head, uint column)
{
    const uint id = gl_LocalInvocationID.x, team = id / COLUMNS;
    const uint64_t record = p.records + 4ul * KDA_RECORD(D) * (chunk * p.n_head + head);
    f32_in floats = f32_in(record);
    [[unroll]] for (uint i = 0; i < WQ_OWN; i++)
        next_wq[i] = load_f32x4(record + 16 * min(id + i * WIDTH, WQ_QUADS - 1));
    [[unroll]] for (uint i = 0; i < KEY_OWN; i++)
        next_keys[i] = load_f32x4(record + 128 * D + 16 * min(id + i * WIDTH, KEY_QUADS - 1));
    [[unroll]] for (uint i = 0; i < THROUGH_OWN; i++)
        next_through[i] = floats.v[64 * D + min(id + i * WIDTH, D - 1)];
    // Undefined above the diagonal.
    next_coupling = id % KDA_CHUNK <= id / KDA_CHUNK ? floats.v[65 * D + id] : 0.0;
    [[unroll]] for (uint r = 0; r < TOKENS; r++)
        next_u[r] = floats.v[48 * D + (team * TOKENS + r) * D + min(column, D - 1)];
}

void record_keep()
{
    const uint id = gl_LocalInvocationID.x;
    [[unroll]] for (uint i = 0; i < WQ_OWN; i++)
        if (id + i * WIDTH < WQ_QUADS) wq[id + i * WIDTH] = next_wq[i];
    [[unroll]] for (uint i = 0; i < KEY_OWN; i++)
        if (id + i * WIDTH < KEY_QUADS) keys[id + i * WIDTH] = next_keys[i];
    [[unroll]] for (uint i = 0; i < THROUGH_OWN; i++)
        if (id + i * WIDTH < D) through[id + i * WIDTH] = next_through[i];
    coupling[id / 4][id % 4] = next_coupling;
}

// w = W S and o = (q exp(G)) S for the tokens of the team
void state_read(uint team, uint lane, out float w[TOKENS], out float o[TOKENS])
{
    [[unroll]] for (uint r = 0; r < TOKENS; r++) w[r] = o[r] = 0.0;
    [[dont_unroll]] for (uint block = 0; block < D / 8; block++) {
        [[unroll]] for (uint part = 0; part < 2; part++) {
            vec4 s;
            [[unroll]] for (uint i = 0; i < 4; i++) s[i] = state[(block * 8 + part * 4 + i) * COLUMNS + lane];
            [[unroll]] for (uint r = 0; r < TOKENS; r++) {
                const uint at = (block * KDA_CHUNK + team * TOKENS + r) * 4 + part;
                w[r] += dot(wq[at], s);
                o[r] += dot(wq[at + 2], s);
            }
        }
    }
}

void state_write(uint team, uint lane, float v[KDA_CHUNK])
{
    [[dont_unroll]] for (uint block = team; block < D / 8; block += TEAMS) {
        vec4 s[2];
        [[unroll]] for (uint d = 0; d < 8; d++)
            s[d / 4][d % 4] = through[block * 8 + d] * state[(block * 8 + d) * COLUMNS + lane];
        [[unroll]] for (uint i = 0; i < KDA_CHUNK; i++) {
            s[0] += keys[(block * KDA_CHUNK + i) * 2] * v[i];
            s[1] += keys[(block * KDA_CHUNK + i) * 2 + 1] * v[i];
        }
        [[unroll]] for (uint d = 0; d < 8; d++) state[(block * 8 + d) * COLUMNS + lane] = s[d / 4][d % 4];
    }
}

void main()
{
    const uint id = gl_LocalInvocationID.x, lane = id % COLUMNS, team = id / COLUMNS;
    const uint head = gl_WorkGroupID.y, column = gl_WorkGroupID.x * COLUMNS + lane;
    const uint chunks = (p.n + KDA_CHUNK - 1) / KDA_CHUNK;
    f32_ref outer = f32_ref(p.state);
    for (uint d = team; d < D; d += TEAMS)
        state[d * COLUMNS + lane] = outer.v[(head * D + d) * D + min(column, D - 1)];
    record_fetch(0, head, column);
    [[dont_unroll]] for (uint chunk = 0; chunk < chunks; chunk++) {
        float u[TOKENS], w[TOKENS], o[TOKENS], v[KDA_CHUNK];
        [[unroll]] for (uint r = 0; r < TOKENS; r++) u[r] = next_u[r];
        record_keep();
        barrier();
        record_fetch(min(chunk + 1, chunks - 1), head, column);
        state_read(team, lane, w, o);
        [[unroll]] for (uint r = 0; r < TOKENS; r++) fresh[(team * TOKENS + r) * COLUMNS + lane] = u[r] - w[r];
        barrier();
        [[unroll]] for (uint i = 0; i < KDA_CHUNK; i++) v[i] = fresh[i * COLUMNS + lane];
        [[unroll]] for (uint r = 0; r < TOKENS; r++) {
            const uint t = team * TOKENS + r, token = chunk * KDA_CHUNK + t;
            [[unroll]] for (uint i = 0; i < KDA_CHUNK; i += 4)
                o[r] += dot(coupling[t * KDA_CHUNK / 4 + i / 4], vec4(v[i], v[i + 1], v[i + 2], v[i + 3]));
            if (token < p.n && column < D) f32_ref(p.o).v[(token * p.n_head + head) * D + column] = o[r];
        }
        state_write(team, lane, v);
        barrier();
    }
    for (uint d = team; d < D; d += TEAMS)
        if (column < D) outer.v[(head * D + d) * D + column] = state[d * COLUMNS + lane];
}
