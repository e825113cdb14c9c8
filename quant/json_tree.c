/* SPDX-License-Identifier: MIT
 *
 * The JSON reader. One pass over a copy of the text; strings shrink in place as their escapes are resolved.
 */
#include "quant/json_tree.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DEPTH = 64, MOST_NODES = 1 << 24 };
#define MOST_FILE ((size_t)256 << 20)

struct parser {
    struct json_tree *tree;
    char *at, *end; /* *end is NUL */
    const char *what;
    struct error *error;
};

static int broken(struct parser *p, const char *why)
{
    return error_set(p->error, ERROR_MODEL, "%s is no JSON: %s at byte %zu.", p->what, why,
                     (size_t)(p->at - p->tree->text));
}

static void skip_blanks(struct parser *p)
{
    while (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r') p->at++;
}

static int add_node(struct parser *p, uint32_t *index)
{
    struct json_tree *t = p->tree;
    if (t->count == t->room) {
        size_t room = t->room * 2 + 64;
        struct json_node *grown = room > MOST_NODES ? NULL : realloc(t->nodes, room * sizeof *grown);
        if (!grown) return error_set(p->error, ERROR_FAILED, "Out of memory for %s.", p->what);
        t->nodes = grown;
        t->room = room;
    }
    *index = (uint32_t)t->count;
    t->nodes[t->count++] = (struct json_node){0};
    return 0;
}

/* ------------------------------------------------------------------------------------------------ strings */

static bool read_hex(const char *at, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16) return false; /* the NUL at the end as well */
        *out = *out << 4 | digit;
    }
    return true;
}

static size_t put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) return out[0] = (char)c, 1;
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00 >> n & 0xff) | c);
    return n;
}

/* At "uXXXX", maybe followed by the second half of a pair. */
static bool read_unicode(struct parser *p, char **out)
{
    uint32_t c, low;
    if (!read_hex(p->at + 1, &c)) return false;
    p->at += 5;
    if (c >= 0xdc00 && c < 0xe000) return false;
    if (c >= 0xd800 && c < 0xdc00) {
        if (p->at[0] != '\\' || p->at[1] != 'u' || !read_hex(p->at + 2, &low) || low < 0xdc00 || low >= 0xe000)
            return false;
        p->at += 6;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    *out += put_utf8(*out, c); /* at most 3 bytes for 6, 4 for 12 */
    return true;
}

static bool read_escape(struct parser *p, char **out)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    if (*p->at == 'u') return read_unicode(p, out);
    const char *letter = *p->at ? strchr(letters, *p->at) : NULL;
    if (!letter) return false;
    *(*out)++ = meanings[letter - letters];
    p->at++;
    return true;
}

static int read_string(struct parser *p, struct gguf_string *text)
{
    if (*p->at != '"') return broken(p, "a string is missing");
    char *out = ++p->at;
    text->bytes = out;
    while (*p->at != '"') {
        if ((unsigned char)*p->at < ' ') return broken(p, "a string has no end, or a control character in it,");
        if (*p->at != '\\') {
            *out++ = *p->at++;
            continue;
        }
        p->at++;
        if (!read_escape(p, &out)) return broken(p, "an escape is broken");
    }
    p->at++;
    text->len = (size_t)(out - text->bytes);
    return 0;
}

/* ------------------------------------------------------------------------------------------------- values */

static bool skip_digits(struct parser *p)
{
    char *start = p->at;
    while (*p->at >= '0' && *p->at <= '9') p->at++;
    return p->at > start;
}

static int read_number(struct parser *p, double *out)
{
    char *start = p->at, *stop;
    if (*p->at == '-') p->at++;
    bool leading_zero = p->at[0] == '0' && p->at[1] >= '0' && p->at[1] <= '9';
    bool good = !leading_zero && skip_digits(p);
    if (good && *p->at == '.') good = (p->at++, skip_digits(p));
    if (good && (*p->at == 'e' || *p->at == 'E')) {
        p->at++;
        if (*p->at == '+' || *p->at == '-') p->at++;
        good = skip_digits(p);
    }
    if (!good) return broken(p, "a value is missing");
    *out = strtod(start, &stop);
    return stop == p->at && isfinite(*out) ? 0 : broken(p, "a number is too large");
}

static bool read_word(struct parser *p, struct json_node *n)
{
    static const struct {
        const char *word;
        enum json_kind kind;
        bool truth;
    } words[] = {{"true", JSON_BOOL, true}, {"false", JSON_BOOL, false}, {"null", JSON_NULL, false}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t len = strlen(words[i].word);
        if (strncmp(p->at, words[i].word, len) != 0) continue;
        n->kind = words[i].kind;
        n->truth = words[i].truth;
        p->at += len;
        return true;
    }
    return false;
}

static int read_value(struct parser *p, uint32_t index, unsigned depth);

