/* SPDX-License-Identifier: MIT
 *
 * Choosing the next token (engine.h: sampler). The logits are divided by the temperature; then min_p drops what is less
 * likely than min_p times the best, top_k keeps the k best, top_p keeps the fewest best that hold top_p of what is
 * left. Equal logits rank by id. Nothing is sorted in full: a count by buckets leaves few more than will be kept, and a
 * heap gives those in order, for as many as are kept. Sources: Holtzman et al., "The Curious Case of Neural Text
 * Degeneration", 2020 (top_p); Nguyen et al., "Turning Up the Heat", 2024 (min_p); Blackman and Vigna, "Scrambled
 * Linear Pseudorandom Number Generators", 2021 (xoshiro256++).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

struct candidate {
    float value; /* (logit - best logit) / temperature; later its exponential */
    uint32_t id;
};

struct sampler {
    struct sample_params params;
    uint32_t n_vocab;
    uint64_t random[4];           /* xoshiro256++ */
    struct candidate *candidates; /* [n_vocab] */
};

/* ------------------------------------------------------------------------------------------------------ random */

/* SplitMix64 spreads the seed over the generator's state, as its authors advise. */
static void seed_random(uint64_t *state, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += UINT64_C(0x9E3779B97F4A7C15);
        z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
        state[i] = z ^ z >> 31;
    }
}

static uint64_t rotate_left(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

/* Uniform in [0, 1), a multiple of 2^-53. */
static double draw_uniform(uint64_t *s)
{
    uint64_t result = rotate_left(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return (double)(result >> 11) * 0x1p-53;
}

/* -------------------------------------------------------------------------------------------------------- heap */

static bool is_better(struct candidate a, struct candidate b)
{
    return a.value > b.value || (a.value == b.value && a.id < b.id);
}

static void sift_down(struct candidate *heap, size_t count, size_t at)
{
    struct candidate moving = heap[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && is_better(heap[child + 1], heap[child])) child++;
        if (!is_better(heap[child], moving)) break;
        heap[at] = heap[child];
    }
    heap[at] = moving;
}

static void build_heap(struct candidate *heap, size_t count)
{
    for (size_t at = count / 2; at-- > 0;) sift_down(heap, count, at);
}

/* Moves the best of heap[0, count) behind the others, to heap[count - 1]. */
static void pop_best(struct candidate *heap, size_t count)
{
    struct candidate best = heap[0];
    heap[0] = heap[count - 1];
    sift_down(heap, count - 1, 0);
    heap[count - 1] = best;
}

/* ----------------------------------------------------------------------------------------------------- sampler */

int sampler_create(struct sampler **out, const struct sample_params *params, uint32_t n_vocab, struct error *error)
{
    *out = NULL;
    if (!(params->temperature >= 0) || isinf(params->temperature))
        return error_set(error, ERROR_USAGE, "The temperature must be 0 or more.");
    if (!(params->top_p > 0 && params->top_p <= 1))
        return error_set(error, ERROR_USAGE, "top_p must be above 0 and at most 1.");
    if (!(params->min_p >= 0 && params->min_p <= 1))
        return error_set(error, ERROR_USAGE, "min_p must be between 0 and 1.");
    if (n_vocab == 0) return error_set(error, ERROR_USAGE, "There is nothing to choose from: the vocabulary is empty.");
    struct sampler *s = malloc(sizeof *s);
    if (!s) return error_set(error, ERROR_FAILED, "Out of memory for the sampler.");
    *s = (struct sampler){.params = *params, .n_vocab = n_vocab, .candidates = calloc(n_vocab, sizeof *s->candidates)};
    seed_random(s->random, params->seed);
    *out = s;
    if (s->candidates) return 0;
    sampler_destroy(out);
    return error_set(error, ERROR_FAILED, "Out of memory for the sampler.");
}

void sampler_destroy(struct sampler **sampler)
{
    if (!*sampler) return;
    free((*sampler)->candidates);
    free(*sampler);
    *sampler = NULL;
}

/* The first of the greatest; NaN is less than everything. */
static uint32_t find_best(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) {
        if (logits[i] > logits[best] || (isnan(logits[best]) && !isnan(logits[i]))) best = i;
    }
    return best;
}

