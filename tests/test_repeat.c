/* SPDX-License-Identifier: MIT
 *
 * Loops in answers: every true one is found and cut to its first time, and nothing that people repeat on purpose is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "app/repeat.h"

#define MOST 4096

static uint32_t random_state = 1;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)random_state * n) >> 32);
}

/* What became of a sequence: how many of its tokens were taken until a loop was found, and how many then stay. */
struct outcome {
    size_t taken, kept, stretch, most_held;
    bool found;
};

static struct outcome feed(const uint32_t *ids, size_t n, bool (*has_word)(uint32_t id))
{
    struct repeat r = {0};
    struct outcome o = {0};
    for (size_t i = 0; i < n && !o.found; i++) {
        repeat_push(&r, ids[i], has_word(ids[i]));
        size_t extra = repeat_found(&r, &o.stretch), held = repeat_held(&r);
        assert_true(held < i + 1 && extra <= held);
        if (held > o.most_held) o.most_held = held;
        o.taken = i + 1;
        o.kept = o.taken - extra;
        o.found = extra > 0;
    }
    return o;
}

static bool all_words(uint32_t id)
{
    (void)id;
    return true;
}

static bool no_words(uint32_t id)
{
    (void)id;
    return false;
}

static bool odd_words(uint32_t id)
{
    return id & 1;
}

/* -------------------------------------------------------------------------------------------------- loops */

/* `before` tokens that never repeat, then a period of p (its tokens all different, or a few values in any order). */
static size_t make_loop(uint32_t *ids, size_t before, size_t p, uint32_t values)
{
    for (size_t i = 0; i < before; i++) ids[i] = 100000 + (uint32_t)i;
    for (size_t i = 0; i < p; i++) ids[before + i] = values ? random_below(values) : (uint32_t)i;
    for (size_t i = before + p; i < MOST; i++) ids[i] = ids[i - p];
    return before + p;
}

static void a_loop_of_any_period_is_cut_to_its_first_time(void **state)
{
    (void)state;
    static uint32_t ids[MOST];
    for (size_t p = 1; p <= REPEAT_MOST_PERIOD; p++) {
        for (size_t before = 0; before < 200; before += 7) {
            size_t once = make_loop(ids, before, p, 0);
            struct outcome o = feed(ids, MOST, all_words);
            assert_true(o.found);
            assert_int_equal(o.kept, once);
            assert_int_equal(o.taken, before + o.stretch);
            assert_in_range(o.stretch, 48, 256);
            assert_true(o.stretch >= 4 * p);
            o = feed(ids, MOST, no_words);
            assert_true(o.found && o.kept == once && o.stretch == 400);
        }
    }
}

/* Inside a period a shorter one may repeat a few times ("no, no, never. no, no, never."), or the period be one of its
 * own parts: it is found all the same, and the first time of what repeats stays. */
static void a_loop_with_repetition_inside_is_found(void **state)
{
    (void)state;
    static uint32_t ids[MOST];
    for (int i = 0; i < 4000; i++) {
        size_t p = 1 + random_below(REPEAT_MOST_PERIOD), before = random_below(100);
        size_t once = make_loop(ids, before, p, 2 + random_below(3));
        struct outcome o = feed(ids, MOST, odd_words);
        assert_true(o.found && o.stretch <= 400);
        assert_in_range(o.kept, 1, once);
        for (size_t k = o.kept; k < o.taken; k++) { /* what goes says what stays, again */
            size_t back = o.stretch - (o.taken - o.kept);
            assert_int_equal(ids[k], ids[k - back]);
        }
    }
}

/* ---------------------------------------------------------------------------------------------- near loops */

static void what_changes_each_time_is_no_loop(void **state)
{
    (void)state;
    static uint32_t ids[MOST];
    for (size_t p = 2; p <= REPEAT_MOST_PERIOD; p++) {
        make_loop(ids, 0, p, 0);
        for (size_t i = p - 1; i < MOST; i += p) ids[i] = 1000 + (uint32_t)(i / p); /* a number that counts */
        assert_false(feed(ids, MOST, all_words).found);
        assert_false(feed(ids, MOST, no_words).found);
    }
}

