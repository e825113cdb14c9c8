/* SPDX-License-Identifier: MIT
 *
 * Routing and experts of every backend against double precision: few and many tokens, experts that nobody chose and one
 * that all chose, ties, fused gate and up, gate and up of different formats.
 */
#include "tests/op_weight.h"

#include <stdio.h>

/* ----------------------------------------------------------------------------------------------------- routing */

/* The best expert not yet taken; ties go to the lower index. */
static uint32_t best_of(const float *logits, const float *bias, const bool *taken, uint32_t n)
{
    uint32_t best = n;
    for (uint32_t e = 0; e < n; e++) {
        if (taken[e]) continue;
        if (best == n || 1 / (1 + exp(-(double)logits[e])) + (double)bias[e] >
                             1 / (1 + exp(-(double)logits[best])) + (double)bias[best])
            best = e;
    }
    return best;
}

static void route(struct check *c, uint32_t n, uint32_t n_expert, uint32_t n_used)
{
    struct check_buffer *logits = check_floats(c, (size_t)n * n_expert, 1), *bias = check_floats(c, n_expert, 0.1f);
    struct check_buffer *chosen = check_output(c, (size_t)n * n_used), *weight = check_output(c, (size_t)n * n_used);
    /* Equal experts in the last token: the lowest indexes win. */
    for (uint32_t e = 0; e < n_expert; e++) {
        logits->host[(size_t)(n - 1) * n_expert + e] = 0.25f;
        if (n == 1) bias->host[e] = 0;
    }
    check_changed(c, logits);
    check_changed(c, bias);
    check_begin(c);
    c->ops->moe_route(c->backend, &(struct moe_route){.n = n,
                                                      .n_expert = n_expert,
                                                      .n_used = n_used,
                                                      .logits = logits->addr,
                                                      .bias = bias->addr,
                                                      .chosen = chosen->addr,
                                                      .weight = weight->addr,
                                                      .scale = 2.446f});
    check_submit(c);
    check_read(c, chosen, "chosen");
    double *want = check_doubles(c, (size_t)n * n_used);
    bool taken[512];
    for (uint32_t t = 0; t < n; t++) {
        double sum = 0;
        memset(taken, 0, sizeof taken);
        for (uint32_t k = 0; k < n_used; k++) {
            const uint32_t e = best_of(logits->host + (size_t)t * n_expert, bias->host, taken, n_expert);
            uint32_t got;
            memcpy(&got, &chosen->result[(size_t)t * n_used + k], sizeof got);
            assert_int_equal(got, e);
            taken[e] = true;
            want[t * n_used + k] = 1 / (1 + exp(-(double)logits->host[(size_t)t * n_expert + e]));
            sum += want[t * n_used + k];
        }
        for (uint32_t k = 0; k < n_used; k++) want[t * n_used + k] *= (double)2.446f / sum;
    }
    check_nmse(c, weight, want, 1e-12, "expert weights");
    check_reset(c);
}

static void test_route(void **state)
{
    static const uint32_t sizes[][2] = {{2, 1}, {7, 3}, {8, 2}, {33, 8}, {64, 9}, {256, 8}, {300, 12}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        route(*state, 1, sizes[i][0], sizes[i][1]);
        route(*state, 2, sizes[i][0], sizes[i][1]);
        route(*state, 67, sizes[i][0], sizes[i][1]);
    }
}

/* ----------------------------------------------------------------------------------------------------- experts */

struct experts_case {
    const char *gate, *up, *down; /* formats; up NULL = fused */
    uint32_t n, n_embd, n_ff, n_expert, n_used;
    bool crowded; /* all tokens choose the same experts */
};

struct experts {
    struct check_weight gate, up, down;
    struct check_buffer *x, *chosen, *weight, *y, *spare;
    double *want;
};

/* Distinct experts for each token. */
static void choose(struct check *c, const struct experts_case *k, uint32_t *chosen)
{
    for (uint32_t t = 0; t < k->n; t++) {
        const uint32_t start = k->crowded ? 1 : (uint32_t)(check_uniform(c) * k->n_expert);
        const uint32_t step = k->crowded ? 1 : 1 + 2 * (uint32_t)(check_uniform(c) * (k->n_expert / k->n_used / 2));
        for (uint32_t j = 0; j < k->n_used; j++) chosen[t * k->n_used + j] = (start + j * step) % k->n_expert;
    }
}

static void expert_add(const struct experts_case *k, const struct experts *e, uint32_t slot)
{
    float *hidden = malloc(k->n_ff * sizeof *hidden);
    const uint32_t t = slot / k->n_used, n_ff = k->n_ff;
    uint32_t which;
    assert_non_null(hidden);
    memcpy(&which, &e->chosen->host[slot], sizeof which);
    for (uint32_t r = 0; r < n_ff; r++) {
        const float *x = e->x->host + (size_t)t * k->n_embd;
        const double g = check_dot(&e->gate, which, r, x);
        const double u = k->up ? check_dot(&e->up, which, r, x) : check_dot(&e->gate, which, n_ff + r, x);
        hidden[r] = (float)(g / (1 + exp(-g)) * u);
    }
    for (uint32_t r = 0; r < k->n_embd; r++)
        e->want[(size_t)t * k->n_embd + r] += (double)e->weight->host[slot] * check_dot(&e->down, which, r, hidden);
    free(hidden);
}

