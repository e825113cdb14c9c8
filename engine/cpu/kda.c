/* SPDX-License-Identifier: MIT
 *
 * Kimi Delta Attention, token by token: the recurrence itself, for one token and for many, so that a batch gives what
 * its tokens would have given one at a time. Parallel over heads and value columns.
 */
#include "engine/cpu/cpu.h"

#include <math.h>

struct conv_op {
    struct cpu_backend *cpu;
    const struct kda_conv *p;
};

/* Item i is head i % H of stream i / H. */
static void conv_range(void *ctx, uint32_t begin, uint32_t end, struct cpu_thread *thread)
{
    (void)thread;
    const struct conv_op *op = ctx;
    const struct kda_conv *p = op->p;
    size_t inner = (size_t)p->n_head * p->dim;
    for (uint32_t i = begin; i < end; i++) {
        uint32_t stream = i / p->n_head;
        size_t channel = (size_t)(i % p->n_head) * p->dim;
        struct conv_params conv = {
            .n = p->n,
            .dim = p->dim,
            .x = (const float *)cpu_at(p->x[stream]) + channel,
            .y = (float *)cpu_at(p->y[stream]) + channel,
            .stride = inner,
            .kernel = (const float *)cpu_at(p->kernel[stream]) + channel * 4,
            .history = (float *)cpu_at(p->history) + (stream * inner + channel) * 3,
            .normalise = stream < 2,
            .scale = stream == 0 ? 1.0f / sqrtf((float)p->dim) : 1.0f,
        };
        op->cpu->kernels->conv(&conv);
    }
}

void cpu_kda_conv(struct backend *b, const struct kda_conv *p)
{
    struct conv_op op = {cpu_of(b), p};
    cpu_parallel(op.cpu, conv_range, &op, 3 * p->n_head, 1);
}

struct gate_op {
    struct cpu_backend *cpu;
    const struct kda_gate *p;
};

/* Item i is head i % H of token i / H. */
static void gate_range(void *ctx, uint32_t begin, uint32_t end, struct cpu_thread *thread)
{
    (void)thread;
    const struct gate_op *op = ctx;
    const struct kda_gate *p = op->p;
    const float *dt = cpu_at(p->dt), *a = cpu_at(p->a);
    for (uint32_t i = begin; i < end; i++) {
        uint32_t head = i % p->n_head;
        op->cpu->kernels->gate((float *)cpu_at(p->f) + (size_t)i * p->dim, dt + (size_t)head * p->dim, a[head], p->dim);
    }
    op->cpu->kernels->sigmoid((float *)cpu_at(p->beta) + begin, end - begin);
}

void cpu_kda_gate(struct backend *b, const struct kda_gate *p)
{
    struct gate_op op = {cpu_of(b), p};
    cpu_parallel(op.cpu, gate_range, &op, p->n * p->n_head, 2);
}

struct delta_op {
    struct cpu_backend *cpu;
    const struct kda_delta *p;
};

static void decay_range(void *ctx, uint32_t begin, uint32_t end, struct cpu_thread *thread)
{
    (void)thread;
    const struct delta_op *op = ctx;
    size_t at = (size_t)begin * op->p->dim;
    op->cpu->kernels->exponent((const float *)cpu_at(op->p->g) + at, op->cpu->decay + at,
                               (size_t)(end - begin) * op->p->dim);
}

static uint32_t strips_of(uint32_t dim)
{
    return (dim + DELTA_COLUMNS - 1) / DELTA_COLUMNS;
}

/* Item i is one strip of DELTA_COLUMNS value columns of one head, the last of a head perhaps narrower. */
static void delta_range(void *ctx, uint32_t begin, uint32_t end, struct cpu_thread *thread)
{
    (void)thread;
    const struct delta_op *op = ctx;
    const struct kda_delta *p = op->p;
    uint32_t strips = strips_of(p->dim);
    for (uint32_t i = begin; i < end; i++) {
        uint32_t head = i / strips, column = i % strips * DELTA_COLUMNS;
        size_t at = (size_t)head * p->dim;
        struct delta_params delta = {
            .n = p->n,
            .dim = p->dim,
            .q = (const float *)cpu_at(p->q) + at,
            .k = (const float *)cpu_at(p->k) + at,
            .v = (const float *)cpu_at(p->v) + at,
            .decay = op->cpu->decay + at,
            .stride = (size_t)p->n_head * p->dim,
            .beta = (const float *)cpu_at(p->beta) + head,
            .beta_stride = p->n_head,
            .state = (float *)cpu_at(p->state) + at * p->dim,
            .o = (float *)cpu_at(p->o) + at,
            .column = column,
            .columns = p->dim - column < DELTA_COLUMNS ? p->dim - column : DELTA_COLUMNS,
        };
        op->cpu->kernels->delta(&delta);
    }
}

void cpu_kda_delta(struct backend *b, const struct kda_delta *p)
{
    struct delta_op op = {cpu_of(b), p};
    cpu_parallel(op.cpu, decay_range, &op, p->n * p->n_head, 16);
    cpu_parallel(op.cpu, delta_range, &op, p->n_head * strips_of(p->dim), 1);
}

struct out_op {
    struct cpu_backend *cpu;
    const struct kda_out *p;
};

static void out_range(void *ctx, uint32_t begin, uint32_t end, struct cpu_thread *thread)
{
    (void)thread;
    const struct out_op *op = ctx;
    const struct kda_out *p = op->p;
    for (uint32_t i = begin; i < end; i++) {
        size_t at = (size_t)i * p->dim;
        op->cpu->kernels->gated_norm((float *)cpu_at(p->o) + at, cpu_at(p->gain), (const float *)cpu_at(p->z) + at,
                                     p->dim, p->eps);
    }
}

void cpu_kda_out(struct backend *b, const struct kda_out *p)
{
    struct out_op op = {cpu_of(b), p};
    cpu_parallel(op.cpu, out_range, &op, p->n * p->n_head, 8);
}