static void a_loop_that_is_left_in_time_is_none(void **state)
{
    (void)state;
    static uint32_t ids[MOST];
    for (size_t p = 1; p <= REPEAT_MOST_PERIOD; p++) {
        make_loop(ids, 50, p, 0);
        struct outcome o = feed(ids, MOST, all_words);
        ids[o.taken - 1] = 77777; /* the last token that it took says something else */
        for (size_t i = o.taken; i < MOST; i++) ids[i] = 200000 + (uint32_t)i;
        o = feed(ids, MOST, all_words);
        assert_false(o.found);
        assert_true(o.most_held < 256);
    }
}

static void periods_beyond_the_longest_are_left_alone(void **state)
{
    (void)state;
    static uint32_t ids[MOST];
    for (size_t p = REPEAT_MOST_PERIOD + 1; p < 200; p++) {
        make_loop(ids, 0, p, 0);
        struct outcome o = feed(ids, MOST, all_words);
        assert_false(o.found);
        assert_int_equal(o.most_held, 0);
    }
}

static void random_answers_are_no_loops(void **state)
{
    (void)state;
    static uint32_t ids[MOST];
    for (int i = 0; i < 300; i++) {
        uint32_t values = 2 + random_below(50);
        for (size_t k = 0; k < MOST; k++) ids[k] = random_below(values);
        assert_false(feed(ids, MOST, all_words).found);
    }
}

/* ----------------------------------------------------------------------- what people repeat on purpose, as text */

/* Tokens as a byte-level BPE has them, near enough: a run of letters with the blank before it, three digits, a run of
 * one mark (of eight at most: the worst case for rules), white space. */
static size_t token_length(const char *s)
{
    size_t n = *s == ' ' && s[1] > ' ';
    if (((s[n] | 0x20) >= 'a' && (s[n] | 0x20) <= 'z')) {
        while ((s[n] | 0x20) >= 'a' && (s[n] | 0x20) <= 'z') n++;
        return n;
    }
    if (s[n] >= '0' && s[n] <= '9') {
        size_t begin = n;
        while (s[n] >= '0' && s[n] <= '9' && n < begin + 3) n++;
        return n;
    }
    char mark = s[n];
    size_t begin = n;
    while (s[n] == mark && n < begin + 8) n++;
    return n;
}

static uint32_t hash_bytes(const char *s, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h;
}

static struct outcome feed_text(const char *text)
{
    struct repeat r = {0};
    struct outcome o = {0};
    for (size_t n; *text && !o.found; text += n) {
        n = token_length(text);
        repeat_push(&r, hash_bytes(text, n), repeat_has_word(text, n));
        o.taken++;
        o.found = repeat_found(&r, &o.stretch) > 0;
    }
    return o;
}

static char *times(size_t count, const char *format, ...)
{
    static char text[65536];
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        va_list args;
        va_start(args, format);
        int wrote = vsnprintf(text + n, sizeof text - n, format, args);
        va_end(args);
        assert_true(wrote >= 0 && n + (size_t)wrote < sizeof text);
        n += (size_t)wrote;
    }
    return text;
}

struct made {
    const char *text;
    size_t count;
};

static void repetition_on_purpose_is_no_loop(void **state)
{
    (void)state;
    static const struct made made[] = {
        {"-", 500},                                       /* rules */
        {"=-", 120},                                      /* and others */
        {"* ", 120},                                      /* the worst: a token each */
        {"\xe2\x94\x80", 120},                            /* drawn ones */
        {"|---", 60},                                     /* the second line of a table */
        {"|     ", 40},                                   /* an empty row */
        {"| - | - | - |\n", 12},                          /* an empty table */
        {"| yes | no ", 11},                              /* a row of a truth table */
        {"| yes | no | yes |\n", 8},                      /* rows that are alike */
        {"0, ", 120},                                     /* an array of zeros */
        {"0x00, ", 60},                                   /* in hexadecimal */
        {"{0, 0, 0, 0},\n", 16},                          /* a table of them */
        {"    printf(\"*\");\n", 9},                      /* lines of code */
        {"    nop\n", 9},                                 /* of assembler */
        {"        }\n", 12},                              /* ends of blocks */
        {"x = x * x + 1;\n", 9},                          /* an unrolled loop */
        {"ha ", 40},                                      /* laughter */
        {"very, ", 20},                                   /* emphasis */
        {"Row, row, row your boat. ", 8},                 /* a song */
        {"I will not talk in class any more, sir.\n", 9}, /* lines set by a teacher */
        {"\n", 200},                                      /* empty lines */
        {"1010", 80},                                     /* bits */
        {". . . ", 30},                                   /* leaders of a table of contents */
    };
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        struct outcome o = feed_text(times(made[i].count, "%s", made[i].text));
        if (o.found) fail_msg("\"%s\" is taken for a loop after %zu tokens", made[i].text, o.taken);
    }
}

