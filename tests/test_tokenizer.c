/* SPDX-License-Identifier: MIT
 *
 * The tokenizer on a small vocabulary of its own: merge order, whole tokens, specials, the chat template, and every way
 * in which a file's vocabulary can be broken. Merging itself is held against a plain version.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/bpe.h"
#include "engine/tokenizer.h"
#include "engine/turns.h"

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

/* ----------------------------------------------------------------------------------------------------- merging */

enum { N_PAIRS = 60, N_LETTERS = 4, LONGEST = 300 };

/* Rescans everything for every join. */
static size_t merge_plainly(const struct bpe_pair *pairs, uint32_t *ids, size_t n)
{
    for (;;) {
        size_t best_at = 0;
        const struct bpe_pair *best = NULL;
        for (size_t i = 0; i + 1 < n; i++) {
            for (size_t p = 0; p < N_PAIRS; p++) {
                bool is_here = pairs[p].left == ids[i] && pairs[p].right == ids[i + 1];
                if (!is_here || (best && pairs[p].rank >= best->rank)) continue;
                best = &pairs[p];
                best_at = i;
            }
        }
        if (!best) return n;
        ids[best_at] = best->joined;
        memmove(ids + best_at + 1, ids + best_at + 2, (n - best_at - 2) * sizeof *ids);
        n--;
    }
}

static void merging_is_the_plain_one(void **state)
{
    (void)state;
    uint64_t seed = 3;
    for (int round = 0; round < 200; round++) {
        struct bpe_pair pairs[N_PAIRS];
        struct bpe bpe;
        assert_int_equal(bpe_init(&bpe, NULL), 0);
        for (uint32_t i = 0; i < N_LETTERS; i++) bpe.byte_token['a' + i] = i;
        for (uint32_t i = 0; i < N_PAIRS; i++) {
            bool is_new = false;
            while (!is_new) { /* ranks fall as often as they rise, so that a join can make an earlier one possible */
                pairs[i] = (struct bpe_pair){next_random(&seed) % (N_LETTERS + i), next_random(&seed) % (N_LETTERS + i),
                                             i * 37 % 61, N_LETTERS + i};
                assert_int_equal(bpe_add(&bpe, pairs[i], &is_new, NULL), 0);
            }
        }
        char text[LONGEST];
        uint32_t expected[LONGEST], got[LONGEST];
        size_t n = 1 + next_random(&seed) % LONGEST, count = 0;
        for (size_t i = 0; i < n; i++) {
            expected[i] = next_random(&seed) % N_LETTERS;
            text[i] = (char)('a' + (int)expected[i]);
        }
        assert_int_equal(bpe_merge(&bpe, text, n, got, &count, NULL), 0);
        assert_int_equal(count, merge_plainly(pairs, expected, n));
        assert_memory_equal(got, expected, count * sizeof *got);
        bpe_free(&bpe);
    }
}

/* ----------------------------------------------------------------------------------------------------- fixture */

enum { N_TOKENS = 256 + 8 + 9, FIRST_SPECIAL = 256 + 8 };

/* A vocabulary as a model file would hold it: bytes, eight words, nine specials. */
struct fixture {
    struct gguf_string tokens[N_TOKENS], merges[8];
    int32_t types[N_TOKENS];
    size_t n_tokens, n_types, n_merges;
    const char *model, *pre, *chat; /* chat NULL: no template */
    uint32_t vocab_size, bos, eos;
    bool add_bos;
};

static char alphabet[256][3]; /* UTF-8 */

static struct gguf_string as_string(const char *text)
{
    return (struct gguf_string){text, strlen(text)};
}

