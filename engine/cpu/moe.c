/* SPDX-License-Identifier: MIT
 *
 * Mixture of experts. Slot i * K + j is the j-th choice of token i. Slots are sorted by expert, so that each expert's
 * matrices are decoded once a batch; a token's outputs are then added in the order of its choices, whatever the batch.
 */
#include "engine/cpu/cpu.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { MOST_GROUPS = 256 };

struct route_op {
    struct cpu_backend *cpu;
    const struct moe_route *p;
};

/* What a token chooses among. */
struct choice {
    const float *score, *bias; /* bias may be NULL */
    uint32_t n, per_group;
    const bool *barred; /* groups that are out, or NULL */
};

static float rank_of(const struct choice *c, uint32_t e)
{
    return c->bias ? c->score[e] + c->bias[e] : c->score[e];
}

/* NaN loses to everything but NaN. */
static bool is_better(float a, float b)
{
    return a > b || (b != b && a == a);
}

/* The best expert not yet among chosen[0, count). */
static uint32_t route_best(const struct choice *c, const uint32_t *chosen, uint32_t count)
{
    uint32_t best = UINT32_MAX;
    for (uint32_t e = 0; e < c->n; e++) {
        bool taken = c->barred && c->barred[e / c->per_group];
        for (uint32_t j = 0; j < count; j++) taken |= chosen[j] == e;
        if (taken) continue;
        if (best == UINT32_MAX || is_better(rank_of(c, e), rank_of(c, best))) best = e;
    }
    return best;
}

/* The ranks of a group's two best experts, added. */
static float group_rank(const struct choice *c, uint32_t group)
{
    float first = -INFINITY, second = -INFINITY;
    for (uint32_t e = group * c->per_group; e < (group + 1) * c->per_group; e++) {
        const float rank = rank_of(c, e);
        if (rank > first) {
            second = first;
            first = rank;
        } else if (rank > second) {
            second = rank;
        }
    }
    return first + second;
}

static void bar_groups(const struct choice *c, const struct moe_route *p, bool *barred)
{
    float rank[MOST_GROUPS];
    for (uint32_t g = 0; g < p->n_group; g++) {
        rank[g] = group_rank(c, g);
        barred[g] = true;
    }
    for (uint32_t k = 0; k < p->n_group_used; k++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t g = 0; g < p->n_group; g++)
            if (barred[g] && (best == UINT32_MAX || rank[g] > rank[best])) best = g;
        barred[best] = false;
    }
}

static void softmax(float *x, uint32_t n)
{
    float most = x[0], sum = 0;
    for (uint32_t i = 1; i < n; i++) most = x[i] > most ? x[i] : most;
    for (uint32_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - most);
        sum += x[i];
    }
    for (uint32_t i = 0; i < n; i++) x[i] /= sum;
}

static void route_range(void *ctx, uint32_t begin, uint32_t end, struct cpu_thread *thread)
{
    (void)thread;
    const struct route_op *op = ctx;
    const struct moe_route *p = op->p;
    bool barred[MOST_GROUPS];
    for (uint32_t t = begin; t < end; t++) {
        float *score = (float *)cpu_at(p->logits) + (size_t)t * p->n_expert;
        float *weight = (float *)cpu_at(p->weight) + (size_t)t * p->n_used, sum = 0;
        uint32_t *chosen = (uint32_t *)cpu_at(p->chosen) + (size_t)t * p->n_used;
        struct choice choice = {.score = score, .bias = cpu_at(p->bias), .n = p->n_expert};
        if (p->gating == MOE_SOFTMAX)
            softmax(score, p->n_expert);
        else
            op->cpu->kernels->sigmoid(score, p->n_expert);
        if (p->n_group > 1) {
            choice.per_group = p->n_expert / p->n_group;
            bar_groups(&choice, p, barred);
            choice.barred = barred;
        }
        for (uint32_t j = 0; j < p->n_used; j++) {
            chosen[j] = route_best(&choice, chosen, j);
            weight[j] = score[chosen[j]];
            sum += weight[j];
        }
        const float least = 6.103515625e-5f;
        const float scale = p->raw ? p->scale : p->scale / (sum > least ? sum : least);
        for (uint32_t j = 0; j < p->n_used; j++) weight[j] *= scale;
    }
}

