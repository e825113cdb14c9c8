/* SPDX-License-Identifier: MIT
 *
 * Opening a tokenizer: from a model file's metadata, or from a tiktoken vocabulary (tokenizer.h).
 * Sources: the GGUF specification, "Tokenizer"; the byte alphabet of GPT-2 (Radford et al., 2019), where a printable
 * Latin-1 byte is written as itself and the others as U+0100 and up, in order.
 */
#include "engine/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer_internal.h"
#include "engine/utf8.h"

enum { ALPHABET = 324 }; /* code points of the byte alphabet run to U+0143 */

/* ------------------------------------------------------------------------------------------------ byte alphabet */

/* byte_of[code point] is the byte, or -1. */
static void create_alphabet(int16_t *byte_of)
{
    int next = 256;
    for (int i = 0; i < ALPHABET; i++) byte_of[i] = -1;
    for (int byte = 0; byte < 256; byte++) {
        bool is_itself = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
        byte_of[is_itself ? byte : next++] = (int16_t)byte;
    }
}

/* Turns a text of the alphabet into the bytes it stands for: out has room for VOCAB_TOKEN_MOST. false: it is none. */
static bool decode_alphabet(const int16_t *byte_of, const char *text, size_t len, char *out, size_t *n)
{
    *n = 0;
    for (size_t at = 0; at < len;) {
        uint32_t code;
        at += utf8_decode(text + at, len - at, &code);
        if (code >= ALPHABET || byte_of[code] < 0 || *n == VOCAB_TOKEN_MOST) return false;
        out[(*n)++] = (char)byte_of[code];
    }
    return true;
}

/* ----------------------------------------------------------------------------------------------------- GGUF */

enum gguf_token_type { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED };

static bool is_text(struct gguf_string s, const char *text)
{
    return s.len == strlen(text) && !memcmp(s.bytes, text, s.len);
}

static int read_kind(const struct gguf *file, enum pretokenizer_kind *kind, struct error *error)
{
    struct gguf_string model, pre = {"", 0};
    if (!gguf_get_string(file, "tokenizer.ggml.model", &model) || model.len != 4 || memcmp(model.bytes, "gpt2", 4) != 0)
        return error_set(error, ERROR_MODEL, "The model's tokenizer is not byte-level BPE (\"gpt2\").");
    gguf_get_string(file, "tokenizer.ggml.pre", &pre);
    if (is_text(pre, "kimi-k2"))
        *kind = PRETOKENIZE_KIMI_K2;
    else if (is_text(pre, "deepseek-llm") || is_text(pre, "deepseek-v2"))
        *kind = PRETOKENIZE_DEEPSEEK_LLM;
    else
        return error_set(error, ERROR_MODEL,
                         "The model's pre-tokeniser is \"%.*s\": \"kimi-k2\" and \"deepseek-llm\" are supported.",
                         (int)(pre.len < 64 ? pre.len : 64), pre.bytes);
    return 0;
}

static int add_token(struct tokenizer *t, const int16_t *byte_of, struct gguf_string text, int64_t type,
                     struct error *error)
{
    char bytes[VOCAB_TOKEN_MOST];
    size_t n;
    switch (type) {
    case TYPE_NORMAL:
        if (!decode_alphabet(byte_of, text.bytes, text.len, bytes, &n))
            return error_set(error, ERROR_MODEL, "Token %u is too long or not in the byte alphabet.", t->count);
        return vocab_add(t, TOKEN_ORDINARY, bytes, n, error);
    case TYPE_UNKNOWN:
    case TYPE_CONTROL:
    case TYPE_USER_DEFINED:
        return vocab_add(t, TOKEN_SPECIAL, text.bytes, text.len, error);
    case TYPE_UNUSED:
        return vocab_add(t, TOKEN_UNUSED, text.bytes, text.len, error);
    default:
        return error_set(error, ERROR_MODEL, "Token %u has the unknown type %lld.", t->count, (long long)type);
    }
}

