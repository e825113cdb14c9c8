/* SPDX-License-Identifier: MIT
 *
 * Push constants of rope.comp and moe_route_any.comp, read by C and GLSL: what the architectures beside kimi-linear
 * need.
 */
#ifndef LECTERN_SHADERS_PARAMS_ROPE_H
#define LECTERN_SHADERS_PARAMS_ROPE_H

/* q [n][n_head][nope + rope], c [n][kv_lora + rope], turns [n][rope / 2][2] */
struct params_rope {
    uint64_t q, c, turns;
    uint32_t n_head, kv_lora, nope, rope;
    float scale;
};

struct params_moe_route_any {
    uint64_t logits, bias, chosen, weight;
    uint32_t n, n_expert, n_used;
    float scale;
    uint32_t n_group, n_group_used;
};

#endif
