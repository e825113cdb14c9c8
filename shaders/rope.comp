#version 460
// SPDX-License-Identifier: MIT
//
// Rotary positions: an invocation turns a pair of channels of a query head or of the row, or scales a channel of a
// query that does not turn (SCALED only). Workgroups: (pieces of a token, n).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_rope.h"

layout(constant_id = 2) const bool SCALED = false;

layout(push_constant) uniform push {
    params_rope p;
};

void turn(uint64_t pair, vec2 by, float scale)
{
    f32_ref x = f32_ref(pair);
    const float a = x.v[0], b = x.v[1];
    x.v[0] = (a * by.x - b * by.y) * scale;
    x.v[1] = (a * by.y + b * by.x) * scale;
}

void main()
{
    const uint t = gl_WorkGroupID.y, i = gl_GlobalInvocationID.x, pairs = p.rope / 2;
    const uint part = pairs + (SCALED ? p.nope : 0); // of a head
    const uint head = i / part, at = i % part;
    const uint64_t turns = p.turns + uint64_t(t) * p.rope * 4;
    if (head < p.n_head) {
        const uint64_t q = p.q + (uint64_t(t) * p.n_head + head) * (p.nope + p.rope) * 4;
        if (at < pairs)
            turn(q + (p.nope + 2 * at) * 4, vec2(f32_in(turns).v[2 * at], f32_in(turns).v[2 * at + 1]), p.scale);
        else
            f32_ref(q).v[at - pairs] *= p.scale;
    } else if (head == p.n_head && at < pairs) {
        const uint64_t c = p.c + (uint64_t(t) * (p.kv_lora + p.rope) + p.kv_lora + 2 * at) * 4;
        turn(c, vec2(f32_in(turns).v[2 * at], f32_in(turns).v[2 * at + 1]), 1);
    }
}
