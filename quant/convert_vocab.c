/* SPDX-License-Identifier: MIT
 *
 * tiktoken.model and tokenizer_config.json -> tokenizer.*. A vocabulary of ranks becomes tokens in GPT-2's byte
 * alphabet (a printable Latin-1 byte is itself, the others are U+0100 and up, in order) and merges: each token of two
 * bytes or more is the join of the two tokens that byte-pair merging by lower ranks leaves of it. Named specials are
 * control tokens, ids between and behind are unused and called [PADn].
 */
#include "quant/convert_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_TOKEN = 1024, NONE = UINT32_MAX, TYPE_NORMAL = 1, TYPE_CONTROL = 3, TYPE_UNUSED = 5 };
#define MOST_VOCAB_FILE ((size_t)256 << 20)

struct vocab {
    const char *path; /* of tiktoken.model */
    struct error *error;
    char *pool; /* bytes of the tokens, one after the other */
    size_t pool_len, pool_room;
    size_t *at; /* [n_ranks + 1] into pool */
    uint32_t n_ranks, n_vocab;
    uint32_t *slots; /* rank of a hash slot, NONE = empty; open addressing */
    size_t n_slots;  /* a power of two */

    char *texts; /* all strings of the file to be */
    size_t texts_len, texts_room;
    size_t *token_at, *merge_at; /* [n_vocab + 1], [n_merges + 1] into texts */
    int32_t *types;
    uint32_t n_merges;
};

static int out_of_memory(const struct vocab *v)
{
    return error_set(v->error, ERROR_FAILED, "Out of memory for the vocabulary of %s.", v->path);
}

static bool append(char **bytes, size_t *len, size_t *room, const char *more, size_t n)
{
    if (n > *room - *len) {
        size_t wanted = (*len + n) * 2 + 4096;
        char *grown = realloc(*bytes, wanted);
        if (!grown) return false;
        *bytes = grown;
        *room = wanted;
    }
    if (n) memcpy(*bytes + *len, more, n);
    *len += n;
    return true;
}

/* ------------------------------------------------------------------------------------------------- ranks */

