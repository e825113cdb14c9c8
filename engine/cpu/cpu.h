/* SPDX-License-Identifier: MIT
 *
 * Inside the C twin. An operation runs when it is called; recording is the gpu's affair. cpu.c has the backend itself,
 * dense.c, kda.c, mla.c, rope.c and moe.c the operations, kernels.c their inner loops. A device address is a pointer.
 */
#ifndef LECTERN_ENGINE_CPU_CPU_H
#define LECTERN_ENGINE_CPU_CPU_H

#include "engine/cpu/kernels.h"
#include "engine/pool.h"
#include "engine/ops.h"

enum {
    PANEL_ROWS = 16, /* weight rows decoded at a time, and the rows of one task */
    KEY_BLOCK = 64,  /* MLA rows looked at together; divides STATE_SEGMENT */
    TOKEN_GROUP = 8, /* queries that share a decoded block of keys */
};

/* What one thread works in. */
struct cpu_thread {
    float *panel;            /* [PANEL_ROWS][widest input] */
    float *keys;             /* [KEY_BLOCK][R + P] decoded rows */
    float *scores;           /* [max(H, TOKEN_GROUP)][KEY_BLOCK] */
    struct softmax *softmax; /* [TOKEN_GROUP][H], or [batch] */
    float *keep;             /* [max(H, KEY_BLOCK, TOKEN_GROUP)] */
    float *key_matrix;       /* [R][N]: one head's K_b, expanded form */
    float *value_matrix;     /* [V][R] */
    float *expanded;         /* [KEY_BLOCK][N + P], then [KEY_BLOCK][V] */
};

/* One matrix of a weight times n tokens. */
struct product {
    const struct weight *w;
    uint32_t mat, n;
    const float *const *x; /* n pointers to [n_in] */
    float *y;              /* [n][n_out], y_stride floats from token to token */
    size_t y_stride;
    bool add;
};

struct cpu_backend {
    struct backend base;
    struct pool *pool;
    const struct kernels *kernels;
    struct cpu_thread *thread; /* [pool_threads] */
    void *arena;               /* everything below and what the threads point to */
    const float **inputs;      /* [batch * max(H, n_used)]; what products multiply with is of these */
    bool rounds;               /* activations are rounded to bytes where a format allows it */
    struct rounded *rounded;   /* of each of inputs */
    unsigned char *round_arena;
    struct product *products;  /* [max(8, H, 2 * n_expert)] */
    uint32_t *task_start;      /* one for each product, and one */
    float *decay;              /* [batch][H * D] */
    float *query;              /* [batch][H][R + P], absorbed */
    float *latent;             /* [batch][H][R] */
    float *hidden, *hidden_up; /* [batch * n_used][n_ff_exp], twice as wide where gate and up are fused */
    float *expert_out;         /* [batch * n_used][E] */
    uint32_t *slot_place;      /* where moe_experts keeps the rows of a slot */
    uint32_t *expert_start;    /* the first row of each expert */
};

static inline void *cpu_at(uint64_t addr)
{
    return (void *)(uintptr_t)addr;
}

static inline struct cpu_backend *cpu_of(struct backend *b)
{
    return (struct cpu_backend *)b;
}

/* Name, memory and note of this machine. */
void cpu_device(struct engine_device *out);

/* Scratch a backend of this shape takes, all threads. */
uint64_t cpu_scratch_bytes(const struct shape *, uint32_t batch, uint32_t threads);
int cpu_prepare(struct backend *, const struct shape *, uint32_t batch, struct error *);

/* Room for the rounded inputs of any products. */
size_t cpu_round_bytes(const struct shape *, uint32_t batch, size_t widest);
/* Rounds the inputs of products that will take them so; all are n_in of the first wide. */
void cpu_round_inputs(struct cpu_backend *, const struct product *, uint32_t count);
/* Rows [first, first + rows) of a product by rounded inputs; false: it is not to be done so. */
bool cpu_product_rows8(struct cpu_backend *, const struct product *, uint32_t first, uint32_t rows, void *panel);

/* All products, in parallel over their rows; their inputs are in cpu->inputs and equally wide. */
void cpu_products(struct cpu_backend *, const struct product *, uint32_t count);

/* Calls range(ctx, begin, end, thread) over [0, count) in pieces of `grain`, in parallel. */
typedef void cpu_range(void *ctx, uint32_t begin, uint32_t end, struct cpu_thread *thread);
void cpu_parallel(struct cpu_backend *, cpu_range *, void *ctx, uint32_t count, uint32_t grain);

void cpu_embed(struct backend *, const struct weight *table, uint64_t ids, uint64_t x, uint32_t n);
void cpu_rms_norm(struct backend *, uint64_t x, uint64_t gain, uint64_t y, uint32_t n, uint32_t width, float eps);
void cpu_norm_matmul(struct backend *, const struct norm_matmul *);
void cpu_matmul(struct backend *, uint64_t x, const struct matmul_job *, uint32_t count, uint32_t n);
void cpu_swiglu(struct backend *, uint64_t gate, uint64_t up, uint64_t y, uint32_t n, uint32_t width);
void cpu_kda_conv(struct backend *, const struct kda_conv *);
void cpu_kda_gate(struct backend *, const struct kda_gate *);
void cpu_kda_delta(struct backend *, const struct kda_delta *);
void cpu_kda_out(struct backend *, const struct kda_out *);
void cpu_rope(struct backend *, const struct rope *);
void cpu_mla_store(struct backend *, const struct mla_store *);
void cpu_mla_attend(struct backend *, const struct mla_attend *);
void cpu_moe_route(struct backend *, const struct moe_route *);
void cpu_moe_experts(struct backend *, const struct moe_experts *);

#endif
