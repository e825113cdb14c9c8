/* SPDX-License-Identifier: MIT
 *
 * Multi-head latent attention on the GPU. Two forms of the same sum, docs/model.md:
 *
 *   absorbed  queries go into the latent space (K_b), attend to the rows as stored, and come out (V_b). No work per row
 *             but the attention itself: for few tokens. Rows are split among teams, then combined.
 *   expanded  keys and values of all heads are made from the rows, a range of rows at a time so that scratch memory
 *             does not grow with depth; attention over a head's 192 + 128 channels instead of 2 x 512: for many tokens.
 */
#include "engine/gpu/mla.h"

#include <assert.h>

static_assert(MLA_SEGMENT == STATE_SEGMENT, "kernels and states agree on blocks of rows");
static_assert(ENGINE_F32 == 0 && ENGINE_F16 == 1 && ENGINE_Q8_0 == 8, "mla_row.glsl knows these numbers");

enum {
    EXPANDED_LEAST = 4, /* tokens */
    COOP_LEAST = 32,    /* the same on cooperative matrices, which take MLA_FLASH_TOKENS at once */
};

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
    const uint64_t absorbed = gpu_mla_absorbed_bytes(gpu, &op), expanded = gpu_mla_expanded_bytes(gpu, &op);
    return gpu_scratch_reserve(gpu, GPU_SCRATCH_MLA, absorbed > expanded ? absorbed : expanded, error);
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
                          .groups = {gpu_div_up(op->n, 64 / mla_lanes(gpu))},
                          .reads = {gpu_floats(op->c, (uint64_t)op->n * (op->kv_lora + op->rope)),
                                    gpu_floats(op->gain, op->kv_lora)},
                          .writes = {GPU_ROWS},
                      });
}

/* ------------------------------------------------------------------------------------------------------- form */

/* By the multiplications of a head. */
static bool expanded_is_less(const struct gpu *gpu, const struct mla_attend *op)
{
    if (op->n < (gpu_mla_expanded_is_coop(gpu, op) ? COOP_LEAST : EXPANDED_LEAST)) return false;
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
        gpu_mla_expanded(gpu, op);
    else
        gpu_mla_absorbed(gpu, op);
}
