/* SPDX-License-Identifier: MIT
 *
 * The tokenizer against known ids: Kimi's vocabulary on lines with the ids expected for them, and the trained mini
 * model's prompts with theirs. Both lie outside the repository; without them the program says so and exits with 77.
 *
 * test_tokenizer_golden bench FILE: prints how fast both vocabularies encode FILE.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/tokenizer.h"
#include "engine/turns.h"

enum { SKIPPED = 77, LINE_MOST = 1 << 16 };

static const struct tokenizer_special kimi_specials[] = {
    {163584, "[BOS]"},
    {163585, "[EOS]"},
    {163586, "<|im_end|>"},
    {163587, "<|im_user|>"},
    {163588, "<|im_assistant|>"},
    {163593, "[EOT]"},
    {163594, "<|im_system|>"},
    {163601, "<|im_middle|>"},
    {163838, "[UNK]"},
    {163839, "[PAD]"},
};

/* Path of a shared file; valid until the next call. */
static const char *shared_path(const char *name)
{
    static char path[4096];
    const char *root = getenv("LECTERN_SHARED");
    snprintf(path, sizeof path, "%s/%s", root ? root : "../shared", name);
    return path;
}

static char *read_whole(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *text = size < 0 ? NULL : malloc((size_t)size + 1);
    *len = text ? fread(text, 1, (size_t)size, file) : 0;
    if (text) text[*len] = 0;
    fclose(file);
    return text;
}

static struct tokenizer *open_kimi(void)
{
    struct tokenizer *t = NULL;
    struct error error = {0};
    size_t n = sizeof kimi_specials / sizeof *kimi_specials;
    if (tokenizer_open_tiktoken(&t, shared_path("tokenizer/kimi_k2.tiktoken"), kimi_specials, n, &error))
        fail_msg("%s", error.text);
    return t;
}

/* The file must stay open as long as nothing of it is used: the tokenizer keeps its own copy. */
static struct tokenizer *open_model(const char *name)
{
    struct gguf *file = NULL;
    struct tokenizer *t = NULL;
    struct error error = {0};
    if (gguf_open(&file, shared_path(name), &error)) fail_msg("%s", error.text);
    if (tokenizer_open(&t, file, &error)) fail_msg("%s", error.text);
    gguf_close(&file);
    return t;
}

static void parse_ids(const char *text, struct token_list *out)
{
    char *end;
    for (;;) {
        text += strspn(text, " ,\r\n");
        if (!*text) return;
        unsigned long id = strtoul(text, &end, 10);
        assert_ptr_not_equal(end, text);
        assert_int_equal(token_list_push(out, (uint32_t)id, NULL), 0);
        text = end;
    }
}

static void assert_same(const struct token_list *got, const struct token_list *expected, const char *what)
{
    for (size_t i = 0; i < got->count && i < expected->count; i++) {
        if (got->ids[i] != expected->ids[i])
            fail_msg("%s: token %zu is %u, expected %u", what, i, got->ids[i], expected->ids[i]);
    }
    if (got->count != expected->count) fail_msg("%s: %zu tokens, expected %zu", what, got->count, expected->count);
}

/* In the input lines \n is a newline and \s a space. */
static size_t unescape(char *line)
{
    size_t n = 0;
    for (size_t i = 0; line[i] && line[i] != '\n'; i++) {
        bool is_escape = line[i] == '\\' && (line[i + 1] == 'n' || line[i + 1] == 's');
        if (is_escape) i++;
        line[n++] = is_escape ? (line[i] == 'n' ? '\n' : ' ') : line[i];
    }
    return n;
}