static void loops_of_models_are_found_as_text(void **state)
{
    (void)state;
    static const struct made made[] = {
        {"the ", 60},
        {"the locker code of the ", 30},
        {"The document does not mention the name. ", 30},
        {"I'm sorry, I'm sorry, but ", 40},
        {"\xe7\x9a\x84", 60},
        {"- a\n", 300},
        {"0", 2500},
        {"He went to the door and opened it, and there was nobody there, so he went back to his chair and sat down. ",
         12},
    };
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        if (!feed_text(times(made[i].count, "%s", made[i].text)).found) fail_msg("\"%s\" is not found", made[i].text);
}

/* Lists, logs and listings whose lines have something of their own. */
static void lists_are_no_loops(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "%d. The same thing happens again in this chapter.\n",
        "| %d | yes | yes | yes | yes |\n",
        "    case %d: return true;\n",
        "- `test_%d`: passes\n",
        "{\"id\": %d, \"type\": \"string\", \"required\": true},\n",
    };
    static char text[65536];
    for (size_t k = 0; k < sizeof lines / sizeof *lines; k++) {
        size_t n = 0;
        for (int i = 0; i < 300; i++) {
            char number[128];
            const char *at = strstr(lines[k], "%d");
            size_t before = (size_t)(at - lines[k]);
            snprintf(number, sizeof number, "%d%s", i, at + 2);
            memcpy(text + n, lines[k], before);
            strcpy(text + n + before, number);
            n += strlen(text + n);
        }
        assert_false(feed_text(text).found);
    }
}

/* ------------------------------------------------------------------------------------------- words and quotes */

static void words_are_letters_side_by_side(void **state)
{
    (void)state;
    static const char *const words[] = {"the",          " no",         "1st", "\xc3\xa9t\xc3\xa9", "\xd0\xb4\xd0\xb0",
                                        "\xe4\xb8\xad", "\xe3\x81\xae"};
    static const char *const others[] = {"",
                                         "a",
                                         " x",
                                         "0x0",
                                         "----",
                                         "\n\n",
                                         "123",
                                         "\xe2\x94\x80\xe2\x94\x80",
                                         "\xe2\x80\xa2",
                                         "|",
                                         "\xef\xbc\x8d",
                                         "\xc2\xb0",
                                         "\x80\x94"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) assert_true(repeat_has_word(words[i], strlen(words[i])));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (repeat_has_word(others[i], strlen(others[i]))) fail_msg("\"%s\" is a word", others[i]);
}

static void quotes_are_found_wherever_they_stand(void **state)
{
    (void)state;
    uint32_t text[300], stretch[60];
    for (size_t i = 0; i < 300; i++) text[i] = i < 100 || i >= 160 ? 1000 + (uint32_t)i : (uint32_t)i % 3;
    for (size_t n = 1; n <= 60; n++)
        for (size_t at = 100; at + n <= 160; at++) {
            memcpy(stretch, text + at, n * sizeof *text);
            assert_true(repeat_is_quoted(text, 300, stretch, n));
            assert_true(repeat_is_quoted(text + at, n, stretch, n));
            assert_false(repeat_is_quoted(text + at, n - 1, stretch, n));
            stretch[n - 1] = 5;
            assert_false(repeat_is_quoted(text, 300, stretch, n));
        }
    assert_false(repeat_is_quoted(NULL, 0, stretch, 60));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_of_any_period_is_cut_to_its_first_time),
        cmocka_unit_test(a_loop_with_repetition_inside_is_found),
        cmocka_unit_test(what_changes_each_time_is_no_loop),
        cmocka_unit_test(a_loop_that_is_left_in_time_is_none),
        cmocka_unit_test(periods_beyond_the_longest_are_left_alone),
        cmocka_unit_test(random_answers_are_no_loops),
        cmocka_unit_test(repetition_on_purpose_is_no_loop),
        cmocka_unit_test(loops_of_models_are_found_as_text),
        cmocka_unit_test(lists_are_no_loops),
        cmocka_unit_test(words_are_letters_side_by_side),
        cmocka_unit_test(quotes_are_found_wherever_they_stand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
