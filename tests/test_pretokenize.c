/* SPDX-License-Identifier: MIT
 *
 * The kimi-k2 splitter: hard cases with the pieces a backtracking regex engine gives for the same pattern, the cuts of
 * long runs, and random bytes.
 */
#include <stdio.h>

#include "tests/split_kit.h"

static const struct split_case cases[] = {
    {"getUserName", "get|User|Name"},
    {"iPhone", "i|Phone"},
    {"helloWorld", "hello|World"},
    {"HTTPServer2Go", "HTTPServer|2|Go"},
    {"ABCdef", "ABCdef"},
    {"ABC", "ABC"},
    {"don't stop", "don't| stop"},
    {"DON'T", "DON'T"},
    {"I'LL we'Re they'vE I'm he'd", "I'LL| we'Re| they'vE| I'm| he'd"},
    {"it'\305\277 x", "it'\305\277| x"},
    {"Kelvin'\342\204\252", "Kelvin|'\342\204\252"},
    {"o'clock", "o|'clock"},
    {"'tis", "'tis"},
    {"''s", "''|s"},
    {"x'", "x|'"},
    {"x'S'T", "x'S|'T"},
    {"'re", "'re"},
    {"$'s", "$'|s"},
    {"snake_case_name", "snake|_case|_name"},
    {"__init__(self)", "__|init|__(|self|)"},
    {"a.b,c!", "a|.b|,c|!"},
    {"  two spaces", " | two| spaces"},
    {"three   x", "three|  | x"},
    {"tail   ", "tail|   "},
    {"   ", "   "},
    {"\t\tx", "\t|\tx"},
    {"a \n b", "a| \n| b"},
    {"a\n\n\n  b", "a|\n\n\n| | b"},
    {"\n \n x", "\n \n| x"},
    {"line\r\nnext", "line|\r\n|next"},
    {"end.\r\n\r\nNext", "end|.\r\n\r\n|Next"},
    {" !?\n\nx", " !?\n\n|x"},
    {"  (x", " | (|x"},
    {"1234567890", "123|456|789|0"},
    {"3.14159", "3|.|141|59"},
    {"v2", "v|2"},
    {"a1b22c333d4444", "a|1|b|22|c|333|d|444|4"},
    {"½٣Ⅷ²", "½٣Ⅷ|²"},
    {"你好世界", "你好世界"},
    {"中文English混合", "中文|English|混合"},
    {"时间:2024年", "时间|:|202|4|年"},
    {"々〇〡", "々〇〡"},
    {"⺀⼀!", "⺀⼀|!"},
    {"。你好", "。|你好"},
    {"a中", "a|中"},
    {"中a", "中|a"},
    {"ひらがなカタカナ", "ひらがなカタカナ"},
    {"가나다", "가나다"},
    {"ǅabc", "ǅabc"},
    {"ʰaB", "ʰa|B"},
    {"aʰB", "aʰ|B"},
    {"ªº", "ªº"},
    {"e\314\201tude", "e\314\201tude"},
    {"E\314\201", "E\314\201"},
    {"\314\201x", "\314\201x"},
    {"\314\201", "\314\201"},
    {"A\314\201\314\201B", "A\314\201\314\201|B"},
    {"אבג'ד", "אבג|'ד"},
    {"ÉCOLE École école", "ÉCOLE| École| école"},
    {"Straße", "Straße"},
    {"\302\240x", "\302\240x"},
    {"\302\240 x", "\302\240| x"},
    {"x\343\200\200y", "x|\343\200\200y"},
    {"\342\200\250x", "\342\200\250x"},
    {"a\302\205b", "a|\302\205b"},
    {"\034x", "\034x"},
    {"a\034\034b", "a|\034\034|b"},
    {"😀😀", "😀😀"},
    {"👩\342\200\215💻ok", "👩\342\200\215💻|ok"},
    {"\315\270a", "\315\270a"},
    {"<|im_end|>", "<|~im~_end~|>"},
    {"a  'S", "a| | '|S"},
    {"ΑΒΓαβγ", "ΑΒΓαβγ"},
    {"ᾈ", "ᾈ"},
    {"ß\305\277K", "ß\305\277|K"},
    {"\357\273\277x", "\357\273\277x"},
    {"𝐀𝐚𝐁", "𝐀𝐚|𝐁"},
    {"𠀀𠀁a", "𠀀𠀁|a"},
    {"\360\261\215\220x", "\360\261\215\220|x"},
    {"\360\226\277\260!", "\360\226\277\260|!"},
    {"a\302\255b", "a|\302\255b"},
    {"x²y", "x|²|y"},
    {"٠١٢٣٤", "٠١٢|٣٤"},
    {"ǄǅǆA", "Ǆǅǆ|A"},
    {"ʼAʼa", "ʼAʼa"},
    {"-\n-", "-\n|-"},
    {"\r\r\nx", "\r\r\n|x"},
    {" \r x", " \r| x"},
    {"a\341\232\200\341\232\200b", "a|\341\232\200|\341\232\200b"},
};

