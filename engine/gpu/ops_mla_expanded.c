/* SPDX-License-Identifier: MIT
 *
 * Multi-head latent attention, expanded: for one range of rows after the other, keys and values of all heads, then
 * attention over them with running maxima and sums. On cooperative matrices where it can be. See ops_mla.c.
 */
#include "engine/gpu/mla.h"

#include <assert.h>
#include <math.h>

#define LOG2_E 1.44269504f

enum {
    RANGE_ROWS = 1024, /* expanded at a time; a multiple of MLA_TILE */
    COOP_ROWS = 2560,  /* the same as f16 on cooperative matrices; whole segments, so that tiles lie in one */
};

static_assert(COOP_ROWS % STATE_SEGMENT == 0 && STATE_SEGMENT % MLA_EXPAND_ROWS == 0, "a tile's rows are neighbours");

/* Channels that a loop unrolls. On a software device all of a team's, to know every lane when compiling; elsewhere few,
 * for that is what a driver takes seconds to compile. */
static uint32_t unrolled(const struct gpu *gpu)
{
    return gpu->caps.is_software ? mla_lanes(gpu) : 4;
}

struct expanded_scratch {
    struct gpu_range w;    /* [H][R][N + V] */
    struct gpu_range k, v; /* of a range of rows */
    struct gpu_range pe;
    struct gpu_range running; /* [n][H][2] */
};

/* coop: for cooperative matrices, as f16 and without pe. */
static uint64_t expanded_layout(uint64_t base, const struct mla_attend *op, bool coop, struct expanded_scratch *out)
{
    struct mla_layout l = {base};
    const uint64_t heads = op->n_head, rows = coop ? COOP_ROWS : RANGE_ROWS, element = coop ? 2 : sizeof(float);
    out->w = mla_layout_bytes(&l, heads * op->kv_lora * (op->nope + op->vdim) * element);
    out->k = mla_layout_bytes(&l, heads * rows * op->nope * element);
    out->v = mla_layout_bytes(&l, heads * rows * op->vdim * element);
    out->pe = mla_layout_floats(&l, coop ? 0 : rows * op->rope);
    out->running = mla_layout_floats(&l, 2 * op->n * heads);
    return l.at - base;
}

uint64_t gpu_mla_expanded_bytes(const struct gpu *gpu, const struct mla_attend *op)
{
    struct expanded_scratch s;
    const uint64_t plain = expanded_layout(0, op, false, &s),
                   coop = gpu->caps.coopmat ? expanded_layout(0, op, true, &s) : 0;
    return plain > coop ? plain : coop;
}

/* to[mat][row][column] with the given pitches <- w */
static void unpack(struct gpu *gpu, const struct weight *w, struct gpu_range all, uint64_t to, const uint32_t pitch[3],
                   bool halves)
{
    const struct params_mla_unpack params = {
        .w = w->addr,
        .mat_bytes = w->mat_bytes,
        .to = to,
        .n_in = w->n_in,
        .n_out = w->n_out,
        .row_bytes = (uint32_t)w->row_bytes,
        .mat_pitch = pitch[0],
        .row_pitch = pitch[1],
        .column_pitch = pitch[2],
    };
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "mla unpack",
                          .shader = gpu_variant(SHADER_MLA_UNPACK_F32, w->format),
                          .spec = {64, gpu->caps.subgroup, halves},
                          .n_spec = 3,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up((uint64_t)gpu_div_up(w->n_in, 32) * w->n_out, 64), w->n_mat},
                          .reads = {gpu_weight_range(w)},
                          .writes = {all},
                      });
}

