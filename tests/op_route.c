/* SPDX-License-Identifier: MIT
 *
 * Routing in all its forms against double precision: sigmoid and softmax, with and without bias, normalised and raw, in
 * groups, with ties.
 */
#include "tests/op_check.h"

#include <stdio.h>

enum { MOST_EXPERTS = 512 };

struct route_case {
    uint32_t n, n_expert, n_used, n_group, n_group_used;
    enum moe_gating gating;
    bool raw, biased;
};

/* Scores of a token, and ranks: with bias. */
static void score(const struct route_case *k, const float *logits, const float *bias, double *scores, double *ranks)
{
    double sum = 0;
    for (uint32_t e = 0; e < k->n_expert; e++) {
        const double x = exp((double)logits[e]);
        scores[e] = k->gating == MOE_SOFTMAX ? x : x / (1 + x);
        sum += x;
    }
    for (uint32_t e = 0; e < k->n_expert; e++) {
        if (k->gating == MOE_SOFTMAX) scores[e] /= sum;
        ranks[e] = scores[e] + (k->biased ? (double)bias[e] : 0);
    }
}

/* Where the largest is that is not barred; ties go to the lower index. */
static uint32_t largest(const double *x, const bool *barred, uint32_t n)
{
    uint32_t best = n;
    for (uint32_t i = 0; i < n; i++)
        if (!barred[i] && (best == n || x[i] > x[best])) best = i;
    return best;
}

/* Bars the experts outside the best groups. */
static void choose_groups(const struct route_case *k, const double *ranks, bool *barred)
{
    const uint32_t per = k->n_expert / k->n_group;
    double sums[MOST_EXPERTS];
    bool taken[MOST_EXPERTS] = {false};
    for (uint32_t g = 0; g < k->n_group; g++) {
        bool first[MOST_EXPERTS] = {false};
        const uint32_t a = largest(ranks + g * per, first, per);
        first[a] = true;
        sums[g] = ranks[g * per + a] + ranks[g * per + largest(ranks + g * per, first, per)];
    }
    for (uint32_t e = 0; e < k->n_expert; e++) barred[e] = true;
    for (uint32_t j = 0; j < k->n_group_used; j++) {
        const uint32_t g = largest(sums, taken, k->n_group);
        taken[g] = true;
        for (uint32_t e = 0; e < per; e++) barred[g * per + e] = false;
    }
}

static void expect(const struct route_case *k, const float *logits, const float *bias, const uint32_t *chosen,
                   double *weights)
{
    double scores[MOST_EXPERTS], ranks[MOST_EXPERTS], sum = 0;
    bool barred[MOST_EXPERTS] = {false};
    score(k, logits, bias, scores, ranks);
    if (k->n_group > 1) choose_groups(k, ranks, barred);
    for (uint32_t j = 0; j < k->n_used; j++) {
        const uint32_t e = largest(ranks, barred, k->n_expert);
        /* f32 may see a tie, or its opposite, where double does not. */
        if (chosen[j] != e && fabs(ranks[chosen[j]] - ranks[e]) > 1e-6) fail_msg("expert %u, not %u", chosen[j], e);
        assert_false(barred[chosen[j]]);
        barred[chosen[j]] = true;
        weights[j] = scores[chosen[j]];
        sum += weights[j];
    }
    for (uint32_t j = 0; j < k->n_used; j++) weights[j] *= k->raw ? 2.5 : 2.5 / sum;
}