static void hard_cases(void **state)
{
    (void)state;
    check_cases(PRETOKENIZE_KIMI_K2, cases, sizeof cases / sizeof *cases);
}

static void stray_bytes_are_symbols(void **state)
{
    (void)state;
    static const struct {
        const char *text, *pieces;
    } broken[] = {
        {"a\377b", "a|\377b"},               /* a byte of no character, then a word it may stand before */
        {"\344\270", "\344\270"},            /* half of a Han character */
        {"\355\240\200x", "\355\240\200|x"}, /* a surrogate: three stray bytes */
        {"\300\257 \364\220\200\200", "\300\257| \364\220\200\200"}, /* overlong; beyond U+10FFFF */
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        char *got = split(PRETOKENIZE_KIMI_K2, broken[i].text, strlen(broken[i].text), '|');
        assert_string_equal(got, broken[i].pieces);
        free(got);
    }
}

/* Checks the lengths of the pieces of `count` times unit, then tail. */
static void check_run(const char *unit, size_t count, const char *tail, const size_t *lengths)
{
    size_t unit_len = strlen(unit), len = unit_len * count + strlen(tail), n;
    char *text = malloc(len + 1);
    assert_non_null(text);
    for (size_t i = 0; i < count; i++) memcpy(text + i * unit_len, unit, unit_len);
    memcpy(text + unit_len * count, tail, strlen(tail));
    struct pretokenizer walk = {.text = text, .len = len};
    const char *piece;
    for (; pretokenizer_next(&walk, &piece, &n); lengths++) assert_int_equal(n, *lengths);
    assert_int_equal(*lengths, 0);
    free(text);
}

static void long_runs_are_cut(void **state)
{
    (void)state;
    check_run("a", 25000, "", (size_t[]){25000, 0});
    check_run("a", 25001, " b", (size_t[]){25000, 1, 2, 0});
    check_run("\303\251", 50002, "", (size_t[]){50000, 50000, 4, 0}); /* characters, not bytes */
    check_run(" ", 25000, "x", (size_t[]){24999, 2, 0});
    check_run(" ", 25001, "x", (size_t[]){25000, 2, 0}); /* the first part ends in its own right */
    check_run("\t", 25001, "x", (size_t[]){25000, 2, 0});
    check_run("\377", 25001, "", (size_t[]){25000, 1, 0});
    check_run("\034", 25001, "", (size_t[]){25000, 1, 0}); /* a space to the cutter, a symbol to the pattern */
    check_run("!\034", 20000, "", (size_t[]){40000, 0});   /* so this is no run, and one piece */
}

static void pieces_are_the_text(void **state)
{
    (void)state;
    static const char letters[] = "aZ 'sS\n\r\t19.!\302\240\303\251\344\270\255\314\201\377";
    uint64_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        char text[64];
        size_t len = 1 + next_random(&seed) % (sizeof text - 1);
        for (size_t i = 0; i < len; i++) {
            uint32_t r = next_random(&seed);
            text[i] = round % 2 ? (char)(r % 255 + 1) : letters[r % (sizeof letters - 1)];
        }
        char *joined = split(PRETOKENIZE_KIMI_K2, text, len, 0);
        size_t at = 0;
        for (size_t i = 0; at < len; i++) {
            if (joined[i] != 0) assert_int_equal(joined[i], text[at++]);
        }
        free(joined);
    }
}

/* What engine.h promises for a document, a blank line and a question: cut there, the pieces are those of the whole. */
static void a_blank_line_parts(void **state)
{
    (void)state;
    static const char *const bits[] = {"a", "Z",        " ",        "'s",           "\n",       "\r\n", "\t",  "19",
                                       ".", "\302\240", "\303\251", "\344\270\255", "\314\201", "\377", "\034"};
    uint64_t seed = 2;
    for (int round = 0; round < 20000; round++) {
        char text[128];
        size_t len = 0;
        for (int i = 0; i < 10; i++) len += (size_t)sprintf(text + len, "%s", bits[next_random(&seed) % 15]);
        size_t cut = len += (size_t)sprintf(text + len, "\n\n");
        while (len == cut || strchr(" \n\r\t\302", text[cut]))
            len =
                cut + (size_t)sprintf(text + cut, "%s%s", bits[next_random(&seed) % 15], bits[next_random(&seed) % 15]);
        char *whole = split(PRETOKENIZE_KIMI_K2, text, len, '|'), *first = split(PRETOKENIZE_KIMI_K2, text, cut, '|'),
             *second = split(PRETOKENIZE_KIMI_K2, text + cut, len - cut, '|');
        char joined[512];
        snprintf(joined, sizeof joined, "%s|%s", first, second);
        assert_string_equal(joined, whole);
        free(whole);
        free(first);
        free(second);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hard_cases),         cmocka_unit_test(stray_bytes_are_symbols),
        cmocka_unit_test(long_runs_are_cut),  cmocka_unit_test(pieces_are_the_text),
        cmocka_unit_test(a_blank_line_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
