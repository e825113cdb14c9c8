/* SPDX-License-Identifier: MIT
 *
 * Multi-head latent attention on the GPU. Two forms of the same sum, docs/model.md:
 *
 *   absorbed  queries go into the latent space (K_b), attend to the rows as stored, and come out (V_b). No work per row
 *             but the attention itself: for few tokens. Rows are split among teams, then combined.
 *   expanded  keys and values of all heads are made from the rows, a range of rows at a time so that scratch memory
 * does not grow with depth; attention over a head's 192 + 128 channels instead of 2 x 512: for many tokens.
 */
#include "engine/gpu/gpu.h"
#include "shaders/params_decode.h"
#include "shaders/params_mla.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static_assert(MLA_SEGMENT == STATE_SEGMENT, "kernels and states agree on blocks of rows");
#define LOG2_E 1.44269504f

static_assert(ENGINE_F32 == 0 && ENGINE_F16 == 1 && ENGINE_Q8_0 == 8, "mla_row.glsl knows these numbers");

enum {
    PART_TOKENS = 128,  /* of the absorbed form at a time */
    RANGE_ROWS = 1024,  /* expanded at a time; a multiple of MLA_TILE */
    COOP_ROWS = 2560,   /* the same as f16 on cooperative matrices; whole segments, so that tiles lie in one */
    SPLIT_QUERIES = 4,  /* of a team */
    COOP_PLACES = 2048, /* queries times splits of mla_split_coop: what fills a large card */
    SPLIT_KEYS = 64,    /* at least, of a split */
    FEW_SPLITS = 8,     /* as many are added up where they are used */
    EXPANDED_LEAST = 4, /* tokens */
    COOP_LEAST = 32,    /* the same on cooperative matrices, which take MLA_FLASH_TOKENS at once */
};

static_assert(COOP_ROWS % STATE_SEGMENT == 0 && STATE_SEGMENT % MLA_EXPAND_ROWS == 0, "a tile's rows are neighbours");

static uint32_t lanes(const struct gpu *gpu)
{
    return gpu->caps.subgroup < 32 ? gpu->caps.subgroup : 32;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t most(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* Channels that a loop unrolls. On a software device all of a team's, to know every lane when compiling; elsewhere few,
 * for that is what a driver takes seconds to compile. */
static uint32_t unrolled(const struct gpu *gpu)
{
    return gpu->caps.is_software ? lanes(gpu) : 4;
}

static uint32_t query_pitch(uint64_t queries)
{
    return gpu_div_up(queries, MLA_QUERIES) * MLA_QUERIES;
}

/* Queries times splits that fill the device. */
static uint32_t places_wanted(const struct gpu *gpu)
{
    return gpu->caps.is_software ? 128 : 8192;
}

/* Cooperative matrices read rows as they are. */
static bool split_is_coop(const struct gpu *gpu, const struct mla_attend *op)
{
    return gpu->caps.coopmat && gpu->caps.subgroup == 32 && op->rows->dtype == ENGINE_F16 && op->kv_lora % 64 == 0 &&
           op->rope % 64 == 0;
}

/* Into how many parts the queries divide the rows at most. */
static uint32_t splits_most(const struct gpu *gpu, const struct mla_attend *op)
{
    const uint32_t places = split_is_coop(gpu, op) ? COOP_PLACES : places_wanted(gpu);
    return least(most(places / query_pitch(op->n * op->n_head), 1), MLA_SPLITS);
}

/* -------------------------------------------------------------------------------------------- scratch memory */

/* Lays ranges one after the other. */
struct layout {
    uint64_t at;
};

static struct gpu_range layout_bytes(struct layout *l, uint64_t bytes)
{
    const struct gpu_range r = {l->at, bytes};
    l->at += (bytes + 255) / 256 * 256;
    return r;
}

static struct gpu_range layout_floats(struct layout *l, uint64_t count)
{
    return layout_bytes(l, count * sizeof(float));
}

struct absorbed_scratch {
    struct gpu_range query, latent; /* [n][H][R] */
    struct gpu_range part, totals;  /* [splits][pitch][R], [2] */
};

static uint64_t absorbed_layout(const struct gpu *gpu, uint64_t base, uint64_t queries, uint32_t kv_lora,
                                struct absorbed_scratch *out)
{
    struct layout l = {base};
    const uint64_t places = most(places_wanted(gpu), query_pitch(queries));
    out->query = layout_floats(&l, queries * kv_lora);
    out->latent = layout_floats(&l, queries * kv_lora);
    out->part = layout_floats(&l, places * kv_lora);
    out->totals = layout_floats(&l, places * 2);
    return l.at - base;
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
    struct layout l = {base};
    const uint64_t heads = op->n_head, rows = coop ? COOP_ROWS : RANGE_ROWS, element = coop ? 2 : sizeof(float);
    out->w = layout_bytes(&l, heads * op->kv_lora * (op->nope + op->vdim) * element);
    out->k = layout_bytes(&l, heads * rows * op->nope * element);
    out->v = layout_bytes(&l, heads * rows * op->vdim * element);
    out->pe = layout_floats(&l, coop ? 0 : rows * op->rope);
    out->running = layout_floats(&l, 2 * op->n * heads);
    return l.at - base;
}

int gpu_mla_prepare(struct gpu *gpu, const struct shape *shape, uint32_t n, struct error *error)
{
    if (!shape->n_mla) return 0;
    const struct mla_attend op = {
        .n = n,
        .n_head = shape->n_head,
        .kv_lora = shape->kv_lora,
        .nope = shape->nope,
        .rope = shape->rope,
        .vdim = shape->vdim,
    };
    struct absorbed_scratch a;
    struct expanded_scratch e;
    uint64_t bytes = absorbed_layout(gpu, 0, (uint64_t)least(n, PART_TOKENS) * shape->n_head, shape->kv_lora, &a);
    for (int coop = 0; coop <= gpu->caps.coopmat; coop++) { /* by the rows' type, not known yet */
        const uint64_t expanded = expanded_layout(0, &op, coop, &e);
        if (bytes < expanded) bytes = expanded;
    }
    return gpu_scratch_reserve(gpu, GPU_SCRATCH_MLA, bytes, error);
}

/* ------------------------------------------------------------------------------------------------------ store */

void gpu_mla_store(struct backend *backend, const struct mla_store *op)
{
    struct gpu *gpu = gpu_of(backend);
    const struct params_mla_store params = {
        .c = op->c,
        .gain = op->gain,
        .table = op->rows->table,
        .n = op->n,
        .first = op->first,
        .layer = op->layer,
        .row_bytes = op->rows->row_bytes,
        .eps = op->eps,
    };
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "mla store",
                          .shader = SHADER_MLA_STORE,
                          .spec = {64, gpu->caps.subgroup, op->rows->dtype, op->kv_lora, op->rope},
                          .n_spec = 5,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(op->n, 64 / lanes(gpu))},
                          .reads = {gpu_floats(op->c, (uint64_t)op->n * (op->kv_lora + op->rope)),
                                    gpu_floats(op->gain, op->kv_lora)},
                          .writes = {GPU_ROWS},
                      });
}