/* How far below the best, as the bits of that float: value is 0 or less. */
static uint32_t bits_below_best(float value)
{
    float below = -value + 0.0f; /* not the -0 that a plain sign change makes of 0 */
    uint32_t bits;
    memcpy(&bits, &below, sizeof bits);
    return bits;
}

/* Collects what min_p leaves; returns the number. Without min_p only those go whose exponential is 0 in a float. */
static size_t gather(struct sampler *s, const float *logits, float best)
{
    const float lowest = s->params.min_p > 0 ? logf(s->params.min_p) : -103.0f;
    const float temperature = s->params.temperature;
    size_t n = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        float value = (logits[i] - best) / temperature;
        s->candidates[n] = (struct candidate){value, i};
        n += value >= lowest; /* false for NaN */
    }
    return n;
}

/* Drops candidates that cannot be among the `most` best (or, with most = 0, among the fewest best that hold top_p of
 * the weight), and some of those that can stay too: whole buckets of values go. Returns how many stay; *total gets the
 * weight of all when most = 0. The upper bits of a non-negative float order as it does: they number the bucket. */
static size_t trim(struct candidate *list, size_t count, size_t most, double top_p, double *total)
{
    enum { BUCKETS = 1024, SHIFT = 21 };
    double held[BUCKETS] = {0}, sum = 0;
    for (size_t i = 0; i < count; i++) {
        double amount = most > 0 ? 1 : (double)expf(list[i].value);
        held[bits_below_best(list[i].value) >> SHIFT] += amount;
        sum += amount;
    }
    double wanted = most > 0 ? (double)most : top_p * sum, so_far = 0;
    uint32_t last = 0;
    while (last < BUCKETS - 1 && (so_far += held[last]) < wanted) last++;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct candidate c = list[i];
        list[kept] = c;
        kept += bits_below_best(c.value) >> SHIFT <= last;
    }
    *total = sum;
    return kept;
}

/* Draws one of the last `kept` of list[0, count), which are weights that sum to mass. */
static uint32_t draw(struct sampler *s, const struct candidate *list, size_t count, size_t kept, double mass)
{
    double left = draw_uniform(s->random) * mass;
    size_t at = count - 1;
    for (; at > count - kept; at--) {
        left -= (double)list[at].value;
        if (left < 0) break;
    }
    return list[at].id;
}

static uint32_t draw_any(struct sampler *s, size_t count)
{
    double mass = 0;
    for (size_t i = 0; i < count; i++) {
        s->candidates[i].value = expf(s->candidates[i].value);
        mass += (double)s->candidates[i].value;
    }
    return draw(s, s->candidates, count, count, mass);
}

/* Moves the best of heap[0, count) to its end, as a weight, and returns that. */
static double pop_weight(struct candidate *heap, size_t count)
{
    pop_best(heap, count);
    heap[count - 1].value = expf(heap[count - 1].value);
    return (double)heap[count - 1].value;
}

uint32_t sampler_next(struct sampler *s, const float *logits)
{
    uint32_t best = find_best(logits, s->n_vocab);
    if (s->params.temperature == 0 || !isfinite(logits[best])) return best;
    struct candidate *list = s->candidates;
    size_t n = gather(s, logits, logits[best]);
    size_t most = s->params.top_k < n ? s->params.top_k : 0;
    if (most == 0 && s->params.top_p >= 1) return draw_any(s, n);
    double total, mass = 0;
    n = trim(list, n, most, (double)s->params.top_p, &total);
    build_heap(list, n);
    if (most > 0) total = 0;
    for (size_t i = 0; i < most; i++) total += pop_weight(list, n - i);
    size_t limit = most > 0 ? most : n, kept = 0;
    while (kept < limit && mass < (double)s->params.top_p * total) {
        mass += most > 0 ? (double)list[n - 1 - kept].value : pop_weight(list, n - kept);
        kept++;
    }
    return draw(s, list, n, kept, mass);
}
