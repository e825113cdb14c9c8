/* SPDX-License-Identifier: MIT
 *
 * The pre-tokeniser "deepseek-llm": six patterns, each of which cuts the pieces that the one before left, into what it
 * matches and what lies between (pretokenize.h has them). A stage holds where its present piece ends; the stages below
 * work inside that piece. Every stage looks at a character a bounded number of times.
 */
#include "engine/pretokenize_internal.h"

#include "engine/unicode_tables.h"
#include "engine/utf8.h"

enum stage { STAGE_NEWLINE, STAGE_WORD, STAGE_SIGNS, STAGE_TAIL, STAGE_EAST, STAGE_DIGIT, STAGES };
static_assert((int)STAGES == (int)PRETOKENIZE_STAGES, "a walk has an end for each stage");

struct range {
    uint32_t first, last;
};

/* The letters of the second pattern: scripts with upper and lower case. Source: pre_tokenizer of DeepSeek-V2's
 * tokenizer.json. */
static const struct range letters[] = {
    {0x41, 0x5a},       {0x61, 0x7a},       {0xb5, 0xb5},       {0xc0, 0xd6},       {0xd8, 0xf6},
    {0xf8, 0x1ba},      {0x1bc, 0x1bf},     {0x1c4, 0x293},     {0x295, 0x2af},     {0x370, 0x373},
    {0x376, 0x377},     {0x37b, 0x37d},     {0x37f, 0x37f},     {0x386, 0x386},     {0x388, 0x38a},
    {0x38c, 0x38c},     {0x38e, 0x3a1},     {0x3a3, 0x3f5},     {0x3f7, 0x481},     {0x48a, 0x52f},
    {0x531, 0x556},     {0x10a0, 0x10c5},   {0x13a0, 0x13f5},   {0x13f8, 0x13fd},   {0x1c90, 0x1cba},
    {0x1cbd, 0x1cbf},   {0x1d00, 0x1d2b},   {0x1d6b, 0x1d77},   {0x1d79, 0x1d9a},   {0x1e00, 0x1f15},
    {0x1f18, 0x1f1d},   {0x1f20, 0x1f45},   {0x1f48, 0x1f4d},   {0x1f50, 0x1f57},   {0x1f59, 0x1f59},
    {0x1f5b, 0x1f5b},   {0x1f5d, 0x1f5d},   {0x1f5f, 0x1f7d},   {0x1f80, 0x1fb4},   {0x1fb6, 0x1fbc},
    {0x1fbe, 0x1fbe},   {0x1fc2, 0x1fc4},   {0x1fc6, 0x1fcc},   {0x1fd0, 0x1fd3},   {0x1fd6, 0x1fdb},
    {0x1fe0, 0x1fec},   {0x1ff2, 0x1ff4},   {0x1ff6, 0x1ffc},   {0x2102, 0x2102},   {0x2107, 0x2107},
    {0x210a, 0x2113},   {0x2115, 0x2115},   {0x2119, 0x211d},   {0x2124, 0x2124},   {0x2126, 0x2126},
    {0x2128, 0x2128},   {0x212a, 0x212d},   {0x212f, 0x2134},   {0x2139, 0x2139},   {0x213c, 0x213f},
    {0x2145, 0x2149},   {0x214e, 0x214e},   {0x2183, 0x2184},   {0x2c00, 0x2c7b},   {0x2c7e, 0x2ce4},
    {0x2ceb, 0x2cee},   {0x2cf2, 0x2cf3},   {0xa640, 0xa66d},   {0xa680, 0xa69b},   {0xa722, 0xa76f},
    {0xa771, 0xa787},   {0xa78b, 0xa78e},   {0xab70, 0xabbf},   {0xfb00, 0xfb06},   {0xfb13, 0xfb17},
    {0xff21, 0xff3a},   {0xff41, 0xff5a},   {0x10400, 0x1044f}, {0x104b0, 0x104d3}, {0x104d8, 0x104fb},
    {0x10c80, 0x10cb2}, {0x10cc0, 0x10cf2}, {0x118a0, 0x118df}, {0x1e900, 0x1e943},
};
/* Of the third and the fifth. The third takes in letters of ASCII too, as its ranges do. */
static const struct range signs[] = {{0x21, 0x2f},     {0x3a, 0x7e},     {0x2018, 0x201f},
                                     {0x3000, 0x3002}, {0xff01, 0xff0f}, {0xff1a, 0xff5e}};
