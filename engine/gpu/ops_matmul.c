/* SPDX-License-Identifier: MIT
 *
 * y = W x: for a few tokens by rows (ops_matvec.c), for many by tiles: on cooperative matrices (matmul_half.glsl), in
 * f32 through shared memory (matmul_tile.comp), or on a software device, where shared memory gains nothing, in
 * registers alone (matmul.comp). Which one, and in what tiles, is chosen here and nowhere else.
 */
#include "engine/gpu/gpu.h"

#include <string.h>

enum { RUN = 32, SIDE = 16, FEW_ROWS = 512 };

/* The kernel for many tokens and how it divides a product. */
struct tiling {
    enum shader shader;
    uint32_t group, rows, tokens; /* invocations, output rows and tokens of a workgroup */
    uint32_t own; /* of an invocation: rows in matmul.comp, tokens in matmul_tile.comp; of a subgroup: OWN_TOKENS */
};

/* --------------------------------------------------------------------------------------------------- choosing */

/* A router's scores decide between experts by small differences: files keep it in f32, and so do we. */
bool gpu_takes_halves(const struct gpu *gpu, const struct weight *w)
{
    return gpu_has_matrices(gpu) && w->format->type != QUANT_F32;
}

/* Of a tile on matrices: how many of a subgroup's matrices lie along the tokens, 0 where they cannot be divided. Near a
 * square, fewest loads. */
static uint32_t own_tokens(const struct gpu *gpu, const struct tiling *t)
{
    const uint32_t rows = t->rows / SIDE, tokens = t->tokens / SIDE, subgroups = t->group / gpu->caps.subgroup;
    const uint32_t own = rows * tokens / subgroups;
    uint32_t best = 0;
    if (own * subgroups != rows * tokens) return 0;
    for (uint32_t i = 1; i <= own; i++) {
        if (own % i || tokens % i || rows % (own / i)) continue;
        if (!best || i + own / i < best + own / best) best = i;
    }
    return best;
}

/* Of the operands, as matmul_half.glsl lays them out. */
static uint32_t shared_bytes(const struct tiling *t)
{
    return (t->rows + t->tokens) * (4 * (t->group / t->rows) + 1) * 16;
}

/* Of tiles of so many tokens those with which a card is done soonest: a core takes one workgroup after the other, and
 * each takes a time for its weights, as for 170 tokens, and a time for its tokens. rows: of all products that run
 * beside each other. */
static struct tiling half_dense(const struct gpu *gpu, uint32_t rows, uint32_t n)
{
    static const uint32_t tokens[] = {128, 160, 192, 64};
    const uint32_t cores = 128, weights = 170;
    struct tiling t = {SHADER_MATMUL_COOP_F32, 256, 128, 0, 0}, best = {0};
    uint64_t least = UINT64_MAX;
    if (gpu->caps.plain_matrices) t = (struct tiling){SHADER_MATMUL_PLAIN_F32, 128, 64, 0, 0};
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        t.tokens = tokens[i];
        t.own = own_tokens(gpu, &t);
        if (!t.own || shared_bytes(&t) > gpu->caps.shared_bytes) continue;
        const uint64_t tiles = (uint64_t)gpu_div_up(rows, t.rows) * gpu_div_up(n, t.tokens);
        const uint64_t time = (uint64_t)gpu_div_up(tiles, cores) * (weights + t.tokens);
        if (time < least) best = t;
        if (time < least) least = time;
    }
    return best;
}

/* An expert meets few tokens. Small workgroups, of which a core has several: while one waits the others work. A
 * subgroup multiplies its rows with all tokens where it can, so that none is idle where a tile is not full. */
static struct tiling half_grouped(const struct gpu *gpu, uint32_t tokens)
{
    struct tiling t = {SHADER_MATMUL_COOP_F32, 128, 128, tokens, 0};
    if (gpu->caps.plain_matrices) t = (struct tiling){SHADER_MATMUL_PLAIN_F32, 64, 64, tokens, 0};
    const uint32_t own = t.rows / SIDE * (tokens / SIDE) / (t.group / gpu->caps.subgroup), most = own < 4 ? own : 4;
    t.own = most < tokens / SIDE ? most : tokens / SIDE;
    return t;
}

/* rows: of this product and all beside it; grouped: tokens of a tile, or 0. */
static struct tiling tiling_choose(const struct gpu *gpu, const struct weight *w, uint32_t rows, uint32_t n,
                                   uint32_t grouped)
{
    const uint32_t subgroup = gpu->caps.subgroup;
    if (gpu_takes_halves(gpu, w)) return grouped ? half_grouped(gpu, grouped) : half_dense(gpu, rows, n);
    if (gpu->caps.is_software) return (struct tiling){SHADER_MATMUL_F32, subgroup, subgroup * 8, 8, 8};
    if (grouped > 64) return (struct tiling){SHADER_MATMUL_TILE_F32, grouped * 2, 64, grouped, 8};
    if (grouped) return (struct tiling){SHADER_MATMUL_TILE_F32, grouped * 4, 64, grouped, 4};
    /* Few rows, as a router has: smaller tiles for more workgroups. */
    if (w->n_out <= FEW_ROWS) return (struct tiling){SHADER_MATMUL_TILE_F32, 128, 64, 32, 4};
    return (struct tiling){SHADER_MATMUL_TILE_F32, 128, 64, 64, 8};
}

