/* SPDX-License-Identifier: MIT
 *
 * y = W x: for a few tokens by rows (matvec.comp), for many by tiles (matmul.comp).
 */
#include "engine/gpu/gpu.h"

enum { RUN = 32, MATVEC_TOKENS = 8 };

/* The shape of a tile of matmul.comp. */
struct tiling {
    uint32_t group, rows, tokens; /* invocations; output rows of each; tokens */
};

static struct tiling tiling_choose(const struct gpu *gpu)
{
    if (gpu->caps.is_software) return (struct tiling){gpu->caps.subgroup, 8, 8};
    return (struct tiling){4 * gpu->caps.subgroup, 4, 8};
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
                      });
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
    const struct tiling tile = tiling_choose(gpu);
    const struct gpu_range y = gpu_floats(job->y, (uint64_t)n * w->n_out);
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "matmul",
                          .shader = gpu_variant(SHADER_MATMUL_F32, w->format),
                          .spec = {tile.group, gpu->caps.subgroup, gpu_is_whole(w, x), tile.rows, tile.tokens, false},
                          .n_spec = 6,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(w->n_out, tile.group * tile.rows), gpu_div_up(n, tile.tokens)},
                          .reads = {gpu_floats(x, (uint64_t)n * w->n_in), gpu_weight_range(w),
                                    job->add ? y : (struct gpu_range){0}},
                          .writes = {y},
                      });
}

uint32_t gpu_grouped_tokens(const struct gpu *gpu)
{
    return tiling_choose(gpu).tokens;
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
    const struct tiling tile = tiling_choose(gpu);
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "matmul grouped",
                          .shader = gpu_variant(SHADER_MATMUL_F32, w->format),
                          .spec = {tile.group, gpu->caps.subgroup, gpu_is_whole(w, g->x), tile.rows, tile.tokens, true},
                          .n_spec = 6,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(w->n_out, tile.group * tile.rows), g->n_tiles},
                          .reads = {gpu_floats(g->x, (uint64_t)g->rows / g->share * x_stride),
                                    gpu_weight_range(w),
                                    {g->tiles, 16ull * g->n_tiles},
                                    {g->order, g->order ? 4ull * g->rows : 0}},
                          .writes = {gpu_floats(g->y, (uint64_t)g->rows * w->n_out)},
                      });
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
