#version 460
// SPDX-License-Identifier: MIT
//
// Expanded attention, one range of rows: a team takes QUERIES tokens of one head over all keys of the range that they
// see, with the running softmax of the ranges before. Lanes are keys for the scores and value channels for the sums.
// Workgroups: (tiles / TEAMS, n_head).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "lanes.glsl"
#include "params_mla.h"

layout(constant_id = 2) const uint N = 128;
layout(constant_id = 3) const uint P = 64;
layout(constant_id = 4) const uint V = 128;
layout(constant_id = 5) const uint QUERIES = 8; // tokens of a tile
layout(constant_id = 6) const uint KEYS = 2;    // of a lane at a time; LANES * KEYS divides MLA_TILE
layout(constant_id = 7) const uint STEP = 4; // channels unrolled: LANES, or less where a driver takes long to compile
const uint PER = (V + LANES - 1) / LANES;    // value channels of a lane

layout(push_constant) uniform push {
    params_mla_flash p;
};

const float LOWEST = -1e30;

// Adds q . k over `width` channels, of the query from channel `from`, of the keys from the tiles at `tiles`.
void add_scores(uint token, uint head, uint from, uint width, f32_in tiles, uint key, uint lane,
                inout float score[QUERIES][KEYS])
{
    for (uint first = 0; first < width; first += LANES) {
        float q[QUERIES];
        [[unroll]] for (uint i = 0; i < QUERIES; i++) {
            const uint at = (min(token + i, p.n - 1) * p.n_head + head) * (N + P) + from + first + lane;
            q[i] = first + lane < width ? f32_in(p.q).v[at] : 0;
        }
        const uint left = STEP < LANES ? min(LANES, width - first) : LANES;
        for (uint part = 0; part < left; part += STEP) {
            [[unroll]] for (uint d = part; d < part + STEP; d++) {
                const uint channel = min(first + d, width - 1);
                float k[KEYS];
                [[unroll]] for (uint j = 0; j < KEYS; j++) {
                    const uint at = key + j * LANES + lane;
                    k[j] = tiles.v[(at / MLA_TILE * width + channel) * MLA_TILE + at % MLA_TILE];
                }
                [[unroll]] for (uint i = 0; i < QUERIES; i++) {
                    const float x = lane_get(q[i], d);
                    [[unroll]] for (uint j = 0; j < KEYS; j++) score[i][j] += x * k[j];
                }
            }
        }
    }
}

void main()
{
    const uint head = gl_WorkGroupID.y, lane = lane_id(), token = (gl_WorkGroupID.x * TEAMS + team_id()) * QUERIES;
    const uint sees_all = p.first + min(token + QUERIES, p.n); // keys that the last query of the tile sees
    const bool present = token < p.n && sees_all > p.start;
    const uint end = present ? min(sees_all - p.start, p.count) : 0;
    f32_in keys = f32_in(p.k + uint64_t(head) * p.tiles * MLA_TILE * N * 4), pe = f32_in(p.pe);
    f32_in values = f32_in(p.v + uint64_t(head) * p.tiles * MLA_TILE * V * 4);
    f32_ref o = f32_ref(p.o), running = f32_ref(p.running);

    float sums[QUERIES][PER], most[QUERIES], total[QUERIES];
    [[unroll]] for (uint i = 0; i < QUERIES; i++) {
        const uint at = min(token + i, p.n - 1) * p.n_head + head;
        most[i] = p.start == 0 ? LOWEST : running.v[at * 2];
        total[i] = p.start == 0 || lane > 0 ? 0 : running.v[at * 2 + 1]; // of this lane
        [[unroll]] for (uint c = 0; c < PER; c++)
            sums[i][c] = p.start == 0 ? 0 : o.v[at * V + min(c * LANES + lane, V - 1)];
    }
    for (uint key = 0; key < end; key += LANES * KEYS) {
        float score[QUERIES][KEYS];
        [[unroll]] for (uint i = 0; i < QUERIES; i++)
            [[unroll]] for (uint j = 0; j < KEYS; j++) score[i][j] = 0;
        add_scores(token, head, 0, N, keys, key, lane, score);
        add_scores(token, head, N, P, pe, key, lane, score);
        [[unroll]] for (uint i = 0; i < QUERIES; i++) {
            const uint sees = min(p.first + token + i + 1, p.start + end); // absolute
            float high = LOWEST;
            [[unroll]] for (uint j = 0; j < KEYS; j++) {
                score[i][j] = p.start + key + j * LANES + lane < sees ? score[i][j] * p.scale : LOWEST;
                high = max(high, score[i][j]);
            }
            high = max(most[i], lanes_max(high));
            const float keep = exp(most[i] - high);
            most[i] = high;
            total[i] *= keep;
            [[unroll]] for (uint j = 0; j < KEYS; j++) {
                score[i][j] = p.start + key + j * LANES + lane < sees ? exp(score[i][j] - high) : 0;
                total[i] += score[i][j];
            }
            [[unroll]] for (uint c = 0; c < PER; c++) sums[i][c] *= keep;
        }
        [[unroll]] for (uint j = 0; j < KEYS; j++) {
            for (uint k = 0; k < LANES; k++) {
                float weight[QUERIES];
                [[unroll]] for (uint i = 0; i < QUERIES; i++) weight[i] = lane_get(score[i][j], k);
                const uint at = (key + j * LANES + k) * V;
                [[unroll]] for (uint c = 0; c < PER; c++) {
                    const float v = values.v[at + min(c * LANES + lane, V - 1)];
                    [[unroll]] for (uint i = 0; i < QUERIES; i++) sums[i][c] += weight[i] * v;
                }
            }
        }
    }
    [[unroll]] for (uint i = 0; i < QUERIES; i++) {
        const uint at = (token + i) * p.n_head + head;
        const bool mine = present && token + i < p.n;
        const float all = lanes_sum(total[i]);
        const bool done = sees_all <= p.start + p.count;
        const float scale = done ? 1 / all : 1;
        if (mine) {
            [[unroll]] for (uint c = 0; c < PER; c++)
                if (V % LANES == 0 || c * LANES + lane < V) o.v[at * V + c * LANES + lane] = sums[i][c] * scale;
            running.v[at * 2] = most[i];
            running.v[at * 2 + 1] = all;
        }
    }
}
