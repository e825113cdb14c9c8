/* SPDX-License-Identifier: MIT
 *
 * Matrix products, norms, embedding, SwiGLU. A product decodes a few rows of the matrix to f32 and multiplies them with
 * all tokens, so that a weight is decoded once a batch; a single token takes the same path with fewer rows at a time,
 * which is why its result is the same bit for bit.
 */
#include "engine/cpu/cpu.h"

#include <string.h>

/* ---------------------------------------------------------------------------------------------- parallel loops */

struct parallel {
    struct cpu_backend *cpu;
    cpu_range *range;
    void *ctx;
    uint32_t count, grain;
};

static void parallel_task(void *ctx, uint32_t task, uint32_t thread)
{
    struct parallel *p = ctx;
    uint32_t begin = task * p->grain, left = p->count - begin;
    p->range(p->ctx, begin, begin + (left < p->grain ? left : p->grain), &p->cpu->thread[thread]);
}

void cpu_parallel(struct cpu_backend *cpu, cpu_range *range, void *ctx, uint32_t count, uint32_t grain)
{
    if (!grain) grain = 1;
    struct parallel p = {cpu, range, ctx, count, grain};
    pool_run(cpu->pool, parallel_task, &p, count / grain + (count % grain != 0));
}

/* --------------------------------------------------------------------------------------------------- products */

struct product_list {
    struct cpu_backend *cpu;
    const struct product *items;
    uint32_t count;
};

static void product_rows(struct cpu_backend *cpu, const struct product *p, uint32_t first, uint32_t rows, float *panel)
{
    const struct weight *w = p->w;
    if (cpu_product_rows8(cpu, p, first, rows, panel)) return;
    const char *bytes = cpu_at(w->addr + p->mat * w->mat_bytes + first * w->row_bytes);
    struct dot_params dot = {
        .w_stride = w->n_in,
        .rows = rows,
        .x = p->x,
        .n = p->n,
        .width = w->n_in,
        .y = p->y + first,
        .y_stride = p->y_stride,
        .add = p->add,
    };
    if (w->format->type == QUANT_F32) {
        dot.w = (const float *)(const void *)bytes;
        dot.w_stride = w->row_bytes / sizeof(float);
    } else {
        for (uint32_t r = 0; r < rows; r++)
            cpu->kernels->decode(w->format, bytes + r * w->row_bytes, panel + (size_t)r * w->n_in, w->n_in);
        dot.w = panel;
    }
    cpu->kernels->dot(&dot);
}

