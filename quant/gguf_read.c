/* SPDX-License-Identifier: MIT
 *
 * Opening a GGUF file: map, parse, check. Nothing read from the file is believed before it is compared with the file's
 * own length; sums and products are checked before they are used.
 *
 *     "GGUF"  u32 version  u64 tensors  u64 values
 *     value:  string key, u32 kind, data          (array: u32 kind of the elements, u64 count, elements)
 *     tensor: string name, u32 n_dims, u64 ne[n_dims], u32 type, u64 offset from the start of the data
 *     zeros up to the alignment, then the data
 */
#include "quant/gguf_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The part of a shard's mapping that is still to be parsed, and where complaints go. */
struct reader {
    const unsigned char *map;
    size_t pos;
    size_t end; /* no header byte lies at or after it */
    const char *path;
    struct error *error;
};

struct printable {
    char text[GGUF_MOST_NAME + 4];
};

/* A name from the file, made safe to show. */
static struct printable printable(struct gguf_string s)
{
    struct printable p = {""};
    size_t n = s.len < GGUF_MOST_NAME ? s.len : GGUF_MOST_NAME;
    for (size_t i = 0; i < n; i++) p.text[i] = s.bytes[i] >= 0x20 && s.bytes[i] < 0x7f ? s.bytes[i] : '?';
    return p;
}

static const unsigned char *take(struct reader *r, uint64_t bytes, const char *what)
{
    if (bytes > r->end - r->pos) {
        if (r->end == GGUF_MOST_HEADER)
            error_set(r->error, ERROR_MODEL, "%s: the metadata is larger than 64 MiB.", r->path);
        else
            error_set(r->error, ERROR_MODEL, "%s: the file ends inside %s: it is cut off or damaged.", r->path, what);
        return NULL;
    }
    const unsigned char *at = r->map + r->pos;
    r->pos += (size_t)bytes;
    return at;
}

static bool take_u32(struct reader *r, uint32_t *out, const char *what)
{
    const unsigned char *at = take(r, 4, what);
    if (at) *out = gguf_load_u32(at);
    return at != NULL;
}

static bool take_u64(struct reader *r, uint64_t *out, const char *what)
{
    const unsigned char *at = take(r, 8, what);
    if (at) *out = gguf_load_u64(at);
    return at != NULL;
}

static bool take_string(struct reader *r, struct gguf_string *out, const char *what)
{
    uint64_t len;
    if (!take_u64(r, &len, what)) return false;
    const unsigned char *at = take(r, len, what);
    if (at) *out = (struct gguf_string){(const char *)at, (size_t)len};
    return at != NULL;
}

static int read_start(struct reader *r, uint64_t *n_tensors, uint64_t *n_values)
{
    uint32_t version;
    const unsigned char *magic = take(r, 4, "the first four bytes");
    if (!magic) return ERROR_MODEL;
    if (memcmp(magic, "GGUF", 4) != 0) return error_set(r->error, ERROR_MODEL, "%s: this is not a GGUF file.", r->path);
    if (!take_u32(r, &version, "the version")) return ERROR_MODEL;
    if (version != 0 && (version & 0xffff) == 0)
        return error_set(r->error, ERROR_MODEL, "%s: this GGUF file is big-endian, which is not supported.", r->path);
    if (version < GGUF_VERSION)
        return error_set(r->error, ERROR_MODEL,
                         "%s: this is GGUF version %u, which is too old: convert it to version 3.", r->path, version);
    if (version > GGUF_VERSION)
        return error_set(r->error, ERROR_MODEL, "%s: this is GGUF version %u; only version 3 is known.", r->path,
                         version);
    if (!take_u64(r, n_tensors, "the tensor count") || !take_u64(r, n_values, "the metadata count")) return ERROR_MODEL;
    if (*n_tensors > GGUF_MOST_TENSORS)
        return error_set(r->error, ERROR_MODEL, "%s: the file claims more than 65536 tensors.", r->path);
    if (*n_values > GGUF_MOST_VALUES)
        return error_set(r->error, ERROR_MODEL, "%s: the file claims more than 65536 metadata values.", r->path);
    return 0;
}

static int bad_value(struct reader *r, const struct gguf_value *v, const char *what)
{
    return error_set(r->error, ERROR_MODEL, "%s: metadata value %s %s.", r->path, printable(v->key).text, what);
}

