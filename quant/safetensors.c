/* SPDX-License-Identifier: MIT
 *
 * The safetensors reader (safetensors.h).
 */
#include "quant/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quant/json_tree.h"

enum { MOST_FILES = 4096, MOST_TENSORS = 1 << 20, MOST_NAME = 256, PATH_ROOM = 4096 };
#define MOST_HEADER ((uint64_t)128 << 20)

struct mapping {
    char *name; /* of the file in the folder */
    unsigned char *bytes;
    size_t len;
};

struct safetensors {
    const char *dir;
    struct mapping *files;
    size_t n_files;
    struct safetensor *tensors; /* sorted by name */
    size_t n_tensors, room;
};

void safetensors_close(struct safetensors **safetensors)
{
    struct safetensors *s = *safetensors;
    if (!s) return;
    for (size_t i = 0; i < s->n_files; i++) {
        if (s->files[i].bytes) munmap(s->files[i].bytes, s->files[i].len);
        free(s->files[i].name);
    }
    for (size_t i = 0; i < s->n_tensors; i++) free(s->tensors[i].name);
    free(s->files);
    free(s->tensors);
    free(s);
    *safetensors = NULL;
}

static int out_of_memory(const struct safetensors *s, struct error *error)
{
    return error_set(error, ERROR_FAILED, "Out of memory for the tensors of %s.", s->dir);
}

/* ------------------------------------------------------------------------------------------- which files */

static bool join(const struct safetensors *s, const char *name, char path[PATH_ROOM])
{
    int n = snprintf(path, PATH_ROOM, "%s/%s", s->dir, name);
    return n > 0 && n < PATH_ROOM;
}

static int add_file(struct safetensors *s, struct gguf_string name, struct error *error)
{
    for (size_t i = 0; i < s->n_files; i++)
        if (strlen(s->files[i].name) == name.len && !memcmp(s->files[i].name, name.bytes, name.len)) return 0;
    if (!name.len || name.len > 200 || memchr(name.bytes, '/', name.len) || memchr(name.bytes, 0, name.len))
        return error_set(error, ERROR_MODEL, "%s: the index names a file outside the folder.", s->dir);
    if (s->n_files == MOST_FILES) return error_set(error, ERROR_MODEL, "%s: too many files.", s->dir);
    struct mapping *grown = realloc(s->files, (s->n_files + 1) * sizeof *grown);
    if (!grown) return out_of_memory(s, error);
    s->files = grown;
    s->files[s->n_files] = (struct mapping){.name = strndup(name.bytes, name.len)};
    return s->files[s->n_files++].name ? 0 : out_of_memory(s, error);
}

static int list_files(struct safetensors *s, struct error *error)
{
    static const char single[] = "model.safetensors";
    char path[PATH_ROOM];
    struct json_tree index;
    if (!join(s, "model.safetensors.index.json", path))
        return error_set(error, ERROR_MODEL, "%.200s: the path is too long.", s->dir);
    if (access(path, F_OK)) return add_file(s, (struct gguf_string){single, sizeof single - 1}, error);
    int rc = json_tree_read(&index, path, error);
    if (rc) return rc;
    const struct json_node *map = json_node_get(&index, index.nodes, "weight_map");
    const struct json_node *n = map && map->kind == JSON_OBJECT ? json_node_first(&index, map) : NULL;
    if (!n) rc = error_set(error, ERROR_MODEL, "%s has no weight_map.", path);
    for (; !rc && n; n = json_node_next(&index, n))
        rc = n->kind == JSON_STRING ? add_file(s, n->text, error)
                                    : error_set(error, ERROR_MODEL, "%s: weight_map is not of file names.", path);
    json_tree_free(&index);
    return rc;
}

static int map_file(struct safetensors *s, struct mapping *m, struct error *error)
{
    char path[PATH_ROOM];
    struct stat st;
    int fd = join(s, m->name, path) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return error_set(error, ERROR_MODEL, "%s/%s cannot be opened: %s.", s->dir, m->name, strerror(errno));
    int rc = 0;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size < 10)
        rc = error_set(error, ERROR_MODEL, "%s is not a safetensors file.", path);
    void *bytes = rc ? MAP_FAILED : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (!rc && bytes == MAP_FAILED)
        rc = error_set(error, ERROR_FAILED, "%s cannot be mapped: %s.", path, strerror(errno));
    close(fd);
    if (rc) return rc;
    m->bytes = bytes;
    m->len = (size_t)st.st_size;
    return 0;
}

/* ----------------------------------------------------------------------------------------------- tensors */

static bool read_shape(const struct json_tree *tree, const struct json_node *shape, struct safetensor *t)
{
    t->count = 1;
    if (!shape || shape->kind != JSON_ARRAY || shape->count > 8) return false;
    for (const struct json_node *n = json_node_first(tree, shape); n; n = json_node_next(tree, n)) {
        uint64_t extent;
        if (!json_node_uint(n, &extent) || (extent && t->count > ((uint64_t)1 << 48) / extent)) return false;
        t->shape[t->n_dims++] = extent;
        t->count *= extent;
    }
    return true;
}

