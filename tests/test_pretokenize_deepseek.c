/* SPDX-License-Identifier: MIT
 *
 * The deepseek-llm splitter: hard cases with the pieces that Hugging Face's tokenizers 0.23 gives for the pre_tokenizer
 * of DeepSeek-V2's tokenizer.json; bytes that are no text; cuts that change nothing; the time of long pieces.
 */
#include <stdio.h>

#include "tests/split_kit.h"

static const struct split_case cases[] = {
    {"getUserName", "getUserName"},
    {"don't stop", "don|'|t| stop"},
    {"DON'T", "DON|'|T"},
    {"snake_case_name", "snake|_|case|_|name"},
    {"__init__(self)", "__|init|__(|self|)"},
    {"a.b,c!", "a|.|b|,|c|!"},
    {"  two spaces", " | two| spaces"},
    {"three   x", "three|  | x"},
    {"tail   ", "tail|   "},
    {"   ", "   "},
    {"\t\tx", "\t|\tx"},
    {"a \n b", "a| |\n| b"},
    {"a\n\n\n  b", "a|\n|\n|\n| | b"},
    {"line\r\nnext", "line|\r|\n|next"},
    {"end.\r\n\r\nNext", "end|.|\r|\n|\r|\n|Next"},
    {" !?\n\nx", " !?|\n|\n|x"},
    {"  (x", " | (|x"},
    {"1234567890", "1|2|3|4|5|6|7|8|9|0"},
    {"3.14159", "3|.|1|4|1|5|9"},
    {"v2 x 2", "v|2| x| |2"},
    {"a 5  b", "a| |5| | b"},
    {"½٣Ⅷ²", "½|٣|Ⅷ|²"},
    {"你好世界", "你好世界"},
    {"中文English混合", "中文|English|混合"},
    {"时间:2024年", "时间|:|2|0|2|4|年"},
    {" 你好", " |你好"},
    {" ‘quoted’", " |‘|quoted|’"},
    {"。你好", "。|你好"},
    {"a\343\200\200b", "a|\343\200\200|b"},
    {"\343\200\200。x", "\343\200\200。|x"},
    {"ひらがなカタカナ", "ひらがなカタカナ"},
    {"가나다 라", "가나다| |라"},
    {"héllo Éa b", "h|é|llo| É|a| b"},
    {"ÉCOLE École", "É|COLE| É|cole"},
    {"Straße straße", "Stra|ß|e| stra|ß|e"},
    {"naïve café", "na|ï|ve| caf|é"},
    {"е Привет, мир", "е| Привет|,| мир"},
    {"ªº", "ªº"},
    {"ʰaB", "ʰ|aB"},
    {"e\314\201tude", "e|\314\201|tude"},
    {"\302\240x y", "\302\240x| y"},
    {"x\342\200\203y", "x|\342\200\203|y"},
    {"x\342\200\250y", "x|\342\200\250|y"},
    {"x\302\205 y", "x|\302\205| y"},
    {"😀😀 ok", "😀😀| ok"},
    {"👩\342\200\215💻ok", "👩|\342\200\215|💻|ok"},
    {"\315\205𐐀 𐐀𝐀", "\315\205|𐐀| 𐐀|𝐀"},
    {"שלום עולם", "שלום עולם"},
    {"สวัสดี ครับ", "สวัสดี| |ครับ"},
    {"<|im_end|>", "<|~im~_~end~|>"},
    {"User: Hello", "User|:| Hello"},
    {"User: [x] 5", "User|:| [|x|]| |5"},
    {"Assistant: 1", "Assistant|:| |1"},
    {"foo(bar) => {", "foo|(|bar|)| =>| {"},
    {"\357\273\277x", "\357\273\277|x"},
    {"x\034y", "x|\034|y"},
    {"１２ ＡＢ！", "１|２| ＡＢ|！"},
    {"５ Ａ", "５| Ａ"},
    {"……—", "……—"},
    {"\"a\" 'b'", "\"|a|\"| '|b|'"},
    {" \t x", " \t| x"},
    {"٠١٢٣٤ x", "٠|١|٢|٣|٤| x"},
    {"Ⴀა ა", "Ⴀ|ა| |ა"},
    {"#define X 1\r", "#|define| X| |1|\r"},
};