/* The children between brackets. Nodes move as the list grows, so all goes by index. */
static int read_container(struct parser *p, uint32_t index, unsigned depth)
{
    bool is_object = *p->at++ == '{';
    char close = is_object ? '}' : ']';
    uint32_t previous = 0;
    p->tree->nodes[index].kind = is_object ? JSON_OBJECT : JSON_ARRAY;
    if (depth == MOST_DEPTH) return broken(p, "it is nested too deep");
    skip_blanks(p);
    if (*p->at == close) return p->at++, 0;
    for (;;) {
        uint32_t child = 0;
        struct gguf_string key = {0};
        int rc = add_node(p, &child);
        skip_blanks(p);
        if (!rc && is_object) rc = read_string(p, &key);
        if (!rc && is_object) skip_blanks(p);
        if (!rc && is_object && *p->at++ != ':') return p->at--, broken(p, "a colon is missing");
        if (!rc) rc = read_value(p, child, depth + 1);
        if (rc) return rc;
        p->tree->nodes[child].key = key;
        p->tree->nodes[index].count++;
        if (previous) p->tree->nodes[previous].next = child;
        previous = child;
        if (*p->at == close) return p->at++, 0;
        if (*p->at != ',') return broken(p, "a comma is missing");
        p->at++;
    }
}

/* Fills nodes[index] and skips the blanks behind. */
static int read_value(struct parser *p, uint32_t index, unsigned depth)
{
    int rc = 0;
    skip_blanks(p);
    struct json_node *n = &p->tree->nodes[index];
    if (*p->at == '{' || *p->at == '[') {
        rc = read_container(p, index, depth);
    } else if (*p->at == '"') {
        n->kind = JSON_STRING;
        rc = read_string(p, &n->text);
    } else if (!read_word(p, n)) {
        n->kind = JSON_NUMBER;
        rc = read_number(p, &n->number);
    }
    if (!rc) skip_blanks(p);
    return rc;
}

int json_tree_parse(struct json_tree *out, const char *text, size_t len, const char *what, struct error *error)
{
    uint32_t root;
    *out = (struct json_tree){.text = malloc(len + 1)};
    if (!out->text) return error_set(error, ERROR_FAILED, "Out of memory for %s.", what);
    memcpy(out->text, text, len);
    out->text[len] = 0;
    struct parser p = {.tree = out, .at = out->text, .end = out->text + len, .what = what, .error = error};
    int rc = add_node(&p, &root);
    if (!rc) rc = read_value(&p, root, 0);
    if (!rc && p.at != p.end) rc = broken(&p, "something follows the value");
    if (rc) json_tree_free(out);
    return rc;
}

void json_tree_free(struct json_tree *tree)
{
    free(tree->nodes);
    free(tree->text);
    *tree = (struct json_tree){0};
}

/* -------------------------------------------------------------------------------------------------- access */

const struct json_node *json_node_first(const struct json_tree *tree, const struct json_node *node)
{
    (void)tree;
    return node && node->count ? node + 1 : NULL;
}

const struct json_node *json_node_next(const struct json_tree *tree, const struct json_node *node)
{
    return node->next ? &tree->nodes[node->next] : NULL;
}

const struct json_node *json_node_get(const struct json_tree *tree, const struct json_node *object, const char *key)
{
    if (!object || object->kind != JSON_OBJECT) return NULL;
    size_t len = strlen(key);
    const struct json_node *n = json_node_first(tree, object);
    while (n && (n->key.len != len || memcmp(n->key.bytes, key, len) != 0)) n = json_node_next(tree, n);
    return n;
}

bool json_node_uint(const struct json_node *node, uint64_t *out)
{
    if (!node || node->kind != JSON_NUMBER || !(node->number >= 0 && node->number <= 0x1p53)) return false;
    *out = (uint64_t)node->number;
    return (double)*out == node->number;
}

bool json_node_is(const struct json_node *node, const char *text)
{
    size_t len = strlen(text);
    return node && node->kind == JSON_STRING && node->text.len == len && memcmp(node->text.bytes, text, len) == 0;
}

int json_file_read(const char *path, size_t most, char **bytes, size_t *len, struct error *error)
{
    *bytes = NULL;
    *len = 0;
    FILE *file = fopen(path, "rb");
    if (!file) return error_set(error, ERROR_MODEL, "%s cannot be opened: %s.", path, strerror(errno));
    size_t room = 1 << 16, n = 0;
    char *buffer = malloc(room);
    while (buffer && (n += fread(buffer + n, 1, room - n, file)) == room && n <= most) {
        char *grown = realloc(buffer, room *= 2);
        if (!grown) free(buffer);
        buffer = grown;
    }
    bool is_bad = ferror(file);
    fclose(file);
    if (!buffer) return error_set(error, ERROR_FAILED, "Out of memory for %s.", path);
    if (is_bad || n > most) {
        free(buffer);
        return error_set(error, ERROR_MODEL, "%s cannot be read or is over %zu MiB.", path, most >> 20);
    }
    buffer[n] = 0; /* n < room here: a full buffer was grown */
    *bytes = buffer;
    *len = n;
    return 0;
}

int json_tree_read(struct json_tree *out, const char *path, struct error *error)
{
    char *bytes;
    size_t len;
    *out = (struct json_tree){0};
    int rc = json_file_read(path, MOST_FILE, &bytes, &len, error);
    if (!rc) rc = json_tree_parse(out, bytes, len, path, error);
    free(bytes);
    return rc;
}
