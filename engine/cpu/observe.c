/* SPDX-License-Identifier: MIT
 *
 * The observer (observe.h). Its table of operations begins with the backend's own, some of them replaced; b->ops points
 * to it, which is how a replaced one finds the observer.
 */
#include "engine/cpu/observe.h"

#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"

struct named_weight {
    uint64_t addr;
    char name[64];
};

struct observer {
    struct backend_ops ops; /* first */
    const struct backend_ops *plain;
    struct backend *backend;
    struct named_weight *weights; /* sorted by address */
    size_t n_weights;
    void (*observe)(void *ctx, const char *tensor, uint32_t mat, const float *x, uint32_t n, uint32_t width);
    void *ctx;
};

static const struct observer *observer_of(const struct backend *b)
{
    return (const struct observer *)b->ops;
}

static int compare_addresses(const void *a, const void *b)
{
    const struct named_weight *left = a, *right = b;
    return (left->addr > right->addr) - (left->addr < right->addr);
}

/* The name of a weight, or NULL. */
static const char *name_of(const struct observer *o, const struct weight *w)
{
    struct named_weight key = {.addr = w->addr};
    const struct named_weight *found = bsearch(&key, o->weights, o->n_weights, sizeof key, compare_addresses);
    return found ? found->name : NULL;
}

static void observe_jobs(const struct observer *o, uint64_t x, const struct matmul_job *jobs, uint32_t count,
                         uint32_t n)
{
    for (uint32_t i = 0; i < count; i++) {
        const char *name = name_of(o, jobs[i].w);
        if (name) o->observe(o->ctx, name, 0, cpu_at(x), n, jobs[i].w->n_in);
    }
}

static void observe_matmul(struct backend *b, uint64_t x, const struct matmul_job *jobs, uint32_t count, uint32_t n)
{
    const struct observer *o = observer_of(b);
    observe_jobs(o, x, jobs, count, n);
    o->plain->matmul(b, x, jobs, count, n);
}

static void observe_norm_matmul(struct backend *b, const struct norm_matmul *p)
{
    const struct observer *o = observer_of(b);
    o->plain->norm_matmul(b, p);
    observe_jobs(o, p->a, p->jobs, p->count, p->n);
}

/* Queries meet k_b, and latents v_b, only in the absorbed form. */
static void observe_attend(struct backend *b, const struct mla_attend *p)
{
    const struct observer *o = observer_of(b);
    const char *keys = name_of(o, p->k_b), *values = name_of(o, p->v_b);
    struct mla_attend absorbed = *p;
    absorbed.form = MLA_ABSORBED;
    for (uint32_t i = 0; keys && i < p->n * p->n_head; i++) {
        const float *q = (const float *)cpu_at(p->q) + (size_t)i * (p->nope + p->rope);
        o->observe(o->ctx, keys, i % p->n_head, q, 1, p->nope);
    }
    o->plain->mla_attend(b, &absorbed);
    for (uint32_t i = 0; values && i < p->n * p->n_head; i++)
        o->observe(o->ctx, values, i % p->n_head, cpu_of(b)->latent + (size_t)i * p->kv_lora, 1, p->kv_lora);
}

static void observe_experts(struct backend *b, const struct moe_experts *p)
{
    const struct observer *o = observer_of(b);
    const struct cpu_backend *cpu = cpu_of(b);
    const char *gate = name_of(o, p->gate), *up = p->up ? name_of(o, p->up) : NULL, *down = name_of(o, p->down);
    const uint32_t *chosen = cpu_at(p->chosen);
    size_t stride = p->up ? p->down->n_in : 2 * (size_t)p->down->n_in;
    o->plain->moe_experts(b, p);
    for (uint32_t i = 0; i < p->n * p->n_used; i++) {
        const float *x = (const float *)cpu_at(p->x) + (size_t)(i / p->n_used) * p->gate->n_in;
        const float *hidden = cpu->hidden + cpu->slot_place[i] * stride;
        if (gate) o->observe(o->ctx, gate, chosen[i], x, 1, p->gate->n_in);
        if (up) o->observe(o->ctx, up, chosen[i], x, 1, p->up->n_in);
        if (down) o->observe(o->ctx, down, chosen[i], hidden, 1, p->down->n_in);
    }
}

static void list_weights(struct observer *o, const struct gguf *file)
{
    for (size_t i = 0; i < gguf_tensor_count(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        struct named_weight *w = &o->weights[o->n_weights];
        if (t->name.len >= sizeof w->name) continue; /* no tensor of the architecture */
        w->addr = (uint64_t)(uintptr_t)t->data;
        memcpy(w->name, t->name.bytes, t->name.len);
        o->n_weights++;
    }
    qsort(o->weights, o->n_weights, sizeof *o->weights, compare_addresses);
}

int observer_install(struct observer **out, struct backend *b, const struct gguf *file,
                     const struct engine_params *params, struct error *error)
{
    struct observer *o = *out = calloc(1, sizeof *o);
    if (o) o->weights = calloc(gguf_tensor_count(file) + 1, sizeof *o->weights);
    if (!o || !o->weights) {
        free(o);
        *out = NULL;
        return error_set(error, ERROR_FAILED, "Out of memory for observing a model.");
    }
    list_weights(o, file);
    o->observe = params->observe;
    o->ctx = params->observe_ctx;
    o->backend = b;
    o->plain = b->ops;
    o->ops = *b->ops;
    o->ops.matmul = observe_matmul;
    o->ops.norm_matmul = observe_norm_matmul;
    o->ops.mla_attend = observe_attend;
    o->ops.moe_experts = observe_experts;
    o->ops.kda_block = NULL; /* in one, there are products that are not seen */
    o->ops.moe_block = NULL;
    b->ops = &o->ops;
    return 0;
}

void observer_remove(struct observer **observer)
{
    struct observer *o = *observer;
    if (!o) return;
    o->backend->ops = o->plain;
    free(o->weights);
    free(o);
    *observer = NULL;
}
