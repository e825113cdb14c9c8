/* SPDX-License-Identifier: MIT
 *
 * Weights on the device. Formats whose blocks have odd sizes are packed anew, so that kernels load 16 bytes at a time:
 * of every group of eight blocks of a row, first the small fields of all eight (scales), then their bodies. A row
 * starts on a multiple of 16 bytes, and so does a group (of MXFP4: of 8), which is as long as its eight blocks. The
 * last group of a row may have fewer bodies, but room for all eight small fields. shaders/dequant_*.glsl read this. The
 * blocks of Q4_K, Q5_K, IQ4_XS and IQ1_M stay as they are: their lengths are multiples of 8 or 16.
 */
#include "engine/gpu/gpu.h"

#include <string.h>

enum { GROUP_BLOCKS = 8, FIELDS = 3, ROW_ALIGN = 16 };

struct field { /* of a block as GGUF has it */
    uint32_t at, size;
};

struct packing {
    enum quant_type type;
    struct field fields[FIELDS]; /* in the order of the packed group; the body, which comes last, included */
    uint32_t n_fields;
};

static const struct packing packings[] = {
    {QUANT_Q8_0, {{0, 2}, {2, 32}}, 2},             /* scale; 32 x 8 bits */
    {QUANT_Q4_0, {{0, 2}, {2, 16}}, 2},             /* scale; 32 x 4 bits */
    {QUANT_Q4_1, {{0, 4}, {4, 16}}, 2},             /* scale and least; 32 x 4 bits */
    {QUANT_Q5_0, {{0, 2}, {2, 4}, {6, 16}}, 3},     /* scale; fifth bits; 32 x 4 bits */
    {QUANT_Q5_1, {{0, 8}, {8, 16}}, 2},             /* scale, least and fifth bits; 32 x 4 bits */
    {QUANT_IQ4_NL, {{0, 2}, {2, 16}}, 2},           /* scale; 32 x 4 bits */
    {QUANT_MXFP4, {{0, 1}, {1, 16}}, 2},            /* exponent; 32 x 4 bits */
    {QUANT_Q2_K, {{80, 4}, {0, 80}}, 2},            /* scale and least; those of 16, bits */
    {QUANT_Q3_K, {{108, 2}, {96, 12}, {0, 96}}, 3}, /* scale; scales of 16; third bits, bits */
    {QUANT_Q6_K, {{208, 2}, {0, 208}}, 2},          /* scale; low bits, high bits, scales of 16 */
    {QUANT_IQ1_S, {{0, 2}, {2, 48}}, 2},            /* scale; entries, upper bits and scales */
    {QUANT_IQ2_XXS, {{0, 2}, {2, 64}}, 2},          /* scale; entries and signs */
    {QUANT_IQ2_XS, {{0, 2}, {66, 8}, {2, 64}}, 3},  /* scale; scales of 16; entries and signs */
    {QUANT_IQ2_S, {{0, 2}, {66, 16}, {2, 64}}, 3},  /* scale; upper bits, scales of 16; entries, signs */
    {QUANT_IQ3_XXS, {{0, 2}, {2, 96}}, 2},          /* scale; entries, signs */
    {QUANT_IQ3_S, {{0, 2}, {106, 4}, {2, 104}}, 3}, /* scale; scales of 32; entries, ninth bits, signs */
    {QUANT_TQ1_0, {{52, 2}, {0, 52}}, 2},           /* scale; trits */
    {QUANT_TQ2_0, {{64, 2}, {0, 64}}, 2},           /* scale; bits */
};

static const struct packing *packing_of(const struct quant_format *format)
{
    for (size_t i = 0; i < sizeof packings / sizeof *packings; i++)
        if (packings[i].type == format->type) return &packings[i];
    return NULL;
}

static size_t packed_row_bytes(const struct packing *p, const struct quant_format *f, uint64_t n_in)
{
    const uint64_t blocks = n_in / f->block_len, rest = blocks % GROUP_BLOCKS;
    const uint64_t body = p->fields[p->n_fields - 1].size, small = f->block_bytes - body;
    const uint64_t bytes = (blocks - rest) * f->block_bytes + (rest ? GROUP_BLOCKS * small + rest * body : 0);
    return (size_t)((bytes + ROW_ALIGN - 1) / ROW_ALIGN * ROW_ALIGN);
}

