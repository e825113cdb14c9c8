/* SPDX-License-Identifier: MIT
 *
 * Mixture of experts. A slot is a choice of a token, t * n_used + k. For a few tokens each slot multiplies with the
 * matrices of its expert where they lie. For many, slots are sorted by expert, so that a matrix is read once for all
 * its tokens: grouped matmuls over tiles of sorted slots, and a weighted sum that gathers a token's slots again.
 */
#include "engine/gpu/gpu.h"

enum { FEW_TOKENS = 8, GROUPS_BYTES = 48 };

/* Scratch memory of an operation, from its start: the address of each part. */
struct scratch {
    uint64_t order, place, tiles[2], groups, h, z;
    uint64_t end;
};

static uint64_t take(uint64_t *at, uint64_t bytes)
{
    uint64_t start = *at;
    *at += (bytes + 255) / 256 * 256;
    return start;
}

/* Of each size. */
static uint32_t tiles_most(const struct gpu *gpu, uint32_t slots, uint32_t n_expert)
{
    return slots / gpu_grouped_tokens(gpu, slots, n_expert).small + (slots < n_expert ? slots : n_expert);
}

/* What the layout depends on. */
struct extent {
    uint32_t slots, n_expert;
    uint64_t width, out; /* of the hidden layer and of the result, which is laid over it where that is packed before */
    bool packed;
    uint64_t spare, spare_bytes; /* where both go if there is room */
};

static struct scratch scratch_layout(const struct gpu *gpu, const struct extent *e)
{
    struct scratch s;
    uint64_t at = gpu->scratch[GPU_SCRATCH_MOE].addr, end = 0;
    s.order = take(&at, 4ull * e->slots);
    s.place = take(&at, 4ull * e->slots);
    for (uint32_t i = 0; i < 2; i++) s.tiles[i] = take(&at, 16ull * tiles_most(gpu, e->slots, e->n_expert));
    s.groups = take(&at, GROUPS_BYTES);
    const uint64_t h = take(&end, e->slots * 2 * e->width * sizeof(float));
    const uint64_t z_bytes = e->slots * e->out * sizeof(float), z = e->packed ? h : end;
    if (z + z_bytes > end) end = z + z_bytes;
    const bool spared = end <= e->spare_bytes;
    s.h = h + (spared ? e->spare : at);
    s.z = z + (spared ? e->spare : at);
    s.end = spared ? at : at + end;
    return s;
}

int gpu_moe_prepare(struct gpu *gpu, const struct shape *shape, uint32_t n, struct error *error)
{
    if (!shape->n_expert) return 0;
    const uint32_t few_most = n < FEW_TOKENS ? n : FEW_TOKENS;
    struct extent e = {.slots = n * shape->n_used,
                       .n_expert = shape->n_expert,
                       .width = shape->n_ff_exp,
                       .out = shape->n_embd,
                       .packed = gpu_has_matrices(gpu),
                       .spare_bytes = shape_spare(shape, n)};
    const uint64_t x = gpu_packed_bytes(n, shape->n_embd), h = gpu_packed_bytes(e.slots, shape->n_ff_exp);
    const uint64_t many_end = scratch_layout(gpu, &e).end, at = gpu->scratch[GPU_SCRATCH_MOE].addr;
    e.slots = few_most * shape->n_used;
    e.packed = false;
    e.spare_bytes = 0;
    const uint64_t few_end = scratch_layout(gpu, &e).end;
    int rc = 0;
    if (gpu_has_matrices(gpu)) rc = gpu_scratch_reserve(gpu, GPU_SCRATCH_PACK, (size_t)(x > h ? x : h), error);
    return rc ? rc : gpu_scratch_reserve(gpu, GPU_SCRATCH_MOE, (many_end > few_end ? many_end : few_end) - at, error);
}

uint64_t gpu_moe_hidden(const struct gpu *gpu, uint32_t slots, const struct weight *down)
{
    const struct extent e = {.slots = slots, .n_expert = down->n_mat, .width = down->n_in, .out = down->n_out};
    return scratch_layout(gpu, &e).h;
}