/* Where products on matrices are, an expert's tokens are cut into tiles of two sizes. */
struct gpu_tile_sizes gpu_grouped_tokens(const struct gpu *gpu, uint32_t slots, uint32_t n_expert)
{
    if (gpu->caps.is_software) return (struct gpu_tile_sizes){8, 0};
    if (!gpu_has_matrices(gpu)) return (struct gpu_tile_sizes){32, 0};
    return slots / n_expert >= 24 ? (struct gpu_tile_sizes){64, 128} : (struct gpu_tile_sizes){32, 64};
}

/* Tiles of all sizes are of as many rows. */
uint32_t gpu_row_tiles(const struct gpu *gpu, const struct weight *w)
{
    return gpu_div_up(w->n_out, tiling_choose(gpu, w, w->n_out, 0, 32).rows);
}

bool gpu_is_whole(const struct weight *w, uint64_t x)
{
    return w->n_in % RUN == 0 && x % 16 == 0;
}

/* ----------------------------------------------------------------------------------------------------- packing */

static uint32_t packed_stride(uint32_t width)
{
    return gpu_div_up(width, 2 * RUN) * 2 * RUN;
}

uint64_t gpu_packed_bytes(uint64_t n, uint32_t width)
{
    const uint64_t bytes = n * (packed_stride(width) * 2ull + sizeof(float));
    return (bytes + 255) / 256 * 256;
}

/* Rows of every width that products of many tokens meet, except experts'. */
int gpu_matmul_prepare(struct gpu *gpu, const struct shape *s, uint32_t n, struct error *error)
{
    const uint32_t widths[] = {
        s->n_embd, s->n_head * s->kda_dim, s->n_head * s->vdim, s->n_ff, s->n_ff_shared, s->q_lora, s->kda_dim};
    uint32_t most = 0;
    if (!gpu_has_matrices(gpu)) return 0;
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        if (widths[i] > most) most = widths[i];
    return gpu_scratch_reserve(gpu, GPU_SCRATCH_PACK, (size_t)gpu_packed_bytes(n, most), error);
}

/* Memory is handed out in a ring, so that neighbouring operations do not wait for each other. */
static uint64_t ring_take(struct gpu *gpu, uint64_t bytes)
{
    const struct gpu_range ring = gpu->scratch[GPU_SCRATCH_PACK];
    if (bytes > ring.bytes) {
        gpu_fail(gpu, ERROR_FAILED, "products: a batch is larger than was prepared for");
        return 0;
    }
    if (gpu->pack_at + bytes > ring.bytes) gpu->pack_at = 0;
    const uint64_t at = ring.addr + gpu->pack_at;
    gpu->pack_at += bytes;
    return at;
}

struct gpu_packed gpu_pack(struct gpu *gpu, uint64_t x, uint64_t up, uint32_t n, uint32_t width, uint32_t x_stride)
{
    const uint32_t group = width < 512 ? 64 : 256;
    struct gpu_packed out = {.stride = packed_stride(width)};
    out.range = (struct gpu_range){ring_take(gpu, gpu_packed_bytes(n, width)), gpu_packed_bytes(n, width)};
    out.scale = out.range.addr + (uint64_t)n * out.stride * 2;
    const struct params_pack params = {
        .x = x,
        .up = up,
        .y = out.range.addr,
        .scale = out.scale,
        .width = width,
        .x_stride = x_stride,
        .y_stride = out.stride,
    };
    const bool whole = x % 16 == 0 && up % 16 == 0 && width % 4 == 0 && x_stride % 4 == 0;
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "pack",
                          .shader = SHADER_PACK,
                          .spec = {group, gpu->caps.subgroup, up != 0, whole},
                          .n_spec = 4,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {n},
                          .reads = {gpu_floats(x, (uint64_t)(n - 1) * x_stride + width),
                                    gpu_floats(up, up ? (uint64_t)(n - 1) * x_stride + width : 0)},
                          .writes = {out.range},
                      });
    return out;
}

/* ---------------------------------------------------------------------------------------------------- products */

