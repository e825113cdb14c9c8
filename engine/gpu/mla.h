/* SPDX-License-Identifier: MIT
 *
 * What the files of multi-head latent attention share: ops_mla.c chooses between the two forms of ops_mla_absorbed.c
 * and ops_mla_expanded.c.
 */
#ifndef LECTERN_ENGINE_GPU_MLA_H
#define LECTERN_ENGINE_GPU_MLA_H

#include "engine/gpu/gpu.h"
#include "shaders/params_mla.h"

/* Scratch memory (GPU_SCRATCH_MLA) that the form needs for op->n tokens. Of op the sizes are looked at; rows' type is
 * not known yet. */
uint64_t gpu_mla_absorbed_bytes(const struct gpu *, const struct mla_attend *op);
uint64_t gpu_mla_expanded_bytes(const struct gpu *, const struct mla_attend *op);

void gpu_mla_absorbed(struct gpu *, const struct mla_attend *);
void gpu_mla_expanded(struct gpu *, const struct mla_attend *);
/* Whether the expanded form runs on cooperative matrices. */
bool gpu_mla_expanded_is_coop(const struct gpu *, const struct mla_attend *);

/* Of a subgroup, those that work as a team. */
static inline uint32_t mla_lanes(const struct gpu *gpu)
{
    return gpu->caps.subgroup < 32 ? gpu->caps.subgroup : 32;
}

static inline uint32_t mla_least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint32_t mla_most(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* Lays ranges one after the other. */
struct mla_layout {
    uint64_t at;
};

static inline struct gpu_range mla_layout_bytes(struct mla_layout *l, uint64_t bytes)
{
    const struct gpu_range r = {l->at, bytes};
    l->at += (bytes + 255) / 256 * 256;
    return r;
}

static inline struct gpu_range mla_layout_floats(struct mla_layout *l, uint64_t count)
{
    return mla_layout_bytes(l, count * sizeof(float));
}

#endif