static void row_pack(const struct packing *p, const struct quant_format *f, uint64_t blocks, const unsigned char *from,
                     unsigned char *to)
{
    for (uint64_t first = 0; first < blocks; first += GROUP_BLOCKS) {
        const uint64_t count = blocks - first < GROUP_BLOCKS ? blocks - first : GROUP_BLOCKS;
        for (uint32_t k = 0; k < p->n_fields; k++) {
            const struct field *field = &p->fields[k];
            for (uint64_t i = 0; i < count; i++)
                memcpy(to + i * field->size, from + i * f->block_bytes + field->at, field->size);
            to += GROUP_BLOCKS * field->size;
        }
        from += count * f->block_bytes;
    }
}

struct packed_rows { /* of a tensor, as kernels want them */
    const struct packing *packing;
    const struct gguf_tensor *tensor;
    size_t from_bytes, to_bytes; /* of a row */
};

/* Whole rows, for gpu_upload_from. */
static void rows_pack(const void *ctx, size_t offset, size_t bytes, unsigned char *to)
{
    const struct packed_rows *p = ctx;
    const struct gguf_tensor *t = p->tensor;
    const uint64_t blocks = (uint64_t)t->ne[0] / t->format->block_len;
    memset(to, 0, bytes); /* what pads a row */
    for (size_t row = offset / p->to_bytes; bytes; row++, to += p->to_bytes, bytes -= p->to_bytes)
        row_pack(p->packing, t->format, blocks, (const unsigned char *)t->data + row * p->from_bytes, to);
}

static int upload_packed(struct gpu *gpu, const struct gguf_tensor *t, const struct packing *p, const struct weight *w,
                         struct error *error)
{
    const struct packed_rows rows = {p, t, quant_row_bytes(t->format, w->n_in), w->row_bytes};
    return gpu_upload_from(gpu, w->addr, w->mat_bytes * w->n_mat, &(struct gpu_source){rows_pack, &rows, w->row_bytes},
                           error);
}

bool engine_gpu_takes(const char *format)
{
    const struct quant_format *f = quant_format_named(format);
    return f && gpu_variant(SHADER_MATVEC_F32, f) != SHADER_COUNT;
}

int gpu_weight_load(struct backend *b, const struct gguf_tensor *t, struct weight *out, struct error *error)
{
    struct gpu *gpu = gpu_of(b);
    const struct packing *packing = packing_of(t->format);
    char label[64];
    *out = (struct weight){0};
    snprintf(label, sizeof label, "%.*s", (int)(t->name.len < 63 ? t->name.len : 63), t->name.bytes);
    if (gpu_variant(SHADER_MATVEC_F32, t->format) == SHADER_COUNT)
        return error_set(error, ERROR_MODEL, "%s is stored as %s, which has no Vulkan kernel; use --device cpu", label,
                         t->format->name);
    if (t->ne[0] > INT32_MAX || t->ne[1] > INT32_MAX || t->ne[2] * t->ne[3] > INT32_MAX)
        return error_set(error, ERROR_MODEL, "%s is too large", label);
    struct weight w = {.format = t->format,
                       .n_in = (uint32_t)t->ne[0],
                       .n_out = (uint32_t)t->ne[1],
                       .n_mat = (uint32_t)(t->ne[2] * t->ne[3]),
                       .row_bytes = packing ? packed_row_bytes(packing, t->format, t->ne[0])
                                            : quant_row_bytes(t->format, t->ne[0])};
    w.mat_bytes = w.row_bytes * w.n_out;
    int rc = gpu_codebook_wanted(t->format) ? gpu_codebook_load(gpu, error) : 0;
    if (!rc) rc = gpu_alloc(gpu, (size_t)(w.mat_bytes * w.n_mat), label, &w.addr, error);
    if (rc) return rc;
    rc = packing ? upload_packed(gpu, t, packing, &w, error) : gpu_upload(gpu, w.addr, t->data, t->bytes, error);
    if (rc)
        gpu_release(gpu, w.addr);
    else
        *out = w;
    return rc;
}