static void create_fixture(struct fixture *f)
{
    static const char *const words[8] = {"ab", "bc", "th", "the", "\304\240the", "xy", "abc", "sys"};
    static const char *const merges[] = {"b c", "a b", "t h", "th e", "\304\240 the", "a bc"};
    static const char *const specials[9] = {"[BOS]",         "[EOS]",         "<|im_end|>",
                                            "<|im_user|>",   "[PAD]",         "<|im_assistant|>",
                                            "<|im_system|>", "<|im_middle|>", "[EOT]"};
    *f = (struct fixture){.n_tokens = N_TOKENS,
                          .n_types = N_TOKENS,
                          .n_merges = 6,
                          .model = "gpt2",
                          .pre = "kimi-k2",
                          .vocab_size = N_TOKENS,
                          .bos = FIRST_SPECIAL,
                          .eos = FIRST_SPECIAL + 1,
                          .add_bos = true};
    int next = 256;
    for (int i = 0; i < 256; i++) {
        bool is_printable = (i > 32 && i < 127) || (i > 160 && i < 173) || i > 173;
        int code = is_printable ? i : next++;
        alphabet[i][0] = code < 128 ? (char)code : (char)(0xC0 | code >> 6);
        alphabet[i][1] = code < 128 ? 0 : (char)(0x80 | (code & 63));
        f->tokens[i] = as_string(alphabet[i]);
        f->types[i] = 1;
    }
    for (int i = 0; i < 8; i++) {
        f->tokens[256 + i] = as_string(words[i]);
        f->types[256 + i] = 1;
    }
    for (int i = 0; i < 9; i++) {
        f->tokens[FIRST_SPECIAL + i] = as_string(specials[i]);
        f->types[FIRST_SPECIAL + i] = 3;
    }
    for (size_t i = 0; i < f->n_merges; i++) f->merges[i] = as_string(merges[i]);
}

static char folder[64];

