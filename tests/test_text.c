/* SPDX-License-Identifier: MIT
 *
 * Widths, graphemes, wrapping: what stands where on the screen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/text.h"

#define WOMAN_TECHNICIAN "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb" /* woman, joiner, laptop */
#define THUMB_DARK "\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbf"                   /* thumb, dark skin */
#define FLAG_DE "\xf0\x9f\x87\xa9\xf0\x9f\x87\xaa"

static int columns(const char *s)
{
    return text_columns(s, strlen(s), 0);
}

static void columns_count_as_the_terminal_does(void **state)
{
    (void)state;
    assert_int_equal(columns("abc"), 3);
    assert_int_equal(columns("\xe9\xb2\xb8\xe9\xb1\xbc"), 4); /* two CJK */
    assert_int_equal(columns("e\xcc\x81"), 1);                /* e + acute */
    assert_int_equal(columns("\xf0\x9f\x90\xb3"), 2);         /* whale */
    assert_int_equal(columns(WOMAN_TECHNICIAN), 4);           /* side by side */
    assert_int_equal(columns(THUMB_DARK), 2);                 /* without the tone */
    assert_int_equal(columns(FLAG_DE), 2);
    assert_int_equal(columns("\xe2\x9d\xa4\xef\xb8\x8f"), 1); /* heart, selector left out */
    assert_int_equal(columns("a\tb"), TEXT_TAB + 1);
    assert_int_equal(columns("\x1b[31m"), 5); /* ESC as its picture */
    assert_int_equal(columns("\xff\xc3"), 2); /* broken bytes */
}

static void cells_hide_what_could_steer_the_terminal(void **state)
{
    (void)state;
    struct text_cell cell;
    text_cell("\x1b[", 2, &cell);
    assert_int_equal(cell.chars[0], 0x241b);
    text_cell("\xe2\x80\xae", 3, &cell); /* right-to-left override */
    assert_int_equal(cell.chars[0], 0xfffd);
    text_cell("\xc2\x9b", 2, &cell); /* C1: CSI */
    assert_int_equal(cell.chars[0], 0xfffd);
    char marks[1 + 2 * 40 + 1] = "a";
    for (int i = 0; i < 40; i++) memcpy(marks + 1 + 2 * i, "\xcc\x81", 3);
    text_cell(marks, strlen(marks), &cell);
    assert_int_equal(cell.bytes, strlen(marks));
    assert_int_equal(wcslen(cell.chars), 1 + TEXT_MARKS);
}

static void steps_go_over_whole_graphemes(void **state)
{
    (void)state;
    const char *s = "a" WOMAN_TECHNICIAN "e\xcc\x81" FLAG_DE FLAG_DE "z";
    const size_t len = strlen(s);
    const size_t stops[] = {0, 1, 12, 15, 23, 31, 32};
    for (size_t i = 0; i + 1 < sizeof stops / sizeof *stops; i++) {
        assert_int_equal(text_next(s, len, stops[i]), stops[i + 1]);
        assert_int_equal(text_prev(s, len, stops[i + 1]), stops[i]);
    }
    assert_int_equal(text_next(s, len, len), len);
    assert_int_equal(text_prev(s, len, 0), 0);
}

static void words_are_found_in_any_script(void **state)
{
    (void)state;
    const char *s = "foo, na\xc3\xafve (bar)";
    const size_t len = strlen(s);
    assert_int_equal(text_word_end(s, len, 0), 3);
    assert_int_equal(text_word_end(s, len, 3), 11);
    assert_int_equal(text_word_start(s, len, len), 13);
    assert_int_equal(text_word_start(s, len, 13), 5);
}

