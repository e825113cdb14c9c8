/* SPDX-License-Identifier: MIT
 *
 * The sampler: what each filter keeps, how often each token is drawn, odd logits, and which parameters are refused.
 *
 * test_sample bench: prints the time of a draw from 163,840 logits.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/engine.h"

enum { DRAWS = 100000, FEW = 8, KIMI_VOCAB = 163840 };

static const float probability[FEW] = {0.05f, 0.30f, 0.02f, 0.25f, 0.08f, 0.20f, 0.01f, 0.09f};

static struct sampler *create(struct sample_params params, uint32_t n)
{
    struct sampler *s = NULL;
    struct error error = {0};
    if (sampler_create(&s, &params, n, &error)) fail_msg("%s", error.text);
    return s;
}

/* Draws from the table above under the parameters and holds the counts against `expected`, which needs not sum to 1.
 * Chi-square with up to 7 degrees of freedom; 24.3 is passed by chance once in a thousand, and the seed is fixed. */
static void check_distribution(struct sample_params params, const double *expected)
{
    float logits[FEW];
    double count[FEW] = {0}, sum = 0, chi = 0;
    for (int i = 0; i < FEW; i++) logits[i] = logf(probability[i]) + 3.0f;
    for (int i = 0; i < FEW; i++) sum += expected[i];
    struct sampler *s = create(params, FEW);
    for (int i = 0; i < DRAWS; i++) count[sampler_next(s, logits)]++;
    for (int i = 0; i < FEW; i++) {
        double mean = DRAWS * expected[i] / sum;
        if (expected[i] == 0) assert_true(count[i] == 0);
        if (expected[i] > 0) chi += (count[i] - mean) * (count[i] - mean) / mean;
    }
    assert_true(chi < 24.3);
    sampler_destroy(&s);
    assert_null(s);
}

static void plain_temperature(void **state)
{
    (void)state;
    double expected[FEW];
    for (int i = 0; i < FEW; i++) expected[i] = (double)probability[i];
    check_distribution((struct sample_params){.temperature = 1, .top_p = 1, .seed = 1}, expected);
    for (int i = 0; i < FEW; i++) expected[i] = pow((double)probability[i], 1 / 0.7);
    check_distribution((struct sample_params){.temperature = 0.7f, .top_p = 1, .seed = 2}, expected);
    for (int i = 0; i < FEW; i++) expected[i] = sqrt((double)probability[i]);
    check_distribution((struct sample_params){.temperature = 2, .top_p = 1, .seed = 3}, expected);
}

static void filters(void **state)
{
    (void)state;
    const double three[FEW] = {0, 0.30, 0, 0.25, 0, 0.20, 0, 0}, two[FEW] = {0, 0.30, 0, 0.25, 0, 0, 0, 0};
    const double five[FEW] = {0, 0.30, 0, 0.25, 0.08, 0.20, 0, 0.09};
    check_distribution((struct sample_params){.temperature = 1, .top_k = 3, .top_p = 1, .seed = 4}, three);
    check_distribution((struct sample_params){.temperature = 1, .top_p = 0.74f, .seed = 5}, three);
    check_distribution((struct sample_params){.temperature = 1, .top_p = 0.76f, .seed = 6},
                       (const double[]){0, 0.30, 0, 0.25, 0, 0.20, 0, 0.09});
    check_distribution((struct sample_params){.temperature = 1, .min_p = 0.5f, .top_p = 1, .seed = 7}, three);
    check_distribution((struct sample_params){.temperature = 1, .min_p = 0.26f, .top_p = 1, .seed = 8}, five);
    /* top_p is of what top_k left: 0.30 and 0.25 hold 73 % of the three */
    check_distribution((struct sample_params){.temperature = 1, .top_k = 3, .top_p = 0.72f, .seed = 9}, two);
    /* and of what min_p left */
    check_distribution((struct sample_params){.temperature = 1, .min_p = 0.5f, .top_p = 0.72f, .seed = 10}, two);
    check_distribution((struct sample_params){.temperature = 1, .top_k = 100, .top_p = 0.74f, .seed = 11}, three);
    /* min_p is of the probabilities at this temperature: (0.2 / 0.3)^2 = 0.44 */
    check_distribution((struct sample_params){.temperature = 0.5f, .min_p = 0.45f, .top_p = 1, .seed = 12},
                       (const double[]){0, 0.09, 0, 0.0625, 0, 0, 0, 0});
}

