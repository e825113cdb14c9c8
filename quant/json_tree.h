/* SPDX-License-Identifier: MIT
 *
 * Reading JSON (RFC 8259) that came with a model: strict, whole in memory, hostile until parsed. Depth is at most 64;
 * numbers are doubles. Private to quant/.
 */
#ifndef LECTERN_QUANT_JSON_TREE_H
#define LECTERN_QUANT_JSON_TREE_H

#include "quant/gguf.h"

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_node {
    enum json_kind kind;
    bool truth;              /* JSON_BOOL */
    uint32_t count;          /* children; the first follows its parent in the list of nodes */
    uint32_t next;           /* index of the next sibling, 0 = none */
    double number;           /* JSON_NUMBER, finite */
    struct gguf_string key;  /* of a member of an object */
    struct gguf_string text; /* JSON_STRING, escapes resolved; NUL bytes may be in it */
};

struct json_tree {
    struct json_node *nodes; /* in order of the text; nodes[0] is the root */
    size_t count, room;
    char *text; /* a copy, in which strings are decoded in place */
};

/* `what` names the text in errors. ERROR_MODEL for anything that is no JSON. On failure the tree is empty. */
int json_tree_parse(struct json_tree *out, const char *text, size_t len, const char *what, struct error *);
int json_tree_read(struct json_tree *out, const char *path, struct error *); /* a file of at most 256 MiB */
void json_tree_free(struct json_tree *);

const struct json_node *json_node_first(const struct json_tree *, const struct json_node *); /* NULL: no child */
const struct json_node *json_node_next(const struct json_tree *, const struct json_node *);  /* NULL: the last */
/* A member of an object; NULL when there is none, or no object (object may be NULL). Of twins the first. */
const struct json_node *json_node_get(const struct json_tree *, const struct json_node *object, const char *key);
/* A whole number from 0 to 2^53; false for anything else (node may be NULL). */
bool json_node_uint(const struct json_node *, uint64_t *out);
bool json_node_is(const struct json_node *, const char *text); /* this string? node may be NULL */

/* The whole of a file of at most `most` bytes, with a NUL behind: malloc. ERROR_MODEL when it cannot be read. */
int json_file_read(const char *path, size_t most, char **bytes, size_t *len, struct error *);

#endif
