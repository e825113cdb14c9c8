/* SPDX-License-Identifier: MIT
 *
 * Nothing that steers a terminal gets through, however it is cut into pieces; everything else does, unchanged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "app/json.h"
#include "app/sanitize.h"

struct sample {
    const char *raw, *safe;
};

static const struct sample samples[] = {
    {"plain, tab\tand\nline", "plain, tab\tand\nline"},
    {"Grüße, 你好, 👩‍🚀 e\xcc\x81", "Grüße, 你好, 👩‍🚀 e\xcc\x81"},
    {"\x1b[31mred\x1b]0;title\x07", "␛[31mred␛]0;title␇"},
    {"\x7f|\x01|\x1f", "␡|␁|␟"},
    {"a\r\nb", "a\nb"},
    {"a\rb", "a␍b"},
    {"a\r\r\nb\r", "a␍\nb␍"},
    {"\xc2\x9b"
     "31m C1",
     "\xef\xbf\xbd"
     "31m C1"},
    {"\xe2\x80\xae"
     "drow\xe2\x81\xa9",
     "\xef\xbf\xbd"
     "drow\xef\xbf\xbd"},
    {"\xe2\x80\x8e\xd8\x9c", "\xef\xbf\xbd\xef\xbf\xbd"},
    {"\xe2\x80\xa8\xe2\x80\xa9", "\xef\xbf\xbd\xef\xbf\xbd"},
    {"\xf3\xa0\x81\x81", "\xef\xbf\xbd"},
    {"\xef\xbb\xbf\xef\xbf\xbe", "\xef\xbf\xbd\xef\xbf\xbd"},
    {"\xff\xc0\x9b|", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|"},
    {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    {"\xe4\xbd", "\xef\xbf\xbd"},
    {"\xe4\x1b[m", "\xef\xbf\xbd␛[m"},
};

static void samples_become_safe(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        size_t len;
        char *safe = sanitize_text(samples[i].raw, strlen(samples[i].raw), &len);
        assert_non_null(safe);
        assert_string_equal(safe, samples[i].safe);
        assert_int_equal(len, strlen(samples[i].safe));
        free(safe);
    }
}

/* Every cut into two, and byte by byte: as pieces of tokens arrive. */
static void pieces_are_as_the_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        const char *raw = samples[i].raw;
        size_t n = strlen(raw);
        for (size_t cut = 0; cut <= n; cut++) {
            char out[2 * SANITIZE_ROOM(64) + 1];
            struct sanitizer s = {0};
            size_t len = sanitize_push(&s, raw, cut, out);
            for (size_t k = cut; k < n; k++) len += sanitize_push(&s, raw + k, 1, out + len);
            len += sanitize_end(&s, out + len);
            out[len] = 0;
            assert_string_equal(out, samples[i].safe);
        }
    }
}

static void all_bytes_stay_in_their_room(void **state)
{
    (void)state;
    uint32_t x = 12345;
    for (int round = 0; round < 20000; round++) {
        unsigned char raw[24];
        char out[SANITIZE_ROOM(sizeof raw)];
        size_t n = (x >> 8) % sizeof raw;
        for (size_t i = 0; i < n; i++) {
            x = x * 1664525u + 1013904223u;
            raw[i] = (unsigned char)(x >> 24);
        }
        x = x * 1664525u + 1013904223u;
        struct sanitizer s = {0};
        size_t len = sanitize_push(&s, (char *)raw, n, out);
        len += sanitize_end(&s, out + len);
        assert_true(len <= sizeof out);
        for (size_t i = 0; i < len; i++) {
            unsigned char b = (unsigned char)out[i], before = i ? (unsigned char)out[i - 1] : 0;
            assert_true(b >= 0x20 || b == '\n' || b == '\t');
            assert_true(b != 0x7f && !(before == 0xc2 && b < 0xa0));
        }
    }
}

static void lines_stay_lines(void **state)
{
    (void)state;
    char out[32];
    sanitize_line("a\nb\tc\x1b", out, sizeof out);
    assert_string_equal(out, "a␊b␉c␛");
    sanitize_line("abcdef\xe4\xbd\xa0", out, 9);
    assert_string_equal(out, "abcdef");
    sanitize_line("abcdef", out, 1);
    assert_string_equal(out, "");
}

static void json_escapes(void **state)
{
    (void)state;
    struct json j = {0};
    json_open(&j, NULL, '{');
    json_text(&j, "a", "q\"\\\n\x1b\x7f\xc2\x9b\xe2\x80\xae\xf3\xa0\x81\x81 é\xff");
    json_open(&j, "b", '[');
    json_uint(&j, NULL, 18446744073709551615u);
    json_int(&j, NULL, -5);
    json_real(&j, NULL, 0.5);
    json_bool(&j, NULL, true);
    json_text(&j, NULL, NULL);
    json_close(&j, ']');
    json_hex(&j, "c", (const uint8_t[]){0, 0xab}, 2);
    json_close(&j, '}');
    assert_string_equal(json_end(&j),
                        "{\"a\": \"q\\\"\\\\\\n\\u001b\\u007f\\u009b\\u202e\\udb40\\udc41 é\xef\xbf\xbd\", "
                        "\"b\": [18446744073709551615, -5, 0.5, true, null], \"c\": \"00ab\"}");
    json_free(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_become_safe),
        cmocka_unit_test(pieces_are_as_the_whole),
        cmocka_unit_test(all_bytes_stay_in_their_room),
        cmocka_unit_test(lines_stay_lines),
        cmocka_unit_test(json_escapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
