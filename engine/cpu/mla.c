/* SPDX-License-Identifier: MIT
 *
 * Multi-head latent attention: storing rows and attending to them, absorbed or expanded.
 *
 * Keys are visited in blocks that begin at multiples of KEY_BLOCK, in order, with a running softmax. What a query
 * computes therefore depends on its position alone. AUTO is absorbed here, for any n, so that the result does not
 * depend on how a text was cut into batches.
 */
#include "engine/cpu/cpu.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static_assert(STATE_SEGMENT % KEY_BLOCK == 0, "a block of keys lies in one block of rows");

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static const struct quant_format *row_format(enum engine_dtype dtype)
{
    return quant_format(dtype == ENGINE_F32 ? QUANT_F32 : dtype == ENGINE_F16 ? QUANT_F16 : QUANT_Q8_0);
}

static char *row_at(const struct rows *rows, uint32_t layer, uint32_t token)
{
    const uint64_t *table = cpu_at(rows->table);
    size_t row = (size_t)layer * STATE_SEGMENT + token % STATE_SEGMENT;
    return (char *)cpu_at(table[token / STATE_SEGMENT]) + row * rows->row_bytes;
}

/* ------------------------------------------------------------------------------------------------------ store */

struct store_op {
    struct cpu_backend *cpu;
    const struct mla_store *p;
    const struct quant_format *format;
};

static void store_range(void *ctx, uint32_t begin, uint32_t end, struct cpu_thread *thread)
{
    const struct store_op *op = ctx;
    const struct mla_store *p = op->p;
    size_t width = p->kv_lora + p->rope;
    float *row = thread->keys;
    for (uint32_t t = begin; t < end; t++) {
        const float *c = (const float *)cpu_at(p->c) + t * width;
        op->cpu->kernels->rms_norm(c, cpu_at(p->gain), row, p->kv_lora, p->eps);
        memcpy(row + p->kv_lora, c + p->kv_lora, p->rope * sizeof *row);
        op->format->encode(row, NULL, row_at(p->rows, p->layer, p->first + t), width);
    }
}

void cpu_mla_store(struct backend *b, const struct mla_store *p)
{
    struct store_op op = {cpu_of(b), p, row_format(p->rows->dtype)};
    cpu_parallel(op.cpu, store_range, &op, p->n, 8);
}

/* --------------------------------------------------------------------------------------------------- absorbed */

struct attend_op {
    struct cpu_backend *cpu;
    const struct mla_attend *p;
    const struct quant_format *format;
    uint32_t row_width;   /* R + P */
    uint32_t group_heads; /* heads of one task */
    float scale;
};

/* Keys [start, start + count) as f32, in place where they are f32 already. */
static const float *load_keys(const struct attend_op *op, uint32_t start, uint32_t count, float *scratch)
{
    const struct rows *rows = op->p->rows;
    const char *bytes = row_at(rows, op->p->layer, start);
    if (rows->dtype == ENGINE_F32) return (const float *)(const void *)bytes;
    for (uint32_t i = 0; i < count; i++)
        op->cpu->kernels->decode(op->format, bytes + (size_t)i * rows->row_bytes, scratch + (size_t)i * op->row_width,
                                 op->row_width);
    return scratch;
}

/* One query token, some heads, one block of keys of which it sees the first `count`. */
static void attend_block(const struct attend_op *op, const float *keys, uint32_t count, uint32_t token, uint32_t head,
                         uint32_t heads, struct cpu_thread *thread, struct softmax *softmax)
{
    const struct kernels *k = op->cpu->kernels;
    const struct mla_attend *p = op->p;
    size_t first = (size_t)token * p->n_head + head;
    struct dot_params dot = {
        .w = keys,
        .w_stride = op->row_width,
        .rows = count,
        .x = op->cpu->inputs + first,
        .n = heads,
        .width = op->row_width,
        .y = thread->scores,
        .y_stride = KEY_BLOCK,
    };
    k->dot(&dot);
    for (uint32_t h = 0; h < heads; h++)
        thread->keep[h] = k->softmax(&softmax[h], thread->scores + (size_t)h * KEY_BLOCK, count, op->scale);
    struct mix_params mix = {
        .p = thread->scores,
        .p_stride = KEY_BLOCK,
        .v = keys,
        .v_stride = op->row_width,
        .heads = heads,
        .count = count,
        .width = p->kv_lora,
        .o = op->cpu->latent + first * p->kv_lora,
        .o_stride = p->kv_lora,
        .keep = thread->keep,
    };
    k->mix(&mix);
}

/* Divides each head's sum by its softmax denominator. */
static void finish_heads(float *o, size_t width, uint32_t heads, const struct softmax *softmax)
{
    for (uint32_t h = 0; h < heads; h++, o += width) {
        float scale = 1.0f / softmax[h].sum;
        for (size_t i = 0; i < width; i++) o[i] *= scale;
    }
}