/* The rows joined by '|'. */
static void check_rows(const char *s, int width, const char *wanted)
{
    struct text_rows rows = {0};
    assert_int_equal(text_wrap(&rows, s, strlen(s), width, NULL), 0);
    char got[1024] = "";
    size_t n = 0;
    for (size_t i = 0; i < rows.count; i++) {
        const struct text_row row = rows.items[i];
        assert_true(text_columns(s + row.start, row.end - row.start, 0) <= width);
        n += (size_t)snprintf(got + n, sizeof got - n, "%s%.*s", i ? "|" : "", (int)(row.end - row.start),
                              s + row.start);
    }
    text_rows_free(&rows);
    assert_string_equal(got, wanted);
}

static void lines_break_between_words(void **state)
{
    (void)state;
    check_rows("", 10, "");
    check_rows("call me Ishmael", 10, "call me|Ishmael");
    check_rows("call me Ishmael", 7, "call me|Ishmael");
    check_rows("call me     Ishmael", 7, "call me|Ishmael");
    check_rows("abcdefghij", 4, "abcd|efgh|ij");
    check_rows("ab abcdefghij", 4, "ab|abcd|efgh|ij");
    check_rows("one\n\n  two", 10, "one||  two");
    check_rows("well-known fact", 6, "well-|known|fact");
    check_rows("-12345", 4, "-123|45");
    check_rows("a\tb c", 5, "a\tb|c");
    check_rows("trailing   ", 8, "trailing");
}

static void wide_characters_are_never_cut(void **state)
{
    (void)state;
    check_rows("\xe4\xbd\xa0\xe5\xa5\xbd\xe4\xb8\x96\xe7\x95\x8c", 5,
               "\xe4\xbd\xa0\xe5\xa5\xbd|\xe4\xb8\x96\xe7\x95\x8c");
    /* an ideographic full stop does not begin a row */
    check_rows("\xe4\xbd\xa0\xe5\xa5\xbd\xe3\x80\x82", 4, "\xe4\xbd\xa0|\xe5\xa5\xbd\xe3\x80\x82");
    check_rows("ab" WOMAN_TECHNICIAN, 5, "ab|" WOMAN_TECHNICIAN);
    check_rows("abc\xf0\x9f\x90\xb3", 4, "abc|\xf0\x9f\x90\xb3");
}

static void text_that_grows_wraps_as_if_it_had_come_at_once(void **state)
{
    (void)state;
    const char *s = "It was the best of times,\nit was the \xe6\x9c\x80\xe5\xa5\xbd of " THUMB_DARK
                    " times and\n\nsupercalifragilistic words - too.\n";
    for (int width = 2; width < 40; width += 3) {
        struct text_rows whole = {0};
        assert_int_equal(text_wrap(&whole, s, strlen(s), width, NULL), 0);
        struct text_block block = {0};
        for (size_t i = 0; i < strlen(s); i++) {
            assert_int_equal(text_block_append(&block, s + i, 1, NULL), 0);
            assert_int_equal(text_block_wrap(&block, width, NULL), 0);
        }
        assert_int_equal(block.rows.count, whole.count);
        assert_memory_equal(block.rows.items, whole.items, whole.count * sizeof *whole.items);
        assert_int_equal(text_block_wrap(&block, width + 1, NULL), 0);
        assert_int_equal(text_block_wrap(&block, width, NULL), 0);
        assert_memory_equal(block.rows.items, whole.items, whole.count * sizeof *whole.items);
        text_rows_free(&whole);
        text_block_free(&block);
    }
}

static void a_byte_is_found_in_its_row(void **state)
{
    (void)state;
    const char *s = "call me Ishmael\nagain";
    struct text_rows rows = {0};
    assert_int_equal(text_wrap(&rows, s, strlen(s), 7, NULL), 0);
    assert_int_equal(rows.count, 3);
    assert_int_equal(text_row_at(&rows, 0), 0);
    assert_int_equal(text_row_at(&rows, 7), 0);
    assert_int_equal(text_row_at(&rows, 8), 1);
    assert_int_equal(text_row_at(&rows, 15), 1);
    assert_int_equal(text_row_at(&rows, 21), 2);
    text_rows_free(&rows);
}

