/* SPDX-License-Identifier: MIT
 *
 * Multi-head latent attention, absorbed: heads' products into the latent space, attention over the rows split among
 * teams, sums of the splits, heads' products out of it. See ops_mla.c.
 */
#include "engine/gpu/mla.h"
#include "shaders/params_decode.h"

#include <math.h>
#include <string.h>

enum {
    PART_TOKENS = 128,  /* at a time */
    SPLIT_QUERIES = 4,  /* of a team */
    COOP_PLACES = 2048, /* queries times splits of mla_split_coop: what fills a large card */
    SPLIT_KEYS = 64,    /* at least, of a split */
    FEW_SPLITS = 8,     /* as many are added up where they are used */
};

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
    return mla_least(mla_most(places / query_pitch(op->n * op->n_head), 1), MLA_SPLITS);
}

struct absorbed_scratch {
    struct gpu_range query, latent; /* [n][H][R] */
    struct gpu_range part, totals;  /* [splits][pitch][R], [2] */
};

static uint64_t absorbed_layout(const struct gpu *gpu, uint64_t base, uint64_t queries, uint32_t kv_lora,
                                struct absorbed_scratch *out)
{
    struct mla_layout l = {base};
    const uint64_t places = mla_most(places_wanted(gpu), query_pitch(queries));
    out->query = mla_layout_floats(&l, queries * kv_lora);
    out->latent = mla_layout_floats(&l, queries * kv_lora);
    out->part = mla_layout_floats(&l, places * kv_lora);
    out->totals = mla_layout_floats(&l, places * 2);
    return l.at - base;
}

uint64_t gpu_mla_absorbed_bytes(const struct gpu *gpu, const struct mla_attend *op)
{
    struct absorbed_scratch s;
    return absorbed_layout(gpu, 0, (uint64_t)mla_least(op->n, PART_TOKENS) * op->n_head, op->kv_lora, &s);
}

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
    const uint32_t width = mla_lanes(gpu), runs = gpu_div_up(w->n_in, RUN), tokens = mla_least(op->n, TOKENS);
    uint32_t share = 1;
    while (share * 2 <= mla_least(runs, width)) share *= 2;
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
        d.groups[0] = gpu_div_up((uint64_t)gpu_div_up(queries, tile) * splits, group / mla_lanes(gpu));
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
    const uint32_t splits = mla_least(splits_most(gpu, op), gpu_div_up(end, SPLIT_KEYS));
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

/* In parts of PART_TOKENS, to bound scratch memory. */
void gpu_mla_absorbed(struct gpu *gpu, const struct mla_attend *op)
{
    for (uint32_t done = 0; done < op->n; done += PART_TOKENS) {
        struct mla_attend part = *op;
        const uint64_t heads = (uint64_t)done * op->n_head * sizeof(float);
        part.n = mla_least(op->n - done, PART_TOKENS);
        part.first += done;
        part.q += heads * (op->nope + op->rope);
        part.o += heads * op->vdim;
        attend_absorbed(gpu, &part);
    }
}