/* --------------------------------------------------------------------------------------------------- absorbed */

/* What heads are multiplied with: [n][H], so many floats apart; or the splits of one token, not added up yet. */
struct head_vectors {
    struct gpu_range at, totals;
    uint32_t pitch, splits;
};

/* y[h] = w[h] x[h] for one token, where there is a kernel for it; it adds up splits by the way. */
static bool head_products_one(struct gpu *gpu, const struct mla_attend *op, const struct weight *w,
                              const struct head_vectors *x, struct gpu_range y)
{
    const struct gpu_parts parts = gpu_parts_choose(gpu, w, (uint64_t)w->n_out * op->n_head, 1);
    const bool whole = gpu_is_whole(w, x->at.addr) && x->pitch % 4 == 0;
    const struct params_mla_heads_one params = {
        .w = w->addr,
        .mat_bytes = w->mat_bytes,
        .x = x->at.addr,
        .y = y.addr,
        .totals = x->totals.addr,
        .n_in = w->n_in,
        .n_out = w->n_out,
        .row_bytes = (uint32_t)w->row_bytes,
        .x_pitch = x->pitch,
        .splits = x->splits,
        .pitch = query_pitch(op->n_head),
    };
    if (!gpu_one_serves(gpu, op->n)) return false;
    gpu_dispatch(
        gpu, &(struct gpu_dispatch){
                 .label = "mla heads",
                 .shader = gpu_variant(SHADER_MLA_HEADS_ONE_F32, w->format),
                 .spec = {parts.group, gpu->caps.subgroup, whole, parts.team, parts.ahead, parts.steps, x->splits > 0},
                 .n_spec = 7,
                 .params = &params,
                 .params_bytes = sizeof params,
                 .groups = {gpu_div_up(w->n_out, parts.rows), op->n_head},
                 .reads = {x->at, x->totals},
                 .writes = {y},
                 .bytes = (double)w->mat_bytes * w->n_mat,
                 .flops = 2.0 * w->n_in * w->n_out * w->n_mat,
             });
    return true;
}