static int read_array_start(struct reader *r, struct gguf_value *v, uint32_t *kind)
{
    v->is_array = true;
    if (!take_u32(r, kind, "an array") || !take_u64(r, &v->count, "an array")) return ERROR_MODEL;
    if (*kind == GGUF_ARRAY) return bad_value(r, v, "is an array of arrays");
    return 0;
}

/* The elements are walked once here, so that gguf_array_string can trust their lengths. */
static int read_elements(struct reader *r, struct gguf_value *v)
{
    size_t start = r->pos;
    size_t each = gguf_kind_bytes(v->kind);
    v->data = r->map + start;
    if (v->kind == GGUF_STRING) {
        struct gguf_string s;
        for (uint64_t i = 0; i < v->count; i++)
            if (!take_string(r, &s, "a metadata string")) return ERROR_MODEL;
    } else if (v->count > (r->end - start) / each) {
        return take(r, UINT64_MAX, "a metadata value") ? 0 : ERROR_MODEL;
    } else {
        r->pos += (size_t)v->count * each;
    }
    v->bytes = r->pos - start;
    return 0;
}

static int read_value(struct reader *r, struct gguf_value *v)
{
    uint32_t kind;
    *v = (struct gguf_value){.count = 1};
    if (!take_string(r, &v->key, "a metadata key") || !take_u32(r, &kind, "a metadata value")) return ERROR_MODEL;
    if (v->key.len == 0 || v->key.len > GGUF_MOST_KEY || memchr(v->key.bytes, 0, v->key.len))
        return error_set(r->error, ERROR_MODEL, "%s: a metadata key is empty, too long or contains a zero.", r->path);
    if (kind == GGUF_ARRAY && read_array_start(r, v, &kind)) return ERROR_MODEL;
    if (kind != GGUF_STRING && gguf_kind_bytes(kind) == 0) return bad_value(r, v, "is of an unknown kind");
    v->kind = (enum gguf_kind)kind;
    return read_elements(r, v);
}

/* Multiplies the dimensions into t->bytes. */
static int size_tensor(struct reader *r, struct gguf_tensor *t)
{
    struct printable name = printable(t->name);
    if (t->ne[0] % t->format->block_len)
        return error_set(r->error, ERROR_MODEL, "%s: tensor %s has rows of %llu weights, but %s comes in blocks of %u.",
                         r->path, name.text, (unsigned long long)t->ne[0], t->format->name, t->format->block_len);
    uint64_t bytes = t->ne[0] / t->format->block_len;
    uint64_t factors[] = {t->format->block_bytes, t->ne[1], t->ne[2], t->ne[3]};
    for (size_t i = 0; i < 4; i++) {
        if (bytes > INT64_MAX / factors[i])
            return error_set(r->error, ERROR_MODEL, "%s: tensor %s is impossibly large.", r->path, name.text);
        bytes *= factors[i];
    }
    t->bytes = (size_t)bytes;
    return 0;
}

static int read_tensor(struct reader *r, struct gguf_tensor *t, uint64_t *offset)
{
    uint32_t type;
    *t = (struct gguf_tensor){.ne = {1, 1, 1, 1}};
    if (!take_string(r, &t->name, "a tensor name") || !take_u32(r, &t->n_dims, "a tensor description"))
        return ERROR_MODEL;
    if (t->name.len == 0 || t->name.len > GGUF_MOST_NAME || memchr(t->name.bytes, 0, t->name.len))
        return error_set(r->error, ERROR_MODEL, "%s: a tensor name is empty, too long or contains a zero.", r->path);
    if (t->n_dims < 1 || t->n_dims > 4)
        return error_set(r->error, ERROR_MODEL, "%s: tensor %s has %u dimensions.", r->path, printable(t->name).text,
                         t->n_dims);
    for (uint32_t i = 0; i < t->n_dims; i++) {
        if (!take_u64(r, &t->ne[i], "a tensor description")) return ERROR_MODEL;
        if (t->ne[i] == 0 || t->ne[i] > INT64_MAX)
            return error_set(r->error, ERROR_MODEL, "%s: tensor %s has an impossible dimension.", r->path,
                             printable(t->name).text);
    }
    if (!take_u32(r, &type, "a tensor description") || !take_u64(r, offset, "a tensor description")) return ERROR_MODEL;
    t->format = quant_format(type);
    if (!t->format)
        return error_set(r->error, ERROR_MODEL, "%s: tensor %s is of type %u, which is not known.", r->path,
                         printable(t->name).text, type);
    return size_tensor(r, t);
}