/* Task: TOKEN_GROUP tokens, group_heads heads. */
static void absorbed_task(void *ctx, uint32_t task, uint32_t thread_index)
{
    const struct attend_op *op = ctx;
    const struct mla_attend *p = op->p;
    struct cpu_thread *thread = &op->cpu->thread[thread_index];
    uint32_t groups = (p->n_head + op->group_heads - 1) / op->group_heads;
    uint32_t token = task / groups * TOKEN_GROUP, tokens = least(TOKEN_GROUP, p->n - token);
    uint32_t head = task % groups * op->group_heads, heads = least(op->group_heads, p->n_head - head);

    for (uint32_t t = 0; t < tokens; t++) {
        float *o = op->cpu->latent + ((size_t)(token + t) * p->n_head + head) * p->kv_lora;
        memset(o, 0, (size_t)heads * p->kv_lora * sizeof *o);
        for (uint32_t h = 0; h < heads; h++) thread->softmax[t * heads + h] = (struct softmax){.max = -INFINITY};
    }
    uint32_t end = p->first + token + tokens; /* keys the last token of the group sees */
    for (uint32_t start = 0; start < end; start += KEY_BLOCK) {
        const float *keys = load_keys(op, start, least(KEY_BLOCK, end - start), thread->keys);
        for (uint32_t t = 0; t < tokens; t++) {
            uint32_t sees = p->first + token + t + 1;
            if (sees <= start) continue;
            attend_block(op, keys, least(KEY_BLOCK, sees - start), token + t, head, heads, thread,
                         &thread->softmax[t * heads]);
        }
    }
    for (uint32_t t = 0; t < tokens; t++)
        finish_heads(op->cpu->latent + ((size_t)(token + t) * p->n_head + head) * p->kv_lora, p->kv_lora, heads,
                     &thread->softmax[t * heads]);
}

/* For every head one matrix of w times n vectors: x + (token * H + head) * x_width -> y likewise. */
static void head_products(const struct attend_op *op, const struct weight *w, const float *x, size_t x_width, float *y,
                          size_t y_width)
{
    const struct mla_attend *p = op->p;
    struct cpu_backend *cpu = op->cpu;
    for (uint32_t h = 0; h < p->n_head; h++) {
        const float **inputs = cpu->inputs + (size_t)h * p->n;
        for (uint32_t t = 0; t < p->n; t++) inputs[t] = x + ((size_t)t * p->n_head + h) * x_width;
        cpu->products[h] = (struct product){
            .w = w, .mat = h, .n = p->n, .x = inputs, .y = y + h * y_width, .y_stride = p->n_head * y_width};
    }
    cpu_products(cpu, cpu->products, p->n_head);
}

static void attend_absorbed(struct attend_op *op)
{
    const struct mla_attend *p = op->p;
    struct cpu_backend *cpu = op->cpu;
    size_t queries = (size_t)p->n * p->n_head, key_width = p->nope + p->rope;
    const float *q = cpu_at(p->q);
    head_products(op, p->k_b, q, key_width, cpu->query, op->row_width);
    for (size_t i = 0; i < queries; i++) {
        memcpy(cpu->query + i * op->row_width + p->kv_lora, q + i * key_width + p->nope, p->rope * sizeof *q);
        cpu->inputs[i] = cpu->query + i * op->row_width;
    }
    uint32_t token_groups = (p->n + TOKEN_GROUP - 1) / TOKEN_GROUP;
    uint32_t threads = pool_threads(cpu->pool);
    op->group_heads = p->n_head;
    /* Few tokens: cut by heads too, in fours because the kernels take four at once. */
    if (token_groups < 4 * threads)
        op->group_heads = least(p->n_head, (p->n_head + threads * 4 - 1) / (threads * 4) * 4);
    uint32_t head_groups = (p->n_head + op->group_heads - 1) / op->group_heads;
    pool_run(cpu->pool, absorbed_task, op, token_groups * head_groups);
    head_products(op, p->v_b, cpu->latent, p->kv_lora, cpu_at(p->o), p->vdim);
}

/* --------------------------------------------------------------------------------------------------- expanded */

/* Keys and values of one head for a block of rows: K = [K_b^T c | k_pe], V = V_b c. */
static void expand_block(const struct attend_op *op, const float *rows, uint32_t count, struct cpu_thread *thread,
                         float *keys, float *values)
{
    const struct mla_attend *p = op->p;
    const struct kernels *k = op->cpu->kernels;
    size_t key_width = p->nope + p->rope;
    const float *latents[KEY_BLOCK];
    for (uint32_t s = 0; s < count; s++) {
        latents[s] = rows + (size_t)s * op->row_width;
        memset(keys + s * key_width, 0, p->nope * sizeof *keys);
        memcpy(keys + s * key_width + p->nope, latents[s] + p->kv_lora, p->rope * sizeof *keys);
        thread->keep[s] = 1;
    }
    struct mix_params mix = {
        .p = rows,
        .p_stride = op->row_width,
        .v = thread->key_matrix,
        .v_stride = p->nope,
        .heads = count,
        .count = p->kv_lora,
        .width = p->nope,
        .o = keys,
        .o_stride = key_width,
        .keep = thread->keep,
    };
    k->mix(&mix);
    struct dot_params dot = {
        .w = thread->value_matrix,
        .w_stride = p->kv_lora,
        .rows = p->vdim,
        .x = latents,
        .n = count,
        .width = p->kv_lora,
        .y = values,
        .y_stride = p->vdim,
    };
    k->dot(&dot);
}

