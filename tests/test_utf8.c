/* SPDX-License-Identifier: MIT
 *
 * utf8_stream: whole characters, broken ones, and that no cutting of the input changes the output.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "engine/utf8.h"

#define BAD "\357\277\275" /* U+FFFD */

static const struct {
    const char *bytes, *text;
} cases[] = {
    {"plain", "plain"},
    {"h\303\251\344\270\255\360\237\230\200.", "h\303\251\344\270\255\360\237\230\200."},
    {"\355\237\277\356\200\200\364\217\277\277", "\355\237\277\356\200\200\364\217\277\277"},
    {"\377", BAD},
    {"a\200b", "a" BAD "b"},
    {"\303", BAD},                         /* never completed */
    {"\303(", BAD "("},                    /* broken by ASCII */
    {"\360\237\230A", BAD "A"},            /* one for the whole started character */
    {"\360\237\303\251", BAD "\303\251"},  /* broken by another one */
    {"\300\200", BAD BAD},                 /* overlong */
    {"\340\200\200", BAD BAD BAD},         /* overlong: no second byte fits */
    {"\355\240\200", BAD BAD BAD},         /* surrogate */
    {"\364\220\200\200", BAD BAD BAD BAD}, /* beyond U+10FFFF */
    {"\344\270\344\270\255", BAD "\344\270\255"},
};

/* Runs bytes through a stream in pieces of at most `most` bytes (0: random sizes); out is the text. */
static size_t stream(const char *bytes, size_t n, size_t most, uint64_t *seed, char *out)
{
    struct utf8_stream s = {0};
    size_t at = 0;
    for (size_t i = 0, step; i < n; i += step) {
        *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        step = most ? most : (size_t)(*seed >> 33) % 5;
        if (step > n - i) step = n - i;
        char *piece = malloc(step * 3 + 4);
        assert_non_null(piece);
        size_t wrote = utf8_stream_push(&s, bytes + i, step, piece);
        assert_true(wrote <= step * 3 + 4);
        memcpy(out + at, piece, wrote);
        free(piece);
        at += wrote;
    }
    return at + utf8_stream_end(&s, out + at);
}

static void known_bytes(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t most = 1; most < 8; most++) {
            char out[64];
            out[stream(cases[i].bytes, strlen(cases[i].bytes), most, &seed, out)] = 0;
            assert_string_equal(out, cases[i].text);
        }
    }
}

static void incomplete_is_held_back(void **state)
{
    (void)state;
    struct utf8_stream s = {0};
    char out[16];
    assert_int_equal(utf8_stream_push(&s, "a\360\237", 3, out), 1);
    assert_int_equal(utf8_stream_push(&s, "\230", 1, out), 0);
    assert_int_equal(utf8_stream_push(&s, "\200", 1, out), 4);
    assert_memory_equal(out, "\360\237\230\200", 4);
    assert_int_equal(utf8_stream_end(&s, out), 0);
}

static void any_split_is_the_same(void **state)
{
    (void)state;
    /* bytes that make and break characters often */
    static const unsigned char likely[] = {'a', 0x80, 0xBF, 0x9F, 0xA0, 0xC3, 0xE0, 0xE4, 0xED, 0xF0, 0xF4, 0xFF, 0};
    enum { MOST = 40 };
    uint64_t seed = 7;
    for (int round = 0; round < 20000; round++) {
        char bytes[MOST], whole[3 * MOST + 8], pieces[3 * MOST + 8];
        for (size_t i = 0; i < MOST; i++) {
            seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            uint32_t r = (uint32_t)(seed >> 33);
            bytes[i] = (char)(round % 2 ? likely[r % sizeof likely] : r % 256);
        }
        size_t n = stream(bytes, MOST, MOST, &seed, whole), m = stream(bytes, MOST, 0, &seed, pieces);
        assert_int_equal(n, m);
        assert_memory_equal(whole, pieces, n);
        for (size_t at = 0; at < n;) {
            uint32_t code;
            at += utf8_decode(whole + at, n - at, &code);
            assert_int_not_equal(code, UTF8_INVALID);
        }
    }
}

/* Every code point there is goes through the decoder; every surrogate does not. */
static void all_code_points(void **state)
{
    (void)state;
    for (uint32_t code = 0x800; code < 0x110000; code++) {
        unsigned char b[4] = {(unsigned char)(0xF0 | code >> 18), (unsigned char)(0x80 | (code >> 12 & 63)),
                              (unsigned char)(0x80 | (code >> 6 & 63)), (unsigned char)(0x80 | (code & 63))};
        size_t n = code < 0x10000 ? 3 : 4;
        if (n == 3) b[1] = (unsigned char)(0xE0 | code >> 12);
        uint32_t got;
        size_t used = utf8_decode((const char *)b + 4 - n, n, &got);
        bool is_surrogate = code >= 0xD800 && code < 0xE000;
        assert_int_equal(used, is_surrogate ? 1 : n);
        assert_int_equal(got, is_surrogate ? UTF8_INVALID : code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_bytes),
        cmocka_unit_test(incomplete_is_held_back),
        cmocka_unit_test(any_split_is_the_same),
        cmocka_unit_test(all_code_points),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
