/* SPDX-License-Identifier: MIT
 *
 * Rotary positions: pairs of neighbouring channels turned by angles that came with the batch.
 */
#include "engine/cpu/cpu.h"

struct rope_op {
    struct cpu_backend *cpu;
    const struct rope *p;
};

static void turn(float *x, const float *turns, uint32_t width, float scale)
{
    for (uint32_t i = 0; i < width; i += 2) {
        const float a = x[i], b = x[i + 1];
        x[i] = (a * turns[i] - b * turns[i + 1]) * scale;
        x[i + 1] = (a * turns[i + 1] + b * turns[i]) * scale;
    }
}

static void rope_range(void *ctx, uint32_t begin, uint32_t end, struct cpu_thread *thread)
{
    (void)thread;
    const struct rope_op *op = ctx;
    const struct rope *p = op->p;
    const size_t key_width = p->nope + p->rope, row_width = p->kv_lora + p->rope;
    for (uint32_t t = begin; t < end; t++) {
        const float *turns = (const float *)cpu_at(p->turns) + (size_t)t * p->rope;
        float *q = (float *)cpu_at(p->q) + (size_t)t * p->n_head * key_width;
        for (uint32_t h = 0; h < p->n_head; h++, q += key_width) {
            for (uint32_t i = 0; p->scale != 1 && i < p->nope; i++) q[i] *= p->scale;
            turn(q + p->nope, turns, p->rope, p->scale);
        }
        turn((float *)cpu_at(p->c) + t * row_width + p->kv_lora, turns, p->rope, 1);
    }
}

void cpu_rope(struct backend *b, const struct rope *p)
{
    struct rope_op op = {cpu_of(b), p};
    cpu_parallel(op.cpu, rope_range, &op, p->n, 8);
}
