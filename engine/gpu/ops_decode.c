/* SPDX-License-Identifier: MIT
 *
 * One token on hardware: kernels that do in one dispatch what is several operations otherwise (shaders/..._one.comp).
 * On a software device, where shared memory gains nothing, and for more tokens, the operations are done one by one.
 */
#include "engine/gpu/gpu.h"
#include "shaders/params_decode.h"

enum { RUN = 32, SCORES_MOST = 32 /* an invocation keeps while experts are chosen */ };

/* --------------------------------------------------------------------------------------------------------- KDA */

enum { KDA_ROWS = 64 /* of the state that an invocation keeps, at most */ };

/* Invocations of a head: a processor's worth, in at most 32 subgroups. */
static uint32_t kda_group(const struct gpu *gpu)
{
    const uint32_t most = gpu->caps.subgroup * 32 < 512 ? gpu->caps.subgroup * 32 : 512;
    return most < gpu->caps.group_max ? most : gpu->caps.group_max;
}

/* What an address is from the lowest of them, in floats. */
static bool offsets_of(const uint64_t *at, uint32_t count, uint64_t *base, uint32_t *offsets)
{
    *base = at[0];
    for (uint32_t i = 1; i < count; i++) *base = at[i] < *base ? at[i] : *base;
    for (uint32_t i = 0; i < count; i++) {
        if (!gpu_in_reach(at[i], *base, sizeof(float))) return false;
        offsets[i] = (uint32_t)((at[i] - *base) / sizeof(float));
    }
    return true;
}

static bool kda_serves(const struct gpu *gpu, const struct kda_block *op)
{
    const uint32_t dim = op->delta.dim, group = kda_group(gpu);
    return gpu_one_serves(gpu, op->delta.n) && dim <= group && gpu_div_up(dim, group / dim) <= KDA_ROWS &&
           op->f_b->format == op->g_b->format && gpu_stage_size(gpu, dim, 2);
}

static void kda_dispatch(struct gpu *gpu, const struct kda_block *op, const struct params_kda_one *params)
{
    const uint32_t dim = op->delta.dim, n_head = op->delta.n_head, width = dim * n_head;
    const uint32_t runs = gpu_div_up(dim, RUN), stage = gpu_stage_size(gpu, dim, 2);
    const struct gpu_range state = gpu_floats(op->delta.state, (uint64_t)width * dim);
    const struct gpu_range history = gpu_floats(op->conv.history, 9ull * width);
    const bool whole = gpu_is_whole(op->f_b, op->f_a) && gpu_is_whole(op->g_b, op->g_a);
    const uint32_t group = kda_group(gpu);
    uint32_t team = 1;
    while (team < runs) team *= 2;
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "kda one",
                          .shader = gpu_variant(SHADER_KDA_ONE_F32, op->f_b->format),
                          .spec = {group, gpu->caps.subgroup, whole, team, 1, stage, dim, group / dim},
                          .n_spec = 8,
                          .params = params,
                          .params_bytes = sizeof *params,
                          .groups = {n_head},
                          .reads = {gpu_floats(op->conv.x[0], width), gpu_floats(op->conv.x[1], width),
                                    gpu_floats(op->conv.x[2], width), gpu_floats(op->f_a, dim),
                                    gpu_floats(op->g_a, dim), gpu_floats(op->gate.beta, n_head), state, history},
                          .writes = {state, history, gpu_floats(op->out.o, width)},
                          .bytes = 2.0 * (double)(state.bytes + history.bytes) + 2.0 * (double)op->f_b->mat_bytes,
                          .flops = (9.0 + 4.0) * width * dim,
                      });
}

bool gpu_kda_block(struct backend *b, const struct kda_block *op)
{
    struct gpu *gpu = gpu_of(b);
    const uint64_t at[] = {op->conv.x[0], op->conv.x[1], op->conv.x[2], op->f_a, op->g_a, op->gate.beta, op->out.o};
    uint32_t from[sizeof at / sizeof *at];
    uint64_t base;
    if (!kda_serves(gpu, op) || !offsets_of(at, sizeof at / sizeof *at, &base, from)) return false;
    const struct params_kda_one params = {
        .x = base,
        .kernel = {op->conv.kernel[0], op->conv.kernel[1], op->conv.kernel[2]},
        .history = op->conv.history,
        .f_b = op->f_b->addr,
        .g_b = op->g_b->addr,
        .dt = op->gate.dt,
        .a = op->gate.a,
        .state = op->delta.state,
        .gain = op->out.gain,
        .q = from[0],
        .k = from[1],
        .v = from[2],
        .f_a = from[3],
        .g_a = from[4],
        .beta = from[5],
        .o = from[6],
        .n_head = op->delta.n_head,
        .row_bytes = (uint32_t)op->f_b->row_bytes,
        .eps = op->out.eps,
    };
    kda_dispatch(gpu, op, &params);
    return true;
}

/* ----------------------------------------------------------------------------------------------------- experts */

/* What the kernels below have no form for is left to the separate operations. */
static bool moe_serves(const struct gpu *gpu, const struct moe_block *op)
{
    const struct moe_route *r = &op->route;
    const struct moe_experts *e = &op->experts;
    return gpu_one_serves(gpu, r->n) && r->gating == MOE_SIGMOID && !r->raw && r->bias && r->n_group <= 1 &&
           r->n_used <= gpu->caps.subgroup && r->n_expert <= SCORES_MOST * gpu->caps.subgroup &&
           (!e->up || e->up->format == e->gate->format) && gpu_stage_size(gpu, e->gate->n_in, 1);
}

