#version 460
// SPDX-License-Identifier: MIT
//
// Head matrices to f32 or f16 in another order, for mla_expand. One run of 32 weights an invocation.
// Workgroups: (runs * n_out / GROUP, n_mat).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dequant.glsl"
#include "params_mla.h"

layout(constant_id = 2) const bool HALVES = false; // f16 in place of f32

layout(push_constant) uniform push {
    params_mla_unpack p;
};

void main()
{
    const uint runs = (p.n_in + RUN - 1) / RUN;
    const uint row = gl_GlobalInvocationID.x / runs, run = gl_GlobalInvocationID.x % runs, mat = gl_WorkGroupID.y;
    if (row < p.n_out) {
        const uint64_t from = p.w + mat * p.mat_bytes + uint64_t(row) * p.row_bytes;
        float w[RUN];
    #ifdef WEIGHT_PLAIN
        run_decode_part(from, run, p.n_in, w);
    #else
        run_decode(from, run, w);
    #endif
        const uint64_t to = p.to + uint64_t(mat * p.mat_pitch + row * p.row_pitch) * (HALVES ? 2 : 4);
        [[unroll]] for (uint i = 0; i < RUN; i++) {
            const uint column = run_column(run) + segment_column(i / 8) + i % 8;
            if (column >= p.n_in) continue;
            if (HALVES)
                u16_ref(to).v[column * p.column_pitch] = uint16_t(packHalf2x16(vec2(w[i], 0)));
            else
                f32_ref(to).v[column * p.column_pitch] = w[i];
        }
    }
}