static void expand_rows(struct gpu *gpu, const struct mla_attend *op, const struct expanded_scratch *s, uint32_t start,
                        uint32_t count)
{
    enum { ROWS = 16 };
    const uint32_t tiles = gpu_div_up(count, MLA_TILE), per = 4;
    const uint32_t group =
        gpu->caps.is_software ? gpu->caps.subgroup : mla_most(gpu->caps.subgroup, 2 * mla_lanes(gpu));
    const struct params_mla_expand params = {
        .w = s->w.addr,
        .table = op->rows->table,
        .k = s->k.addr,
        .pe = s->pe.addr,
        .v = s->v.addr,
        .first = start,
        .count = count,
        .tiles = tiles,
        .n_head = op->n_head,
        .layer = op->layer,
        .row_bytes = op->rows->row_bytes,
    };
    struct gpu_dispatch d = {
        .label = "mla expand",
        .shader = SHADER_MLA_EXPAND,
        .spec = {group, gpu->caps.subgroup, op->rows->dtype, op->kv_lora, op->nope, unrolled(gpu), op->vdim, per},
        .n_spec = 8,
        .params = &params,
        .params_bytes = sizeof params,
        .groups = {gpu_div_up(op->nope + op->vdim, mla_lanes(gpu) * per),
                   tiles * MLA_TILE / (ROWS * (group / mla_lanes(gpu))), op->n_head},
        .reads = {s->w, GPU_ROWS},
        .writes = {s->k, s->v},
    };
    gpu_dispatch(gpu, &d);
    d = (struct gpu_dispatch){
        .label = "mla pe",
        .shader = SHADER_MLA_PE,
        .spec = {64, gpu->caps.subgroup, op->rows->dtype, op->kv_lora, op->rope},
        .n_spec = 5,
        .params = &params,
        .params_bytes = sizeof params,
        .groups = {gpu_div_up(op->rope * MLA_TILE, 64), tiles},
        .reads = {GPU_ROWS},
        .writes = {s->pe},
    };
    gpu_dispatch(gpu, &d);
}

static void flash(struct gpu *gpu, const struct mla_attend *op, const struct expanded_scratch *s, uint32_t start,
                  uint32_t count)
{
    const uint32_t queries = gpu->caps.is_software ? 8 : 16, keys = gpu->caps.is_software ? 2 : 1;
    const uint32_t group = gpu->caps.is_software ? gpu->caps.subgroup : 64;
    const struct gpu_range o = gpu_floats(op->o, (uint64_t)op->n * op->n_head * op->vdim);
    const struct params_mla_flash params = {
        .q = op->q,
        .k = s->k.addr,
        .pe = s->pe.addr,
        .v = s->v.addr,
        .running = s->running.addr,
        .o = op->o,
        .n = op->n,
        .first = op->first,
        .n_head = op->n_head,
        .start = start,
        .count = count,
        .tiles = gpu_div_up(count, MLA_TILE),
        .scale = 1 / sqrtf((float)(op->nope + op->rope)),
    };
    gpu_dispatch(gpu,
                 &(struct gpu_dispatch){
                     .label = "mla flash",
                     .shader = SHADER_MLA_FLASH,
                     .spec = {group, gpu->caps.subgroup, op->nope, op->rope, op->vdim, queries, keys, unrolled(gpu)},
                     .n_spec = 8,
                     .params = &params,
                     .params_bytes = sizeof params,
                     .groups = {gpu_div_up(op->n, queries * (group / mla_lanes(gpu))), op->n_head},
                     .reads = {gpu_floats(op->q, (uint64_t)op->n * op->n_head * (op->nope + op->rope)), s->k, s->v,
                               s->pe, s->running, o},
                     .writes = {s->running, o},
                 });
}

/* The same two on cooperative matrices. */
static void expand_rows_coop(struct gpu *gpu, const struct mla_attend *op, const struct expanded_scratch *s,
                             uint32_t start, uint32_t count)
{
    const uint32_t tiles = gpu_div_up(count, MLA_EXPAND_ROWS), wide = op->nope + op->vdim;
    const struct params_mla_expand params = {
        .w = s->w.addr,
        .table = op->rows->table,
        .k = s->k.addr,
        .v = s->v.addr,
        .first = start,
        .count = count,
        .tiles = tiles * (MLA_EXPAND_ROWS / MLA_TILE),
        .n_head = op->n_head,
        .layer = op->layer,
        .row_bytes = op->rows->row_bytes,
    };
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "mla expand",
                          .shader = SHADER_MLA_EXPAND_COOP,
                          .spec = {MLA_EXPAND_ROWS / 64 * (MLA_EXPAND_COLUMNS / 64) * gpu->caps.subgroup,
                                   gpu->caps.subgroup, op->kv_lora, op->rope, op->nope, op->vdim},
                          .n_spec = 6,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {tiles, op->n_head, gpu_div_up(wide, MLA_EXPAND_COLUMNS)},
                          .reads = {s->w, GPU_ROWS},
                          .writes = {s->k, s->v},
                          .bytes = 2.0 * count * op->n_head * wide,
                          .flops = 2.0 * count * op->n_head * wide * op->kv_lora,
                      });
}

