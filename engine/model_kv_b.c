/* SPDX-License-Identifier: MIT
 *
 * Files from before 2026 have W_kb and W_vb of an MLA layer in one tensor, attn_kv_b [H][N + V][R]: of each head the N
 * rows of keys, then the V rows of values. Here it is taken apart into what ops.h wants: k_b [H][R][N], v_b [H][V][R].
 *
 * Both are exact. Rows of v_b stay as they are. Those of k_b run across the old ones, and with them across the blocks
 * of a quantised format, whose scales belong to the old rows: k_b becomes F32 then. It is small (1.8 million weights a
 * layer of the 48B); F16, F32 and BF16 keep their type.
 */
#include "engine/model.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

static const struct quant_format *key_format(const struct quant_format *joined)
{
    return joined->block_len == 1 ? joined : quant_format(QUANT_F32);
}

static size_t key_bytes(const struct shape *s, const struct quant_format *joined)
{
    size_t bytes = quant_row_bytes(key_format(joined), s->nope) * s->kv_lora * s->n_head;
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

void model_kv_b_parts(const struct shape *s, const struct gguf_tensor *joined, const void *data,
                      struct gguf_tensor parts[2])
{
    const struct quant_format *key = key_format(joined->format);
    size_t rows = (size_t)s->n_head * s->vdim;
    parts[0] = (struct gguf_tensor){.name = joined->name,
                                    .format = key,
                                    .n_dims = 3,
                                    .ne = {s->nope, s->kv_lora, s->n_head, 1},
                                    .data = data,
                                    .bytes = quant_row_bytes(key, s->nope) * s->kv_lora * s->n_head};
    parts[1] = (struct gguf_tensor){.name = joined->name,
                                    .format = joined->format,
                                    .n_dims = 3,
                                    .ne = {s->kv_lora, s->vdim, s->n_head, 1},
                                    .data = data ? (const char *)data + key_bytes(s, joined->format) : NULL,
                                    .bytes = quant_row_bytes(joined->format, s->kv_lora) * rows};
}

/* One head's keys: rows [N][R] -> out, rows [R][N]. room: N * R + N floats. */
static void transpose_keys(const struct shape *s, const struct quant_format *from, const void *rows, void *out,
                           float *room)
{
    size_t n = s->nope, r = s->kv_lora;
    const struct quant_format *to = key_format(from);
    float *column = room + n * r;
    from->decode(rows, room, n * r);
    for (size_t i = 0; i < r; i++) {
        for (size_t j = 0; j < n; j++) column[j] = room[j * r + i];
        to->encode(column, NULL, (char *)out + i * quant_row_bytes(to, n), n);
    }
}

int model_kv_b_split(const struct shape *s, const struct gguf_tensor *joined, void **data, struct error *error)
{
    const struct quant_format *f = joined->format;
    size_t row = quant_row_bytes(f, s->kv_lora), keys = quant_row_bytes(key_format(f), s->nope) * s->kv_lora;
    size_t first = key_bytes(s, f), bytes = first + row * s->vdim * s->n_head;
    char *to = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    float *room = malloc(((size_t)s->nope * s->kv_lora + s->nope) * sizeof *room);
    for (size_t h = 0; to && room && h < s->n_head; h++) {
        const char *from = (const char *)joined->data + h * row * (s->nope + s->vdim);
        transpose_keys(s, f, from, to + h * keys, room);
        memcpy(to + first + h * row * s->vdim, from + row * s->nope, row * s->vdim);
    }
    bool done = to && room;
    free(room);
    if (done) {
        *data = to;
        return 0;
    }
    free(to);
    return error_set(error, ERROR_FAILED, "Out of memory while taking apart %.*s.", (int)joined->name.len,
                     joined->name.bytes);
}
