#version 460
// SPDX-License-Identifier: MIT
//
// x[t] = row ids[t] of the table, decoded. One invocation decodes one run; y counts tokens. Ids beyond the table give 0.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dequant.glsl"

layout(push_constant) uniform push { params_embed p; };

void main()
{
    uint run = gl_GlobalInvocationID.x;
    uint t = gl_WorkGroupID.y;
    if (run * RUN >= p.n_in) return;
    uint id = u32_in(p.ids).v[t];
    uint64_t row = p.table + uint64_t(min(id, p.n_vocab - 1)) * p.row_bytes;
    float w[RUN];
#ifdef WEIGHT_PLAIN
    run_decode_part(row, run, p.n_in, w);
#else
    run_decode(row, run, w);
#endif
    f32_ref x = f32_ref(p.x + uint64_t(t) * p.n_in * 4);
    [[unroll]] for (uint s = 0; s < 4; s++) {
        uint column = run_column(run) + segment_column(s);
        [[unroll]] for (uint i = 0; i < 8; i++)
            if (column + i < p.n_in) x.v[column + i] = id < p.n_vocab ? w[8 * s + i] : 0.0;
    }
}