static void flash_coop(struct gpu *gpu, const struct mla_attend *op, const struct expanded_scratch *s, uint32_t start,
                       uint32_t count)
{
    const struct gpu_range o = gpu_floats(op->o, (uint64_t)op->n * op->n_head * op->vdim);
    const struct params_mla_flash params = {
        .q = op->q,
        .k = s->k.addr,
        .v = s->v.addr,
        .running = s->running.addr,
        .o = op->o,
        .table = op->rows->table,
        .n = op->n,
        .first = op->first,
        .n_head = op->n_head,
        .start = start,
        .count = count,
        .tiles = gpu_div_up(count, MLA_EXPAND_ROWS) * (MLA_EXPAND_ROWS / MLA_TILE),
        .layer = op->layer,
        .row_bytes = op->rows->row_bytes,
        .scale = LOG2_E / sqrtf((float)(op->nope + op->rope)),
    };
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "mla flash",
                          .shader = SHADER_MLA_FLASH_COOP,
                          .spec = {MLA_FLASH_TOKENS / 16 * gpu->caps.subgroup, gpu->caps.subgroup, op->kv_lora,
                                   op->rope, op->nope, op->vdim},
                          .n_spec = 6,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(op->n, MLA_FLASH_TOKENS), op->n_head},
                          .reads = {gpu_floats(op->q, (uint64_t)op->n * op->n_head * (op->nope + op->rope)), s->k, s->v,
                                    s->running, o, GPU_ROWS},
                          .writes = {s->running, o},
                          .bytes = 2.0 * count * op->n_head * (op->nope + op->vdim),
                          .flops = 2.0 * count * op->n * op->n_head * (op->nope + op->rope + op->vdim),
                      });
}

/* Shared memory of mla_flash_coop: a tile of keys and of values, each row a word longer, and what its subgroups stage.
 */
static uint32_t flash_shared(const struct mla_attend *op)
{
    const uint32_t words = (op->nope + op->rope) / 8 + 1 + op->vdim / 8 + 1, stage = 96;
    return 16 * (MLA_TILE * words + MLA_FLASH_TOKENS / 16 * stage);
}

/* For kernels that multiply 16 x 16 matrices, with the latent channels in steps of 32. */
bool gpu_mla_expanded_is_coop(const struct gpu *gpu, const struct mla_attend *op)
{
    return gpu->caps.coopmat && gpu->caps.subgroup == 32 && op->rows->dtype == ENGINE_F16 && op->kv_lora % 32 == 0 &&
           op->nope % 16 == 0 && op->rope % 16 == 0 && op->vdim % 16 == 0 && flash_shared(op) <= gpu->caps.shared_bytes;
}

void gpu_mla_expanded(struct gpu *gpu, const struct mla_attend *op)
{
    struct expanded_scratch s;
    const bool coop = gpu_mla_expanded_is_coop(gpu, op);
    const uint32_t width = op->nope + op->vdim, end = op->first + op->n, rows = coop ? COOP_ROWS : RANGE_ROWS;
    const uint64_t element = coop ? 2 : sizeof(float);
    expanded_layout(gpu->scratch[GPU_SCRATCH_MLA].addr, op, coop, &s);
    unpack(gpu, op->k_b, s.w, s.w.addr, (const uint32_t[3]){op->kv_lora * width, width, 1}, coop);
    unpack(gpu, op->v_b, s.w, s.w.addr + op->nope * element, (const uint32_t[3]){op->kv_lora * width, 1, width}, coop);
    for (uint32_t start = 0; start < end; start += rows) {
        const uint32_t count = mla_least(end - start, rows);
        (coop ? expand_rows_coop : expand_rows)(gpu, op, &s, start, count);
        (coop ? flash_coop : flash)(gpu, op, &s, start, count);
    }
}
