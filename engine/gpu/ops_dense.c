/* SPDX-License-Identifier: MIT
 *
 * Embedding, norm, SwiGLU.
 */
#include "engine/gpu/gpu.h"

enum { RUN = 32 };

/* Invocations for work that has nothing to share: a few subgroups. */
static uint32_t group_plain(const struct gpu *gpu)
{
    return gpu->caps.is_software ? 64 : 256;
}

void gpu_embed(struct backend *b, const struct weight *table, uint64_t ids, uint64_t x, uint32_t n)
{
    struct gpu *gpu = gpu_of(b);
    const struct params_embed params = {
        .table = table->addr,
        .ids = ids,
        .x = x,
        .n_in = table->n_in,
        .row_bytes = (uint32_t)table->row_bytes,
        .n_vocab = table->n_out,
    };
    const uint32_t group = gpu->caps.subgroup;
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "embed",
                          .shader = gpu_variant(SHADER_EMBED_F32, table->format),
                          .spec = {group, gpu->caps.subgroup},
                          .n_spec = 2,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(gpu_div_up(table->n_in, RUN), group), n},
                          .reads = {{ids, 4ull * n}, gpu_weight_range(table)},
                          .writes = {gpu_floats(x, (uint64_t)n * table->n_in)},
                      });
}

void gpu_rms_norm(struct backend *b, uint64_t x, uint64_t gain, uint64_t y, uint32_t n, uint32_t width, float eps)
{
    struct gpu *gpu = gpu_of(b);
    const struct params_rms_norm params = {.x = x, .gain = gain, .y = y, .width = width, .eps = eps};
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "rms_norm",
                          .shader = SHADER_RMS_NORM,
                          .spec = {gpu->caps.is_software ? gpu->caps.subgroup : 256, gpu->caps.subgroup},
                          .n_spec = 2,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {n},
                          .reads = {gpu_floats(x, (uint64_t)n * width), gpu_floats(gain, width)},
                          .writes = {gpu_floats(y, (uint64_t)n * width)},
                      });
}

void gpu_swiglu_rows(struct gpu *gpu, const struct params_swiglu *params, uint32_t n)
{
    const uint32_t group = group_plain(gpu);
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "swiglu",
                          .shader = SHADER_SWIGLU,
                          .spec = {group, gpu->caps.subgroup},
                          .n_spec = 2,
                          .params = params,
                          .params_bytes = sizeof *params,
                          .groups = {gpu_div_up(params->width, group), n},
                          .reads = {gpu_floats(params->gate, (uint64_t)n * params->gate_stride),
                                    gpu_floats(params->up, (uint64_t)n * params->up_stride)},
                          .writes = {gpu_floats(params->y, (uint64_t)n * params->y_stride)},
                      });
}

void gpu_swiglu(struct backend *b, uint64_t gate, uint64_t up, uint64_t y, uint32_t n, uint32_t width)
{
    const struct params_swiglu params = {
        .gate = gate,
        .up = up,
        .y = y,
        .width = width,
        .gate_stride = width,
        .up_stride = width,
        .y_stride = width,
    };
    gpu_swiglu_rows(gpu_of(b), &params, n);
}
