#version 460
// SPDX-License-Identifier: MIT
//
// The experts of each token: the n_used best of sigmoid(logit) + bias, ties to the lower index; their weights are
// sigmoid(logit), normalised over the chosen, times scale. A subgroup a token; the weights are kept unscaled in their
// place until the sum is known. A score that is not a number loses to all others.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(push_constant) uniform push { params_moe_route p; };

const float LEAST = -3.4e38, TAKEN = -1e39; // TAKEN is minus infinity

float sigmoid_of(uint64_t logits, uint e)
{
    return 1.0 / (1.0 + exp(-f32_in(logits).v[e]));
}

void main()
{
    uint t = gl_WorkGroupID.x * (GROUP / SUBGROUP) + gl_SubgroupID;
    if (t >= p.n) return;
    uint64_t logits = p.logits + uint64_t(t) * p.n_expert * 4;
    u32_ref chosen = u32_ref(p.chosen + uint64_t(t) * p.n_used * 4);
    f32_ref weight = f32_ref(p.weight + uint64_t(t) * p.n_used * 4);
    float sum = 0.0;
    for (uint k = 0; k < p.n_used; k++) {
        float best = TAKEN;
        uint at = p.n_expert;
        for (uint e = gl_SubgroupInvocationID; e < p.n_expert; e += SUBGROUP) {
            float score = sigmoid_of(logits, e) + f32_in(p.bias).v[e];
            score = score >= LEAST ? score : LEAST;
            bool taken = false;
            for (uint j = 0; j < k; j++) taken = taken || chosen.v[j] == e;
            if (!taken && score > best) {
                best = score;
                at = e;
            }
        }
        float most = subgroupMax(best);
        at = subgroupMin(best == most ? at : p.n_expert);
        float w = sigmoid_of(logits, at);
        // Every invocation writes the same, and so reads what it wrote itself.
        chosen.v[k] = at;
        weight.v[k] = w;
        sum += w;
    }
    float scale = p.scale / (sum > 6.103515625e-5 ? sum : 6.103515625e-5);
    if (!subgroupElect()) return;
    for (uint k = 0; k < p.n_used; k++) weight.v[k] *= scale;
}
