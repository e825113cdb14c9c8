/* SPDX-License-Identifier: MIT
 *
 * y = W x for one or many tokens.
 */
#include "engine/gpu/gpu.h"

enum { RUN = 32, MATVEC_TOKENS = 8, MATVEC_ROWS = 4 };

static void matvec(struct gpu *gpu, uint64_t x, const struct matmul_job *job, uint32_t n)
{
    const struct weight *w = job->w;
    const struct params_matvec params = {
        .w = w->addr,
        .x = x,
        .y = job->y,
        .n_in = w->n_in,
        .n_out = w->n_out,
        .row_bytes = (uint32_t)w->row_bytes,
        .add = job->add,
    };
    const uint32_t subgroup = gpu->caps.subgroup, group = gpu->caps.is_software ? subgroup : 128;
    const struct gpu_range y = gpu_floats(job->y, (uint64_t)n * w->n_out);
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "matvec",
                          .shader = gpu_variant(SHADER_MATVEC_F32, w->format),
                          .spec = {group, subgroup, n, MATVEC_ROWS, w->n_in % RUN == 0 && x % 16 == 0},
                          .n_spec = 5,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(w->n_out, group / subgroup * MATVEC_ROWS)},
                          .reads = {gpu_floats(x, (uint64_t)n * w->n_in), gpu_weight_range(w),
                                    job->add ? y : (struct gpu_range){0}},
                          .writes = {y},
                      });
}

void gpu_matmul(struct backend *b, uint64_t x, const struct matmul_job *jobs, uint32_t count, uint32_t n)
{
    struct gpu *gpu = gpu_of(b);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t t = 0; t < n; t += MATVEC_TOKENS) {
            struct matmul_job part = jobs[i];
            part.y += (uint64_t)t * part.w->n_out * sizeof(float);
            matvec(gpu, x + (uint64_t)t * part.w->n_in * sizeof(float), &part,
                   n - t < MATVEC_TOKENS ? n - t : MATVEC_TOKENS);
        }
    }
}