static int base64_value(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Padded base64; out has room for MOST_TOKEN. false when it is none, or of no bytes. */
static bool decode_base64(const char *text, size_t len, char *out, size_t *n)
{
    if (!len || len % 4 || len / 4 * 3 > MOST_TOKEN) return false;
    size_t padding = text[len - 1] != '=' ? 0 : text[len - 2] != '=' ? 1 : 2;
    *n = 0;
    for (size_t i = 0; i < len; i += 4) {
        uint32_t bits = 0;
        for (size_t j = i; j < i + 4; j++) {
            int value = j < len - padding ? base64_value(text[j]) : 0;
            if (value < 0) return false;
            bits = bits << 6 | (uint32_t)value;
        }
        for (int shift = 16; shift >= 0; shift -= 8) out[(*n)++] = (char)(bits >> shift & 0xff);
    }
    *n -= padding;
    return true;
}

/* Base64, a space, and the rank that must come next. */
static int add_rank(struct vocab *v, const char *line, size_t len)
{
    char bytes[MOST_TOKEN], rank[16];
    size_t n = 0;
    const char *space = memchr(line, ' ', len);
    size_t at = space ? (size_t)(space - line) : 0;
    size_t digits = (size_t)snprintf(rank, sizeof rank, "%u", v->n_ranks);
    if (v->n_ranks == v->n_vocab)
        return error_set(v->error, ERROR_MODEL, "%s has more tokens than vocab_size %u.", v->path, v->n_vocab);
    if (!space || len - at - 1 != digits || memcmp(space + 1, rank, digits) || !decode_base64(line, at, bytes, &n))
        return error_set(v->error, ERROR_MODEL, "%s: line %u is not base64 and rank %u.", v->path, v->n_ranks + 1,
                         v->n_ranks);
    if (!append(&v->pool, &v->pool_len, &v->pool_room, bytes, n)) return out_of_memory(v);
    v->at[++v->n_ranks] = v->pool_len;
    return 0;
}

static int read_ranks(struct vocab *v)
{
    char *text;
    size_t len;
    int rc = json_file_read(v->path, MOST_VOCAB_FILE, &text, &len, v->error);
    if (rc) return rc;
    v->at = calloc((size_t)v->n_vocab + 1, sizeof *v->at);
    if (!v->at) rc = out_of_memory(v);
    for (size_t at = 0; !rc && at < len;) {
        const char *newline = memchr(text + at, '\n', len - at);
        size_t end = newline ? (size_t)(newline - text) : len;
        rc = add_rank(v, text + at, end - at);
        at = end + 1;
    }
    free(text);
    return rc;
}

/* FNV-1a */
static size_t hash_bytes(const char *bytes, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++) h = (h ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    return (size_t)(h ^ h >> 29);
}

static uint32_t *find_slot(const struct vocab *v, const char *bytes, size_t len)
{
    size_t i = hash_bytes(bytes, len) & (v->n_slots - 1);
    for (;; i = (i + 1) & (v->n_slots - 1)) {
        uint32_t rank = v->slots[i];
        if (rank == NONE) break;
        if (v->at[rank + 1] - v->at[rank] == len && !memcmp(v->pool + v->at[rank], bytes, len)) break;
    }
    return &v->slots[i];
}

static int index_ranks(struct vocab *v)
{
    for (v->n_slots = 256; v->n_slots < 2 * (size_t)v->n_ranks;) v->n_slots *= 2;
    v->slots = malloc(v->n_slots * sizeof *v->slots);
    if (!v->slots) return out_of_memory(v);
    for (size_t i = 0; i < v->n_slots; i++) v->slots[i] = NONE;
    for (uint32_t rank = 0; rank < v->n_ranks; rank++) {
        uint32_t *slot = find_slot(v, v->pool + v->at[rank], v->at[rank + 1] - v->at[rank]);
        if (*slot != NONE)
            return error_set(v->error, ERROR_MODEL, "%s: ranks %u and %u are the same bytes.", v->path, *slot, rank);
        *slot = rank;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------- texts */

static bool put_text(struct vocab *v, const char *bytes, size_t n)
{
    return append(&v->texts, &v->texts_len, &v->texts_room, bytes, n);
}

/* Bytes in the alphabet. */
static bool put_alphabet(struct vocab *v, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned byte = (unsigned char)bytes[i], c = byte;
        if (byte <= 0x20)
            c = 0x100 + byte;
        else if (byte >= 0x7f && byte <= 0xa0)
            c = 0x121 + byte - 0x7f;
        else if (byte == 0xad)
            c = 0x143;
        char utf8[2] = {(char)(c < 0x80 ? c : 0xc0 | c >> 6), (char)(0x80 | (c & 0x3f))};
        if (!put_text(v, utf8, c < 0x80 ? 1 : 2)) return false;
    }
    return true;
}

/* Merges the token's bytes by ranks below its own. *cut gets where the two parts meet; false when other than two
 * remain: such a token cannot be reached by merging. */
static bool split_token(const struct vocab *v, uint32_t rank, size_t *cut)
{
    const char *bytes = v->pool + v->at[rank];
    uint32_t n = (uint32_t)(v->at[rank + 1] - v->at[rank]), parts = n;
    uint16_t start[MOST_TOKEN + 1];
    for (uint32_t i = 0; i <= n; i++) start[i] = (uint16_t)i;
    while (parts > 2) {
        uint32_t best = NONE, best_rank = rank;
        for (uint32_t i = 0; i + 1 < parts; i++) {
            uint32_t joined = *find_slot(v, bytes + start[i], (size_t)(start[i + 2] - start[i]));
            if (joined < best_rank) best = i, best_rank = joined;
        }
        if (best == NONE) return false;
        memmove(start + best + 1, start + best + 2, (parts - best - 1) * sizeof *start);
        parts--;
    }
    *cut = start[1];
    return parts == 2 && *find_slot(v, bytes, *cut) != NONE && *find_slot(v, bytes + *cut, n - *cut) != NONE;
}

static int make_merges(struct vocab *v)
{
    v->merge_at = calloc((size_t)v->n_ranks + 1, sizeof *v->merge_at);
    if (!v->merge_at) return out_of_memory(v);
    v->merge_at[0] = v->texts_len;
    for (uint32_t rank = 0; rank < v->n_ranks; rank++) {
        const char *bytes = v->pool + v->at[rank];
        size_t n = v->at[rank + 1] - v->at[rank], cut;
        if (!split_token(v, rank, &cut)) continue;
        if (!put_alphabet(v, bytes, cut) || !put_text(v, " ", 1) || !put_alphabet(v, bytes + cut, n - cut))
            return out_of_memory(v);
        v->merge_at[++v->n_merges] = v->texts_len;
    }
    return 0;
}

/* Names of the ids behind the ranks; NULL where there is none. */
static int list_specials(const struct vocab *v, const struct json_tree *tree, const struct json_node **names)
{
    const struct json_node *list = json_node_get(tree, tree->nodes, "added_tokens_decoder");
    if (!list || list->kind != JSON_OBJECT)
        return error_set(v->error, ERROR_MODEL, "tokenizer_config.json has no added_tokens_decoder.");
    for (const struct json_node *n = json_node_first(tree, list); n; n = json_node_next(tree, n)) {
        char digits[12] = "", *stop;
        if (n->key.len && n->key.len < sizeof digits) memcpy(digits, n->key.bytes, n->key.len);
        unsigned long id = digits[0] >= '0' && digits[0] <= '9' ? strtoul(digits, &stop, 10) : NONE;
        const struct json_node *content = json_node_get(tree, n, "content");
        if (id == NONE || *stop || id < v->n_ranks || id >= v->n_vocab || names[id - v->n_ranks])
            return error_set(v->error, ERROR_MODEL, "tokenizer_config.json: added token %.*s is no id from %u to %u.",
                             (int)(n->key.len < 20 ? n->key.len : 20), n->key.bytes, v->n_ranks, v->n_vocab - 1);
        if (!content || content->kind != JSON_STRING || !content->text.len)
            return error_set(v->error, ERROR_MODEL, "tokenizer_config.json: added token %lu has no content.", id);
        names[id - v->n_ranks] = content;
    }
    return 0;
}

static int make_tokens(struct vocab *v, const struct json_node *const *names)
{
    v->token_at = calloc((size_t)v->n_vocab + 1, sizeof *v->token_at);
    v->types = calloc(v->n_vocab, sizeof *v->types);
    if (!v->token_at || !v->types) return out_of_memory(v);
    for (uint32_t id = 0; id < v->n_vocab; id++) {
        char filler[24];
        const struct json_node *name = id < v->n_ranks ? NULL : names[id - v->n_ranks];
        size_t filler_len = (size_t)snprintf(filler, sizeof filler, "[PAD%u]", id);
        bool done = id < v->n_ranks ? put_alphabet(v, v->pool + v->at[id], v->at[id + 1] - v->at[id])
                    : name          ? put_text(v, name->text.bytes, name->text.len)
                                    : put_text(v, filler, filler_len);
        if (!done) return out_of_memory(v);
        v->types[id] = id < v->n_ranks ? TYPE_NORMAL : name ? TYPE_CONTROL : TYPE_UNUSED;
        v->token_at[id + 1] = v->texts_len;
    }
    return 0;
}

/* ---------------------------------------------------------------------------------------------- writing */

static int put_strings(const struct vocab *v, struct gguf_writer *w, const char *key, const size_t *at, size_t count)
{
    struct gguf_string *strings = calloc(count + 1, sizeof *strings);
    if (!strings) return out_of_memory(v);
    for (size_t i = 0; i < count; i++) strings[i] = (struct gguf_string){v->texts + at[i], at[i + 1] - at[i]};
    gguf_put_string_array(w, key, strings, count);
    free(strings);
    return 0;
}

/* A token named by tokenizer_config.json, as a string or as an object with content: its id is put. */
static int put_named(const struct vocab *v, const struct json_tree *tree, struct gguf_writer *w, const char *setting,
                     const char *key, uint32_t *id)
{
    const struct json_node *n = json_node_get(tree, tree->nodes, setting);
    if (n && n->kind == JSON_OBJECT) n = json_node_get(tree, n, "content");
    *id = NONE;
    if (!n || n->kind == JSON_NULL) return 0;
    for (uint32_t i = v->n_ranks; i < v->n_vocab; i++) {
        size_t len = v->token_at[i + 1] - v->token_at[i];
        if (v->types[i] != TYPE_CONTROL || n->kind != JSON_STRING || n->text.len != len ||
            memcmp(n->text.bytes, v->texts + v->token_at[i], len))
            continue;
        gguf_put_u32(w, key, *id = i);
        return 0;
    }
    return error_set(v->error, ERROR_MODEL, "tokenizer_config.json: %s is none of the added tokens.", setting);
}

static int put_ids(const struct vocab *v, const struct json_tree *tree, const struct convert_config *c,
                   struct gguf_writer *w)
{
    uint32_t bos, eos, padding;
    int rc = put_named(v, tree, w, "bos_token", "tokenizer.ggml.bos_token_id", &bos);
    if (!rc) rc = put_named(v, tree, w, "eos_token", "tokenizer.ggml.eos_token_id", &eos);
    if (!rc) rc = put_named(v, tree, w, "pad_token", "tokenizer.ggml.padding_token_id", &padding);
    if (rc) return rc;
    /* The configuration's end is the turn's (<|im_end|>), the tokenizer's that of a text. */
    if (c->eos != NONE && c->eos != eos) gguf_put_u32(w, "tokenizer.ggml.eot_token_id", c->eos);
    const struct json_node *add_bos = json_node_get(tree, tree->nodes, "add_bos_token");
    if (add_bos && add_bos->kind == JSON_BOOL) gguf_put_bool(w, "tokenizer.ggml.add_bos_token", add_bos->truth);
    return 0;
}

/* The template is a string, or a list of named ones, or a file of its own; there may be none. */
static int put_template(const struct vocab *v, const struct json_tree *tree, const char *dir, struct gguf_writer *w)
{
    static const char key[] = "tokenizer.chat_template";
    const struct json_node *n = json_node_get(tree, tree->nodes, "chat_template"), *given = NULL;
    if (n && n->kind == JSON_STRING) given = n;
    for (n = n && n->kind == JSON_ARRAY ? json_node_first(tree, n) : NULL; n; n = json_node_next(tree, n))
        if (json_node_is(json_node_get(tree, n, "name"), "default")) given = json_node_get(tree, n, "template");
    if (given && given->kind == JSON_STRING) return gguf_put_string(w, key, given->text.bytes, given->text.len), 0;
    char path[CONVERT_PATH], *text;
    size_t len;
    snprintf(path, sizeof path, "%s/chat_template.jinja", dir);
    FILE *there = fopen(path, "rb");
    if (!there) return 0;
    fclose(there);
    int rc = json_file_read(path, (size_t)1 << 20, &text, &len, v->error);
    if (!rc) gguf_put_string(w, key, text, len);
    free(text);
    return rc;
}

static int put_all(struct vocab *v, const struct json_tree *tree, const char *dir, const struct convert_config *c,
                   struct gguf_writer *w)
{
    gguf_put_string(w, "tokenizer.ggml.model", "gpt2", 4);
    gguf_put_string(w, "tokenizer.ggml.pre", "kimi-k2", 7);
    int rc = put_strings(v, w, "tokenizer.ggml.tokens", v->token_at, v->n_vocab);
    if (rc) return rc;
    gguf_put_i32_array(w, "tokenizer.ggml.token_type", v->types, v->n_vocab);
    rc = put_strings(v, w, "tokenizer.ggml.merges", v->merge_at, v->n_merges);
    if (!rc) rc = put_ids(v, tree, c, w);
    return rc ? rc : put_template(v, tree, dir, w);
}

static void vocab_free(struct vocab *v)
{
    free(v->pool);
    free(v->at);
    free(v->slots);
    free(v->texts);
    free(v->token_at);
    free(v->merge_at);
    free(v->types);
}

static int make_all(struct vocab *v, const struct json_tree *tree)
{
    int rc = read_ranks(v);
    if (!rc) rc = index_ranks(v);
    if (rc) return rc;
    const struct json_node **names = calloc((size_t)(v->n_vocab - v->n_ranks) + 1, sizeof *names);
    rc = names ? list_specials(v, tree, names) : out_of_memory(v);
    if (!rc) rc = make_tokens(v, names);
    free(names);
    return rc ? rc : make_merges(v);
}

int convert_vocab_put(const char *dir, const struct convert_config *c, struct gguf_writer *w, struct error *error)
{
    char path[CONVERT_PATH], config[CONVERT_PATH];
    struct json_tree tree;
    struct vocab v = {.path = path, .error = error, .n_vocab = c->n_vocab};
    if (snprintf(path, sizeof path, "%s/tiktoken.model", dir) >= (int)sizeof path ||
        snprintf(config, sizeof config, "%s/tokenizer_config.json", dir) >= (int)sizeof config)
        return error_set(error, ERROR_MODEL, "%.200s: the path is too long.", dir);
    int rc = json_tree_read(&tree, config, error);
    if (!rc) rc = make_all(&v, &tree);
    if (!rc) rc = put_all(&v, &tree, dir, c, w);
    json_tree_free(&tree);
    vocab_free(&v);
    return rc;
}
