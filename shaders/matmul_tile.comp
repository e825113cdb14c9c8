#version 460
// SPDX-License-Identifier: MIT
//
// y[t] (+)= W x[t] for many tokens, in f32, through shared memory. A workgroup computes ROWS output rows of TOKENS
// tokens, a run of columns at a time: ROWS of its invocations decode a run of weights each, TOKENS others load that run
// of x, and all of them multiply: an invocation 4 rows by PER tokens. The next run is loaded while one is multiplied.
// What a driver has to compile stays small: the loop over a run's columns is kept a loop.
//
// Workgroups: (rows / ROWS, tokens / TOKENS or tiles). ROWS + TOKENS <= GROUP = ROWS * TOKENS / (4 * PER).
// Grouped: as in matmul.comp.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dequant.glsl"
#include "run.glsl"

layout(constant_id = 3) const uint PER = 8; // tokens of an invocation: a multiple of 4
layout(constant_id = 4) const uint TOKENS = 64; 
layout(constant_id = 5) const bool GROUPED = false;
layout(constant_id = 6) const uint ROWS = 64;
layout(push_constant) uniform push { params_matmul p; };

const uint ROW_PARTS = ROWS / 4, PARTS = (ROWS + TOKENS) / 4;

// Of a run: of each column first the weights of all rows, then the x of all tokens. Neighbouring invocations fill
// neighbouring words.
shared vec4 tile[RUN * PARTS];

void tile_fill(uint column, float v[RUN])
{
    [[unroll]] for (uint i = 0; i < RUN; i++) tile[i * PARTS + column / 4][column % 4] = v[i];
}

// acc[t] += 4 rows from part `row`, times token t from part `token`
void tile_multiply(uint row, uint token, inout vec4 acc[PER])
{
    [[dont_unroll]] for (uint i = 0; i < RUN; i += 2) {
        [[unroll]] for (uint j = i; j < i + 2; j++) {
            const vec4 w = tile[j * PARTS + row];
            [[unroll]] for (uint t = 0; t < PER / 4; t++) {
                const vec4 x = tile[j * PARTS + token + t];
                [[unroll]] for (uint k = 0; k < 4; k++) acc[4 * t + k] += w * x[k];
            }
        }
    }
}

// The matrix of this workgroup; its tokens are rows [first, end) of y.
uint64_t tile_find(out uint first, out uint end)
{
    uint matrix = 0;
    if (GROUPED) {
        const uvec4 found = u32x4_in(p.tiles).v[gl_WorkGroupID.y];
        matrix = found.x;
        first = found.y;
        end = found.z;
    } else {
        first = gl_WorkGroupID.y * TOKENS;
        end = min(first + TOKENS, p.n);
    }
    return p.w + matrix * p.mat_bytes;
}

// What this invocation loads of every run: a row of W, or a row of x.
uint64_t source_row(uint64_t w, uint top, uint first, uint end)
{
    const uint id = gl_LocalInvocationID.x;
    uint64_t source;
    if (id < ROWS) {
        source = w + uint64_t(min(top + id, p.n_out - 1)) * p.row_bytes;
    } else {
        uint row = min(first + id - ROWS, end - 1);
        if (GROUPED && p.order != 0) row = u32_in(p.order).v[row] / p.share;
        source = p.x + uint64_t(row) * p.x_stride * 4;
    }
    return source;
}

void tile_write(uint row, uint token, uint end, vec4 acc[PER])
{
    [[unroll]] for (uint t = 0; t < PER; t++) {
        f32_ref y = f32_ref(p.y + uint64_t(min(token + t, end - 1)) * p.n_out * 4);
        [[unroll]] for (uint r = 0; r < 4; r++)
            if (token + t < end && row + r < p.n_out)
                y.v[row + r] = (p.add != 0 ? y.v[row + r] : 0.0) + acc[t][r];
    }
}

void main()
{
    const uint id = gl_LocalInvocationID.x, top = gl_WorkGroupID.x * ROWS;
    const uint row = id % ROW_PARTS, token = id / ROW_PARTS * PER;
    uint first, end;
    const uint64_t w = tile_find(first, end);
    if (first < end) {
        const uint64_t source = source_row(w, top, first, end);
        const uint runs = (p.n_in + RUN - 1) / RUN;
        const bool busy = first + token < end;
        vec4 acc[PER];
        [[unroll]] for (uint t = 0; t < PER; t++) acc[t] = vec4(0.0);
        [[dont_unroll]] for (uint run = 0; run <= runs; run++) {
            float v[RUN];
            if (run < runs) {
                if (id < ROWS)
                    load_w(source, run, p.n_in, v);
                else
                    load_x(source, run, p.n_in, v);
            }
            if (run > 0 && busy) tile_multiply(row, ROW_PARTS + token / 4, acc);
            barrier();
            if (run < runs && id < ROWS + TOKENS) tile_fill(id, v);
            barrier();
        }
        tile_write(top + 4 * row, first + token, end, acc);
    }
}