static const struct gguf_value *value_named(const struct gguf_value *values, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++)
        if (values[i].key.len == strlen(key) && memcmp(values[i].key.bytes, key, values[i].key.len) == 0)
            return &values[i];
    return NULL;
}

/* The integer of that key; fallback when absent, -1 when it is no integer. */
static int64_t value_int(const struct gguf_value *values, size_t count, const char *key, int64_t fallback)
{
    const struct gguf_value *v = value_named(values, count, key);
    int64_t i;
    if (!v) return fallback;
    return !v->is_array && gguf_read_int(v->kind, v->data, &i) ? i : -1;
}

static int read_alignment(struct reader *r, const struct gguf_value *values, size_t count, uint64_t *out)
{
    int64_t a = value_int(values, count, "general.alignment", GGUF_DEFAULT_ALIGNMENT);
    if (a < 8 || a > GGUF_MOST_ALIGNMENT || (a & (a - 1)))
        return error_set(r->error, ERROR_MODEL, "%s: general.alignment is not a power of two from 8 to 1048576.",
                         r->path);
    *out = (uint64_t)a;
    return 0;
}

static int compare_data(const void *a, const void *b)
{
    const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a, *y = *(const struct gguf_tensor *const *)b;
    return x->data < y->data ? -1 : x->data > y->data;
}

static int check_overlaps(struct reader *r, const struct gguf_tensor *tensors, size_t count)
{
    if (count < 2) return 0;
    const struct gguf_tensor **order = malloc(count * sizeof *order);
    if (!order) return error_set(r->error, ERROR_FAILED, "Out of memory while opening %s.", r->path);
    for (size_t i = 0; i < count; i++) order[i] = &tensors[i];
    qsort(order, count, sizeof *order, compare_data);
    int rc = 0;
    for (size_t i = 1; i < count && !rc; i++)
        if ((const char *)order[i - 1]->data + order[i - 1]->bytes > (const char *)order[i]->data)
            rc = error_set(r->error, ERROR_MODEL, "%s: tensors %s and %s overlap.", r->path,
                           printable(order[i - 1]->name).text, printable(order[i]->name).text);
    free(order);
    return rc;
}

/* What one shard's header holds, before it is joined to the model. */
struct part {
    struct gguf_shard shard;
    struct gguf_value *values;
    size_t n_values;
    struct gguf_tensor *tensors;
    uint64_t *offsets; /* of the tensors, from the start of the data */
    size_t n_tensors;
};

static void part_free(struct part *p)
{
    free(p->values);
    free(p->tensors);
    free(p->offsets);
    if (p->shard.map) munmap(p->shard.map, p->shard.len);
    *p = (struct part){0};
}

static int place_tensors(struct reader *r, const struct part *p, uint64_t align)
{
    uint64_t start = (p->shard.header + align - 1) & ~(align - 1);
    uint64_t room = start < p->shard.len ? p->shard.len - start : 0;
    for (size_t i = 0; i < p->n_tensors; i++) {
        struct gguf_tensor *t = &p->tensors[i];
        if (p->offsets[i] % align)
            return error_set(r->error, ERROR_MODEL, "%s: tensor %s is not aligned.", r->path, printable(t->name).text);
        if (p->offsets[i] > room || t->bytes > room - p->offsets[i])
            return error_set(r->error, ERROR_MODEL,
                             "%s: tensor %s reaches past the end of the file: it is cut off or damaged.", r->path,
                             printable(t->name).text);
        t->data = p->shard.map + start + p->offsets[i];
    }
    return check_overlaps(r, p->tensors, p->n_tensors);
}

