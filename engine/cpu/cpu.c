/* SPDX-License-Identifier: MIT
 *
 * The C twin as a backend: memory is the process's own, weights stay in the mapped file, operations run when called.
 */
#include "engine/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

static void cpu_destroy(struct backend *b)
{
    struct cpu_backend *cpu = cpu_of(b);
    pool_destroy(&cpu->pool);
    free(cpu->arena);
    free(cpu->thread);
    free(cpu);
}

static int cpu_alloc(struct backend *b, size_t bytes, const char *label, uint64_t *addr, struct error *error)
{
    (void)b;
    *addr = 0;
    void *p = NULL;
    if (bytes <= SIZE_MAX - ALIGNMENT) p = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
    if (!p) return error_set(error, ERROR_FIT, "No memory for %s: %zu bytes.", label, bytes);
    *addr = (uint64_t)(uintptr_t)p;
    return 0;
}

static void cpu_release(struct backend *b, uint64_t addr)
{
    (void)b;
    free(cpu_at(addr));
}

static int cpu_weight_load(struct backend *b, const struct gguf_tensor *tensor, struct weight *out, struct error *error)
{
    (void)b;
    if (tensor->format->type == QUANT_F32 && (uintptr_t)tensor->data % sizeof(float))
        return error_set(error, ERROR_MODEL, "Tensor %.*s is not aligned to 4 bytes.", (int)tensor->name.len,
                         tensor->name.bytes);
    size_t row = quant_row_bytes(tensor->format, (size_t)tensor->ne[0]);
    *out = (struct weight){
        .format = tensor->format,
        .n_in = (uint32_t)tensor->ne[0],
        .n_out = (uint32_t)tensor->ne[1],
        .n_mat = (uint32_t)tensor->ne[2],
        .addr = (uint64_t)(uintptr_t)tensor->data,
        .row_bytes = row,
        .mat_bytes = row * tensor->ne[1],
    };
    return 0;
}

static int cpu_upload(struct backend *b, uint64_t dst, const void *src, size_t bytes, struct error *error)
{
    (void)b, (void)error;
    memcpy(cpu_at(dst), src, bytes);
    return 0;
}

static int cpu_download(struct backend *b, void *dst, uint64_t src, size_t bytes, struct error *error)
{
    (void)b, (void)error;
    memcpy(dst, cpu_at(src), bytes);
    return 0;
}

static int cpu_begin(struct backend *b, struct error *error)
{
    (void)b, (void)error;
    return 0;
}

static int cpu_submit(struct backend *b, struct error *error)
{
    (void)b, (void)error;
    return 0;
}

static void cpu_fill(struct backend *b, uint64_t dst, uint32_t word, size_t bytes)
{
    (void)b;
    uint32_t *p = cpu_at(dst);
    for (size_t i = 0; i < bytes / sizeof *p; i++) p[i] = word;
}

static void cpu_copy(struct backend *b, uint64_t dst, uint64_t src, size_t bytes)
{
    (void)b;
    memcpy(cpu_at(dst), cpu_at(src), bytes);
}

static void cpu_put(struct backend *b, uint64_t dst, const void *src, size_t bytes)
{
    (void)b;
    memcpy(cpu_at(dst), src, bytes);
}

static void cpu_fetch(struct backend *b, void *dst, uint64_t src, size_t bytes)
{
    (void)b;
    memcpy(dst, cpu_at(src), bytes);
}

static const struct backend_ops cpu_ops = {
    .destroy = cpu_destroy,
    .prepare = cpu_prepare,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .weight_load = cpu_weight_load,
    .upload = cpu_upload,
    .download = cpu_download,
    .begin = cpu_begin,
    .submit = cpu_submit,
    .fill = cpu_fill,
    .copy = cpu_copy,
    .put = cpu_put,
    .fetch = cpu_fetch,
    .embed = cpu_embed,
    .rms_norm = cpu_rms_norm,
    .matmul = cpu_matmul,
    .norm_matmul = cpu_norm_matmul,
    .swiglu = cpu_swiglu,
    .kda_conv = cpu_kda_conv,
    .kda_gate = cpu_kda_gate,
    .kda_delta = cpu_kda_delta,
    .kda_out = cpu_kda_out,
    .rope = cpu_rope,
    .mla_store = cpu_mla_store,
    .mla_attend = cpu_mla_attend,
    .moe_route = cpu_moe_route,
    .moe_experts = cpu_moe_experts,
};

int cpu_backend_open(struct backend **out, uint32_t threads, struct error *error)
{
    *out = NULL;
    struct cpu_backend *cpu = calloc(1, sizeof *cpu);
    if (!cpu) return error_set(error, ERROR_FAILED, "Out of memory for the cpu backend.");
    cpu->base.ops = &cpu_ops;
    cpu->kernels = cpu_kernels();
    struct engine_device device;
    cpu_device(&device);
    memcpy(cpu->base.name, device.name, sizeof device.name);
    memcpy(cpu->base.id, device.id, sizeof device.id);
    cpu->base.memory_free = device.memory_free;
    int rc = pool_create(&cpu->pool, threads, error);
    if (rc) {
        cpu_destroy(&cpu->base);
        return rc;
    }
    *out = &cpu->base;
    return 0;
}