void gpu_moe_route(struct backend *b, const struct moe_route *p)
{
    struct gpu *gpu = gpu_of(b);
    const uint32_t subgroup = gpu->caps.subgroup, slots = p->n * p->n_used;
    const struct params_moe_route params = {
        .logits = p->logits,
        .bias = p->bias,
        .chosen = p->chosen,
        .weight = p->weight,
        .n = p->n,
        .n_expert = p->n_expert,
        .n_used = p->n_used,
        .scale = p->scale,
    };
    gpu_dispatch(gpu,
                 &(struct gpu_dispatch){
                     .label = "moe route",
                     .shader = SHADER_MOE_ROUTE,
                     .spec = {subgroup, subgroup},
                     .n_spec = 2,
                     .params = &params,
                     .params_bytes = sizeof params,
                     .groups = {p->n},
                     .reads = {gpu_floats(p->logits, (uint64_t)p->n * p->n_expert), gpu_floats(p->bias, p->n_expert)},
                     .writes = {{p->chosen, 4ull * slots}, gpu_floats(p->weight, slots)},
                 });
}

/* -------------------------------------------------------------------------------------------------- few tokens */

static void few_up(struct gpu *gpu, const struct moe_experts *p, const struct scratch *s)
{
    const struct weight *gate = p->gate;
    const uint32_t slots = p->n * p->n_used, width = p->down->n_in, subgroup = gpu->caps.subgroup;
    const uint32_t group = gpu->caps.is_software ? subgroup : 128, rows = gpu_matvec_rows(gpu, 1);
    const struct params_moe_up params = {
        .x = p->x,
        .chosen = p->chosen,
        .h = s->h,
        .gate = gate->addr,
        .up = p->up ? p->up->addr : gate->addr + gate->row_bytes * width,
        .gate_bytes = gate->mat_bytes,
        .up_bytes = p->up ? p->up->mat_bytes : gate->mat_bytes,
        .n_in = gate->n_in,
        .n_out = width,
        .row_bytes = (uint32_t)gate->row_bytes,
        .n_used = p->n_used,
    };
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "moe up",
                          .shader = gpu_variant(SHADER_MOE_UP_F32, gate->format),
                          .spec = {group, subgroup, gpu_is_whole(gate, p->x), rows},
                          .n_spec = 4,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(width, group / subgroup * rows), slots},
                          .reads = {gpu_floats(p->x, (uint64_t)p->n * gate->n_in),
                                    {p->chosen, 4ull * slots},
                                    gpu_weight_range(gate),
                                    gpu_weight_range(p->up ? p->up : gate)},
                          .writes = {gpu_floats(s->h, (uint64_t)slots * width)},
                          .bytes = 2.0 * slots * width * (double)gate->row_bytes,
                          .flops = 4.0 * slots * width * gate->n_in,
                      });
}

static void few_down(struct gpu *gpu, const struct moe_experts *p, const struct scratch *s)
{
    const struct weight *down = p->down;
    const uint32_t slots = p->n * p->n_used, subgroup = gpu->caps.subgroup;
    const uint32_t group = gpu->caps.is_software ? subgroup : 128, rows = gpu_matvec_rows(gpu, 1);
    const struct params_moe_down params = {
        .h = s->h,
        .chosen = p->chosen,
        .weight = p->weight,
        .y = p->y,
        .w = down->addr,
        .mat_bytes = down->mat_bytes,
        .n_in = down->n_in,
        .n_out = down->n_out,
        .row_bytes = (uint32_t)down->row_bytes,
        .n_used = p->n_used,
    };
    const struct gpu_range y = gpu_floats(p->y, (uint64_t)p->n * down->n_out);
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "moe down",
                          .shader = gpu_variant(SHADER_MOE_DOWN_F32, down->format),
                          .spec = {group, subgroup, gpu_is_whole(down, s->h), rows},
                          .n_spec = 4,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(down->n_out, group / subgroup * rows), p->n},
                          .reads = {gpu_floats(s->h, (uint64_t)slots * down->n_in),
                                    {p->chosen, 4ull * slots},
                                    gpu_floats(p->weight, slots),
                                    gpu_weight_range(down),
                                    y},
                          .writes = {y},
                          .bytes = (double)slots * (double)down->mat_bytes,
                          .flops = 2.0 * slots * down->n_in * down->n_out,
                      });
}

