#version 460
// SPDX-License-Identifier: MIT
//
// The experts of each token where moe_route.comp does not serve: scores by softmax, no bias, weights that are not
// normalised, experts in groups. A subgroup a token; a score that is not a number loses to all others.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_rope.h"

layout(constant_id = 2) const bool SOFTMAX = false;
layout(constant_id = 3) const bool RAW = false;
layout(constant_id = 4) const bool BIASED = false;
layout(constant_id = 5) const bool GROUPED = false;

layout(push_constant) uniform push {
    params_moe_route_any p;
};

const float LEAST = -3.4e38, TAKEN = -1e39; // TAKEN is minus infinity

uint64_t logits;
float most_logit, sum_inverse; // of the token, for softmax

// Bits of the groups a token may choose from: group g in word g / 32 of the invocation g / 32.
uint open_groups = 0;

float score_of(uint e)
{
    const float x = f32_in(logits).v[e];
    return SOFTMAX ? exp(x - most_logit) * sum_inverse : 1.0 / (1.0 + exp(-x));
}

float rank_of(uint e)
{
    const float rank = BIASED ? score_of(e) + f32_in(p.bias).v[e] : score_of(e);
    return rank >= LEAST ? rank : LEAST;
}

void measure_softmax()
{
    float most = TAKEN;
    for (uint e = gl_SubgroupInvocationID; e < p.n_expert; e += SUBGROUP) most = max(most, f32_in(logits).v[e]);
    most_logit = subgroupMax(most);
    float sum = 0.0;
    for (uint e = gl_SubgroupInvocationID; e < p.n_expert; e += SUBGROUP) sum += exp(f32_in(logits).v[e] - most_logit);
    sum_inverse = 1.0 / subgroupAdd(sum);
}

// The ranks of a group's two best experts, added.
float group_rank(uint group)
{
    const uint per = p.n_expert / p.n_group;
    float first = TAKEN, second = TAKEN;
    for (uint e = group * per; e < (group + 1) * per; e++) {
        const float rank = rank_of(e);
        second = max(second, min(first, rank));
        first = max(first, rank);
    }
    return first + second;
}

bool is_open(uint group)
{
    return (subgroupShuffle(open_groups, group / 32) >> (group % 32) & 1u) != 0;
}

// As for experts: one group at a time, ties to the lower index. Groups are looked at in rounds of a subgroup, so that
// all invocations meet in the shuffle.
void choose_groups()
{
    for (uint k = 0; k < p.n_group_used; k++) {
        float best = TAKEN;
        uint at = p.n_group;
        for (uint start = 0; start < p.n_group; start += SUBGROUP) {
            const uint g = start + gl_SubgroupInvocationID;
            const bool open = is_open(min(g, p.n_group - 1));
            const float rank = g < p.n_group && !open ? max(group_rank(g), LEAST) : TAKEN;
            if (rank > best) {
                best = rank;
                at = g;
            }
        }
        const float most = subgroupMax(best);
        at = subgroupMin(best == most ? at : p.n_group);
        if (gl_SubgroupInvocationID == at / 32) open_groups |= 1u << (at % 32);
    }
}

void main()
{
    const uint t = gl_WorkGroupID.x * (GROUP / SUBGROUP) + gl_SubgroupID;
    if (t >= p.n) return;
    logits = p.logits + uint64_t(t) * p.n_expert * 4;
    u32_ref chosen = u32_ref(p.chosen + uint64_t(t) * p.n_used * 4);
    f32_ref weight = f32_ref(p.weight + uint64_t(t) * p.n_used * 4);
    if (SOFTMAX) measure_softmax();
    if (GROUPED) choose_groups();
    float sum = 0.0;
    for (uint k = 0; k < p.n_used; k++) {
        float best = TAKEN;
        uint at = p.n_expert;
        for (uint start = 0; start < p.n_expert; start += SUBGROUP) {
            const uint e = start + gl_SubgroupInvocationID, in_range = min(e, p.n_expert - 1);
            bool taken = e >= p.n_expert;
            if (GROUPED) taken = taken || !is_open(in_range / (p.n_expert / p.n_group));
            for (uint j = 0; j < k; j++) taken = taken || chosen.v[j] == e;
            const float rank = rank_of(in_range);
            if (!taken && rank > best) {
                best = rank;
                at = e;
            }
        }
        const float most = subgroupMax(best);
        at = subgroupMin(best == most ? at : p.n_expert);
        // Every invocation writes the same, and so reads what it wrote itself.
        chosen.v[k] = at;
        weight.v[k] = score_of(at);
        sum += weight.v[k];
    }
    const float scale = RAW ? p.scale : p.scale / max(sum, 6.103515625e-5);
    if (!subgroupElect()) return;
    for (uint k = 0; k < p.n_used; k++) weight.v[k] *= scale;
}