static void route(struct check *c, const struct route_case *k)
{
    char what[128];
    struct check_buffer *logits = check_floats(c, (size_t)k->n * k->n_expert, 1);
    struct check_buffer *bias = check_floats(c, k->n_expert, 0.1f);
    struct check_buffer *chosen = check_output(c, (size_t)k->n * k->n_used);
    struct check_buffer *weight = check_output(c, (size_t)k->n * k->n_used);
    double *want = check_doubles(c, weight->count);
    /* Equal experts in the last token. */
    for (uint32_t e = 0; e < k->n_expert; e++) logits->host[(size_t)(k->n - 1) * k->n_expert + e] = 0.25f;
    check_changed(c, logits);
    check_begin(c);
    c->ops->moe_route(c->backend, &(struct moe_route){.n = k->n,
                                                      .n_expert = k->n_expert,
                                                      .n_used = k->n_used,
                                                      .logits = logits->addr,
                                                      .bias = k->biased ? bias->addr : 0,
                                                      .chosen = chosen->addr,
                                                      .weight = weight->addr,
                                                      .scale = 2.5f,
                                                      .gating = k->gating,
                                                      .raw = k->raw,
                                                      .n_group = k->n_group,
                                                      .n_group_used = k->n_group_used});
    check_submit(c);
    check_read(c, chosen, "chosen");
    for (uint32_t t = 0; t < k->n; t++) {
        uint32_t got[64];
        memcpy(got, &chosen->result[(size_t)t * k->n_used], k->n_used * sizeof *got);
        for (uint32_t j = 0; j < k->n_used; j++) assert_true(got[j] < k->n_expert);
        if (t == k->n - 1 && !k->biased)
            for (uint32_t j = 0; j < k->n_used; j++) assert_int_equal(got[j], j);
        expect(k, logits->host + (size_t)t * k->n_expert, bias->host, got, want + (size_t)t * k->n_used);
    }
    snprintf(what, sizeof what, "routing %u of %u experts, %u of %u groups, %s%s%s", k->n_used, k->n_expert,
             k->n_group_used, k->n_group, k->gating == MOE_SOFTMAX ? "softmax" : "sigmoid", k->raw ? ", raw" : "",
             k->biased ? ", bias" : "");
    check_nmse(c, weight, want, 1e-12, what);
    check_reset(c);
}

static void test_route(void **state)
{
    static const uint32_t sizes[][4] = {{2, 1, 1, 1},     {6, 2, 1, 1},     {64, 6, 1, 1},  {64, 6, 0, 0},
                                        {8, 3, 4, 2},     {160, 6, 8, 3},   {256, 8, 8, 4}, {66, 4, 33, 2},
                                        {320, 8, 160, 5}, {512, 8, 256, 7}, {12, 4, 2, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (unsigned form = 0; form < 8; form++) {
            struct route_case k = {3,
                                   sizes[i][0],
                                   sizes[i][1],
                                   sizes[i][2],
                                   sizes[i][3],
                                   form & 1 ? MOE_SOFTMAX : MOE_SIGMOID,
                                   (form & 2) != 0,
                                   (form & 4) != 0};
            route(*state, &k);
            k.n = 41;
            if (form == 3 || form == 4) route(*state, &k);
        }
}

/* Scores that are no numbers: whoever is chosen is an expert, each once, and of an open group. */
static void test_not_numbers(void **state)
{
    struct check *c = *state;
    for (unsigned form = 0; form < 8; form++) {
        const uint32_t n_expert = 16, n_used = 4, n_group = form & 4 ? 4 : 1;
        struct check_buffer *logits = check_floats(c, n_expert * 2, 1), *bias = check_floats(c, n_expert, 0.1f);
        struct check_buffer *chosen = check_output(c, n_used * 2), *weight = check_output(c, n_used * 2);
        for (uint32_t e = 0; e < n_expert; e++) logits->host[e] = NAN;
        for (uint32_t e = 0; e < n_expert; e += 3) logits->host[n_expert + e] = e % 2 ? NAN : -INFINITY;
        check_changed(c, logits);
        check_begin(c);
        c->ops->moe_route(c->backend, &(struct moe_route){.n = 2,
                                                          .n_expert = n_expert,
                                                          .n_used = n_used,
                                                          .logits = logits->addr,
                                                          .bias = form & 2 ? bias->addr : 0,
                                                          .chosen = chosen->addr,
                                                          .weight = weight->addr,
                                                          .scale = 1,
                                                          .gating = form & 1 ? MOE_SOFTMAX : MOE_SIGMOID,
                                                          .n_group = n_group,
                                                          .n_group_used = 2});
        check_submit(c);
        check_read(c, chosen, "chosen");
        for (uint32_t t = 0; t < 2; t++) {
            bool taken[16] = {false}, groups[4] = {false};
            for (uint32_t j = 0; j < n_used; j++) {
                uint32_t e;
                memcpy(&e, &chosen->result[t * n_used + j], sizeof e);
                assert_true(e < n_expert && !taken[e]);
                taken[e] = groups[e / 4] = true;
            }
            if (n_group > 1) assert_true(groups[0] + groups[1] + groups[2] + groups[3] <= 2);
        }
        check_reset(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_route), cmocka_unit_test(test_not_numbers)};
    const struct shape most = {.n_embd = 64, .n_ff_exp = 32, .n_expert = 512, .n_used = 8, .eps = 1e-5f};
    return check_main(tests, sizeof tests / sizeof *tests, "op_route", &most, 41);
}