void cpu_moe_route(struct backend *b, const struct moe_route *p)
{
    struct route_op op = {cpu_of(b), p};
    cpu_parallel(op.cpu, route_range, &op, p->n, 8);
}

/* Sorts slots by expert: place[slot] is where its rows lie, start[e] the first place of expert e. */
static void sort_slots(const uint32_t *chosen, uint32_t slots, uint32_t n_expert, uint32_t *start, uint32_t *place)
{
    memset(start, 0, (n_expert + 1) * sizeof *start);
    for (uint32_t i = 0; i < slots; i++) start[chosen[i] + 1]++;
    for (uint32_t e = 0; e < n_expert; e++) start[e + 1] += start[e];
    for (uint32_t i = 0; i < slots; i++) place[i] = start[chosen[i]]++;
    for (uint32_t e = n_expert; e > 0; e--) start[e] = start[e - 1];
    start[0] = 0;
}

/* Appends the product of every expert that has slots; inputs and y are in the order of places. */
static uint32_t expert_products(struct cpu_backend *cpu, const struct weight *w, float *y, struct product *out)
{
    uint32_t count = 0;
    for (uint32_t e = 0; e < w->n_mat; e++) {
        uint32_t first = cpu->expert_start[e], n = cpu->expert_start[e + 1] - first;
        if (!n) continue;
        out[count++] = (struct product){.w = w,
                                        .mat = e,
                                        .n = n,
                                        .x = cpu->inputs + first,
                                        .y = y + (size_t)first * w->n_out,
                                        .y_stride = w->n_out};
    }
    return count;
}

struct experts_op {
    struct cpu_backend *cpu;
    const struct moe_experts *p;
    uint32_t width; /* F */
};

static void glu_range(void *ctx, uint32_t begin, uint32_t end, struct cpu_thread *thread)
{
    (void)thread;
    const struct experts_op *op = ctx;
    struct cpu_backend *cpu = op->cpu;
    size_t f = op->width, gate = op->p->up ? f : 2 * f;
    for (uint32_t i = begin; i < end; i++) {
        float *g = cpu->hidden + i * gate, *u = op->p->up ? cpu->hidden_up + i * f : g + f;
        cpu->kernels->swiglu(g, u, g, f);
    }
}

static void combine_range(void *ctx, uint32_t begin, uint32_t end, struct cpu_thread *thread)
{
    (void)thread;
    const struct experts_op *op = ctx;
    const struct moe_experts *p = op->p;
    size_t width = p->down->n_out;
    const float *weight = cpu_at(p->weight);
    for (uint32_t i = begin * p->n_used; i < end * p->n_used; i++)
        op->cpu->kernels->add_scaled((float *)cpu_at(p->y) + i / p->n_used * width,
                                     op->cpu->expert_out + op->cpu->slot_place[i] * width, weight[i], width);
}

void cpu_moe_experts(struct backend *b, const struct moe_experts *p)
{
    struct cpu_backend *cpu = cpu_of(b);
    struct experts_op op = {cpu, p, p->down->n_in};
    uint32_t slots = p->n * p->n_used, *place = cpu->slot_place;
    sort_slots(cpu_at(p->chosen), slots, p->down->n_mat, cpu->expert_start, place);

    for (uint32_t i = 0; i < slots; i++)
        cpu->inputs[place[i]] = (const float *)cpu_at(p->x) + (size_t)(i / p->n_used) * p->gate->n_in;
    uint32_t count = expert_products(cpu, p->gate, cpu->hidden, cpu->products);
    if (p->up) count += expert_products(cpu, p->up, cpu->hidden_up, cpu->products + count);
    cpu_products(cpu, cpu->products, count);
    cpu_parallel(cpu, glu_range, &op, slots, 16);

    size_t stride = p->up ? op.width : 2 * (size_t)op.width;
    for (uint32_t i = 0; i < slots; i++) cpu->inputs[i] = cpu->hidden + i * stride;
    count = expert_products(cpu, p->down, cpu->expert_out, cpu->products);
    cpu_products(cpu, cpu->products, count);
    cpu_parallel(cpu, combine_range, &op, p->n, 8);
}