static void kimi_lines(void **state)
{
    (void)state;
    static char line[LINE_MOST], ids[LINE_MOST];
    struct tokenizer *t = open_kimi();
    FILE *input = fopen(shared_path("tokenizer/small_input.txt"), "rb");
    FILE *tokens = fopen(shared_path("tokenizer/small_tokens_kimi_k2.txt"), "rb");
    assert_non_null(input);
    assert_non_null(tokens);
    size_t lines = 0;
    while (fgets(line, sizeof line, input) && fgets(ids, sizeof ids, tokens)) {
        struct token_list expected = {0}, got = {0};
        char what[32];
        snprintf(what, sizeof what, "line %zu", ++lines);
        size_t len = unescape(line);
        parse_ids(ids, &expected);
        assert_int_equal(tokenizer_encode(t, line, len, &got, NULL), 0);
        assert_same(&got, &expected, what);
        token_list_free(&expected);
        token_list_free(&got);
    }
    assert_int_equal(lines, 20);
    fclose(input);
    fclose(tokens);
    tokenizer_close(&t);
}

static void kimi_known_words(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t ids[4];
        size_t count;
    } cases[] = {
        {"Hello world", {19180, 2695}, 2},
        {"Hello, world!", {19180, 11, 2695, 0}, 4},
        {"你好世界", {33845, 2243}, 2},
        {"1234567890", {6694, 12972, 16242, 15}, 4},
        {"中文English混合", {16717, 44372, 13935}, 3},
    };
    struct tokenizer *t = open_kimi();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct token_list got = {0};
        struct token_list expected = {(uint32_t *)(uintptr_t)cases[i].ids, cases[i].count, 4};
        assert_int_equal(tokenizer_encode(t, cases[i].text, strlen(cases[i].text), &got, NULL), 0);
        assert_same(&got, &expected, cases[i].text);
        token_list_free(&got);
    }
    tokenizer_close(&t);
}

static void kimi_specials_by_name(void **state)
{
    (void)state;
    struct tokenizer *t = open_kimi();
    uint32_t id = 0;
    assert_int_equal(tokenizer_n_vocab(t), 163840);
    assert_true(tokenizer_find_special(t, "<|im_middle|>", &id));
    assert_int_equal(id, 163601);
    assert_string_equal(tokenizer_special_name(t, 163594), "<|im_system|>");
    assert_null(tokenizer_special_name(t, 163600));
    assert_null(tokenizer_special_name(t, 19180));
    for (id = 163580; id < 163840; id++)
        assert_int_equal(tokenizer_is_stop(t, id), id == 163585 || id == 163586 || id == 163593);
    struct token_list got = {0};
    assert_int_equal(tokenizer_encode(t, "a<|im_end|>[EOS]", 16, &got, NULL), 0);
    for (size_t i = 0; i < got.count; i++) assert_null(tokenizer_special_name(t, got.ids[i]));
    token_list_free(&got);
    tokenizer_close(&t);
}

/* -------------------------------------------------------------------------------------------------------- mini */

/* A golden prompt is system turn, user turn, generation prompt, with the special names spelled out. */
struct prompt {
    char *text;
    const char *system, *user; /* inside text */
    size_t system_len, user_len;
};

static const char *find_after(const char *text, const char *mark)
{
    const char *at = strstr(text, mark);
    assert_non_null(at);
    return at + strlen(mark);
}

static struct prompt read_prompt(const char *path)
{
    struct prompt p = {0};
    size_t len;
    p.text = read_whole(path, &len);
    assert_non_null(p.text);
    p.system = find_after(p.text, "<|im_system|>system<|im_middle|>");
    p.system_len = (size_t)(strstr(p.system, "<|im_end|>") - p.system);
    p.user = find_after(p.system, "<|im_user|>user<|im_middle|>");
    p.user_len = (size_t)(strstr(p.user, "<|im_end|>") - p.user);
    assert_string_equal(p.user + p.user_len, "<|im_end|><|im_assistant|>assistant<|im_middle|>");
    return p;
}