/* y[t][h] = w[h] x[t][h] */
static void head_products(struct gpu *gpu, const struct mla_attend *op, const struct weight *w,
                          const struct head_vectors *x, struct gpu_range y)
{
    enum { RUN = 32, TOKENS = 2, ROWS = 2 };
    if (head_products_one(gpu, op, w, x, y)) return;
    const uint32_t width = lanes(gpu), runs = gpu_div_up(w->n_in, RUN), tokens = least(op->n, TOKENS);
    uint32_t share = 1;
    while (share * 2 <= least(runs, width)) share *= 2;
    const struct params_mla_heads params = {
        .w = w->addr,
        .mat_bytes = w->mat_bytes,
        .x = x->at.addr,
        .y = y.addr,
        .n = op->n,
        .n_head = op->n_head,
        .n_in = w->n_in,
        .n_out = w->n_out,
        .row_bytes = (uint32_t)w->row_bytes,
        .x_pitch = x->pitch,
    };
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "mla heads",
                          .shader = gpu_variant(SHADER_MLA_HEADS_F32, w->format),
                          .spec = {64, gpu->caps.subgroup, share, tokens, ROWS},
                          .n_spec = 5,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(w->n_out, 64 / share * ROWS), op->n_head, gpu_div_up(op->n, tokens)},
                          .reads = {x->at, gpu_weight_range(w)},
                          .writes = {y},
                      });
}

static void split_rows(struct gpu *gpu, const struct mla_attend *op, const struct absorbed_scratch *s, uint32_t splits,
                       uint32_t keys)
{
    const uint32_t queries = op->n * op->n_head, tile = SPLIT_QUERIES;
    const struct params_mla_split params = {
        .qa = s->query.addr,
        .q = op->q,
        .table = op->rows->table,
        .part = s->part.addr,
        .totals = s->totals.addr,
        .n = op->n,
        .first = op->first,
        .n_head = op->n_head,
        .layer = op->layer,
        .row_bytes = op->rows->row_bytes,
        .nope = op->nope,
        .keys = keys,
        .splits = splits,
        .pitch = query_pitch(queries),
        .scale = 1 / sqrtf((float)(op->nope + op->rope)),
    };
    const uint32_t group = gpu->caps.is_software ? gpu->caps.subgroup : 64;
    struct gpu_dispatch d = {
        .label = "mla split",
        .params = &params,
        .params_bytes = sizeof params,
        .reads = {s->query, GPU_ROWS},
        .writes = {s->part, s->totals},
        .bytes = (double)(op->first + op->n) * op->rows->row_bytes,
        .flops = 2.0 * queries * (op->first + op->n) * (2.0 * op->kv_lora + op->rope),
    };
    if (split_is_coop(gpu, op)) {
        d.shader = SHADER_MLA_SPLIT_COOP;
        d.n_spec = 4;
        memcpy(d.spec, (uint32_t[]){128, gpu->caps.subgroup, op->kv_lora, op->rope}, 4 * sizeof(uint32_t));
        d.groups[0] = splits;
        d.groups[1] = gpu_div_up(queries, MLA_QUERIES);
    } else {
        const uint32_t spec[] = {group, gpu->caps.subgroup,           op->rows->dtype, op->kv_lora, op->rope,
                                 tile,  gpu->caps.is_software ? 4 : 1};
        d.shader = SHADER_MLA_SPLIT;
        d.n_spec = sizeof spec / sizeof *spec;
        memcpy(d.spec, spec, sizeof spec);
        d.groups[0] = gpu_div_up((uint64_t)gpu_div_up(queries, tile) * splits, group / lanes(gpu));
    }
    gpu_dispatch(gpu, &d);
}

static void combine_splits(struct gpu *gpu, const struct mla_attend *op, const struct absorbed_scratch *s,
                           uint32_t splits)
{
    const uint32_t queries = op->n * op->n_head, channels = 64, group = gpu->caps.is_software ? channels : 256;
    const struct params_mla_combine params = {s->part.addr, s->totals.addr, s->latent.addr, splits,
                                              query_pitch(queries)};
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "mla combine",
                          .shader = SHADER_MLA_COMBINE,
                          .spec = {group, gpu->caps.subgroup, op->kv_lora, channels},
                          .n_spec = 4,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(op->kv_lora, channels), queries},
                          .reads = {s->part, s->totals},
                          .writes = {s->latent},
                          .bytes = 4.0 * splits * queries * op->kv_lora,
                      });
}

