#version 460
// SPDX-License-Identifier: MIT
//
// Absorbed attention: queries in the latent space against the rows as they are stored; keys and values are the same
// rows. A team takes a tile of queries (t, h) and one split of the rows, with a running softmax; mla_combine adds the
// splits up. Lanes are keys for the scores and latent channels for the sums. Workgroups: (tiles * splits / TEAMS).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "lanes.glsl"
#include "params_mla.h"

layout(constant_id = 2) const uint DTYPE = 0;
layout(constant_id = 3) const uint R = 512;
layout(constant_id = 4) const uint P = 64;
layout(constant_id = 5) const uint QUERIES = 4; // of a tile
layout(constant_id = 6) const uint KEYS = 1;    // of a lane at a time
#include "mla_row.glsl"
const uint PER = (R + LANES - 1) / LANES; // latent channels of a lane

layout(push_constant) uniform push {
    params_mla_split p;
};

const float LOWEST = -1e30;

float load_query(uint query, uint i)
{
    const uint64_t from = i < R ? p.qa + uint64_t(query * R + i) * 4
                                : p.q + uint64_t(query * (p.nope + P) + p.nope + min(i, R + P - 1) - R) * 4;
    const float x = f32_in(from).v[0];
    return i < R + P ? x : 0;
}

void add_scores(uint query, uint64_t rows[KEYS], uint lane, inout float score[QUERIES][KEYS])
{
    for (uint first = 0; first < R + P; first += LANES) {
        float q[QUERIES];
        [[unroll]] for (uint i = 0; i < QUERIES; i++)
            q[i] = load_query(min(query + i, p.n * p.n_head - 1), first + lane);
        [[unroll]] for (uint d = 0; d < LANES; d++) {
            float k[KEYS];
            [[unroll]] for (uint j = 0; j < KEYS; j++) k[j] = row_load(rows[j], min(first + d, R + P - 1));
            [[unroll]] for (uint i = 0; i < QUERIES; i++) {
                const float x = lane_get(q[i], d);
                [[unroll]] for (uint j = 0; j < KEYS; j++) score[i][j] += x * k[j];
            }
        }
    }
}

void main()
{
    const uint unit = gl_WorkGroupID.x * TEAMS + team_id(), lane = lane_id(), queries = p.n * p.n_head;
    const uint split = unit % p.splits, query = unit / p.splits * QUERIES;
    // The furthest key seen. A tile past the end sees none.
    const uint last = p.first + (min(query + QUERIES, queries) - 1) / p.n_head;
    const uint begin = split * p.keys, end = query < queries ? min(begin + p.keys, last + 1) : 0;

    float sums[QUERIES][PER], most[QUERIES], total[QUERIES];
    [[unroll]] for (uint i = 0; i < QUERIES; i++) {
        most[i] = LOWEST;
        total[i] = 0;
        [[unroll]] for (uint c = 0; c < PER; c++) sums[i][c] = 0;
    }
    for (uint key = begin; key < end; key += LANES * KEYS) {
        uint64_t rows[KEYS];
        float score[QUERIES][KEYS], keep[QUERIES];
        [[unroll]] for (uint j = 0; j < KEYS; j++) {
            rows[j] = row_address(p.table, p.layer, p.row_bytes, min(key + j * LANES + lane, last));
            [[unroll]] for (uint i = 0; i < QUERIES; i++) score[i][j] = 0;
        }
        add_scores(query, rows, lane, score);
        [[unroll]] for (uint i = 0; i < QUERIES; i++) {
            const uint sees = min(p.first + (query + i) / p.n_head + 1, end);
            float high = LOWEST;
            [[unroll]] for (uint j = 0; j < KEYS; j++) {
                score[i][j] = key + j * LANES + lane < sees ? score[i][j] * p.scale : LOWEST;
                high = max(high, score[i][j]);
            }
            high = max(most[i], lanes_max(high));
            keep[i] = exp(most[i] - high);
            most[i] = high;
            total[i] *= keep[i];
            [[unroll]] for (uint j = 0; j < KEYS; j++) {
                score[i][j] = key + j * LANES + lane < sees ? exp(score[i][j] - high) : 0;
                total[i] += score[i][j];
            }
            [[unroll]] for (uint c = 0; c < PER; c++) sums[i][c] *= keep[i];
        }
        [[unroll]] for (uint j = 0; j < KEYS; j++) {
            for (uint k = 0; k < LANES; k++) {
                const uint64_t row =
                    row_address(p.table, p.layer, p.row_bytes, min(key + j * LANES + k, last));
                float weight[QUERIES];
                [[unroll]] for (uint i = 0; i < QUERIES; i++) weight[i] = lane_get(score[i][j], k);
                [[unroll]] for (uint c = 0; c < PER; c++) {
                    const float v = row_load(row, min(c * LANES + lane, R - 1));
                    [[unroll]] for (uint i = 0; i < QUERIES; i++) sums[i][c] += weight[i] * v;
                }
            }
        }
    }
    [[unroll]] for (uint i = 0; i < QUERIES; i++) {
        const uint64_t place = uint64_t(split) * p.pitch + query + i;
        f32_ref part = f32_ref(p.part + place * R * 4), of_split = f32_ref(p.totals + place * 8);
        const float all = lanes_sum(total[i]);
        const bool mine = query + i < queries;
        if (mine) {
            [[unroll]] for (uint c = 0; c < PER; c++)
                if (R % LANES == 0 || c * LANES + lane < R) part.v[c * LANES + lane] = sums[i][c];
            of_split.v[0] = most[i];
            of_split.v[1] = all;
        }
    }
}