static int read_tensor(const struct json_tree *tree, const struct json_node *n, const unsigned char *data,
                       uint64_t data_len, struct safetensor *t, struct error *error)
{
    const struct json_node *dtype = json_node_get(tree, n, "dtype"), *offsets = json_node_get(tree, n, "data_offsets");
    t->format = json_node_is(dtype, "F32")    ? quant_format(QUANT_F32)
                : json_node_is(dtype, "F16")  ? quant_format(QUANT_F16)
                : json_node_is(dtype, "BF16") ? quant_format(QUANT_BF16)
                                              : NULL;
    int len = (int)n->key.len;
    if (!t->format) return error_set(error, ERROR_MODEL, "Tensor %.*s is not F32, F16 or BF16.", len, n->key.bytes);
    if (!read_shape(tree, json_node_get(tree, n, "shape"), t))
        return error_set(error, ERROR_MODEL, "Tensor %.*s has no usable shape.", len, n->key.bytes);
    const struct json_node *from = json_node_first(tree, offsets), *to = from ? json_node_next(tree, from) : NULL;
    uint64_t first, last;
    if (!offsets || offsets->kind != JSON_ARRAY || offsets->count != 2 || !json_node_uint(from, &first) ||
        !json_node_uint(to, &last) || first > last || last > data_len)
        return error_set(error, ERROR_MODEL, "Tensor %.*s lies outside its file.", len, n->key.bytes);
    if (last - first != t->count * t->format->block_bytes)
        return error_set(error, ERROR_MODEL, "Tensor %.*s has not the size of its shape.", len, n->key.bytes);
    t->data = data + first;
    return 0;
}

static int add_tensor(struct safetensors *s, const struct safetensor *t, struct gguf_string name, struct error *error)
{
    if (s->n_tensors == s->room) {
        size_t room = s->room * 2 + 256;
        struct safetensor *grown = room > MOST_TENSORS ? NULL : realloc(s->tensors, room * sizeof *grown);
        if (!grown) return out_of_memory(s, error);
        s->tensors = grown;
        s->room = room;
    }
    s->tensors[s->n_tensors] = *t;
    s->tensors[s->n_tensors].name = strndup(name.bytes, name.len);
    return s->tensors[s->n_tensors++].name ? 0 : out_of_memory(s, error);
}

static int read_header(struct safetensors *s, const struct mapping *m, struct error *error)
{
    uint64_t len = 0;
    char what[256];
    struct json_tree tree;
    for (unsigned i = 0; i < 8; i++) len |= (uint64_t)m->bytes[i] << (8 * i);
    snprintf(what, sizeof what, "The header of %s", m->name);
    if (len > MOST_HEADER || len > m->len - 8)
        return error_set(error, ERROR_MODEL, "%s is longer than the file.", what);
    int rc = json_tree_parse(&tree, (const char *)m->bytes + 8, (size_t)len, what, error);
    if (!rc && tree.nodes[0].kind != JSON_OBJECT) rc = error_set(error, ERROR_MODEL, "%s is not a JSON object.", what);
    const struct json_node *n = rc ? NULL : json_node_first(&tree, tree.nodes);
    for (; !rc && n; n = json_node_next(&tree, n)) {
        if (n->key.len == 12 && !memcmp(n->key.bytes, "__metadata__", 12)) continue;
        struct safetensor t = {0};
        if (!n->key.len || n->key.len > MOST_NAME || memchr(n->key.bytes, 0, n->key.len))
            rc = error_set(error, ERROR_MODEL, "%s has a tensor whose name is empty or too long.", what);
        if (!rc) rc = read_tensor(&tree, n, m->bytes + 8 + len, m->len - 8 - len, &t, error);
        if (!rc) rc = add_tensor(s, &t, n->key, error);
    }
    json_tree_free(&tree);
    return rc;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct safetensor *)a)->name, ((const struct safetensor *)b)->name);
}

static int index_tensors(struct safetensors *s, struct error *error)
{
    if (!s->n_tensors) return error_set(error, ERROR_MODEL, "%s has no tensors.", s->dir);
    qsort(s->tensors, s->n_tensors, sizeof *s->tensors, compare_names);
    for (size_t i = 1; i < s->n_tensors; i++)
        if (!strcmp(s->tensors[i - 1].name, s->tensors[i].name))
            return error_set(error, ERROR_MODEL, "%s has tensor %s twice.", s->dir, s->tensors[i].name);
    return 0;
}

int safetensors_open(struct safetensors **out, const char *dir, struct error *error)
{
    struct safetensors *s = *out = calloc(1, sizeof *s);
    if (!s) return error_set(error, ERROR_FAILED, "Out of memory for the tensors of %s.", dir);
    s->dir = dir;
    int rc = list_files(s, error);
    for (size_t i = 0; !rc && i < s->n_files; i++) {
        rc = map_file(s, &s->files[i], error);
        if (!rc) rc = read_header(s, &s->files[i], error);
    }
    if (!rc) rc = index_tensors(s, error);
    if (rc) safetensors_close(out);
    return rc;
}

size_t safetensors_count(const struct safetensors *s)
{
    return s->n_tensors;
}

const struct safetensor *safetensors_named(const struct safetensors *s, const char *name)
{
    struct safetensor key = {.name = (char *)(uintptr_t)name};
    return bsearch(&key, s->tensors, s->n_tensors, sizeof *s->tensors, compare_names);
}