/* Opens and maps a regular file, read-only. */
static int map_file(struct gguf_shard *shard, const char *path, struct error *error)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return error_set(error, ERROR_MODEL, "%s cannot be opened: %s.", path, strerror(errno));
    int rc = 0;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        rc = error_set(error, ERROR_MODEL, "%s is not a regular file.", path);
    else if (st.st_size < 24)
        rc = error_set(error, ERROR_MODEL, "%s: this is not a GGUF file: it holds only %lld bytes.", path,
                       (long long)st.st_size);
    void *map = rc ? MAP_FAILED : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (!rc && map == MAP_FAILED) rc = error_set(error, ERROR_MODEL, "%s cannot be mapped: %s.", path, strerror(errno));
    close(fd);
    if (!rc) *shard = (struct gguf_shard){.map = map, .len = (size_t)st.st_size};
    return rc;
}

static int parse_part(struct part *p, struct reader *r)
{
    uint64_t n_tensors, n_values, align = GGUF_DEFAULT_ALIGNMENT;
    if (read_start(r, &n_tensors, &n_values)) return ERROR_MODEL;
    p->values = calloc((size_t)n_values + 1, sizeof *p->values);
    p->tensors = calloc((size_t)n_tensors + 1, sizeof *p->tensors);
    p->offsets = calloc((size_t)n_tensors + 1, sizeof *p->offsets);
    if (!p->values || !p->tensors || !p->offsets)
        return error_set(r->error, ERROR_FAILED, "Out of memory while opening %s.", r->path);
    for (; p->n_values < n_values; p->n_values++)
        if (read_value(r, &p->values[p->n_values])) return ERROR_MODEL;
    if (read_alignment(r, p->values, p->n_values, &align)) return ERROR_MODEL;
    for (; p->n_tensors < n_tensors; p->n_tensors++)
        if (read_tensor(r, &p->tensors[p->n_tensors], &p->offsets[p->n_tensors])) return ERROR_MODEL;
    p->shard.header = r->pos;
    return place_tensors(r, p, align);
}

/* Maps and parses one file. On failure *p is empty. */
static int part_open(struct part *p, const char *path, struct error *error)
{
    *p = (struct part){0};
    int rc = map_file(&p->shard, path, error);
    if (rc) return rc;
    size_t end = p->shard.len < GGUF_MOST_HEADER ? p->shard.len : GGUF_MOST_HEADER;
    struct reader r = {.map = p->shard.map, .end = end, .path = path, .error = error};
    rc = parse_part(p, &r);
    if (rc) part_free(p);
    return rc;
}

/* Moves the part into the model: its mapping, its tensors and, from the first one, its values. */
static int join_part(struct gguf *g, struct part *p, const char *path, struct error *error)
{
    size_t total = g->n_tensors + p->n_tensors;
    if (total > GGUF_MOST_TENSORS)
        return error_set(error, ERROR_MODEL, "%s: the parts hold more than 65536 tensors.", path);
    struct gguf_shard *shards = realloc(g->shards, (g->n_shards + 1) * sizeof *shards);
    if (shards) g->shards = shards;
    struct gguf_tensor *tensors = realloc(g->tensors, (total + 1) * sizeof *tensors);
    if (tensors) g->tensors = tensors;
    if (!shards || !tensors) return error_set(error, ERROR_FAILED, "Out of memory while opening %s.", path);
    p->shard.first_tensor = g->n_tensors;
    for (size_t i = 0; i < p->n_tensors; i++) {
        tensors[g->n_tensors++] = p->tensors[i];
        g->tensor_bytes += p->tensors[i].bytes;
    }
    g->file_bytes += p->shard.len;
    shards[g->n_shards++] = p->shard;
    p->shard = (struct gguf_shard){0};
    if (g->n_shards == 1) {
        g->values = p->values;
        g->n_values = p->n_values;
        p->values = NULL;
    }
    return 0;
}

/* A path that ends in -00001-of-0000N.gguf. */
struct split_path {
    size_t stem; /* bytes before "-00001-of-" */
    unsigned number, count;
};

static bool five_digits(const char *s, unsigned *out)
{
    *out = 0;
    for (size_t i = 0; i < 5; i++) {
        if (s[i] < '0' || s[i] > '9') return false;
        *out = *out * 10 + (unsigned)(s[i] - '0');
    }
    return true;
}

static struct split_path split_parse(const char *path)
{
    struct split_path one = {.stem = strlen(path), .number = 1, .count = 1}, s = one;
    const size_t tail = sizeof "-00001-of-00001.gguf" - 1;
    if (one.stem < tail) return one;
    s.stem -= tail;
    const char *p = path + s.stem;
    bool fits = p[0] == '-' && five_digits(p + 1, &s.number) && memcmp(p + 6, "-of-", 4) == 0 &&
                five_digits(p + 10, &s.count) && strcmp(p + 15, ".gguf") == 0;
    return fits ? s : one;
}