static void search_ignores_case(void **state)
{
    (void)state;
    const char *s = "Thar she blows! \xc3\x84rger, \xc3\xa4rger";
    size_t end;
    assert_int_equal(text_find(s, strlen(s), 0, "SHE", &end), 5);
    assert_int_equal(end, 8);
    assert_int_equal(text_find(s, strlen(s), 17, "\xc3\x84RGER", &end), 24);
    assert_true(text_find(s, strlen(s), 0, "whale", &end) == SIZE_MAX);
    assert_true(text_find(s, strlen(s), 0, "", &end) == SIZE_MAX);
}

/* Bytes of any kind, in pieces that like to go wrong. */
static size_t random_text(uint32_t *seed, char *out, size_t cap)
{
    static const char *const pieces[] = {"word",
                                         " ",
                                         "\t",
                                         "\n",
                                         "-",
                                         "\xe9\xb2\xb8",
                                         THUMB_DARK,
                                         WOMAN_TECHNICIAN,
                                         FLAG_DE,
                                         "\xcc\x81",
                                         "\xe2\x80\x8d",
                                         "\xff",
                                         "\xe2\x80",
                                         "\x1b[31m",
                                         "\xc2\x9b",
                                         "\xf3\xa0\x80\x81",
                                         "\xe3\x80\x82",
                                         "supercalifragilistic"};
    size_t len = 0;
    for (int i = 0; i < 40; i++) {
        *seed = *seed * 1664525u + 1013904223u;
        const char *piece = pieces[(*seed >> 16) % (sizeof pieces / sizeof *pieces)];
        if (len + strlen(piece) >= cap) break;
        memcpy(out + len, piece, strlen(piece));
        len += strlen(piece);
    }
    return len;
}

static void any_bytes_wrap_within_the_width(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (int round = 0; round < 3000; round++) {
        char text[1024];
        const size_t len = random_text(&seed, text, sizeof text);
        const int width = 4 + round % 40;
        struct text_rows rows = {0};
        assert_int_equal(text_wrap(&rows, text, len, width, NULL), 0);
        size_t at = 0;
        for (size_t i = 0; i < rows.count; i++) {
            const struct text_row row = rows.items[i];
            assert_true(row.start >= at && row.start <= row.end && row.end <= len);
            for (; at < row.start; at++) assert_non_null(strchr(" \t\n", text[at])); /* only blanks are outside */
            const int columns = text_columns(text + row.start, row.end - row.start, 0);
            const bool is_one = text_next(text, len, row.start) >= row.end; /* a flag with marks may be wider */
            assert_true(columns <= width || is_one);
            at = row.end;
        }
        for (; at < len; at++) assert_non_null(strchr(" \t\n", text[at]));
        text_rows_free(&rows);
    }
}

static void steps_back_undo_steps_forward(void **state)
{
    (void)state;
    uint32_t seed = 7;
    for (int round = 0; round < 1000; round++) {
        char text[1024];
        const size_t len = random_text(&seed, text, sizeof text);
        for (size_t at = 0; at < len;) {
            const size_t next = text_next(text, len, at);
            assert_true(next > at && next <= len);
            assert_int_equal(text_prev(text, len, next), at);
            at = next;
        }
    }
}

int main(void)
{
    if (!setlocale(LC_CTYPE, "C.UTF-8")) {
        puts("skipped: there is no C.UTF-8 locale here");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_count_as_the_terminal_does),
        cmocka_unit_test(cells_hide_what_could_steer_the_terminal),
        cmocka_unit_test(steps_go_over_whole_graphemes),
        cmocka_unit_test(words_are_found_in_any_script),
        cmocka_unit_test(lines_break_between_words),
        cmocka_unit_test(wide_characters_are_never_cut),
        cmocka_unit_test(text_that_grows_wraps_as_if_it_had_come_at_once),
        cmocka_unit_test(a_byte_is_found_in_its_row),
        cmocka_unit_test(search_ignores_case),
        cmocka_unit_test(any_bytes_wrap_within_the_width),
        cmocka_unit_test(steps_back_undo_steps_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
