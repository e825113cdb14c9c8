/* SPDX-License-Identifier: MIT
 *
 * What gguf_read.c fills and gguf_access.c reads. Private to quant/.
 */
#ifndef LECTERN_QUANT_GGUF_INTERNAL_H
#define LECTERN_QUANT_GGUF_INTERNAL_H

#include "quant/gguf.h"

enum {
    GGUF_VERSION = 3,
    GGUF_DEFAULT_ALIGNMENT = 32,
    GGUF_MOST_ALIGNMENT = 1 << 20,
    GGUF_MOST_HEADER = 64 << 20, /* bytes of metadata and tensor descriptions, each shard */
    GGUF_MOST_VALUES = 65536,
    GGUF_MOST_TENSORS = 65536, /* all shards together */
    GGUF_MOST_KEY = 1024,
    GGUF_MOST_NAME = 64, /* of a tensor; the specification's own limit */
    GGUF_MOST_SHARDS = 1024,
};

struct gguf_shard {
    unsigned char *map;
    size_t len;
    size_t header;       /* magic to the end of the tensor descriptions */
    size_t first_tensor; /* of the model's */
};

/* Open-addressed hash from a name to its index in an array whose elements begin with a struct gguf_string. */
struct name_index {
    const void *base;
    size_t stride;
    uint32_t *slots; /* index + 1; 0 = free */
    size_t mask;
};

struct gguf {
    struct gguf_shard *shards;
    size_t n_shards;
    struct gguf_value *values; /* of the first shard */
    size_t n_values;
    struct gguf_tensor *tensors; /* of all shards, in file order */
    size_t n_tensors;
    struct name_index by_key, by_name;
    uint64_t tensor_bytes, file_bytes;
};

/* Builds the index of count names. 0, or ERROR_FAILED without memory, or ERROR_MODEL with *twin = a name met before. */
enum error_code name_index_build(struct name_index *, const void *base, size_t stride, size_t count,
                                 struct gguf_string *twin);
/* The element of that name or NULL. */
const void *name_index_find(const struct name_index *, struct gguf_string name);

/* Bytes of one element of a fixed-size kind; 0 for strings, arrays and unknown kinds. */
size_t gguf_kind_bytes(uint32_t kind);

/* Element i of packed integers; false when kind is no integer or the value does not fit. */
bool gguf_read_int(enum gguf_kind kind, const unsigned char *at, int64_t *out);

static inline uint32_t gguf_load_u32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t gguf_load_u64(const unsigned char *p)
{
    return (uint64_t)gguf_load_u32(p) | (uint64_t)gguf_load_u32(p + 4) << 32;
}

#endif