static void only_the_best(void **state)
{
    (void)state;
    const float logits[] = {1, 5, -2, 5, 4};
    const struct sample_params params[] = {
        {.temperature = 0, .top_p = 1},
        {.temperature = 1, .top_k = 1, .top_p = 1},
        {.temperature = 1, .top_p = 1e-6f},
        {.temperature = 0, .top_k = 3, .top_p = 0.5f, .min_p = 0.1f},
    };
    for (size_t i = 0; i < sizeof params / sizeof *params; i++) {
        struct sampler *s = create(params[i], 5);
        for (int j = 0; j < 100; j++) assert_int_equal(sampler_next(s, logits), 1); /* of equals the first */
        sampler_destroy(&s);
    }
}

static void odd_logits(void **state)
{
    (void)state;
    const struct {
        float logits[4];
        uint32_t best;
    } odd[] = {
        {{NAN, NAN, NAN, NAN}, 0},
        {{NAN, -9, NAN, NAN}, 1},
        {{NAN, -INFINITY, NAN, -INFINITY}, 1},
        {{0, INFINITY, NAN, INFINITY}, 1},
        {{-INFINITY, NAN, 3, -INFINITY}, 2},
        {{-3e38f, NAN, -3e38f, 3e38f}, 3},
        {{-INFINITY, -INFINITY, -INFINITY, -INFINITY}, 0},
    };
    const struct sample_params params[] = {
        {.temperature = 0, .top_p = 1},
        {.temperature = 1, .top_p = 1},
        {.temperature = 1, .top_p = 0.9f},
        {.temperature = 1e-40f, .top_k = 2, .top_p = 0.9f, .min_p = 0.1f},
        {.temperature = 1, .top_k = 3, .top_p = 1},
    };
    for (size_t p = 0; p < sizeof params / sizeof *params; p++) {
        struct sampler *s = create(params[p], 4);
        for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
            for (int j = 0; j < 50; j++) assert_int_equal(sampler_next(s, odd[i].logits), odd[i].best);
        }
        sampler_destroy(&s);
    }
}