/* Tokens [token, token + tokens) of one head, all of which see `count` keys of the block. */
static void expanded_block(const struct attend_op *op, const float *keys, const float *values, uint32_t count,
                           uint32_t head, uint32_t token, uint32_t tokens, struct cpu_thread *thread)
{
    const struct mla_attend *p = op->p;
    const struct kernels *k = op->cpu->kernels;
    size_t key_width = p->nope + p->rope, stride = (size_t)p->n_head;
    const float *queries[TOKEN_GROUP];
    for (uint32_t t = 0; t < tokens; t++)
        queries[t] = (const float *)cpu_at(p->q) + ((token + t) * stride + head) * key_width;
    struct dot_params dot = {
        .w = keys,
        .w_stride = key_width,
        .rows = count,
        .x = queries,
        .n = tokens,
        .width = key_width,
        .y = thread->scores,
        .y_stride = KEY_BLOCK,
    };
    k->dot(&dot);
    for (uint32_t t = 0; t < tokens; t++)
        thread->keep[t] =
            k->softmax(&thread->softmax[token + t], thread->scores + (size_t)t * KEY_BLOCK, count, op->scale);
    struct mix_params mix = {
        .p = thread->scores,
        .p_stride = KEY_BLOCK,
        .v = values,
        .v_stride = p->vdim,
        .heads = tokens,
        .count = count,
        .width = p->vdim,
        .o = (float *)cpu_at(p->o) + (token * stride + head) * p->vdim,
        .o_stride = stride * p->vdim,
        .keep = thread->keep,
    };
    k->mix(&mix);
}

static void decode_matrix(const struct attend_op *op, const struct weight *w, uint32_t mat, float *out)
{
    for (uint32_t r = 0; r < w->n_out; r++)
        op->cpu->kernels->decode(w->format, cpu_at(w->addr + mat * w->mat_bytes + r * w->row_bytes),
                                 out + (size_t)r * w->n_in, w->n_in);
}

/* Task: one head, all tokens, so that a key is expanded once. */
static void expanded_task(void *ctx, uint32_t head, uint32_t thread_index)
{
    const struct attend_op *op = ctx;
    const struct mla_attend *p = op->p;
    struct cpu_thread *thread = &op->cpu->thread[thread_index];
    float *keys = thread->expanded, *values = keys + (size_t)KEY_BLOCK * (p->nope + p->rope), *o = cpu_at(p->o);
    decode_matrix(op, p->k_b, head, thread->key_matrix);
    decode_matrix(op, p->v_b, head, thread->value_matrix);
    for (uint32_t t = 0; t < p->n; t++) {
        memset(o + ((size_t)t * p->n_head + head) * p->vdim, 0, p->vdim * sizeof *o);
        thread->softmax[t] = (struct softmax){.max = -INFINITY};
    }
    uint32_t end = p->first + p->n;
    for (uint32_t start = 0; start < end; start += KEY_BLOCK) {
        uint32_t count = least(KEY_BLOCK, end - start);
        expand_block(op, load_keys(op, start, count, thread->keys), count, thread, keys, values);
        uint32_t token = start > p->first ? start - p->first : 0; /* the first that sees anything of the block */
        while (token < p->n) {
            uint32_t sees = least(KEY_BLOCK, p->first + token + 1 - start);
            uint32_t tokens = sees == KEY_BLOCK ? least(TOKEN_GROUP, p->n - token) : 1;
            expanded_block(op, keys, values, sees, head, token, tokens, thread);
            token += tokens;
        }
    }
    for (uint32_t t = 0; t < p->n; t++)
        finish_heads(o + ((size_t)t * p->n_head + head) * p->vdim, p->vdim, 1, &thread->softmax[t]);
}

void cpu_mla_attend(struct backend *b, const struct mla_attend *p)
{
    struct attend_op op = {
        .cpu = cpu_of(b),
        .p = p,
        .format = row_format(p->rows->dtype),
        .row_width = p->kv_lora + p->rope,
        .scale = 1.0f / sqrtf((float)(p->nope + p->rope)),
    };
    if (p->form == MLA_EXPANDED)
        pool_run(op.cpu->pool, expanded_task, &op, p->n_head);
    else
        attend_absorbed(&op);
}