/* ------------------------------------------------------------------------------------------------- many tokens */

static struct gpu_range tiles_range(const struct gpu *gpu, const struct moe_experts *p, const struct scratch *s,
                                    uint32_t kind)
{
    return (struct gpu_range){s->tiles[kind], 16ull * tiles_most(gpu, p->n * p->n_used, p->down->n_mat)};
}

static void many_sort(struct gpu *gpu, const struct moe_experts *p, const struct scratch *s)
{
    const uint32_t slots = p->n * p->n_used, n_expert = p->down->n_mat;
    const struct gpu_tile_sizes sizes = gpu_grouped_tokens(gpu, slots, n_expert);
    const uint32_t subgroup = gpu->caps.subgroup, group = subgroup < 32 || gpu->caps.group_max < 1024 ? 128 : 1024;
    const uint32_t gate = gpu_row_tiles(gpu, p->gate), up = p->up ? gpu_row_tiles(gpu, p->up) : 0;
    const struct params_moe_sort params = {
        .chosen = p->chosen,
        .order = s->order,
        .place = s->place,
        .tiles = {s->tiles[0], s->tiles[1]},
        .groups = s->groups,
        .slots = slots,
        .tokens = {sizes.small, sizes.large},
        /* Workgroups beyond a matrix' end do nothing. */
        .row_tiles = {gate > up ? gate : up, gpu_row_tiles(gpu, p->down)},
    };
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "moe sort",
                          .shader = SHADER_MOE_SORT,
                          .spec = {group, gpu->caps.subgroup, n_expert},
                          .n_spec = 3,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {1},
                          .reads = {{p->chosen, 4ull * slots}},
                          .writes = {{s->order, 4ull * slots},
                                     {s->place, 4ull * slots},
                                     tiles_range(gpu, p, s, 0),
                                     tiles_range(gpu, p, s, 1),
                                     {s->groups, GROUPS_BYTES}},
                      });
}

static void many_combine(struct gpu *gpu, const struct moe_experts *p, const struct scratch *s)
{
    const uint32_t slots = p->n * p->n_used, width = p->down->n_out, group = 64;
    const struct params_moe_combine params = {
        .z = s->z, .place = s->place, .weight = p->weight, .y = p->y, .width = width, .n_used = p->n_used};
    const struct gpu_range y = gpu_floats(p->y, (uint64_t)p->n * width);
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "moe combine",
                          .shader = SHADER_MOE_COMBINE,
                          .spec = {group, gpu->caps.subgroup},
                          .n_spec = 2,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(width, group), p->n},
                          .reads = {gpu_floats(s->z, (uint64_t)slots * width),
                                    {s->place, 4ull * slots},
                                    gpu_floats(p->weight, slots),
                                    y},
                          .writes = {y},
                      });
}

/* The product over the tiles of both sizes: number i of those that many_sort counted workgroups for. */
static void many_product(struct gpu *gpu, const struct moe_experts *p, const struct scratch *s, struct gpu_grouped *g,
                         uint32_t i)
{
    const struct gpu_tile_sizes sizes = gpu_grouped_tokens(gpu, g->rows, p->down->n_mat);
    const uint32_t tokens[] = {sizes.small, sizes.large};
    for (uint32_t kind = 0; kind < 2 && tokens[kind]; kind++) {
        g->tiles = tiles_range(gpu, p, s, kind);
        g->groups = s->groups + 24 * i + 12 * kind;
        g->tokens = tokens[kind];
        g->beside = kind > 0;
        gpu_matmul_grouped(gpu, g);
    }
}