/* vocab_size of the architecture. */
static bool announced_tokens(const struct gguf *file, uint32_t *count)
{
    struct gguf_string architecture;
    char key[96];
    if (!gguf_get_string(file, "general.architecture", &architecture) || architecture.len > 64) return false;
    snprintf(key, sizeof key, "%.*s.vocab_size", (int)architecture.len, architecture.bytes);
    return gguf_get_u32(file, key, count);
}

static int read_tokens(struct tokenizer **out, const struct gguf *file, const int16_t *byte_of, struct error *error)
{
    const struct gguf_value *tokens = gguf_find(file, "tokenizer.ggml.tokens");
    const struct gguf_value *types = gguf_find(file, "tokenizer.ggml.token_type");
    if (!tokens || !tokens->is_array || tokens->kind != GGUF_STRING)
        return error_set(error, ERROR_MODEL, "The model has no list of tokens.");
    if (!types || !types->is_array || types->count != tokens->count)
        return error_set(error, ERROR_MODEL, "The model's token types do not match its tokens.");
    uint32_t announced;
    if (announced_tokens(file, &announced) && announced != tokens->count)
        return error_set(error, ERROR_MODEL, "The model has %llu tokens where its vocab_size says %u.",
                         (unsigned long long)tokens->count, announced);
    int rc = vocab_create(out, tokens->count > SIZE_MAX ? SIZE_MAX : (size_t)tokens->count, error);
    struct gguf_string text;
    size_t cursor = 0;
    for (uint64_t i = 0; rc == 0 && gguf_array_string(tokens, &cursor, &text); i++) {
        int64_t type = 0;
        if (!gguf_array_int(types, i, &type))
            return error_set(error, ERROR_MODEL, "The model's token types are not integers.");
        rc = add_token(*out, byte_of, text, type, error);
    }
    return rc ? rc : vocab_index(*out, error);
}

static int add_merge(struct tokenizer *t, const int16_t *byte_of, uint32_t rank, struct gguf_string merge,
                     struct error *error)
{
    char bytes[2 * VOCAB_TOKEN_MOST];
    size_t left, right;
    const char *space = memchr(merge.bytes, ' ', merge.len); /* not a letter of the alphabet */
    size_t at = space ? (size_t)(space - merge.bytes) : 0;
    if (at == 0 || at + 1 == merge.len || !decode_alphabet(byte_of, merge.bytes, at, bytes, &left) ||
        !decode_alphabet(byte_of, space + 1, merge.len - at - 1, bytes + left, &right))
        return error_set(error, ERROR_MODEL, "Merge %u is not two tokens with a space between.", rank);
    return vocab_join(t, rank, bytes, left, right, error);
}

static int read_merges(struct tokenizer *t, const struct gguf *file, const int16_t *byte_of, struct error *error)
{
    const struct gguf_value *merges = gguf_find(file, "tokenizer.ggml.merges");
    if (!merges || (merges->is_array && merges->count == 0)) return vocab_join_all(t, error);
    if (!merges->is_array || merges->kind != GGUF_STRING || merges->count >= BPE_NONE)
        return error_set(error, ERROR_MODEL, "The model's merges are not a list of texts.");
    struct gguf_string merge;
    size_t cursor = 0;
    int rc = 0;
    for (uint32_t rank = 0; rc == 0 && gguf_array_string(merges, &cursor, &merge); rank++)
        rc = add_merge(t, byte_of, rank, merge, error);
    return rc ? rc : vocab_find_whole(t, error);
}

static int check_id(const struct tokenizer *t, const struct gguf *file, const char *key, struct error *error)
{
    uint32_t id;
    if (!gguf_find(file, key)) return 0;
    if (!gguf_get_u32(file, key, &id) || id >= t->n_vocab)
        return error_set(error, ERROR_MODEL, "%s is not one of the model's %u tokens.", key, t->n_vocab);
    return 0;
}

static bool contains(struct gguf_string text, const char *part)
{
    const size_t n = strlen(part);
    for (size_t at = 0; at + n <= text.len; at++)
        if (text.bytes[at] == *part && !memcmp(text.bytes + at, part, n)) return true;
    return false;
}