static int check_split(const struct part *p, const struct split_path *s, unsigned number, const char *path,
                       struct error *error)
{
    int64_t count = value_int(p->values, p->n_values, "split.count", 1);
    int64_t no = value_int(p->values, p->n_values, "split.no", (int64_t)number - 1);
    if (count > 1 && s->count == 1)
        return error_set(error, ERROR_MODEL,
                         "%s: this is one part of several; give the parts their names ending in -00001-of-0000N.gguf.",
                         path);
    if (count != s->count || no != (int64_t)number - 1)
        return error_set(error, ERROR_MODEL, "%s: the file says it is part %lld of %lld, its name says %u of %u.", path,
                         (long long)no + 1, (long long)count, number, s->count);
    return 0;
}

static int open_part_numbered(struct gguf *g, const char *path, const struct split_path *s, unsigned number,
                              struct error *error)
{
    size_t room = strlen(path) + 1;
    char *name = malloc(room);
    if (!name) return error_set(error, ERROR_FAILED, "Out of memory while opening %s.", path);
    memcpy(name, path, room);
    if (s->count > 1) snprintf(name + s->stem, room - s->stem, "-%05u-of-%05u.gguf", number, s->count);
    struct part p;
    int rc = part_open(&p, name, error);
    if (!rc) rc = check_split(&p, s, number, name, error);
    if (!rc) rc = join_part(g, &p, name, error);
    part_free(&p);
    free(name);
    return rc;
}

static int build_indexes(struct gguf *g, const char *path, struct error *error)
{
    struct gguf_string twin;
    enum error_code rc = name_index_build(&g->by_key, g->values, sizeof *g->values, g->n_values, &twin);
    if (rc == ERROR_MODEL)
        return error_set(error, rc, "%s: metadata value %s is there twice.", path, printable(twin).text);
    if (!rc) rc = name_index_build(&g->by_name, g->tensors, sizeof *g->tensors, g->n_tensors, &twin);
    if (rc == ERROR_MODEL) return error_set(error, rc, "%s: tensor %s is there twice.", path, printable(twin).text);
    if (rc) return error_set(error, rc, "Out of memory while opening %s.", path);
    return 0;
}

static int open_parts(struct gguf *g, const char *path, struct error *error)
{
    struct split_path s = split_parse(path);
    if (s.count < 1 || s.count > GGUF_MOST_SHARDS)
        return error_set(error, ERROR_MODEL, "%s: the name speaks of %u parts; 1 to 1024 can be read.", path, s.count);
    if (s.number != 1)
        return error_set(error, ERROR_MODEL, "%s: open the first part (-00001-of-%05u.gguf) to read all of them.", path,
                         s.count);
    for (unsigned i = 1; i <= s.count; i++) {
        int rc = open_part_numbered(g, path, &s, i, error);
        if (rc) return rc;
    }
    int64_t all = value_int(g->values, g->n_values, "split.tensors.count", (int64_t)g->n_tensors);
    if (all != (int64_t)g->n_tensors)
        return error_set(error, ERROR_MODEL, "%s: the parts hold %zu tensors, but should hold %lld.", path,
                         g->n_tensors, (long long)all);
    return build_indexes(g, path, error);
}

int gguf_open(struct gguf **out, const char *path, struct error *error)
{
    *out = NULL;
    struct gguf *g = calloc(1, sizeof *g);
    if (!g) return error_set(error, ERROR_FAILED, "Out of memory while opening %s.", path);
    int rc = open_parts(g, path, error);
    if (rc)
        gguf_close(&g);
    else
        *out = g;
    return rc;
}

void gguf_close(struct gguf **file)
{
    struct gguf *g = file ? *file : NULL;
    if (!g) return;
    for (size_t i = 0; i < g->n_shards; i++) munmap(g->shards[i].map, g->shards[i].len);
    free(g->shards);
    free(g->values);
    free(g->tensors);
    free(g->by_key.slots);
    free(g->by_name.slots);
    free(g);
    *file = NULL;
}