static const char *temp_path(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Writes the fixture as a model file and opens a tokenizer on it. */
static int open_fixture(const struct fixture *f, struct tokenizer **out, struct error *error)
{
    struct gguf_writer *w = NULL;
    struct gguf *file = NULL;
    const char *path = temp_path("vocabulary.gguf");
    assert_int_equal(gguf_writer_open(&w, path, error), 0);
    gguf_put_string(w, "general.architecture", "kimi-linear", 11);
    gguf_put_u32(w, "kimi-linear.vocab_size", f->vocab_size);
    if (f->model) gguf_put_string(w, "tokenizer.ggml.model", f->model, strlen(f->model));
    gguf_put_string(w, "tokenizer.ggml.pre", f->pre, strlen(f->pre));
    if (f->chat) gguf_put_string(w, "tokenizer.chat_template", f->chat, strlen(f->chat));
    if (f->n_tokens > 0) gguf_put_string_array(w, "tokenizer.ggml.tokens", f->tokens, f->n_tokens);
    if (f->n_types > 0) gguf_put_i32_array(w, "tokenizer.ggml.token_type", f->types, f->n_types);
    if (f->n_merges > 0) gguf_put_string_array(w, "tokenizer.ggml.merges", f->merges, f->n_merges);
    gguf_put_u32(w, "tokenizer.ggml.bos_token_id", f->bos);
    gguf_put_u32(w, "tokenizer.ggml.eos_token_id", f->eos);
    gguf_put_bool(w, "tokenizer.ggml.add_bos_token", f->add_bos);
    if (gguf_writer_finish(&w, error)) fail_msg("%s", error->text);
    if (gguf_open(&file, path, error)) fail_msg("%s", error->text);
    int rc = tokenizer_open(out, file, error);
    gguf_close(&file); /* the tokenizer keeps nothing of it */
    return rc;
}

static struct tokenizer *open_good(const struct fixture *f)
{
    struct tokenizer *t = NULL;
    struct error error = {0};
    if (open_fixture(f, &t, &error)) fail_msg("%s", error.text);
    return t;
}

static void check_encoding(const struct tokenizer *t, const char *text, const uint32_t *ids, size_t count)
{
    struct token_list got = {0};
    assert_int_equal(tokenizer_encode(t, text, strlen(text), &got, NULL), 0);
    assert_int_equal(got.count, count);
    assert_memory_equal(got.ids, ids, count * sizeof *ids);
    token_list_free(&got);
}

/* -------------------------------------------------------------------------------------------------------- tests */

static void merges_decide_when_there(void **state)
{
    (void)state;
    struct fixture f;
    create_fixture(&f);
    struct tokenizer *t = open_good(&f);
    check_encoding(t, "the", (uint32_t[]){259}, 1);
    check_encoding(t, "the the", (uint32_t[]){259, 260}, 2);
    check_encoding(t, "abc", (uint32_t[]){262}, 1); /* b c first, then a bc */
    check_encoding(t, "abcb", (uint32_t[]){262, 'b'}, 2);
    check_encoding(t, "xy", (uint32_t[]){'x', 'y'}, 2); /* a token, but no merge makes it */
    check_encoding(t, "", NULL, 0);
    check_encoding(t, "\377\t", (uint32_t[]){0xFF, '\t'}, 2); /* the fixture's ids of bytes are the bytes */
    tokenizer_close(&t);
    assert_null(t);
}

static void ids_decide_without_merges(void **state)
{
    (void)state;
    struct fixture f;
    create_fixture(&f);
    f.n_merges = 0;
    struct tokenizer *t = open_good(&f);
    check_encoding(t, "abcb", (uint32_t[]){262, 'b'}, 2); /* ab (256) before bc (257), then ab c */
    check_encoding(t, "bcab", (uint32_t[]){257, 256}, 2);
    check_encoding(t, "xy", (uint32_t[]){261}, 1);
    check_encoding(t, "sys", (uint32_t[]){263}, 1); /* taken whole, though no two tokens make it */
    check_encoding(t, "syst", (uint32_t[]){'s', 'y', 's', 't'}, 4);
    tokenizer_close(&t);
}

static void bytes_come_back(void **state)
{
    (void)state;
    struct fixture f;
    create_fixture(&f);
    struct tokenizer *t = open_good(&f);
    uint64_t seed = 5;
    for (int round = 0; round < 500; round++) {
        char text[200], back[200];
        struct token_list ids = {0};
        size_t at = 0, n;
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = (char)(round % 2 ? next_random(&seed) % 256
                                       : (uint32_t) "the abcxy\n\304\377"[next_random(&seed) % 12]);
        assert_int_equal(tokenizer_encode(t, text, sizeof text, &ids, NULL), 0);
        for (size_t i = 0; i < ids.count; i++) {
            const char *bytes = tokenizer_bytes(t, ids.ids[i], &n);
            assert_true(n > 0 && at + n <= sizeof back);
            memcpy(back + at, bytes, n);
            at += n;
        }
        assert_int_equal(at, sizeof text);
        assert_memory_equal(back, text, sizeof text);
        token_list_free(&ids);
    }
    tokenizer_close(&t);
}

static void specials_are_not_text(void **state)
{
    (void)state;
    struct fixture f;
    create_fixture(&f);
    struct tokenizer *t = open_good(&f);
    size_t n = 1;
    uint32_t id = 0;
    struct token_list ids = {0};
    const char *text = "[BOS]<|im_end|>a<|im_user|>";
    assert_int_equal(tokenizer_encode(t, text, strlen(text), &ids, NULL), 0);
    assert_int_equal(ids.count, strlen(text));
    for (size_t i = 0; i < ids.count; i++) assert_int_equal(ids.ids[i], text[i]);
    token_list_free(&ids);
    assert_string_equal(tokenizer_special_name(t, FIRST_SPECIAL + 2), "<|im_end|>");
    tokenizer_bytes(t, FIRST_SPECIAL + 2, &n);
    assert_int_equal(n, 0);
    tokenizer_bytes(t, UINT32_MAX, &n);
    assert_int_equal(n, 0);
    assert_null(tokenizer_special_name(t, 'a'));
    assert_null(tokenizer_special_name(t, N_TOKENS));
    assert_true(tokenizer_find_special(t, "[PAD]", &id));
    assert_int_equal(id, FIRST_SPECIAL + 4);
    assert_false(tokenizer_find_special(t, "the", &id));
    for (id = 0; id < N_TOKENS + 2; id++)
        assert_int_equal(tokenizer_is_stop(t, id),
                         id == FIRST_SPECIAL + 1 || id == FIRST_SPECIAL + 2 || id == FIRST_SPECIAL + 8);
    assert_false(tokenizer_is_stop(t, UINT32_MAX));
    tokenizer_close(&t);
}

static void chat_turns(void **state)
{
    (void)state;
    struct fixture f;
    create_fixture(&f);
    for (int add_bos = 0; add_bos < 2; add_bos++) {
        f.add_bos = add_bos;
        struct tokenizer *t = open_good(&f);
        struct token_list ids = {0};
        const uint32_t expected[] = {FIRST_SPECIAL,
                                     FIRST_SPECIAL + 3,
                                     'u',
                                     's',
                                     'e',
                                     'r',
                                     FIRST_SPECIAL + 7,
                                     259,
                                     FIRST_SPECIAL + 2,
                                     FIRST_SPECIAL + 6,
                                     's',
                                     'y',
                                     's',
                                     't',
                                     'e',
                                     'm',
                                     FIRST_SPECIAL + 7};
        const size_t count = sizeof expected / sizeof *expected, skip = add_bos ? 0 : 1;
        assert_int_equal(turns_begin(t, &ids, NULL), 0);
        assert_int_equal(turns_open(t, CHAT_USER, &ids, NULL), 0);
        assert_int_equal(tokenizer_encode(t, "the", 3, &ids, NULL), 0);
        assert_int_equal(turns_close(t, CHAT_USER, &ids, NULL), 0);
        assert_int_equal(turns_open(t, CHAT_SYSTEM, &ids, NULL), 0);
        assert_int_equal(ids.count, count - skip);
        assert_memory_equal(ids.ids, expected + skip, ids.count * sizeof *expected);
        token_list_free(&ids);
        tokenizer_close(&t);
    }
}

static const char deepseek_chat[] =
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + "
    "'\n\n' }}{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}";

static void push_bytes(struct token_list *ids, const char *text)
{
    for (; *text; text++) assert_int_equal(token_list_push(ids, (unsigned char)*text, NULL), 0);
}

/* [BOS] the \n\n User: the \n\n Assistant: the [EOS]; a text's space belongs to its first token, 260. */
static void plain_turns(void **state)
{
    (void)state;
    struct fixture f;
    struct token_list ids = {0}, want = {0};
    create_fixture(&f);
    f.pre = "deepseek-llm";
    f.chat = deepseek_chat;
    f.add_bos = false;
    struct tokenizer *t = open_good(&f);
    assert_int_equal(tokenizer_chat(t), CHAT_DEEPSEEK);
    assert_null(tokenizer_chat_note(t));
    assert_int_equal(turns_begin(t, &ids, NULL), 0);
    static const struct {
        enum chat_role role;
        const char *text;
    } turns[] = {{CHAT_SYSTEM, "the"}, {CHAT_USER, "the"}, {CHAT_ASSISTANT, " the"}, {CHAT_ASSISTANT, "the"}};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(turns_open(t, turns[i].role, &ids, NULL), 0);
        assert_int_equal(turns_text(t, turns[i].role, turns[i].text, strlen(turns[i].text), &ids, NULL), 0);
        assert_int_equal(turns_close(t, turns[i].role, &ids, NULL), 0);
    }
    token_list_push(&want, FIRST_SPECIAL, NULL);
    token_list_push(&want, 259, NULL);
    push_bytes(&want, "\n\nUser:");
    token_list_push(&want, 260, NULL);
    push_bytes(&want, "\n\n");
    for (int i = 0; i < 2; i++) {
        push_bytes(&want, "Assistant:");
        token_list_push(&want, 260, NULL);
        token_list_push(&want, FIRST_SPECIAL + 1, NULL);
    }
    assert_int_equal(ids.count, want.count);
    assert_memory_equal(ids.ids, want.ids, want.count * sizeof *want.ids);
    assert_true(tokenizer_is_stop(t, FIRST_SPECIAL + 1));
    assert_false(tokenizer_is_stop(t, FIRST_SPECIAL));
    check_encoding(t, "the5 the", (uint32_t[]){259, '5', 260}, 3);
    token_list_free(&ids);
    token_list_free(&want);
    tokenizer_close(&t);
}