/* The marks of a template, as Moonshot's and DeepSeek's files spell them. */
static void choose_chat(struct tokenizer *t, const struct gguf *file)
{
    static const char *const guesses[2][2] = {
        {"The model file has no chat template: Kimi's is used, which its tokenizer suggests.",
         "The model file has no chat template: that of DeepSeek-V2 is used, which its tokenizer suggests."},
        {"The model file's chat template is of no known shape: Kimi's is used in its place.",
         "The model file's chat template is of no known shape: that of DeepSeek-V2 is used in its place."}};
    struct gguf_string text = {"", 0};
    const bool is_there = gguf_get_string(file, "tokenizer.chat_template", &text);
    t->chat = t->pre == PRETOKENIZE_KIMI_K2 ? CHAT_KIMI : CHAT_DEEPSEEK;
    if (contains(text, "<|im_middle|>") && contains(text, "<|im_end|>"))
        t->chat = CHAT_KIMI;
    else if (contains(text, "'User: '") && contains(text, "'Assistant: '") && contains(text, "eos_token"))
        t->chat = CHAT_DEEPSEEK;
    else
        t->chat_note = guesses[is_there][t->chat == CHAT_DEEPSEEK];
}

/* An id that a key tells; the token must be special. */
static int read_mark(struct tokenizer *t, const struct gguf *file, const char *key, enum tokenizer_mark mark,
                     struct error *error)
{
    if (!gguf_get_u32(file, key, &t->marks[mark]) || t->tokens[t->marks[mark]].kind == TOKEN_SPECIAL) return 0;
    return error_set(error, ERROR_MODEL, "%s is not a special token.", key);
}

static int read_marks(struct tokenizer *t, const struct gguf *file, struct error *error)
{
    static const char *const keys[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.eot_token_id", "tokenizer.ggml.padding_token_id"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        int rc = check_id(t, file, keys[i], error);
        if (rc) return rc;
    }
    if (gguf_find(file, "tokenizer.ggml.add_bos_token") &&
        !gguf_get_bool(file, "tokenizer.ggml.add_bos_token", &t->add_bos))
        return error_set(error, ERROR_MODEL, "tokenizer.ggml.add_bos_token is not true or false.");
    choose_chat(t, file);
    int rc = read_mark(t, file, keys[0], MARK_BOS, error);
    /* Kimi's files tell one of three tokens that end an answer; all are known by name. */
    if (!rc && t->chat == CHAT_DEEPSEEK) rc = read_mark(t, file, keys[1], MARK_EOS, error);
    if (!rc && t->chat == CHAT_DEEPSEEK) rc = read_mark(t, file, keys[2], MARK_EOT, error);
    return rc ? rc : vocab_find_marks(t, error);
}

int tokenizer_open(struct tokenizer **out, const struct gguf *file, struct error *error)
{
    int16_t byte_of[ALPHABET];
    create_alphabet(byte_of);
    enum pretokenizer_kind pre;
    *out = NULL;
    int rc = read_kind(file, &pre, error);
    if (rc == 0) rc = read_tokens(out, file, byte_of, error);
    if (rc == 0) (*out)->pre = pre;
    if (rc == 0) rc = read_merges(*out, file, byte_of, error);
    if (rc == 0) rc = read_marks(*out, file, error);
    if (rc) tokenizer_close(out);
    return rc;
}

/* --------------------------------------------------------------------------------------------------- tiktoken */

/* Reads a whole file into a buffer of the caller's to free. */
static int read_file(const char *path, char **text, size_t *len, struct error *error)
{
    enum { MOST = 1 << 28 };
    FILE *file = fopen(path, "rb");
    if (!file) return error_set(error, ERROR_MODEL, "Cannot open %s.", path);
    size_t capacity = 1 << 16, n = 0;
    char *buffer = malloc(capacity);
    while (buffer && (n += fread(buffer + n, 1, capacity - n, file)) == capacity && capacity < MOST) {
        char *bigger = realloc(buffer, capacity *= 2);
        if (!bigger) free(buffer);
        buffer = bigger;
    }
    bool is_broken = ferror(file) || n == MOST;
    fclose(file);
    if (!buffer) return error_set(error, ERROR_FAILED, "Out of memory for %s.", path);
    *text = buffer;
    *len = n;
    return is_broken ? error_set(error, ERROR_MODEL, "%s cannot be read or is over 256 MB.", path) : 0;
}

