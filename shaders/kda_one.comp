#version 460
// SPDX-License-Identifier: MIT
//
// A KDA layer between its projections, for one token on hardware: convolution, SiLU and L2 norms, the products of f_b
// and g_b, gates, the delta rule and the gated norm. A workgroup has a head and reads and writes its state once; an
// invocation keeps ROWS_OF of a value column, PARTS of them share the column. Workgroups: (n_head).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_decode.h"
#include "dequant.glsl"
#include "run.glsl"
#include "run_dot.glsl"
#include "staged.glsl"
#include "softplus.glsl"

layout(constant_id = 6) const uint D = 128;    // at most GROUP
layout(constant_id = 7) const uint PARTS = 4;  // GROUP / D, rounded down
const uint ROWS_OF = (D + PARTS - 1) / PARTS;
const uint RUNS = (D + RUN - 1) / RUN;

layout(push_constant) uniform push { params_kda_one p; };

shared vec4 keys[D + ROWS_OF]; // of a key channel: decay, k, q, both after SiLU and without their norms
shared float values[D];        // v
shared float gates[D];         // sigmoid(z)
shared vec2 reads[PARTS * D];  // parts of k^T S and q^T S
shared float out_head[D];
shared float dots[3]; // q.q, k.k, k.q

f32_ref at_x(uint offset)
{
    return f32_ref(p.x + 4 * uint64_t(offset));
}

// Channel i of a head's q, k and v, one after the other. The history moves on by one.
void convolve(uint head, uint i)
{
    const uint stream = i / D, d = i % D, channel = head * D + d;
    const uint from = stream == 0 ? p.q : stream == 1 ? p.k : p.v;
    f32_ref history = f32_ref(p.history + 12 * uint64_t(stream * p.n_head * D + channel));
    f32_in kernel = f32_in(p.kernel[stream] + 16 * uint64_t(channel));
    const float b = history.v[1], c = history.v[2], now = at_x(from).v[channel];
    const float s = kernel.v[0] * history.v[0] + kernel.v[1] * b + kernel.v[2] * c + kernel.v[3] * now;
    const float y = silu(s);
    history.v[0] = b;
    history.v[1] = c;
    history.v[2] = now;
    if (stream == 2)
        values[d] = y;
    else
        keys[d][2 - stream] = y;
}

// Rows [0, D) are the head's of f_b, rows [D, 2 D) those of g_b.
run_raw row_load(uint head, uint row, uint run)
{
    const uint64_t w = row < D ? p.f_b : p.g_b;
    return run_load(w + uint64_t(head * D + row % D) * p.row_bytes, run, D);
}

void gate(uint head, uint row, float product)
{
    if (row < D)
        keys[row].x = exp(f32_in(p.a).v[head] * softplus(product + f32_in(p.dt).v[head * D + row]));
    else
        gates[row - D] = 1.0 / (1.0 + exp(-product));
}

// Products of f_b and g_b; first is what was loaded already.
void gate_rows(uint head, run_raw first)
{
    const uint pitch = pitch_of(RUNS), lane = team_lane(), run = min(lane, RUNS - 1);
    run_raw now = first;
    [[dont_unroll]] for (uint row = team_number(); row < 2 * D; row += GROUP / TEAM) {
        const run_raw next = row_load(head, min(row + GROUP / TEAM, 2 * D - 1), run);
        vec4 x[8], sums;
        staged_load((row < D ? 0 : SLOTS * pitch) + run, pitch, x, sums);
        const float sum = team_sum(lane < RUNS ? run_times(now, run, x, sums) : 0.0);
        if (lane == 0) gate(head, row, sum);
        now = next;
    }
}

// One of q.q, k.k, k.q, by a subgroup.
void dot_keys(uint which)
{
    float sum = 0.0;
    [[dont_unroll]] for (uint d = gl_SubgroupInvocationID; d < D; d += SUBGROUP)
        sum += (which == 0 ? keys[d].z : keys[d].y) * (which == 1 ? keys[d].y : keys[d].z);
    sum = subgroupAdd(sum);
    if (subgroupElect()) dots[which] = sum;
}

void main()
{
    const uint self = gl_LocalInvocationID.x, head = gl_WorkGroupID.x;
    const uint column = self % D, part = self / D, row = part * ROWS_OF;
    const bool mine = part < PARTS;
    f32_ref state = f32_ref(p.state + 4 * uint64_t(head * D) * D);
    float s[ROWS_OF];
    [[unroll]] for (uint r = 0; r < ROWS_OF; r++)
        s[r] = mine && row + r < D ? state.v[(row + r) * D + column] : 0.0;
    const run_raw first = row_load(head, min(team_number(), 2 * D - 1), min(team_lane(), RUNS - 1));

    const uint places = 8 * RUNS;
    if (self < 2 * places) {
        const bool second = self >= places;
        const uint place = second ? self - places : self;
        const uint64_t x = p.x + 4 * uint64_t(second ? p.g_a : p.f_a);
        stage(second ? SLOTS * pitch_of(RUNS) : 0, pitch_of(RUNS), place, load_place(x, place, D));
    }
    [[dont_unroll]] for (uint i = self; i < 3 * D; i += GROUP) convolve(head, i);
    for (uint d = D + self; d < D + ROWS_OF; d += GROUP) keys[d] = vec4(0.0);
    barrier();
    if (gl_SubgroupID < 3) dot_keys(gl_SubgroupID);
    gate_rows(head, first);
    barrier();

    const float unit_q = inversesqrt(dots[0] + 1e-6) * inversesqrt(float(D)), unit_k = inversesqrt(dots[1] + 1e-6);
    vec2 read = vec2(0.0);
    [[unroll]] for (uint r = 0; r < ROWS_OF; r++) {
        const vec4 key = keys[min(row, D) + r];
        s[r] *= key.x;
        read = fma(key.yz, vec2(s[r]), read);
    }
    if (mine) reads[part * D + column] = read;
    barrier();

    read = vec2(0.0);
    [[unroll]] for (uint i = 0; i < PARTS; i++) read += reads[i * D + column];
    const float beta = 1.0 / (1.0 + exp(-at_x(p.beta).v[head]));
    const float u = beta * (values[column] - unit_k * read.x), o = unit_q * (read.y + unit_k * dots[2] * u);
    if (part == 0) out_head[column] = o;
    [[unroll]] for (uint r = 0; r < ROWS_OF; r++)
        if (mine && row + r < D) state.v[(row + r) * D + column] = fma(unit_k * keys[row + r].y, u, s[r]);
    barrier();

    float squares = 0.0;
    for (uint d = gl_SubgroupInvocationID; d < D; d += SUBGROUP) squares += out_head[d] * out_head[d];
    const float scale = inversesqrt(subgroupAdd(squares) / float(D) + p.eps);
    if (part == 0) at_x(p.o).v[head * D + column] = o * scale * f32_in(p.gain).v[column] * gates[column];
}