/* Builds the prompt; the user's text is tokenised in two pieces, cut at byte `cut`. */
static void build_prompt(const struct tokenizer *t, const struct prompt *p, size_t cut, struct token_list *out)
{
    assert_int_equal(turns_begin(t, out, NULL), 0);
    assert_int_equal(turns_open(t, CHAT_SYSTEM, out, NULL), 0);
    assert_int_equal(tokenizer_encode(t, p->system, p->system_len, out, NULL), 0);
    assert_int_equal(turns_close(t, CHAT_SYSTEM, out, NULL), 0);
    assert_int_equal(turns_open(t, CHAT_USER, out, NULL), 0);
    assert_int_equal(tokenizer_encode(t, p->user, cut, out, NULL), 0);
    assert_int_equal(tokenizer_encode(t, p->user + cut, p->user_len - cut, out, NULL), 0);
    assert_int_equal(turns_close(t, CHAT_USER, out, NULL), 0);
    assert_int_equal(turns_open(t, CHAT_ASSISTANT, out, NULL), 0);
}

static void mini_prompts(void **state)
{
    (void)state;
    static const char *const names[] = {"needle", "needle2", "absent"};
    struct tokenizer *t = open_model("models/mini-Q8_0.gguf");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[64];
        size_t len;
        struct token_list expected = {0};
        snprintf(name, sizeof name, "golden/mini.%s.tokens.txt", names[i]);
        char *ids = read_whole(shared_path(name), &len);
        assert_non_null(ids);
        parse_ids(ids, &expected);
        snprintf(name, sizeof name, "golden/mini.%s.prompt.txt", names[i]);
        struct prompt p = read_prompt(shared_path(name));
        /* whole, then cut at every blank line, the last of which parts document and question */
        size_t cuts = 0;
        for (size_t cut = 0; cut < p.user_len; cut++) {
            if (cut > 0 && memcmp(p.user + cut - 2, "\n\n", 2) != 0) continue;
            struct token_list got = {0};
            build_prompt(t, &p, cut, &got);
            assert_same(&got, &expected, name);
            token_list_free(&got);
            cuts += cut++ > 0;
        }
        assert_true(cuts > 5);
        free(p.text);
        free(ids);
        token_list_free(&expected);
    }
    tokenizer_close(&t);
}

/* ------------------------------------------------------------------------------------------------------- bench */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void bench(const char *name, struct tokenizer *t, double opening, const char *text, size_t len)
{
    double best = 1e9;
    size_t count = 0;
    for (int i = 0; i < 5; i++) {
        struct token_list out = {0};
        double start = seconds();
        if (tokenizer_encode(t, text, len, &out, NULL)) return;
        double took = seconds() - start;
        best = took < best ? took : best;
        count = out.count;
        token_list_free(&out);
    }
    printf("%-5s open %.0f ms, %zu bytes, %zu tokens, %.1f MB/s\n", name, opening * 1e3, len, count,
           (double)len / best / 1e6);
    tokenizer_close(&t);
}

static int run_bench(const char *path)
{
    size_t len;
    char *text = read_whole(path, &len);
    if (!text) return 1;
    double start = seconds();
    struct tokenizer *t = open_kimi();
    bench("kimi", t, seconds() - start, text, len);
    start = seconds();
    t = open_model("models/mini-Q8_0.gguf");
    bench("mini", t, seconds() - start, text, len);
    free(text);
    return 0;
}

int main(int argc, char **argv)
{
    static const char *const needed[] = {"tokenizer/kimi_k2.tiktoken", "models/mini-Q8_0.gguf"};
    for (size_t i = 0; i < 2; i++) {
        if (access(shared_path(needed[i]), R_OK) == 0) continue;
        printf("skipped: %s is not here\n", shared_path(needed[i]));
        return SKIPPED;
    }
    if (argc == 3 && strcmp(argv[1], "bench") == 0) return run_bench(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kimi_lines),
        cmocka_unit_test(kimi_known_words),
        cmocka_unit_test(kimi_specials_by_name),
        cmocka_unit_test(mini_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