static void attend_absorbed(struct gpu *gpu, const struct mla_attend *op)
{
    const uint32_t queries = op->n * op->n_head, end = op->first + op->n;
    struct absorbed_scratch s;
    absorbed_layout(gpu, gpu->scratch[GPU_SCRATCH_MLA].addr, queries, op->kv_lora, &s);
    const uint32_t splits = least(splits_most(gpu, op), gpu_div_up(end, SPLIT_KEYS));
    const uint32_t keys = gpu_div_up(gpu_div_up(end, splits), SPLIT_KEYS) * SPLIT_KEYS;
    const uint32_t count = gpu_div_up(end, keys);
    const struct gpu_range o = gpu_floats(op->o, (uint64_t)queries * op->vdim);
    const struct head_vectors query = {.at = gpu_floats(op->q, (uint64_t)queries * (op->nope + op->rope)),
                                       .pitch = op->nope + op->rope};
    const struct head_vectors few = {.at = s.part, .totals = s.totals, .pitch = op->kv_lora, .splits = count};
    const struct head_vectors latent = {.at = s.latent, .pitch = op->kv_lora};
    head_products(gpu, op, op->k_b, &query, s.query);
    split_rows(gpu, op, &s, count, keys);
    if (count <= FEW_SPLITS && head_products_one(gpu, op, op->v_b, &few, o)) return;
    combine_splits(gpu, op, &s, count);
    head_products(gpu, op, op->v_b, &latent, o);
}

/* Absorbed in parts of PART_TOKENS, to bound scratch memory. */
static void attend_in_parts(struct gpu *gpu, const struct mla_attend *op)
{
    for (uint32_t done = 0; done < op->n; done += PART_TOKENS) {
        struct mla_attend part = *op;
        const uint64_t heads = (uint64_t)done * op->n_head * sizeof(float);
        part.n = least(op->n - done, PART_TOKENS);
        part.first += done;
        part.q += heads * (op->nope + op->rope);
        part.o += heads * op->vdim;
        attend_absorbed(gpu, &part);
    }
}

/* --------------------------------------------------------------------------------------------------- expanded */

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
    const uint32_t group = gpu->caps.is_software ? gpu->caps.subgroup : most(gpu->caps.subgroup, 2 * lanes(gpu));
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
        .groups = {gpu_div_up(op->nope + op->vdim, lanes(gpu) * per), tiles * MLA_TILE / (ROWS * (group / lanes(gpu))),
                   op->n_head},
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
                     .groups = {gpu_div_up(op->n, queries * (group / lanes(gpu))), op->n_head},
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
static bool expanded_is_coop(const struct gpu *gpu, const struct mla_attend *op)
{
    return gpu->caps.coopmat && gpu->caps.subgroup == 32 && op->rows->dtype == ENGINE_F16 && op->kv_lora % 32 == 0 &&
           op->nope % 16 == 0 && op->rope % 16 == 0 && op->vdim % 16 == 0 && flash_shared(op) <= gpu->caps.shared_bytes;
}

static void attend_expanded(struct gpu *gpu, const struct mla_attend *op)
{
    struct expanded_scratch s;
    const bool coop = expanded_is_coop(gpu, op);
    const uint32_t width = op->nope + op->vdim, end = op->first + op->n, rows = coop ? COOP_ROWS : RANGE_ROWS;
    const uint64_t element = coop ? 2 : sizeof(float);
    expanded_layout(gpu->scratch[GPU_SCRATCH_MLA].addr, op, coop, &s);
    unpack(gpu, op->k_b, s.w, s.w.addr, (const uint32_t[3]){op->kv_lora * width, width, 1}, coop);
    unpack(gpu, op->v_b, s.w, s.w.addr + op->nope * element, (const uint32_t[3]){op->kv_lora * width, 1, width}, coop);
    for (uint32_t start = 0; start < end; start += rows) {
        const uint32_t count = least(end - start, rows);
        (coop ? expand_rows_coop : expand_rows)(gpu, op, &s, start, count);
        (coop ? flash_coop : flash)(gpu, op, &s, start, count);
    }
}

/* ------------------------------------------------------------------------------------------------------- form */

/* By the multiplications of a head. */
static bool expanded_is_less(const struct gpu *gpu, const struct mla_attend *op)
{
    if (op->n < (expanded_is_coop(gpu, op) ? COOP_LEAST : EXPANDED_LEAST)) return false;
    const double n = op->n, rows = op->first + op->n, seen = op->first + (n + 1) / 2;
    const double passage = (double)op->kv_lora * (op->nope + op->vdim); /* in or out of the latent space */
    const double absorbed = n * (seen * (2 * op->kv_lora + op->rope) + passage);
    const double expanded = n * seen * (op->nope + op->rope + op->vdim) + rows * passage;
    return expanded < absorbed;
}

void gpu_mla_attend(struct backend *backend, const struct mla_attend *op)
{
    struct gpu *gpu = gpu_of(backend);
    if (op->form == MLA_EXPANDED || (op->form == MLA_AUTO && expanded_is_less(gpu, op)))
        attend_expanded(gpu, op);
    else
        attend_in_parts(gpu, op);
}
