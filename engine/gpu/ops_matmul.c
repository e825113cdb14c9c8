/* SPDX-License-Identifier: MIT
 *
 * y = W x: for a few tokens by rows (matvec.comp), for many by tiles: through shared memory (matmul_tile.comp), or on a
 * software device, where shared memory gains nothing, in registers alone (matmul.comp).
 */
#include "engine/gpu/gpu.h"

#include <string.h>

enum { RUN = 32, MATVEC_TOKENS = 8 };

/* The kernel for many tokens and how it divides a product. */
struct tiling {
    enum shader shader;
    uint32_t group, rows, tokens; /* invocations, output rows and tokens of a workgroup */
    uint32_t own;                 /* of an invocation: rows in matmul.comp, tokens in matmul_tile.comp */
};

/* Grouped: a matrix of the stack meets few of the tokens. */
static struct tiling tiling_choose(const struct gpu *gpu, bool grouped)
{
    const uint32_t subgroup = gpu->caps.subgroup;
    if (gpu->caps.is_software) return (struct tiling){SHADER_MATMUL_F32, subgroup, subgroup * 8, 8, 8};
    if (grouped) return (struct tiling){SHADER_MATMUL_TILE_F32, 128, 64, 32, 4};
    return (struct tiling){SHADER_MATMUL_TILE_F32, 128, 64, 64, 8};
}

bool gpu_is_whole(const struct weight *w, uint64_t x)
{
    return w->n_in % RUN == 0 && x % 16 == 0;
}

/* More rows share the loads of x; many rows and columns together are too many registers. */
uint32_t gpu_matvec_rows(const struct gpu *gpu, uint32_t columns)
{
    return gpu->caps.is_software && columns < 4 ? 8 : 4;
}

static void matvec(struct gpu *gpu, uint64_t x, const struct matmul_job *job, uint32_t n)
{
    const struct weight *w = job->w;
    const struct params_matvec params = {
        .w = w->addr,
        .x = x,
        .y = job->y,
        .n_in = w->n_in,
        .n_out = w->n_out,
        .n = n,
        .row_bytes = (uint32_t)w->row_bytes,
        .add = job->add,
    };
    const uint32_t columns = n > 4 ? 8 : n > 2 ? 4 : n; /* few variants: each is compiled when first used */
    const uint32_t rows = gpu_matvec_rows(gpu, columns);
    const uint32_t subgroup = gpu->caps.subgroup, group = gpu->caps.is_software ? subgroup : 128;
    const struct gpu_range y = gpu_floats(job->y, (uint64_t)n * w->n_out);
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "matvec",
                          .shader = gpu_variant(SHADER_MATVEC_F32, w->format),
                          .spec = {group, subgroup, gpu_is_whole(w, x), columns, rows},
                          .n_spec = 5,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(w->n_out, group / subgroup * rows)},
                          .reads = {gpu_floats(x, (uint64_t)n * w->n_in), gpu_weight_range(w),
                                    job->add ? y : (struct gpu_range){0}},
                          .writes = {y},
                          .flops = 2.0 * n * w->n_in * w->n_out,
                      });
}

/* Completes and records d, which says what is touched and how many tiles of tokens there are. */
static void tiles_dispatch(struct gpu *gpu, const struct weight *w, const struct params_matmul *params,
                           struct gpu_dispatch *d)
{
    const bool grouped = params->tiles != 0;
    const struct tiling tile = tiling_choose(gpu, grouped);
    const uint32_t spec[] = {tile.group, gpu->caps.subgroup, gpu_is_whole(w, params->x), tile.own, tile.tokens,
                             grouped,    tile.rows};
    memcpy(d->spec, spec, sizeof spec); /* 6: matmul_tile.comp's only */
    d->n_spec = sizeof spec / sizeof *spec;
    d->shader = gpu_variant(tile.shader, w->format);
    d->params = params;
    d->params_bytes = sizeof *params;
    d->groups[0] = gpu_div_up(w->n_out, tile.rows);
    gpu_dispatch(gpu, d);
}

static void tiled(struct gpu *gpu, uint64_t x, const struct matmul_job *job, uint32_t n)
{
    const struct weight *w = job->w;
    const struct params_matmul params = {
        .w = w->addr,
        .x = x,
        .y = job->y,
        .n_in = w->n_in,
        .x_stride = w->n_in,
        .n_out = w->n_out,
        .n = n,
        .row_bytes = (uint32_t)w->row_bytes,
        .add = job->add,
    };
    const struct gpu_range y = gpu_floats(job->y, (uint64_t)n * w->n_out);
    struct gpu_dispatch d = {
        .label = "matmul",
        .flops = 2.0 * n * w->n_in * w->n_out,
        .groups = {0, gpu_div_up(n, tiling_choose(gpu, false).tokens)},
        .reads = {gpu_floats(x, (uint64_t)n * w->n_in), gpu_weight_range(w), job->add ? y : (struct gpu_range){0}},
        .writes = {y},
    };
    tiles_dispatch(gpu, w, &params, &d);
}

uint32_t gpu_grouped_tokens(const struct gpu *gpu)
{
    return tiling_choose(gpu, true).tokens;
}

void gpu_matmul_grouped(struct gpu *gpu, const struct gpu_grouped *g)
{
    const struct weight *w = g->w;
    const uint32_t x_stride = g->x_stride ? g->x_stride : w->n_in;
    const struct params_matmul params = {
        .w = w->addr,
        .x = g->x,
        .y = g->y,
        .tiles = g->tiles,
        .order = g->order,
        .mat_bytes = w->mat_bytes,
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
        .groups = {0, g->n_tiles},
        .reads = {gpu_floats(g->x, (uint64_t)g->rows / g->share * x_stride),
                  gpu_weight_range(w),
                  {g->tiles, 16ull * g->n_tiles},
                  {g->order, g->order ? 4ull * g->rows : 0}},
        .writes = {gpu_floats(g->y, (uint64_t)g->rows * w->n_out)},
    };
    tiles_dispatch(gpu, w, &params, &d);
}

void gpu_matmul(struct backend *b, uint64_t x, const struct matmul_job *jobs, uint32_t count, uint32_t n)
{
    struct gpu *gpu = gpu_of(b);
    for (uint32_t i = 0; i < count; i++) {
        if (n <= MATVEC_TOKENS)
            matvec(gpu, x, &jobs[i], n);
        else
            tiled(gpu, x, &jobs[i], n);
    }
}