/* ------------------------------------------------------------------------------------------------- scratch */

/* Pieces of one allocation, or just their sum while base is NULL. */
struct carver {
    char *base;
    size_t used;
};

static void *carve(struct carver *c, size_t count, size_t size)
{
    size_t at = c->used;
    c->used += (count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return c->base ? c->base + at : NULL;
}

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* The widest vector a matrix is multiplied with. */
static size_t widest_input(const struct shape *s)
{
    size_t heads = (size_t)s->n_head, width = s->n_embd;
    width = most(width, most(heads * s->kda_dim, heads * s->vdim));
    width = most(width, most(s->n_ff, most(s->n_ff_exp, s->n_ff_shared)));
    return most(width, most(most(s->kv_lora, s->q_lora), most(s->nope, s->kda_dim)));
}

static void carve_thread(struct carver *c, const struct shape *s, uint32_t batch, struct cpu_thread *t)
{
    size_t heads = s->n_head, key = s->nope + s->rope;
    *t = (struct cpu_thread){
        .panel = carve(c, PANEL_ROWS * widest_input(s), sizeof(float)),
        .keys = carve(c, (size_t)KEY_BLOCK * (s->kv_lora + s->rope), sizeof(float)),
        .scores = carve(c, most(heads, TOKEN_GROUP) * KEY_BLOCK, sizeof(float)),
        .softmax = carve(c, most(heads * TOKEN_GROUP, batch), sizeof(struct softmax)),
        .keep = carve(c, most(heads, most(KEY_BLOCK, TOKEN_GROUP)), sizeof(float)),
        .key_matrix = carve(c, (size_t)s->kv_lora * s->nope, sizeof(float)),
        .value_matrix = carve(c, (size_t)s->kv_lora * s->vdim, sizeof(float)),
        .expanded = carve(c, KEY_BLOCK * (key + s->vdim), sizeof(float)),
    };
}

static void carve_shared(struct carver *c, const struct shape *s, uint32_t batch, struct cpu_backend *cpu)
{
    size_t n = batch, heads = s->n_head, slots = n * s->n_used,
           products = most(8, most(heads, 2 * (size_t)s->n_expert));
    cpu->inputs = carve(c, n * most(heads, most(s->n_used, 1)), sizeof(float *));
    cpu->rounded = carve(c, n * most(heads, most(s->n_used, 1)), sizeof *cpu->rounded);
    cpu->round_arena = carve(c, cpu_round_bytes(s, batch, widest_input(s)), 1);
    cpu->products = carve(c, products, sizeof(struct product));
    cpu->task_start = carve(c, products + 1, sizeof(uint32_t));
    cpu->decay = carve(c, s->n_kda ? n * heads * s->kda_dim : 0, sizeof(float));
    cpu->query = carve(c, s->n_mla ? n * heads * (s->kv_lora + s->rope) : 0, sizeof(float));
    cpu->latent = carve(c, s->n_mla ? n * heads * s->kv_lora : 0, sizeof(float));
    cpu->hidden = carve(c, slots * 2 * s->n_ff_exp, sizeof(float));
    cpu->hidden_up = carve(c, slots * s->n_ff_exp, sizeof(float));
    cpu->expert_out = carve(c, slots * s->n_embd, sizeof(float));
    cpu->slot_place = carve(c, slots, sizeof(uint32_t));
    cpu->expert_start = carve(c, (size_t)s->n_expert + 1, sizeof(uint32_t));
}

uint64_t cpu_scratch_bytes(const struct shape *s, uint32_t batch, uint32_t threads)
{
    struct carver c = {0};
    struct cpu_backend none;
    struct cpu_thread thread;
    carve_thread(&c, s, batch, &thread);
    c.used *= threads;
    carve_shared(&c, s, batch, &none);
    return c.used;
}

int cpu_prepare(struct backend *b, const struct shape *s, uint32_t batch, struct error *error)
{
    struct cpu_backend *cpu = cpu_of(b);
    uint32_t threads = pool_threads(cpu->pool);
    struct carver c = {0};
    size_t bytes = (size_t)cpu_scratch_bytes(s, batch, threads);
    cpu->thread = calloc(threads, sizeof *cpu->thread);
    c.base = cpu->arena = aligned_alloc(ALIGNMENT, bytes);
    if (!cpu->thread || !cpu->arena)
        return error_set(error, ERROR_FIT, "No memory for the working space of a batch of %u tokens: %zu bytes.", batch,
                         bytes);
    for (uint32_t i = 0; i < threads; i++) carve_thread(&c, s, batch, &cpu->thread[i]);
    carve_shared(&c, s, batch, cpu);
    return 0;
}
