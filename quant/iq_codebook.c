/* SPDX-License-Identifier: MIT
 *
 * Nearest-entry search. Rounding each weight to its nearest level gives a pattern; when the pattern is in the book it
 * is the answer under any weights. For the others the CODEBOOK_NEAR entries closest to the pattern are listed once (on
 * the first search, one thread at a time) and compared exactly.
 */
#include "quant/iq_codebook.h"

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

enum { MOST_PATTERNS = 6561 }; /* 3^8 > 8^4 */

struct codebook_index {
    pthread_once_t once;
    uint16_t near[MOST_PATTERNS][CODEBOOK_NEAR]; /* nearest first */
    bool exact[MOST_PATTERNS];                   /* near[0] is the pattern itself */
};

static const int8_t levels_iq2[4] = {8, 25, 43, 43}; /* the fourth level number is in no code */
static const int8_t levels_iq3_xxs[16] = {4, 12, 20, 28, 36, 44, 52, 62, 62, 62, 62, 62, 62, 62, 62, 62};
static const int8_t levels_iq3_s[16] = {1, 3, 5, 7, 9, 11, 13, 15, 15, 15, 15, 15, 15, 15, 15, 15};
static const int8_t levels_iq1[4] = {-1, 0, 1, 1};

static struct codebook_index indexes[6] = {{.once = PTHREAD_ONCE_INIT}, {.once = PTHREAD_ONCE_INIT},
                                           {.once = PTHREAD_ONCE_INIT}, {.once = PTHREAD_ONCE_INIT},
                                           {.once = PTHREAD_ONCE_INIT}, {.once = PTHREAD_ONCE_INIT}};

const struct codebook codebook_iq2_xxs = {iq2_xxs_codes, 256, 8, 2, 3, levels_iq2, &indexes[0]};
const struct codebook codebook_iq2_xs = {iq2_xs_codes, 512, 8, 2, 3, levels_iq2, &indexes[1]};
const struct codebook codebook_iq2_s = {iq2_s_codes, 1024, 8, 2, 3, levels_iq2, &indexes[2]};
const struct codebook codebook_iq3_xxs = {iq3_xxs_codes, 256, 4, 4, 8, levels_iq3_xxs, &indexes[3]};
const struct codebook codebook_iq3_s = {iq3_s_codes, 512, 4, 4, 8, levels_iq3_s, &indexes[4]};
const struct codebook codebook_iq1 = {iq1_s_codes, 2048, 8, 2, 3, levels_iq1, &indexes[5]};

/* Keeps the CODEBOOK_NEAR least of the distances seen, sorted. */
static void keep_near(uint16_t *near, int *distance, uint16_t at, int d)
{
    if (d >= distance[CODEBOOK_NEAR - 1]) return;
    size_t i = CODEBOOK_NEAR - 1;
    for (; i > 0 && distance[i - 1] > d; i--) {
        distance[i] = distance[i - 1];
        near[i] = near[i - 1];
    }
    distance[i] = d;
    near[i] = at;
}

static void index_pattern(const struct codebook *book, uint32_t pattern)
{
    struct codebook_index *x = book->index;
    int target[CODEBOOK_MOST_DIM], distance[CODEBOOK_NEAR];
    uint32_t rest = pattern;
    for (uint32_t i = 0; i < book->dim; i++, rest /= book->n_levels) target[i] = book->levels[rest % book->n_levels];
    for (size_t i = 0; i < CODEBOOK_NEAR; i++) distance[i] = INT32_MAX;
    for (uint32_t at = 0; at < book->count; at++) {
        int d = 0;
        for (uint32_t i = 0; i < book->dim; i++) {
            int off = codebook_level(book, at, i) - target[i];
            d += off * off;
        }
        keep_near(x->near[pattern], distance, (uint16_t)at, d);
    }
    x->exact[pattern] = distance[0] == 0;
}

static void index_book(const struct codebook *book)
{
    uint32_t patterns = 1;
    for (uint32_t i = 0; i < book->dim; i++) patterns *= book->n_levels;
    for (uint32_t p = 0; p < patterns; p++) index_pattern(book, p);
}

/* pthread_once hands over no argument. */
static void index_iq2_xxs(void)
{
    index_book(&codebook_iq2_xxs);
}
static void index_iq2_xs(void)
{
    index_book(&codebook_iq2_xs);
}
static void index_iq2_s(void)
{
    index_book(&codebook_iq2_s);
}
static void index_iq3_xxs(void)
{
    index_book(&codebook_iq3_xxs);
}
static void index_iq3_s(void)
{
    index_book(&codebook_iq3_s);
}
static void index_iq1(void)
{
    index_book(&codebook_iq1);
}

static const struct codebook_index *index_of(const struct codebook *book)
{
    static void (*const makers[6])(void) = {index_iq2_xxs, index_iq2_xs, index_iq2_s,
                                            index_iq3_xxs, index_iq3_s,  index_iq1};
    pthread_once(&book->index->once, makers[book->index - indexes]);
    return book->index;
}

static uint32_t nearest_level(const struct codebook *book, float t)
{
    uint32_t at = 0;
    while (at + 1 < book->n_levels && t * 2 > (float)(book->levels[at] + book->levels[at + 1])) at++;
    return at;
}

static float distance_to(const struct codebook *book, uint32_t at, const float *t, const float *w)
{
    float sum = 0;
    uint32_t code = book->codes[at], mask = (1u << book->bits) - 1;
    for (uint32_t i = 0; i < book->dim; i++, code >>= book->bits) {
        float off = t[i] - (float)book->levels[code & mask];
        sum += w[i] * off * off;
    }
    return sum;
}

uint32_t codebook_find(const struct codebook *book, const float *t, const float *w, float *error)
{
    const struct codebook_index *x = index_of(book);
    uint32_t pattern = 0;
    for (uint32_t i = book->dim; i-- > 0;) pattern = pattern * book->n_levels + nearest_level(book, t[i]);
    const uint16_t *near = x->near[pattern];
    uint32_t best = near[0];
    float least = distance_to(book, best, t, w);
    for (size_t i = 1; i < CODEBOOK_NEAR && !x->exact[pattern]; i++) {
        float d = distance_to(book, near[i], t, w);
        if (d < least) {
            least = d;
            best = near[i];
        }
    }
    *error += least;
    return best;
}
