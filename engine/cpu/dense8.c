/* SPDX-License-Identifier: MIT
 *
 * Matrix products with activations rounded to bytes, where that was asked for and the weights' format allows it; the
 * others stay with dense.c. Every input is rounded once, by itself, so that a token's result is the same in any batch.
 */
#include "engine/cpu/cpu.h"

enum { LINE = 64 };

/* One spread row of this width, or one input: a byte each or three, then two floats for each 16, all whole lines. */
static size_t span_bytes(size_t width, size_t each)
{
    size_t padded = DOT8_PADDED(width);
    return (padded * each + padded / 16 * 2 * sizeof(float) + LINE - 1) / LINE * LINE;
}

static size_t input_bytes(size_t width)
{
    return span_bytes(width, 3);
}

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t cpu_round_bytes(const struct shape *s, uint32_t batch, size_t widest)
{
    size_t n = batch, heads = s->n_mla ? n * s->n_head : 0;
    size_t bytes = most(n * input_bytes(widest), heads * input_bytes(most(s->nope, s->kv_lora)));
    return most(bytes, n * s->n_used * input_bytes(most(s->n_embd, s->n_ff_exp)));
}

void cpu_round_activations(struct backend *b)
{
    cpu_of(b)->rounds = true;
}

static struct rounded rounded_at(const struct cpu_backend *cpu, size_t input, size_t width)
{
    unsigned char *at = cpu->round_arena + input * input_bytes(width);
    const size_t padded = DOT8_PADDED(width);
    float *floats = (float *)(void *)(at + 3 * padded);
    int8_t *high = (int8_t *)(void *)at;
    return (struct rounded){
        .high = high, .middle = high + padded, .low = high + 2 * padded, .step = floats, .sum = floats + padded / 16};
}

struct round_op {
    struct cpu_backend *cpu;
    size_t width;
};

static void round_range(void *ctx, uint32_t begin, uint32_t end, struct cpu_thread *thread)
{
    (void)thread;
    const struct round_op *op = ctx;
    for (uint32_t i = begin; i < end; i++) {
        op->cpu->rounded[i] = rounded_at(op->cpu, i, op->width);
        op->cpu->kernels->round_input(op->cpu->inputs[i], op->width, &op->cpu->rounded[i]);
    }
}

static bool has_form(const struct cpu_backend *cpu, const struct weight *w)
{
    return cpu->kernels->spreads(w->format);
}

void cpu_round_inputs(struct cpu_backend *cpu, const struct product *items, uint32_t count)
{
    size_t inputs = 0;
    for (uint32_t i = 0; i < count; i++)
        if (has_form(cpu, items[i].w)) inputs = most(inputs, (size_t)(items[i].x - cpu->inputs) + items[i].n);
    struct round_op op = {cpu, items[0].w->n_in};
    if (inputs == 1)
        round_range(&op, 0, 1, NULL);
    else if (inputs)
        cpu_parallel(cpu, round_range, &op, (uint32_t)inputs, 4);
}

bool cpu_product_rows8(struct cpu_backend *cpu, const struct product *p, uint32_t first, uint32_t rows, void *panel)
{
    const struct weight *w = p->w;
    const char *bytes = cpu_at(w->addr + p->mat * w->mat_bytes + first * w->row_bytes);
    const size_t padded = DOT8_PADDED(w->n_in);
    struct spread spread[PANEL_ROWS];
    if (!cpu->rounds || !has_form(cpu, w)) return false;
    for (uint32_t r = 0; r < rows; r++) {
        unsigned char *at = (unsigned char *)panel + r * span_bytes(w->n_in, 1);
        float *floats = (float *)(void *)(at + padded);
        spread[r] = (struct spread){.level = at, .scale = floats, .low = floats + padded / 16};
        cpu->kernels->spread_row(w->format, bytes + r * w->row_bytes, w->n_in, &spread[r]);
    }
    cpu->kernels->dot8(&(struct dot8_params){.w = spread,
                                             .rows = rows,
                                             .x = cpu->rounded + (p->x - cpu->inputs),
                                             .n = p->n,
                                             .width = w->n_in,
                                             .y = p->y + first,
                                             .y_stride = p->y_stride,
                                             .add = p->add});
    return true;
}