/* Completes and records d, which says what is touched and how many tiles of tokens there are. */
static void tiles_dispatch(struct gpu *gpu, const struct weight *w, const struct params_matmul *params,
                           const struct tiling *tile, struct gpu_dispatch *d)
{
    const uint32_t spec[] = {tile->group,
                             gpu->caps.subgroup,
                             gpu_is_whole(w, params->x),
                             tile->own,
                             tile->tokens,
                             params->tiles != 0,
                             tile->rows,
                             params->scale ? tile->group / tile->rows : 0};
    memcpy(d->spec, spec, sizeof spec); /* not every kernel has the last ones */
    d->n_spec = sizeof spec / sizeof *spec;
    d->shader = gpu_variant(tile->shader, w->format);
    d->params = params;
    d->params_bytes = sizeof *params;
    d->groups[0] = gpu_div_up(w->n_out, tile->rows);
    gpu_dispatch(gpu, d);
}

/* packed: x as halves, or NULL. rows: of all products that run beside this one. */
static void tiled(struct gpu *gpu, uint64_t x, const struct gpu_packed *packed, const struct matmul_job *job,
                  uint32_t rows, uint32_t n)
{
    const struct weight *w = job->w;
    const struct tiling tile = tiling_choose(gpu, w, rows, n, 0);
    const struct params_matmul params = {
        .w = w->addr,
        .x = packed ? packed->range.addr : x,
        .y = job->y,
        .scale = packed ? packed->scale : 0,
        .n_in = w->n_in,
        .x_stride = packed ? packed->stride : w->n_in,
        .n_out = w->n_out,
        .n = n,
        .row_bytes = (uint32_t)w->row_bytes,
        .add = job->add,
    };
    const struct gpu_range y = gpu_floats(job->y, (uint64_t)n * w->n_out);
    struct gpu_dispatch d = {
        .label = "matmul",
        .flops = 2.0 * n * w->n_in * w->n_out,
        .groups = {0, gpu_div_up(n, tile.tokens)},
        .reads = {packed ? packed->range : gpu_floats(x, (uint64_t)n * w->n_in), gpu_weight_range(w),
                  job->add ? y : (struct gpu_range){0}},
        .writes = {y},
    };
    tiles_dispatch(gpu, w, &params, &tile, &d);
}

void gpu_matmul_grouped(struct gpu *gpu, const struct gpu_grouped *g)
{
    const struct weight *w = g->w;
    const struct gpu_packed *packed = gpu_takes_halves(gpu, w) ? g->packed : NULL;
    const struct tiling tile = tiling_choose(gpu, w, w->n_out, 0, g->tokens);
    const uint32_t x_stride = packed ? packed->stride : g->x_stride ? g->x_stride : w->n_in;
    const struct params_matmul params = {
        .w = w->addr,
        .x = packed ? packed->range.addr : g->x,
        .y = g->y,
        .tiles = g->tiles.addr,
        .order = g->order,
        .mat_bytes = w->mat_bytes,
        .scale = packed ? packed->scale : 0,
        .n_in = w->n_in,
        .x_stride = x_stride,
        .n_out = w->n_out,
        .n = g->rows,
        .row_bytes = (uint32_t)w->row_bytes,
        .share = g->share,
    };
    struct gpu_dispatch d = {
        .label = "matmul grouped",
        .flops = 2.0 * g->rows * w->n_in * w->n_out,
        .indirect = g->groups,
        .reads = {packed ? packed->range : gpu_floats(g->x, (uint64_t)g->rows / g->share * x_stride),
                  gpu_weight_range(w),
                  g->tiles,
                  {g->groups, 12},
                  {g->order, g->order ? 4ull * g->rows : 0}},
        .writes = {gpu_floats(g->y, g->beside ? 0 : (uint64_t)g->rows * w->n_out)},
    };
    tiles_dispatch(gpu, w, &params, &tile, &d);
}

/* Rows of the products that halves go into. */
static uint32_t halves_rows(const struct gpu *gpu, const struct matmul_job *jobs, uint32_t count)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < count; i++)
        if (gpu_takes_halves(gpu, jobs[i].w)) rows += jobs[i].w->n_out;
    return rows;
}

/* Workgroups begin in the order of their products. The small ones come first: alone at the end they would take as long
 * for a few cores as for all. */
void gpu_matmul(struct backend *b, uint64_t x, const struct matmul_job *jobs, uint32_t count, uint32_t n)
{
    struct gpu *gpu = gpu_of(b);
    struct gpu_packed packed = {0};
    if (gpu_matvec(gpu, &(struct norm_matmul){.n = n, .x = x, .jobs = jobs, .count = count})) return;
    const uint32_t rows = halves_rows(gpu, jobs, count);
    if (rows) packed = gpu_pack(gpu, x, 0, n, jobs->w->n_in, jobs->w->n_in);
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < count; i++) {
            const struct weight *w = jobs[i].w;
            if ((w->n_out > FEW_ROWS) != (pass == 1)) continue;
            tiled(gpu, x, gpu_takes_halves(gpu, w) ? &packed : NULL, &jobs[i], rows, n);
        }
    }
}
