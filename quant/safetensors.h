/* SPDX-License-Identifier: MIT
 *
 * Reading a folder of safetensors: model.safetensors, or the files that model.safetensors.index.json names. Files are
 * mapped read-only and hostile until checked; after safetensors_open succeeds every tensor lies inside its mapping.
 * A file is a u64 length, that many bytes of JSON {"NAME": {"dtype", "shape", "data_offsets": [from, to]}}, data.
 * Source: the safetensors format description (github.com/huggingface/safetensors, README).
 */
#ifndef LECTERN_QUANT_SAFETENSORS_H
#define LECTERN_QUANT_SAFETENSORS_H

#include "quant/gguf.h"

struct safetensors;

struct safetensor {
    char *name;
    const struct quant_format *format; /* F32, F16 or BF16 */
    uint32_t n_dims;
    uint64_t shape[8]; /* the last one contiguous */
    uint64_t count;    /* elements */
    const unsigned char *data;
};

/* ERROR_MODEL with what is wrong, and where. Tensors of other element types than the three are an error. */
int safetensors_open(struct safetensors **out, const char *dir, struct error *);
void safetensors_close(struct safetensors **); /* accepts NULL and half-built */
size_t safetensors_count(const struct safetensors *);
const struct safetensor *safetensors_named(const struct safetensors *, const char *name); /* NULL when absent */

#endif
