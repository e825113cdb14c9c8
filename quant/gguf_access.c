/* SPDX-License-Identifier: MIT
 *
 * Accessors of an opened GGUF file, and the hash of its names. All data was bounded by gguf_open.
 */
#include "quant/gguf_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* FNV-1a, 64 bits. */
static uint64_t name_hash(struct gguf_string s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < s.len; i++) h = (h ^ (unsigned char)s.bytes[i]) * 0x100000001b3u;
    return h ^ h >> 32;
}

static const struct gguf_string *name_of(const struct name_index *x, size_t i)
{
    return (const void *)((const char *)x->base + i * x->stride);
}

static bool same_name(const struct gguf_string *a, const struct gguf_string *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

/* The slot that holds the name, or the free one where it would go. */
static size_t name_slot(const struct name_index *x, struct gguf_string name)
{
    size_t at = (size_t)name_hash(name) & x->mask;
    while (x->slots[at] && !same_name(name_of(x, x->slots[at] - 1), &name)) at = (at + 1) & x->mask;
    return at;
}

enum error_code name_index_build(struct name_index *x, const void *base, size_t stride, size_t count,
                                 struct gguf_string *twin)
{
    size_t size = 8;
    while (size < count * 2) size *= 2;
    *x = (struct name_index){.base = base, .stride = stride, .mask = size - 1};
    x->slots = calloc(size, sizeof *x->slots);
    if (!x->slots) return ERROR_FAILED;
    for (size_t i = 0; i < count; i++) {
        size_t at = name_slot(x, *name_of(x, i));
        if (x->slots[at]) {
            *twin = *name_of(x, i);
            return ERROR_MODEL;
        }
        x->slots[at] = (uint32_t)i + 1;
    }
    return ERROR_NONE;
}

const void *name_index_find(const struct name_index *x, struct gguf_string name)
{
    uint32_t slot = x->slots[name_slot(x, name)];
    return slot ? name_of(x, slot - 1) : NULL;
}

size_t gguf_kind_bytes(uint32_t kind)
{
    switch (kind) {
    case GGUF_U8:
    case GGUF_I8:
    case GGUF_BOOL:
        return 1;
    case GGUF_U16:
    case GGUF_I16:
        return 2;
    case GGUF_U32:
    case GGUF_I32:
    case GGUF_F32:
        return 4;
    case GGUF_U64:
    case GGUF_I64:
    case GGUF_F64:
        return 8;
    default:
        return 0;
    }
}

bool gguf_read_int(enum gguf_kind kind, const unsigned char *at, int64_t *out)
{
    unsigned low = kind == GGUF_U16 || kind == GGUF_I16 ? (unsigned)at[0] | (unsigned)at[1] << 8 : at[0];
    switch (kind) {
    case GGUF_U8:
    case GGUF_U16:
        *out = low;
        return true;
    case GGUF_I8:
        *out = (int8_t)low;
        return true;
    case GGUF_I16:
        *out = (int16_t)low;
        return true;
    case GGUF_U32:
        *out = gguf_load_u32(at);
        return true;
    case GGUF_I32:
        *out = (int32_t)gguf_load_u32(at);
        return true;
    case GGUF_I64:
        *out = (int64_t)gguf_load_u64(at);
        return true;
    case GGUF_U64:
        if (gguf_load_u64(at) > INT64_MAX) return false;
        *out = (int64_t)gguf_load_u64(at);
        return true;
    default:
        return false;
    }
}

size_t gguf_value_count(const struct gguf *g)
{
    return g->n_values;
}

const struct gguf_value *gguf_value_at(const struct gguf *g, size_t index)
{
    return index < g->n_values ? &g->values[index] : NULL;
}

const struct gguf_value *gguf_find(const struct gguf *g, const char *key)
{
    return name_index_find(&g->by_key, (struct gguf_string){key, strlen(key)});
}

static const struct gguf_value *find_scalar(const struct gguf *g, const char *key)
{
    const struct gguf_value *v = gguf_find(g, key);
    return v && !v->is_array ? v : NULL;
}

bool gguf_get_u32(const struct gguf *g, const char *key, uint32_t *out)
{
    const struct gguf_value *v = find_scalar(g, key);
    int64_t i;
    if (!v || !gguf_read_int(v->kind, v->data, &i) || i < 0 || i > UINT32_MAX) return false;
    *out = (uint32_t)i;
    return true;
}

bool gguf_get_f32(const struct gguf *g, const char *key, float *out)
{
    const struct gguf_value *v = find_scalar(g, key);
    if (!v) return false;
    if (v->kind == GGUF_F32) {
        uint32_t bits = gguf_load_u32(v->data);
        memcpy(out, &bits, sizeof *out);
        return true;
    }
    if (v->kind != GGUF_F64) return false;
    uint64_t bits = gguf_load_u64(v->data);
    double d;
    memcpy(&d, &bits, sizeof d);
    if (!(d >= -3.4028234e38 && d <= 3.4028234e38)) return false;
    *out = (float)d;
    return true;
}

bool gguf_get_bool(const struct gguf *g, const char *key, bool *out)
{
    const struct gguf_value *v = find_scalar(g, key);
    if (!v || v->kind != GGUF_BOOL) return false;
    *out = v->data[0] != 0;
    return true;
}

bool gguf_get_string(const struct gguf *g, const char *key, struct gguf_string *out)
{
    const struct gguf_value *v = find_scalar(g, key);
    if (!v || v->kind != GGUF_STRING) return false;
    *out = (struct gguf_string){(const char *)v->data + 8, v->bytes - 8};
    return true;
}

bool gguf_array_int(const struct gguf_value *v, uint64_t i, int64_t *out)
{
    if (!v->is_array || i >= v->count) return false;
    return gguf_read_int(v->kind, v->data + i * gguf_kind_bytes(v->kind), out);
}

bool gguf_array_string(const struct gguf_value *v, size_t *cursor, struct gguf_string *out)
{
    if (!v->is_array || v->kind != GGUF_STRING || *cursor >= v->bytes) return false;
    size_t len = (size_t)gguf_load_u64(v->data + *cursor);
    *out = (struct gguf_string){(const char *)v->data + *cursor + 8, len};
    *cursor += 8 + len;
    return true;
}

size_t gguf_tensor_count(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t index)
{
    return index < g->n_tensors ? &g->tensors[index] : NULL;
}

const struct gguf_tensor *gguf_tensor_named(const struct gguf *g, const char *name)
{
    return name_index_find(&g->by_name, (struct gguf_string){name, strlen(name)});
}

size_t gguf_shard_count(const struct gguf *g)
{
    return g->n_shards;
}

size_t gguf_tensor_shard(const struct gguf *g, size_t index)
{
    size_t i = g->n_shards - 1;
    while (i > 0 && g->shards[i].first_tensor > index) i--;
    return i;
}

void gguf_forget(const void *data, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = (uintptr_t)data / page * page, end = ((uintptr_t)data + bytes) / page * page;
    if (end > start) madvise((void *)start, end - start, MADV_DONTNEED);
}

uint64_t gguf_tensor_bytes(const struct gguf *g)
{
    return g->tensor_bytes;
}

uint64_t gguf_file_bytes(const struct gguf *g)
{
    return g->file_bytes;
}

const void *gguf_header(const struct gguf *g, size_t *bytes)
{
    *bytes = g->shards[0].header;
    return g->shards[0].map;
}