static void hard_cases(void **state)
{
    (void)state;
    check_cases(PRETOKENIZE_DEEPSEEK_LLM, cases, sizeof cases / sizeof *cases);
}

static void pieces_are_the_text(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        char text[64];
        size_t len = 1 + next_random(&seed) % (sizeof text - 1), at = 0;
        for (size_t i = 0; i < len; i++) text[i] = (char)(next_random(&seed) % 255 + 1);
        char *joined = split(PRETOKENIZE_DEEPSEEK_LLM, text, len, 0);
        for (size_t i = 0; at < len; i++)
            if (joined[i] != 0) assert_int_equal(joined[i], text[at++]);
        free(joined);
    }
}

static void check_cut(const char *text, size_t cut, size_t len)
{
    char *whole = split(PRETOKENIZE_DEEPSEEK_LLM, text, len, '|'),
         *first = split(PRETOKENIZE_DEEPSEEK_LLM, text, cut, '|'),
         *second = split(PRETOKENIZE_DEEPSEEK_LLM, text + cut, len - cut, '|');
    char joined[512];
    snprintf(joined, sizeof joined, "%s|%s", first, second);
    assert_string_equal(joined, whole);
    free(whole);
    free(first);
    free(second);
}

/* What the chat template counts on: behind a blank line, and behind the colon of "User:" when a space follows. */
static void cuts_that_part(void **state)
{
    (void)state;
    static const char *const bits[] = {"a",  "Z", " ",        "7",        "\n",           "\r\n",         "\t",
                                       "19", ".", "\302\240", "\303\251", "\344\270\255", "\342\200\230", "\377",
                                       "("};
    uint64_t seed = 2;
    for (int round = 0; round < 20000; round++) {
        char text[128] = "User:";
        size_t len = 5;
        if (round % 2) {
            len = (size_t)snprintf(text, sizeof text, "%s%s\n\n", bits[next_random(&seed) % 15],
                                   bits[next_random(&seed) % 15]);
        } else {
            text[len++] = ' ';
        }
        const size_t cut = round % 2 ? len : 5;
        for (int i = 0; i < 5; i++)
            len += (size_t)snprintf(text + len, sizeof text - len, "%s", bits[next_random(&seed) % 15]);
        check_cut(text, cut, len);
    }
}

/* The pieces of count times unit, and tail. A walk that looked again and again would not come to its end. */
static void check_long(const char *unit, size_t count, const char *tail, size_t pieces)
{
    const size_t n = strlen(unit), len = n * count + strlen(tail);
    char *text = malloc(len + 1);
    assert_non_null(text);
    for (size_t i = 0; i < count; i++) memcpy(text + i * n, unit, n);
    memcpy(text + n * count, tail, strlen(tail) + 1);
    struct pretokenizer walk = {.text = text, .len = len, .kind = PRETOKENIZE_DEEPSEEK_LLM};
    const char *piece;
    size_t got = 0, size;
    while (pretokenizer_next(&walk, &piece, &size)) got++;
    assert_int_equal(got, pieces);
    free(text);
}

static void long_pieces_end(void **state)
{
    (void)state;
    check_long(" ", 2000000, "7", 2);
    check_long("a", 2000000, "", 1);
    check_long(" \t", 1000000, "x", 2);
    check_long("\303\251", 1000000, "", 1);
    check_long("a ", 500000, "", 500001);
    check_long("7 ", 500000, "7", 1000001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hard_cases),
        cmocka_unit_test(pieces_are_the_text),
        cmocka_unit_test(cuts_that_part),
        cmocka_unit_test(long_pieces_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
