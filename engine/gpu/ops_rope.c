/* SPDX-License-Identifier: MIT
 *
 * What the architectures beside kimi-linear need: rotary positions, and routing in its other forms.
 */
#include "engine/gpu/gpu.h"
#include "shaders/params_rope.h"

void gpu_rope(struct backend *b, const struct rope *p)
{
    struct gpu *gpu = gpu_of(b);
    const bool scaled = p->scale != 1;
    const uint64_t part = p->rope / 2 + (scaled ? p->nope : 0);
    const uint32_t group = gpu->caps.is_software ? 64 : 256;
    const struct gpu_range q = gpu_floats(p->q, (uint64_t)p->n * p->n_head * (p->nope + p->rope));
    const struct gpu_range c = gpu_floats(p->c, (uint64_t)p->n * (p->kv_lora + p->rope));
    const struct params_rope params = {
        .q = p->q,
        .c = p->c,
        .turns = p->turns,
        .n_head = p->n_head,
        .kv_lora = p->kv_lora,
        .nope = p->nope,
        .rope = p->rope,
        .scale = p->scale,
    };
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "rope",
                          .shader = SHADER_ROPE,
                          .spec = {group, gpu->caps.subgroup, scaled},
                          .n_spec = 3,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up((p->n_head + 1) * part, group), p->n},
                          .reads = {q, c, gpu_floats(p->turns, (uint64_t)p->n * p->rope)},
                          .writes = {q, c},
                      });
}

static void route_any(struct gpu *gpu, const struct moe_route *p)
{
    const uint32_t subgroup = gpu->caps.subgroup, slots = p->n * p->n_used;
    const struct params_moe_route_any params = {
        .logits = p->logits,
        .bias = p->bias,
        .chosen = p->chosen,
        .weight = p->weight,
        .n = p->n,
        .n_expert = p->n_expert,
        .n_used = p->n_used,
        .scale = p->scale,
        .n_group = p->n_group,
        .n_group_used = p->n_group_used,
    };
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "moe route",
                          .shader = SHADER_MOE_ROUTE_ANY,
                          .spec = {subgroup, subgroup, p->gating == MOE_SOFTMAX, p->raw, p->bias != 0, p->n_group > 1},
                          .n_spec = 6,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {p->n},
                          .reads = {gpu_floats(p->logits, (uint64_t)p->n * p->n_expert),
                                    gpu_floats(p->bias, p->bias ? p->n_expert : 0)},
                          .writes = {{p->chosen, 4ull * slots}, gpu_floats(p->weight, slots)},
                      });
}

void gpu_route(struct backend *b, const struct moe_route *p)
{
    if (p->gating == MOE_SIGMOID && !p->raw && p->bias && p->n_group <= 1)
        gpu_moe_route(b, p);
    else
        route_any(gpu_of(b), p);
}
