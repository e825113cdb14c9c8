/* SPDX-License-Identifier: MIT
 *
 * Loops in an answer (repeat.h).
 */
#include "app/repeat.h"

#include <string.h>

void repeat_push(struct repeat *r, uint32_t id, bool has_word)
{
    size_t known = r->count < REPEAT_MOST_PERIOD ? r->count : REPEAT_MOST_PERIOD;
    for (size_t p = 1; p <= known; p++)
        r->run[p - 1] = r->last[(r->count - p) % REPEAT_MOST_PERIOD] == id ? r->run[p - 1] + 1 : 0;
    r->last[r->count++ % REPEAT_MOST_PERIOD] = id;
    if (has_word) r->word = r->count;
}

/* A byte that begins a letter beyond ASCII. U+2000 to U+2FFF and U+F000 on are punctuation, arrows and what tables are
 * drawn with, also as wide as CJK. */
static bool begins_letter(unsigned char c)
{
    return c >= 0xc3 && c < 0xef && c != 0xe2;
}

bool repeat_has_word(const char *bytes, size_t n)
{
    bool after_letter = false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i], lower = c | 0x20;
        bool is_letter = lower >= 'a' && lower <= 'z';
        if (begins_letter(c) || (is_letter && after_letter)) return true;
        after_letter = is_letter;
    }
    return false;
}

size_t repeat_held(const struct repeat *r)
{
    size_t longest = 0;
    for (size_t i = 0; i < REPEAT_MOST_PERIOD; i++)
        if (r->run[i] > longest) longest = r->run[i];
    return longest;
}

/* How long a stretch of period p is a loop (repeat.h). */
static size_t least_stretch(size_t p, bool has_word)
{
    if (!has_word) return 400;
    if (p < 5) return 48;
    if (p < 20) return 10 * p;
    return p < 49 ? 192 : 4 * p;
}

size_t repeat_found(const struct repeat *r, size_t *stretch)
{
    for (size_t p = 1; p <= REPEAT_MOST_PERIOD; p++) {
        size_t run = r->run[p - 1];
        if (!run || run + p < least_stretch(p, r->count - r->word < p)) continue;
        *stretch = run + p;
        return run;
    }
    return 0;
}

bool repeat_is_quoted(const uint32_t *ids, size_t n_ids, const uint32_t *stretch, size_t n)
{
    for (size_t i = 0; i + n <= n_ids; i++)
        if (ids[i] == *stretch && !memcmp(ids + i, stretch, n * sizeof *ids)) return true;
    return false;
}