static const struct range east[] = {{0x800, 0x9fa5}, {0xac00, 0xd7ff}};

static bool is_in(const struct range *ranges, size_t n, uint32_t code)
{
    size_t low = 0;
    while (n > 0) {
        const size_t half = n / 2;
        if (ranges[low + half].last < code) {
            low += half + 1;
            n -= half + 1;
        } else if (ranges[low + half].first > code) {
            n = half;
        } else {
            return true;
        }
    }
    return false;
}
#define IS_IN(ranges, code) is_in(ranges, sizeof(ranges) / sizeof *(ranges), code)

/* The character at `at`; *next is where the following one starts. */
static uint32_t read_code(const char *text, size_t at, size_t end, size_t *next)
{
    uint32_t code;
    *next = at + utf8_decode(text + at, end - at, &code);
    return code;
}

static bool is_space(uint32_t code)
{
    return code != UTF8_INVALID && (unicode_class(code) & UNICODE_SPACE);
}

static bool is_of_stage(enum stage stage, uint32_t code)
{
    if (code == UTF8_INVALID) return false;
    switch (stage) {
    case STAGE_NEWLINE:
        return code == '\r' || code == '\n';
    case STAGE_WORD:
        return IS_IN(letters, code);
    case STAGE_SIGNS:
        return IS_IN(signs, code);
    case STAGE_TAIL:
        return is_space(code);
    case STAGE_EAST:
        return IS_IN(east, code);
    case STAGE_DIGIT:
        return (unicode_class(code) & UNICODE_NUMBER) != 0;
    case STAGES:
        break;
    }
    return false;
}

/* Where the stage's pattern ends if it matches at `at`, else `at`. Not for STAGE_TAIL. */
static size_t match(enum stage stage, const char *text, size_t at, size_t end)
{
    size_t stop = at, next;
    uint32_t code = read_code(text, at, end, &next);
    const bool is_single = stage == STAGE_NEWLINE || stage == STAGE_DIGIT;
    if (is_single) return is_of_stage(stage, code) ? next : at;
    if (stage != STAGE_EAST && is_space(code) && next < end) {
        size_t after;
        if (is_of_stage(stage, read_code(text, next, end, &after))) stop = next;
    }
    while (stop < end) {
        code = read_code(text, stop, end, &next);
        if (!is_of_stage(stage, code)) break;
        stop = next;
    }
    return stop;
}

/* \s+$: all up to the space at the end, or that space. */
static size_t cut_tail(const char *text, size_t at, size_t end)
{
    size_t tail = at, next;
    for (size_t i = at; i < end; i = next)
        if (!is_space(read_code(text, i, end, &next))) tail = next;
    return tail == at ? end : tail;
}

/* The end of the stage's piece that starts at `at`: of a match, or of what comes before the next one. */
static size_t cut(enum stage stage, const char *text, size_t at, size_t end)
{
    size_t stop, next;
    if (stage == STAGE_TAIL) return cut_tail(text, at, end);
    stop = match(stage, text, at, end);
    if (stop > at) return stop;
    do {
        read_code(text, at, end, &next);
        at = next;
    } while (at < end && match(stage, text, at, end) == at);
    return at;
}

size_t pretokenize_deepseek(struct pretokenizer *p)
{
    size_t end = p->len;
    for (enum stage s = STAGE_NEWLINE; s < STAGES; s++) {
        if (p->ends[s] <= p->at) p->ends[s] = cut(s, p->text, p->at, end);
        end = p->ends[s];
    }
    return end;
}