/* A vocabulary learned from text has no token for bytes that UTF-8 never has. */
static void bytes_of_no_text(void **state)
{
    (void)state;
    struct fixture f;
    create_fixture(&f);
    f.types[0xC0] = f.types[0xF5] = f.types[0xFF] = 5;
    struct tokenizer *t = open_good(&f);
    check_encoding(t, "the\377", (uint32_t[]){259, 0xEF, 0xBF, 0xBD}, 4);
    check_encoding(t, "\300\301\365", (uint32_t[]){0xEF, 0xBF, 0xBD, 0xC1, 0xEF, 0xBF, 0xBD}, 7);
    check_encoding(t, "\303\266", (uint32_t[]){0xC3, 0xB6}, 2);
    tokenizer_close(&t);
}

/* By its shape, else by the pre-tokeniser, and then it is said. */
static void templates_are_known(void **state)
{
    (void)state;
    static const struct {
        const char *pre, *chat;
        enum chat_form form;
        const char *note; /* in it, or NULL */
    } cases[] = {
        {"kimi-k2", "<|im_user|>user<|im_middle|>{{ m }}<|im_end|>", CHAT_KIMI, NULL},
        {"kimi-k2", deepseek_chat, CHAT_DEEPSEEK, NULL},
        {"kimi-k2", NULL, CHAT_KIMI, "no chat template: Kimi's is used"},
        {"kimi-k2", "", CHAT_KIMI, "no known shape: Kimi's is used"},
        {"kimi-k2", "<|im_start|>{{ m }}<|im_end|>", CHAT_KIMI, "no known shape: Kimi's is used"},
        {"deepseek-llm", deepseek_chat, CHAT_DEEPSEEK, NULL},
        {"deepseek-llm", "<|im_middle|><|im_end|>", CHAT_KIMI, NULL},
        {"deepseek-v2", NULL, CHAT_DEEPSEEK, "no chat template: that of DeepSeek-V2 is used"},
        {"deepseek-llm", "<|User|>{{ m }}<|Assistant|>", CHAT_DEEPSEEK, "no known shape: that of DeepSeek-V2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;
        create_fixture(&f);
        f.pre = cases[i].pre;
        f.chat = cases[i].chat;
        struct tokenizer *t = open_good(&f);
        const char *note = tokenizer_chat_note(t);
        assert_int_equal(tokenizer_chat(t), cases[i].form);
        assert_int_equal(note != NULL, cases[i].note != NULL);
        if (note) assert_non_null(strstr(note, cases[i].note));
        tokenizer_close(&t);
    }
}

/* A piece that no run cutter shortens: a quadratic merge would not come to its end. */
static void a_long_piece_ends(void **state)
{
    (void)state;
    struct fixture f;
    create_fixture(&f);
    struct tokenizer *t = open_good(&f);
    size_t len = 2000000;
    char *text = malloc(len);
    assert_non_null(text);
    for (size_t i = 0; i < len; i++) text[i] = i % 2 ? '!' : '\034';
    struct token_list ids = {0};
    assert_int_equal(tokenizer_encode(t, text, len, &ids, NULL), 0);
    assert_int_equal(ids.count, len);
    token_list_free(&ids);
    free(text);
    tokenizer_close(&t);
}

/* ------------------------------------------------------------------------------------------------------ broken */

static char too_long[2000];

static void no_model(struct fixture *f)
{
    f->model = NULL;
}
static void other_model(struct fixture *f)
{
    f->model = "llama";
}
static void other_pre(struct fixture *f)
{
    f->pre = "kimi-k3";
}
static void plain_eos(struct fixture *f)
{
    f->pre = "deepseek-llm";
    f->eos = 3;
}
static void no_tokens(struct fixture *f)
{
    f->n_tokens = 0;
}
static void fewer_types(struct fixture *f)
{
    f->n_types--;
}
static void no_types(struct fixture *f)
{
    f->n_types = 0;
}
static void other_count(struct fixture *f)
{
    f->vocab_size++;
}
static void bad_type(struct fixture *f)
{
    f->types[3] = 6;
}
static void negative_type(struct fixture *f)
{
    f->types[3] = -1;
}
static void empty_token(struct fixture *f)
{
    f->tokens[260].len = 0;
}
static void long_token(struct fixture *f)
{
    f->tokens[260] = (struct gguf_string){too_long, sizeof too_long};
}
static void long_name(struct fixture *f)
{
    f->tokens[N_TOKENS - 1] = (struct gguf_string){too_long, sizeof too_long};
}
static void raw_byte(struct fixture *f)
{
    f->tokens[260] = as_string("a b");
}
static void broken_utf8(struct fixture *f)
{
    f->tokens[260] = as_string("\304");
}
static void beyond_alphabet(struct fixture *f)
{
    f->tokens[260] = as_string("\305\204");
}
static void twice(struct fixture *f)
{
    f->tokens[260] = f->tokens[257];
}
static void byte_gone(struct fixture *f)
{
    f->types[200] = 5;
}
static void nul_in_name(struct fixture *f)
{
    f->tokens[N_TOKENS - 1] = (struct gguf_string){"[\0]", 3};
}
static void no_space(struct fixture *f)
{
    f->merges[2] = as_string("th");
}
static void two_spaces(struct fixture *f)
{
    f->merges[2] = as_string("t h e");
}
static void no_left(struct fixture *f)
{
    f->merges[2] = as_string(" h");
}
static void no_right(struct fixture *f)
{
    f->merges[2] = as_string("t ");
}
static void unknown_left(struct fixture *f)
{
    f->merges[2] = as_string("qq h");
}
static void unknown_join(struct fixture *f)
{
    f->merges[2] = as_string("h t");
}
static void merge_twice(struct fixture *f)
{
    f->merges[2] = f->merges[1];
}
static void bos_out_of_range(struct fixture *f)
{
    f->bos = N_TOKENS;
}
static void bos_ordinary(struct fixture *f)
{
    f->bos = 5;
}
static void eos_out_of_range(struct fixture *f)
{
    f->eos = UINT32_MAX;
}
static void no_end(struct fixture *f)
{
    f->types[FIRST_SPECIAL + 2] = 5;
}
static void no_middle(struct fixture *f)
{
    f->tokens[FIRST_SPECIAL + 7] = as_string("<|im_muddle|>");
}

static void broken_vocabularies(void **state)
{
    (void)state;
    static const struct {
        void (*damage)(struct fixture *);
        const char *sentence; /* in the error */
    } broken[] = {
        {no_model, "not byte-level BPE"},
        {other_model, "not byte-level BPE"},
        {other_pre, "pre-tokeniser is \"kimi-k3\": \"kimi-k2\" and \"deepseek-llm\" are supported"},
        {plain_eos, "eos_token_id is not a special token"},
        {no_tokens, "no list of tokens"},
        {fewer_types, "token types do not match"},
        {no_types, "token types do not match"},
        {other_count, "273 tokens where its vocab_size says 274"},
        {bad_type, "Token 3 has the unknown type 6"},
        {negative_type, "Token 3 has the unknown type -1"},
        {empty_token, "Token 260 is empty"},
        {long_token, "Token 260 is too long"},
        {long_name, "Token 272 is 2000 bytes long"},
        {raw_byte, "Token 260 is too long or not in the byte alphabet"},
        {broken_utf8, "not in the byte alphabet"},
        {beyond_alphabet, "not in the byte alphabet"},
        {twice, "Tokens 257 and 260 are the same text"},
        {byte_gone, "no token stands for byte 200"},
        {nul_in_name, "special token 272 has a NUL byte"},
        {no_space, "Merge 2 is not two tokens"},
        {two_spaces, "Merge 2 is not two tokens"},
        {no_left, "Merge 2 is not two tokens"},
        {no_right, "Merge 2 is not two tokens"},
        {unknown_left, "Merge 2 names a token that is not in the vocabulary"},
        {unknown_join, "Merge 2 names a token that is not in the vocabulary"},
        {merge_twice, "Merge 2 repeats an earlier one"},
        {bos_out_of_range, "bos_token_id is not one of the model's 273 tokens"},
        {bos_ordinary, "bos_token_id is not a special token"},
        {eos_out_of_range, "eos_token_id is not one of the model's 273 tokens"},
        {no_end, "no special token <|im_end|>"},
        {no_middle, "no special token <|im_middle|>"},
    };
    memset(too_long, 'a', sizeof too_long);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        struct fixture f;
        struct tokenizer *t = NULL;
        struct error error = {0};
        create_fixture(&f);
        broken[i].damage(&f);
        assert_int_equal(open_fixture(&f, &t, &error), ERROR_MODEL);
        assert_null(t);
        if (!strstr(error.text, broken[i].sentence)) fail_msg("case %zu says: %s", i, error.text);
    }
}