/* h = gate x, and up x behind it where that is a stack of its own. Returns the distance between rows of h. */
static uint32_t many_up(struct gpu *gpu, const struct moe_experts *p, const struct scratch *s, struct gpu_grouped g)
{
    const uint32_t n_in = p->gate->n_in, width = p->down->n_in;
    struct gpu_packed packed = {0};
    if (gpu_takes_halves(gpu, p->gate) || (p->up && gpu_takes_halves(gpu, p->up)))
        packed = gpu_pack(gpu, p->x, 0, p->n, n_in, n_in);
    g.w = p->gate;
    g.x = p->x;
    g.y = s->h;
    g.packed = &packed;
    g.order = s->order;
    g.share = p->n_used;
    many_product(gpu, p, s, &g, 0);
    if (!p->up) return 2 * width;
    g.w = p->up;
    g.y = s->h + sizeof(float) * (uint64_t)g.rows * width;
    many_product(gpu, p, s, &g, 0);
    return width;
}

/* z = down (silu(gate) * up) */
static void many_down(struct gpu *gpu, const struct moe_experts *p, const struct scratch *s, struct gpu_grouped g)
{
    const uint32_t width = p->down->n_in;
    const uint64_t up = s->h + sizeof(float) * (p->up ? (uint64_t)g.rows * width : width);
    struct gpu_packed packed = {0};
    if (gpu_takes_halves(gpu, p->down)) {
        packed = gpu_pack(gpu, s->h, up, g.rows, width, g.x_stride);
    } else {
        /* Into the front of the rows of gate: a row of the result ends before the next row of gate begins. */
        const struct params_swiglu glu = {.gate = s->h,
                                          .up = up,
                                          .y = s->h,
                                          .width = width,
                                          .gate_stride = g.x_stride,
                                          .up_stride = g.x_stride,
                                          .y_stride = g.x_stride};
        gpu_swiglu_rows(gpu, &glu, g.rows);
    }
    g.w = p->down;
    g.x = s->h;
    g.y = s->z;
    g.packed = &packed;
    g.share = 1;
    many_product(gpu, p, s, &g, 1);
}

static void many(struct gpu *gpu, const struct moe_experts *p, const struct scratch *s)
{
    struct gpu_grouped g = {.rows = p->n * p->n_used};
    many_sort(gpu, p, s);
    g.x_stride = many_up(gpu, p, s, g);
    many_down(gpu, p, s, g);
    many_combine(gpu, p, s);
}

/* Tokens [first, first + n) of the operation. */
static struct moe_experts experts_part(const struct moe_experts *p, uint32_t first, uint32_t n)
{
    struct moe_experts part = *p;
    part.n = n;
    part.x += (uint64_t)first * p->gate->n_in * sizeof(float);
    part.y += (uint64_t)first * p->down->n_out * sizeof(float);
    part.chosen += (uint64_t)first * p->n_used * sizeof(uint32_t);
    part.weight += (uint64_t)first * p->n_used * sizeof(float);
    return part;
}

void gpu_moe_experts(struct backend *b, const struct moe_experts *p)
{
    struct gpu *gpu = gpu_of(b);
    const struct gpu_range room = gpu->scratch[GPU_SCRATCH_MOE];
    const bool few = p->n <= FEW_TOKENS && (!p->up || p->up->format == p->gate->format);
    const struct extent e = {.slots = p->n * p->n_used,
                             .n_expert = p->down->n_mat,
                             .width = p->down->n_in,
                             .out = p->down->n_out,
                             .packed = !few && gpu_takes_halves(gpu, p->down),
                             .spare = p->spare,
                             .spare_bytes = p->spare_bytes};
    const struct scratch s = scratch_layout(gpu, &e);
    if (p->n > gpu->batch) {
        gpu_fail(gpu, ERROR_FAILED, "experts: a batch of %u tokens is larger than was prepared for", p->n);
    } else if (s.end - room.addr > room.bytes) {
        /* Prepared for experts that are packed, and these are not. */
        const uint32_t half = p->n / 2;
        const struct moe_experts front = experts_part(p, 0, half), back = experts_part(p, half, p->n - half);
        gpu_moe_experts(b, &front);
        gpu_moe_experts(b, &back);
    } else if (few) {
        few_up(gpu, p, &s);
        few_down(gpu, p, &s);
    } else {
        many(gpu, p, &s);
    }
}
