#version 460
// SPDX-License-Identifier: MIT
//
// y[t] (+)= W x[t] for a few tokens. A subgroup computes ROWS output rows for all COLUMNS tokens: its invocations share
// the runs of a row, hold the x of a run in registers, and decode that run of each of the rows.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dequant.glsl"

layout(constant_id = 2) const uint COLUMNS = 1; // tokens
layout(constant_id = 3) const uint ROWS = 4;
layout(constant_id = 4) const bool WHOLE = true; // n_in is a multiple of RUN, x is 16-byte aligned
layout(push_constant) uniform push { params_matvec p; };

float acc[ROWS][COLUMNS];

void load_x(uint64_t x, uint run, out float v[RUN])
{
    [[unroll]] for (uint s = 0; s < 4; s++) {
        uint column = run_column(run) + segment_column(s);
        if (WHOLE) {
            [[unroll]] for (uint i = 0; i < 2; i++) {
                vec4 part = f32x4_in(x).v[column / 4 + i];
                [[unroll]] for (uint j = 0; j < 4; j++) v[8 * s + 4 * i + j] = part[j];
            }
        } else {
            [[unroll]] for (uint i = 0; i < 8; i++)
                v[8 * s + i] = column + i < p.n_in ? f32_in(x).v[column + i] : 0.0;
        }
    }
}

void load_w(uint64_t row, uint run, out float w[RUN])
{
#ifdef WEIGHT_PLAIN
    if (!WHOLE) {
        run_decode_part(row, run, p.n_in, w);
        return;
    }
#endif
    run_decode(row, run, w);
}

void run_add(uint first, uint run)
{
    float x[COLUMNS][RUN];
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) load_x(p.x + uint64_t(c) * p.n_in * 4, run, x[c]);
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        float w[RUN];
        load_w(p.w + uint64_t(min(first + r, p.n_out - 1)) * p.row_bytes, run, w);
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            float sum = 0.0;
            [[unroll]] for (uint i = 0; i < RUN; i++) sum += w[i] * x[c][i];
            acc[r][c] += sum;
        }
    }
}

void main()
{
    uint first = (gl_WorkGroupID.x * (GROUP / SUBGROUP) + gl_SubgroupID) * ROWS;
    if (first >= p.n_out) return;
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) acc[r][c] = 0.0;
    for (uint run = gl_SubgroupInvocationID; run * RUN < p.n_in; run += SUBGROUP) run_add(first, run);
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            float sum = subgroupAdd(acc[r][c]);
            if (first + r >= p.n_out || !subgroupElect()) continue;
            f32_ref y = f32_ref(p.y + (uint64_t(c) * p.n_out + first + r) * 4);
            y.v[0] = (p.add != 0 ? y.v[0] : 0.0) + sum;
        }
    }
}