static int base64_value(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Decodes padded base64; out has room for VOCAB_TOKEN_MOST. false when it is none. */
static bool decode_base64(const char *text, size_t len, char *out, size_t *n)
{
    if (len % 4 != 0 || len / 4 * 3 > VOCAB_TOKEN_MOST) return false;
    size_t padding = 0;
    while (padding < 2 && padding < len && text[len - 1 - padding] == '=') padding++;
    *n = 0;
    for (size_t i = 0; i < len; i += 4) {
        uint32_t bits = 0;
        for (size_t j = i; j < i + 4; j++) {
            int value = j < len - padding ? base64_value(text[j]) : 0;
            if (value < 0) return false;
            bits = bits << 6 | (uint32_t)value;
        }
        for (unsigned shift = 24; shift > 0;) out[(*n)++] = (char)(bits >> (shift -= 8) & 0xFF);
    }
    *n -= padding;
    return true;
}

static size_t count_lines(const char *text, size_t len)
{
    size_t lines = 0;
    for (size_t i = 0; i < len; i++) lines += text[i] == '\n' || i + 1 == len;
    return lines;
}

/* One line without its newline: base64, space, the rank that must come next. */
static int add_rank(struct tokenizer *t, const char *line, size_t len, struct error *error)
{
    char bytes[VOCAB_TOKEN_MOST], rank[16];
    size_t n;
    const char *space = memchr(line, ' ', len);
    size_t at = space ? (size_t)(space - line) : 0;
    int digits = snprintf(rank, sizeof rank, "%u", t->count);
    if (!space || len - at - 1 != (size_t)digits || memcmp(space + 1, rank, (size_t)digits) != 0 ||
        !decode_base64(line, at, bytes, &n))
        return error_set(error, ERROR_MODEL, "Line %u of the vocabulary is not base64 and rank %u.", t->count + 1,
                         t->count);
    return vocab_add(t, TOKEN_ORDINARY, bytes, n, error);
}

static int add_ranks(struct tokenizer *t, const char *text, size_t len, struct error *error)
{
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < len;) {
        const char *newline = memchr(text + at, '\n', len - at);
        size_t end = newline ? (size_t)(newline - text) : len;
        rc = add_rank(t, text + at, end - at, error);
        at = end + 1;
    }
    return rc;
}

static int add_specials(struct tokenizer *t, const struct tokenizer_special *specials, size_t n_specials,
                        struct error *error)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n_specials; i++) {
        if (specials[i].id < t->count)
            return error_set(error, ERROR_MODEL, "Special token %u comes too late or twice.", specials[i].id);
        while (rc == 0 && t->count < specials[i].id) rc = vocab_add(t, TOKEN_UNUSED, "", 0, error);
        if (rc == 0) rc = vocab_add(t, TOKEN_SPECIAL, specials[i].name, strlen(specials[i].name), error);
    }
    return rc;
}

int tokenizer_open_tiktoken(struct tokenizer **out, const char *path, const struct tokenizer_special *specials,
                            size_t n_specials, struct error *error)
{
    char *text = NULL;
    size_t len = 0;
    *out = NULL;
    int rc = read_file(path, &text, &len, error);
    size_t n_vocab = n_specials > 0 ? (size_t)specials[n_specials - 1].id + 1 : count_lines(text, len);
    if (rc == 0) rc = vocab_create(out, n_vocab, error);
    if (rc == 0) rc = add_ranks(*out, text, len, error);
    if (rc == 0) rc = add_specials(*out, specials, n_specials, error);
    if (rc == 0) rc = vocab_index(*out, error);
    if (rc == 0) rc = vocab_join_all(*out, error);
    if (rc == 0) rc = vocab_find_marks(*out, error);
    free(text);
    if (rc) tokenizer_close(out);
    return rc;
}