/* The product a task belongs to: the last whose first task is not after it. */
static uint32_t product_of_task(const uint32_t *start, uint32_t count, uint32_t task)
{
    uint32_t low = 0, high = count - 1;
    while (low < high) {
        uint32_t middle = (low + high + 1) / 2;
        if (start[middle] <= task)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* A token's rows come from memory once, faster than they are asked for one by one: a third of the time. */
static void ask_ahead(const struct cpu_backend *cpu, const struct product *p, uint32_t first, uint32_t rows)
{
    const struct weight *w = p->w;
    if (first >= w->n_out) return;
    if (rows > w->n_out - first) rows = w->n_out - first;
    cpu->kernels->ahead(cpu_at(w->addr + p->mat * w->mat_bytes + first * w->row_bytes), rows * w->row_bytes);
}

static void product_task(void *ctx, uint32_t task, uint32_t thread)
{
    struct product_list *list = ctx;
    struct cpu_backend *cpu = list->cpu;
    uint32_t index = product_of_task(cpu->task_start, list->count, task);
    const struct product *p = &list->items[index];
    uint32_t row = (task - cpu->task_start[index]) * PANEL_ROWS;
    uint32_t end = p->w->n_out - row < PANEL_ROWS ? p->w->n_out : row + PANEL_ROWS;
    /* Few tokens: rows are used as soon as they are decoded. Many: each pass over the tokens serves a whole panel. */
    uint32_t step = p->n < 8 ? 4 : PANEL_ROWS;
    for (; row < end; row += step) {
        if (p->n < 8) ask_ahead(cpu, p, row + step, step);
        product_rows(cpu, p, row, end - row < step ? end - row : step, cpu->thread[thread].panel);
    }
}

void cpu_products(struct cpu_backend *cpu, const struct product *items, uint32_t count)
{
    struct product_list list = {cpu, items, count};
    uint32_t tasks = 0;
    for (uint32_t i = 0; i < count; i++) {
        cpu->task_start[i] = tasks;
        tasks += (items[i].w->n_out + PANEL_ROWS - 1) / PANEL_ROWS;
    }
    if (count && cpu->rounds) cpu_round_inputs(cpu, items, count);
    if (count) pool_run(cpu->pool, product_task, &list, tasks);
}

void cpu_matmul(struct backend *b, uint64_t x, const struct matmul_job *jobs, uint32_t count, uint32_t n)
{
    struct cpu_backend *cpu = cpu_of(b);
    uint32_t n_in = jobs[0].w->n_in;
    for (uint32_t t = 0; t < n; t++) cpu->inputs[t] = (const float *)cpu_at(x) + (size_t)t * n_in;
    for (uint32_t i = 0; i < count; i++)
        cpu->products[i] = (struct product){
            .w = jobs[i].w,
            .n = n,
            .x = cpu->inputs,
            .y = cpu_at(jobs[i].y),
            .y_stride = jobs[i].w->n_out,
            .add = jobs[i].add,
        };
    cpu_products(cpu, cpu->products, count);
}

/* ------------------------------------------------------------------------------------------------------- rows */

struct row_op {
    struct cpu_backend *cpu;
    const struct weight *table;
    const uint32_t *ids;
    const float *x, *gain;
    float *y;
    uint32_t width;
    float eps;
};

static void embed_range(void *ctx, uint32_t begin, uint32_t end, struct cpu_thread *thread)
{
    (void)thread;
    const struct row_op *op = ctx;
    for (uint32_t t = begin; t < end; t++)
        op->cpu->kernels->decode(op->table->format, cpu_at(op->table->addr + op->ids[t] * op->table->row_bytes),
                                 op->y + (size_t)t * op->width, op->width);
}

void cpu_embed(struct backend *b, const struct weight *table, uint64_t ids, uint64_t x, uint32_t n)
{
    struct row_op op = {.cpu = cpu_of(b), .table = table, .ids = cpu_at(ids), .y = cpu_at(x), .width = table->n_in};
    cpu_parallel(op.cpu, embed_range, &op, n, 16);
}

static void norm_range(void *ctx, uint32_t begin, uint32_t end, struct cpu_thread *thread)
{
    (void)thread;
    const struct row_op *op = ctx;
    for (uint32_t t = begin; t < end; t++) {
        size_t at = (size_t)t * op->width;
        op->cpu->kernels->rms_norm(op->x + at, op->gain, op->y + at, op->width, op->eps);
    }
}

void cpu_rms_norm(struct backend *b, uint64_t x, uint64_t gain, uint64_t y, uint32_t n, uint32_t width, float eps)
{
    struct row_op op = {
        .cpu = cpu_of(b), .x = cpu_at(x), .gain = cpu_at(gain), .y = cpu_at(y), .width = width, .eps = eps};
    cpu_parallel(op.cpu, norm_range, &op, n, 16);
}

void cpu_norm_matmul(struct backend *b, const struct norm_matmul *p)
{
    cpu_rms_norm(b, p->x, p->gain, p->a, p->n, p->jobs[0].w->n_in, p->eps);
    cpu_matmul(b, p->a, p->jobs, p->count, p->n);
}

struct swiglu_op {
    struct cpu_backend *cpu;
    const float *gate, *up;
    float *y;
    uint32_t width;
};

static void swiglu_range(void *ctx, uint32_t begin, uint32_t end, struct cpu_thread *thread)
{
    (void)thread;
    const struct swiglu_op *op = ctx;
    size_t at = (size_t)begin * op->width;
    op->cpu->kernels->swiglu(op->gate + at, op->up + at, op->y + at, (size_t)(end - begin) * op->width);
}

void cpu_swiglu(struct backend *b, uint64_t gate, uint64_t up, uint64_t y, uint32_t n, uint32_t width)
{
    struct swiglu_op op = {.cpu = cpu_of(b), .gate = cpu_at(gate), .up = cpu_at(up), .y = cpu_at(y), .width = width};
    cpu_parallel(op.cpu, swiglu_range, &op, n, 8);
}
