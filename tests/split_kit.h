/* SPDX-License-Identifier: MIT
 *
 * What the tests of the splitters share: texts with the pieces they must fall into.
 */
#ifndef LECTERN_TESTS_SPLIT_KIT_H
#define LECTERN_TESTS_SPLIT_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/pretokenize.h"

/* Pieces are parted by '|', or by '~' where the text has a '|'. */
struct split_case {
    const char *text, *pieces;
};

/* The pieces of text in a heap copy without a byte to spare, joined by the separator. */
static inline char *split(enum pretokenizer_kind kind, const char *text, size_t len, char separator)
{
    char *copy = malloc(len + !len), *joined = malloc(2 * len + 1);
    assert_true(copy && joined);
    memcpy(copy, text, len);
    struct pretokenizer walk = {.text = copy, .len = len, .kind = kind};
    const char *piece;
    size_t n, at = 0;
    while (pretokenizer_next(&walk, &piece, &n)) {
        assert_true(n > 0);
        if (at > 0) joined[at++] = separator;
        memcpy(joined + at, piece, n);
        at += n;
    }
    joined[at] = 0;
    free(copy);
    return joined;
}

static inline void check_cases(enum pretokenizer_kind kind, const struct split_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *got = split(kind, cases[i].text, strlen(cases[i].text), strchr(cases[i].text, '|') ? '~' : '|');
        assert_string_equal(got, cases[i].pieces);
        free(got);
    }
}

static inline uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

#endif