static int open_lines(const char *lines, const struct tokenizer_special *specials, size_t n, struct error *error)
{
    struct tokenizer *t = NULL;
    const char *path = temp_path("ranks.tiktoken");
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs(lines, file);
    fclose(file);
    int rc = tokenizer_open_tiktoken(&t, path, specials, n, error);
    assert_true((t != NULL) == (rc == 0));
    tokenizer_close(&t);
    return rc;
}

static void broken_tiktoken_files(void **state)
{
    (void)state;
    static const char *const broken[] = {"YQ==",     "YQ== 1\n", "YQ== 0\nYg== 0\n", "YQ= 0\n", "Y=== 0\n",
                                         "Y!== 0\n", " 0\n",     "YQ== 0 \n",        "\n"};
    struct error error;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        assert_int_equal(open_lines(broken[i], NULL, 0, &error), ERROR_MODEL);
        if (!strstr(error.text, "Line ") && !strstr(error.text, "is empty")) fail_msg("%s: %s", broken[i], error.text);
    }
    assert_int_equal(open_lines("YQ== 0\n", NULL, 0, &error), ERROR_MODEL);
    assert_non_null(strstr(error.text, "no token stands for byte 0"));
    assert_int_equal(open_lines("YQ== 0\n", &(struct tokenizer_special){0, "[EOS]"}, 1, &error), ERROR_MODEL);
    assert_int_equal(open_lines("", NULL, 0, &error), ERROR_MODEL);
    struct tokenizer *t = NULL;
    assert_int_equal(tokenizer_open_tiktoken(&t, temp_path("absent"), NULL, 0, &error), ERROR_MODEL);
    assert_non_null(strstr(error.text, "Cannot open"));
}

static int create_folder(void **state)
{
    (void)state;
    const char *temp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.40s/lectern-XXXXXX", temp ? temp : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(temp_path("vocabulary.gguf"));
    unlink(temp_path("ranks.tiktoken"));
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merging_is_the_plain_one),  cmocka_unit_test(merges_decide_when_there),
        cmocka_unit_test(ids_decide_without_merges), cmocka_unit_test(bytes_come_back),
        cmocka_unit_test(specials_are_not_text),     cmocka_unit_test(chat_turns),
        cmocka_unit_test(a_long_piece_ends),         cmocka_unit_test(broken_vocabularies),
        cmocka_unit_test(broken_tiktoken_files),     cmocka_unit_test(plain_turns),
        cmocka_unit_test(templates_are_known),       cmocka_unit_test(bytes_of_no_text),
    };
    return cmocka_run_group_tests(tests, create_folder, remove_folder);
}