static void experts_run(struct check *c, const struct experts_case *k, struct experts *e)
{
    check_begin(c);
    c->ops->moe_experts(c->backend, &(struct moe_experts){.n = k->n,
                                                          .n_used = k->n_used,
                                                          .x = e->x->addr,
                                                          .chosen = e->chosen->addr,
                                                          .weight = e->weight->addr,
                                                          .gate = &e->gate.w,
                                                          .up = k->up ? &e->up.w : NULL,
                                                          .down = &e->down.w,
                                                          .y = e->y->addr,
                                                          .spare = e->spare->addr,
                                                          .spare_bytes = e->spare->count * sizeof(float)});
    check_submit(c);
}

static void experts(struct check *c, const struct experts_case *k)
{
    char what[128];
    struct experts e = {
        .gate = check_weight(c, k->gate, k->n_embd, k->up ? k->n_ff : 2 * k->n_ff, k->n_expert),
        .down = check_weight(c, k->down, k->n_ff, k->n_embd, k->n_expert),
        .x = check_floats(c, (size_t)k->n * k->n_embd, 0.1f),
        .chosen = check_output(c, (size_t)k->n * k->n_used),
        .weight = check_floats(c, (size_t)k->n * k->n_used, 1),
        .y = check_floats(c, (size_t)k->n * k->n_embd, 1),
        .spare = check_output(c, k->crowded ? k->n * k->n_used * (2 * k->n_ff + k->n_embd + 128ul) : 1),
        .want = check_doubles(c, (size_t)k->n * k->n_embd),
    };
    if (k->up) e.up = check_weight(c, k->up, k->n_embd, k->n_ff, k->n_expert);
    choose(c, k, (uint32_t *)(void *)e.chosen->host);
    check_changed(c, e.chosen);
    for (size_t i = 0; i < e.y->count; i++) e.want[i] = (double)e.y->host[i];
    for (uint32_t slot = 0; slot < k->n * k->n_used; slot++) expert_add(k, &e, slot);
    experts_run(c, k, &e);
    snprintf(what, sizeof what, "experts %s/%s/%s, n %u, %u of %u, %u x %u", k->gate, k->up ? k->up : "fused", k->down,
             k->n, k->n_used, k->n_expert, k->n_embd, k->n_ff);
    /* Of the sum of products of products: f32 rounding of the hidden layer is in it; on halves, that of gate, up, down
     * and what each meets. */
    const uint32_t tokens = k->up && strcmp(k->gate, k->up) ? UINT32_MAX : k->n; /* mixed formats: as many tokens */
    const bool halves = check_halves(c, k->gate, tokens) || check_halves(c, k->down, tokens);
    check_nmse(c, e.y, e.want, halves ? check_rounded(6) : 1e-10, what);
    check_read(c, e.spare, what); /* its guards */
    check_weight_free(c, &e.gate);
    check_weight_free(c, &e.down);
    if (k->up) check_weight_free(c, &e.up);
    check_reset(c);
}

static void test_experts(void **state)
{
    static const struct experts_case cases[] = {
        {"F32", "F32", "F32", 1, 33, 7, 5, 2, false},
        {"F32", "F32", "F32", 20, 33, 7, 5, 2, false},
        {"F32", NULL, "F32", 3, 33, 7, 5, 2, false},
        {"F32", NULL, "F32", 20, 33, 7, 5, 2, false},
        {"Q8_0", "Q8_0", "Q8_0", 1, 160, 96, 8, 2, false},
        {"Q8_0", "Q8_0", "Q8_0", 8, 160, 96, 8, 2, true},
        {"Q8_0", "Q8_0", "Q8_0", 9, 160, 96, 8, 2, true},
        {"Q8_0", NULL, "Q8_0", 100, 160, 96, 8, 3, false},
        {"Q4_K", "Q4_K", "Q6_K", 1, 256, 256, 64, 8, false},
        {"Q4_K", "Q4_K", "Q6_K", 70, 256, 256, 64, 8, false},
        {"Q4_K", "Q6_K", "Q4_K", 2, 512, 256, 8, 2, false},
        {"Q4_K", "Q4_K", "Q4_K", 130, 512, 256, 8, 2, true},
        {"Q5_0", "Q5_0", "F16", 5, 96, 65, 9, 3, false},
        {"BF16", "BF16", "BF16", 17, 65, 33, 3, 3, false},
        {"Q3_K", "Q3_K", "Q5_K", 3, 256, 256, 8, 2, false},
        {"Q2_K", "Q2_K", "Q3_K", 20, 256, 256, 8, 2, false},
        {"MXFP4", "MXFP4", "MXFP4", 3, 96, 64, 8, 2, false},
        {"MXFP4", "MXFP4", "Q5_1", 20, 96, 64, 8, 2, false},
        {"IQ4_XS", "IQ4_XS", "IQ4_NL", 3, 256, 256, 8, 2, false},
        {"Q5_K", "Q4_0", "Q4_1", 20, 256, 96, 8, 2, false},
        {"IQ2_XXS", "IQ2_XXS", "IQ2_S", 3, 256, 256, 8, 2, false},
        {"IQ2_XS", "IQ2_XS", "IQ3_XXS", 20, 256, 256, 8, 2, false},
        {"IQ3_S", "IQ3_S", "IQ3_S", 3, 256, 256, 8, 2, false},
        {"IQ1_S", "IQ1_S", "IQ1_M", 20, 256, 256, 8, 2, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (check_wanted(cases[i].gate) && check_wanted(cases[i].down)) experts(*state, &cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route),
        cmocka_unit_test(test_experts),
    };
    const struct shape most = {.n_embd = 512, .n_ff_exp = 256, .n_expert = 300, .n_used = 12, .eps = 1e-5f};
    return check_run(&(struct check_plan){"op_moe", tests, sizeof tests / sizeof *tests, &most, 130, true});
}