/* The filters on a full vocabulary against the same choice made by sorting everything. */
static int by_logit(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

static void fill_logits(float *logits, uint32_t n)
{
    uint64_t seed = 11;
    for (uint32_t i = 0; i < n; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        double u = ((double)(seed >> 11) + 0.5) * 0x1p-53;
        logits[i] = (float)(-0.9 * log(-log(u))); /* Gumbel: a long upper tail, as logits have */
    }
}

static void large_vocabulary(void **state)
{
    (void)state;
    enum { N = 20000 };
    float *logits = malloc(N * sizeof *logits), *sorted = malloc(N * sizeof *sorted);
    assert_true(logits && sorted);
    fill_logits(logits, N);
    memcpy(sorted, logits, N * sizeof *logits);
    qsort(sorted, N, sizeof *sorted, by_logit);
    double total = 0, mass = 0;
    for (int i = 0; i < N; i++) total += exp((double)sorted[i]);
    int nucleus = 0;
    while (mass < 0.8 * total) mass += exp((double)sorted[nucleus++]);
    assert_true(nucleus > 50 && nucleus < N);
    struct sampler *p = create((struct sample_params){.temperature = 1, .top_p = 0.8f, .seed = 1}, N);
    struct sampler *k = create((struct sample_params){.temperature = 1, .top_k = 40, .top_p = 1, .seed = 2}, N);
    float lowest_p = sorted[0], lowest_k = sorted[0];
    for (int i = 0; i < 3000; i++) {
        lowest_p = fminf(lowest_p, logits[sampler_next(p, logits)]);
        lowest_k = fminf(lowest_k, logits[sampler_next(k, logits)]);
    }
    assert_true(lowest_p >= sorted[nucleus - 1]);
    assert_true(lowest_p < sorted[nucleus / 2]); /* the lower half is drawn too */
    assert_true(lowest_k == sorted[39]);
    sampler_destroy(&p);
    sampler_destroy(&k);
    free(logits);
    free(sorted);
}

static void seeds(void **state)
{
    (void)state;
    float logits[100] = {0};
    struct sampler *a = create((struct sample_params){.temperature = 1, .top_p = 1, .seed = 42}, 100);
    struct sampler *b = create((struct sample_params){.temperature = 1, .top_p = 1, .seed = 42}, 100);
    struct sampler *c = create((struct sample_params){.temperature = 1, .top_p = 1, .seed = 43}, 100);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        uint32_t id = sampler_next(a, logits);
        assert_int_equal(id, sampler_next(b, logits));
        same += id == sampler_next(c, logits);
    }
    assert_true(same < 50);
    sampler_destroy(&a);
    sampler_destroy(&b);
    sampler_destroy(&c);
}

static void refused_parameters(void **state)
{
    (void)state;
    const struct sample_params bad[] = {
        {.temperature = -0.1f, .top_p = 1},
        {.temperature = NAN, .top_p = 1},
        {.temperature = INFINITY, .top_p = 1},
        {.temperature = 1, .top_p = 0},
        {.temperature = 1, .top_p = 1.01f},
        {.temperature = 1, .top_p = NAN},
        {.temperature = 1, .top_p = -1},
        {.temperature = 1, .top_p = 1, .min_p = -0.1f},
        {.temperature = 1, .top_p = 1, .min_p = 1.1f},
        {.temperature = 1, .top_p = 1, .min_p = NAN},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sampler *s = NULL;
        struct error error = {0};
        assert_int_equal(sampler_create(&s, &bad[i], 10, &error), ERROR_USAGE);
        assert_int_equal(error.code, ERROR_USAGE);
        assert_null(s);
    }
    struct sampler *s = NULL;
    assert_int_equal(sampler_create(&s, &(struct sample_params){.top_p = 1}, 0, NULL), ERROR_USAGE);
    sampler_destroy(&s);
}

static int run_bench(void)
{
    static float logits[KIMI_VOCAB];
    const struct sample_params params[] = {
        {.temperature = 0, .top_p = 1},
        {.temperature = 1, .top_p = 1},
        {.temperature = 1, .top_k = 40, .top_p = 1},
        {.temperature = 0.6f, .top_p = 0.95f},
        {.temperature = 0.6f, .top_p = 0.95f, .min_p = 0.05f},
    };
    fill_logits(logits, KIMI_VOCAB);
    for (size_t i = 0; i < sizeof params / sizeof *params; i++) {
        struct sampler *s = create(params[i], KIMI_VOCAB);
        clock_t start = clock();
        for (int j = 0; j < 200; j++) sampler_next(s, logits);
        printf("temperature %.1f top_k %u top_p %.2f min_p %.2f: %.0f us\n", (double)params[i].temperature,
               params[i].top_k, (double)params[i].top_p, (double)params[i].min_p,
               (double)(clock() - start) / CLOCKS_PER_SEC / 200 * 1e6);
        sampler_destroy(&s);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "bench") == 0) return run_bench();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_temperature),  cmocka_unit_test(filters),          cmocka_unit_test(only_the_best),
        cmocka_unit_test(odd_logits),         cmocka_unit_test(large_vocabulary), cmocka_unit_test(seeds),
        cmocka_unit_test(refused_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
