/* SPDX-License-Identifier: MIT
 *
 * The parts of convert.h. Private to quant/.
 */
#ifndef LECTERN_QUANT_CONVERT_INTERNAL_H
#define LECTERN_QUANT_CONVERT_INTERNAL_H

#include "quant/convert.h"
#include "quant/json_tree.h"
#include "quant/safetensors.h"

enum { CONVERT_MOST_LAYERS = 1024, CONVERT_PATH = 4096 };

/* config.json, checked: every number is small enough that products of any two fit 64 bits. */
struct convert_config {
    uint32_t n_vocab, context, n_layer, n_embd, n_ff, n_head, n_dense;
    uint32_t nope, rope, v_dim, kv_lora; /* MLA */
    uint32_t kda_dim, conv_kernel;
    uint32_t n_expert, n_used, n_shared, n_ff_exp, groups_used; /* groups_used: 0 = not told */
    double eps, rope_base, expert_scale;
    uint32_t eos; /* UINT32_MAX = not told */
    bool is_mla[CONVERT_MOST_LAYERS];
};

int convert_config_read(struct convert_config *out, const char *dir, struct error *);
void convert_config_put(const struct convert_config *, struct gguf_writer *);

/* tiktoken.model, tokenizer_config.json and chat_template.jinja, put as tokenizer.*. */
int convert_vocab_put(const char *dir, const struct convert_config *, struct gguf_writer *, struct error *);

/* What a tensor of the new file is made of. */
enum convert_rule {
    RULE_SAME,  /* as it is; `parts` tensors one after the other, for stacked experts */
    RULE_DECAY, /* -exp(x) */
    RULE_KEY,   /* of kv_b, each head's key rows, transposed */
    RULE_VALUE, /* of kv_b, each head's value rows */
};

struct convert_item {
    char name[64];    /* in the new file */
    char source[160]; /* in the folder; with parts > 1 a %u stands for the part */
    enum convert_rule rule;
    uint32_t parts;
    uint32_t n_dims;
    uint64_t ne[4];
    const struct quant_format *format;
};

struct convert_plan {
    struct convert_item *items;
    size_t count, room;
    bool failed; /* out of memory */
};

/* Lists the tensors of the new file in their order, with the formats they get. */
int convert_plan_make(struct convert_plan *, const struct convert_config *, const struct quant_format *wanted,
                      struct error *);
/* The source of one part, checked for its shape. */
int convert_source(const struct convert_item *, const struct convert_config *, const struct safetensors *,
                   uint32_t part, const struct safetensor **out, struct error *);

static inline uint64_t convert_weights(const struct convert_item *t)
{
    return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
}

#endif