/* The shared expert goes along with the chosen ones when it looks like them. */
static bool shared_joins(const struct moe_block *op)
{
    const struct weight *down = op->experts.down;
    return op->down_sh && op->down_sh->format == down->format && op->down_sh->n_in == down->n_in;
}

static void moe_up(struct gpu *gpu, const struct moe_block *op, uint64_t h)
{
    const struct moe_route *r = &op->route;
    const struct moe_experts *e = &op->experts;
    const struct weight *gate = e->gate;
    const uint32_t width = e->down->n_in, subgroup = gpu->caps.subgroup;
    const struct gpu_teams teams = gpu_teams_choose(gpu, (uint64_t)r->n_used * width, gate->n_in);
    const struct params_moe_up_one params = {
        .x = e->x,
        .logits = r->logits,
        .bias = r->bias,
        .chosen = r->chosen,
        .weight = r->weight,
        .h = h,
        .gate = gate->addr,
        .up = e->up ? e->up->addr : gate->addr + gate->row_bytes * width,
        .gate_bytes = gate->mat_bytes,
        .up_bytes = e->up ? e->up->mat_bytes : gate->mat_bytes,
        .n_in = gate->n_in,
        .n_out = width,
        .row_bytes = (uint32_t)gate->row_bytes,
        .n_expert = r->n_expert,
        .n_used = r->n_used,
        .scale = r->scale,
    };
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "moe up",
                          .shader = gpu_variant(SHADER_MOE_UP_ONE_F32, gate->format),
                          .spec = {GPU_ONE_GROUP, subgroup, gpu_is_whole(gate, e->x), teams.team, 1,
                                   gpu_stage_size(gpu, gate->n_in, 1), gpu_div_up(r->n_expert, subgroup)},
                          .n_spec = 7,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(width, GPU_ONE_GROUP / teams.team), r->n_used},
                          .reads = {gpu_floats(e->x, gate->n_in), gpu_floats(r->logits, r->n_expert),
                                    gpu_floats(r->bias, r->n_expert)},
                          .writes = {gpu_floats(h, (uint64_t)r->n_used * width),
                                     {r->chosen, 4ull * r->n_used},
                                     gpu_floats(r->weight, r->n_used)},
                          .bytes = 2.0 * r->n_used * width * (double)gate->row_bytes,
                          .flops = 4.0 * r->n_used * width * gate->n_in,
                      });
}

static void moe_down(struct gpu *gpu, const struct moe_block *op, uint64_t h, bool shared)
{
    const struct moe_route *r = &op->route;
    const struct weight *down = op->experts.down;
    const uint32_t vectors = r->n_used + shared;
    const struct gpu_parts parts = gpu_parts_choose(gpu, down, down->n_out, vectors);
    const struct gpu_range y = gpu_floats(op->experts.y, down->n_out);
    const bool whole = gpu_is_whole(down, h) && op->gate % 16 == 0 && op->up % 16 == 0;
    const struct params_moe_down_one params = {
        .h = h,
        .chosen = r->chosen,
        .weight = r->weight,
        .y = op->experts.y,
        .w = down->addr,
        .mat_bytes = down->mat_bytes,
        .shared_gate = op->gate,
        .shared_up = op->up,
        .shared_w = shared ? op->down_sh->addr : 0,
        .n_in = down->n_in,
        .n_out = down->n_out,
        .row_bytes = (uint32_t)down->row_bytes,
        .n_used = r->n_used,
    };
    gpu_dispatch(gpu,
                 &(struct gpu_dispatch){
                     .label = "moe down",
                     .shader = gpu_variant(SHADER_MOE_DOWN_ONE_F32, down->format),
                     .spec = {parts.group, gpu->caps.subgroup, whole, parts.team, parts.ahead, parts.steps, shared},
                     .n_spec = 7,
                     .params = &params,
                     .params_bytes = sizeof params,
                     .groups = {gpu_div_up(down->n_out, parts.rows)},
                     .reads = {gpu_floats(h, (uint64_t)r->n_used * down->n_in),
                               {r->chosen, 4ull * r->n_used},
                               gpu_floats(r->weight, r->n_used),
                               gpu_floats(op->gate, shared ? down->n_in : 0),
                               gpu_floats(op->up, shared ? down->n_in : 0),
                               y},
                     .writes = {y},
                     .bytes = (double)vectors * (double)down->mat_bytes,
                     .flops = 2.0 * vectors * down->n_in * down->n_out,
                 });
}

bool gpu_moe_block(struct backend *b, const struct moe_block *op)
{
    struct gpu *gpu = gpu_of(b);
    const struct weight *down = op->experts.down;
    if (!moe_serves(gpu, op)) return false;
    const bool shared = shared_joins(op);
    const struct matmul_job jobs[] = {
        {.w = op->router, .y = op->route.logits}, {.w = op->gate_sh, .y = op->gate}, {.w = op->up_sh, .y = op->up}};
    gpu_norm_matmul(b, &(struct norm_matmul){.n = 1,
                                             .x = op->x,
                                             .gain = op->gain,
                                             .a = op->experts.x,
                                             .eps = op->eps,
                                             .jobs = jobs,
                                             .count = op->down_sh ? 3 : 1});
    const uint64_t h = gpu_moe_hidden(gpu, op->route.n_used, down);
    moe_up(gpu, op, h);
    if (op->down_sh && !shared) {
        const struct matmul_job job = {.w = op->down_sh, .y = op->experts.y, .add = true};
        gpu_swiglu(b, op->gate, op->up, op->gate, 1, op->down_sh->n_in);
        gpu_matmul(b, op->gate, &job, 1, 1);
    }
    moe_down(gpu, op, h, shared);
    return true;
}
