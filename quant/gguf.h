/* SPDX-License-Identifier: MIT
 *
 * GGUF v3: a model in one file (or in several shards): metadata pairs, tensor descriptions, tensor data.
 * The file is mapped read-only and is hostile until checked: every count, length, offset and size is bounded by the
 * file's own length with checked arithmetic before use. After gguf_open succeeds every accessor is safe.
 * Source: the GGUF specification (ggml docs/gguf.md).
 */
#ifndef LECTERN_QUANT_GGUF_H
#define LECTERN_QUANT_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/error.h"
#include "quant/quant.h"

struct gguf;

enum gguf_kind { /* GGUF's own numbers */
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12,
};

struct gguf_string {
    const char *bytes; /* in the mapping; not NUL-terminated, not necessarily UTF-8 */
    size_t len;
};

/* One metadata pair. For an array, `kind` is the element's kind and `count` its length; for a scalar count is 1. */
struct gguf_value {
    struct gguf_string key;
    enum gguf_kind kind;
    bool is_array;
    uint64_t count;
    const unsigned char *data; /* packed little-endian elements (strings: u64 length + bytes each) */
    size_t bytes;
};

struct gguf_tensor {
    struct gguf_string name;
    const struct quant_format *format;
    uint32_t n_dims;
    uint64_t ne[4]; /* ne[0] contiguous; unused dimensions are 1 */
    const void *data;
    size_t bytes; /* of the whole tensor; data + bytes lies inside the mapping */
};

/* Opens and checks a file. With "-00001-of-0000N" in the name all shards are opened and read as one model.
 * Errors: ERROR_MODEL with what is wrong and where; *out is NULL then. The caller closes. */
int gguf_open(struct gguf **out, const char *path, struct error *error);
void gguf_close(struct gguf **file); /* accepts NULL and half-built; nulls the pointer */

size_t gguf_value_count(const struct gguf *);
const struct gguf_value *gguf_value_at(const struct gguf *, size_t index);
const struct gguf_value *gguf_find(const struct gguf *, const char *key); /* NULL when absent */

/* Scalars, converted when the value fits. false when absent, of another kind, or out of range; *out is untouched. */
bool gguf_get_u32(const struct gguf *, const char *key, uint32_t *out); /* any integer kind */
bool gguf_get_f32(const struct gguf *, const char *key, float *out);
bool gguf_get_bool(const struct gguf *, const char *key, bool *out);
bool gguf_get_string(const struct gguf *, const char *key, struct gguf_string *out);

/* Element i of an integer array of any integer kind; false when it does not fit an i64 or i is out of range. */
bool gguf_array_int(const struct gguf_value *, uint64_t i, int64_t *out);

/* Walks a string array: start with *cursor = 0; false at the end. */
bool gguf_array_string(const struct gguf_value *, size_t *cursor, struct gguf_string *out);

size_t gguf_tensor_count(const struct gguf *);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *, size_t index);
const struct gguf_tensor *gguf_tensor_named(const struct gguf *, const char *name); /* hashed; NULL when absent */

/* Files the model lies in, and which of them, from 0, holds a tensor (by its index). */
size_t gguf_shard_count(const struct gguf *);
size_t gguf_tensor_shard(const struct gguf *, size_t index);

/* These bytes of the mapping are not needed soon: the system may take their pages back. Only a hint; they stay readable. */
void gguf_forget(const void *data, size_t bytes);

/* Bytes of all tensors, and of the whole mapping (all shards). */
uint64_t gguf_tensor_bytes(const struct gguf *);
uint64_t gguf_file_bytes(const struct gguf *);
/* The mapped header (magic to the end of the tensor descriptions) of the first shard, for fingerprints. */
const void *gguf_header(const struct gguf *, size_t *bytes);

/* ---- Writing. Describe everything, then stream the data in the order described. ---- */
struct gguf_writer;

int gguf_writer_open(struct gguf_writer **out, const char *path, struct error *error); /* writes path.part */
void gguf_put_u32(struct gguf_writer *, const char *key, uint32_t value);
void gguf_put_f32(struct gguf_writer *, const char *key, float value);
void gguf_put_bool(struct gguf_writer *, const char *key, bool value);
void gguf_put_string(struct gguf_writer *, const char *key, const char *bytes, size_t len);
void gguf_put_i32_array(struct gguf_writer *, const char *key, const int32_t *values, size_t count);
void gguf_put_string_array(struct gguf_writer *, const char *key, const struct gguf_string *values, size_t count);
void gguf_put_copy(struct gguf_writer *, const struct gguf_value *value); /* any value of another file */
void gguf_put_tensor(struct gguf_writer *, const char *name, const struct quant_format *, uint32_t n_dims,
                     const uint64_t *ne);
/* The data of the next described tensor, in one or more pieces. */
int gguf_write(struct gguf_writer *, const void *data, size_t bytes, struct error *error);
/* Checks that all data came, syncs, renames into place. Errors that put_* met are reported here too (out of memory).
 * On failure nothing is left under the final name. Frees the writer in any case. */
int gguf_writer_finish(struct gguf_writer **, struct error *error);
void gguf_writer_abort(struct gguf_writer **); /* removes the .part file */

#endif
