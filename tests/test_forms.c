/* SPDX-License-Identifier: MIT
 *
 * The same model in the forms files come in: keys and values of MLA in one tensor, gate and up of the experts in one,
 * several parts, the layer map as other kinds of numbers, keys left out. The logits must be the same, on the cpu to the
 * bit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/make_model.h"
#include "tests/on_devices.h"

enum { TOKENS = 19, VOCAB = 512, MOST_TENSORS = 128, MOST_CHANGES = 16 };

static char base_path[128], other_path[128], part_path[2][128];
static float base_logits[TOKENS * VOCAB], other_logits[TOKENS * VOCAB];

static void must(int rc, const struct error *error)
{
    if (rc) fail_msg("%d: %s", rc, error->text);
}

static void *need(size_t bytes)
{
    void *p = malloc(bytes);
    if (!p) fail_msg("out of memory");
    return p;
}

/* ------------------------------------------------------------------------------------------- files taken apart */

struct piece {
    char name[80];
    const struct quant_format *format;
    uint64_t ne[4];
    void *data;
    size_t bytes;
};

struct copy {
    struct gguf *file;
    struct piece pieces[MOST_TENSORS];
    size_t count;
};

static struct piece *add_piece(struct copy *c, const char *name, const struct quant_format *format,
                               const uint64_t ne[4])
{
    assert_true(c->count < MOST_TENSORS);
    struct piece *p = &c->pieces[c->count++];
    *p = (struct piece){.format = format, .ne = {ne[0], ne[1], ne[2], ne[3]}};
    snprintf(p->name, sizeof p->name, "%s", name);
    p->bytes = quant_row_bytes(format, (size_t)ne[0]) * (size_t)(ne[1] * ne[2] * ne[3]);
    p->data = need(p->bytes);
    return p;
}

static void copy_open(struct copy *c, const char *path)
{
    struct error error;
    *c = (struct copy){0};
    must(gguf_open(&c->file, path, &error), &error);
    for (size_t i = 0; i < gguf_tensor_count(c->file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(c->file, i);
        char name[80];
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.bytes);
        memcpy(add_piece(c, name, t->format, t->ne)->data, t->data, t->bytes);
    }
}

static void copy_close(struct copy *c)
{
    for (size_t i = 0; i < c->count; i++) free(c->pieces[i].data);
    gguf_close(&c->file);
}

static struct piece *find_piece(struct copy *c, uint32_t layer, const char *suffix)
{
    char name[80];
    snprintf(name, sizeof name, "blk.%u.%s", layer, suffix);
    for (size_t i = 0; i < c->count; i++)
        if (!strcmp(c->pieces[i].name, name)) return &c->pieces[i];
    return NULL;
}

static void drop_piece(struct copy *c, struct piece *p)
{
    free(p->data);
    *p = c->pieces[--c->count];
}

/* ------------------------------------------------------------------------------------------------ metadata */

/* What is put in place of keys of the model, without their prefix. A value without data: the key is left out. */
struct changes {
    struct gguf_value values[MOST_CHANGES];
    char keys[MOST_CHANGES][80];
    size_t count;
};

static void change(struct changes *c, const char *key, enum gguf_kind kind, const void *data, size_t bytes)
{
    assert_true(c->count < MOST_CHANGES);
    char *full = c->keys[c->count];
    snprintf(full, sizeof c->keys[0], "%s%s", strchr(key, '/') ? "" : "kimi-linear.", strchr(key, '/') ? key + 1 : key);
    c->values[c->count++] =
        (struct gguf_value){.key = {full, strlen(full)}, .kind = kind, .count = 1, .data = data, .bytes = bytes};
}

static void put_values(struct gguf_writer *w, const struct gguf *file, const struct changes *c)
{
    for (size_t i = 0; i < gguf_value_count(file); i++) {
        const struct gguf_value *v = gguf_value_at(file, i);
        bool changed = false;
        for (size_t k = 0; k < c->count; k++)
            changed |= v->key.len == c->values[k].key.len && !memcmp(v->key.bytes, c->keys[k], v->key.len);
        if (!changed) gguf_put_copy(w, v);
    }
    for (size_t k = 0; k < c->count; k++)
        if (c->values[k].data) gguf_put_copy(w, &c->values[k]);
}

/* The tensors [first, first + count) of the copy, and all its metadata. */
static void write_part(const struct copy *c, const char *path, const struct changes *changes, size_t first,
                       size_t count)
{
    struct error error;
    struct gguf_writer *w;
    must(gguf_writer_open(&w, path, &error), &error);
    put_values(w, c->file, changes);
    for (size_t i = first; i < first + count; i++) {
        const struct piece *p = &c->pieces[i];
        uint32_t n_dims = 4;
        while (n_dims > 1 && p->ne[n_dims - 1] == 1) n_dims--;
        gguf_put_tensor(w, p->name, p->format, n_dims, p->ne);
    }
    for (size_t i = first; i < first + count; i++)
        must(gguf_write(w, c->pieces[i].data, c->pieces[i].bytes, &error), &error);
    must(gguf_writer_finish(&w, &error), &error);
}

static void write_copy(const struct copy *c, const char *path)
{
    const struct changes none = {.count = 0};
    write_part(c, path, &none, 0, c->count);
}

/* ------------------------------------------------------------------------------------------------------ logits */

static void logits_of(const char *path, float *out)
{
    struct error error;
    struct engine *e;
    struct timeline *t;
    uint32_t ids[TOKENS];
    const struct engine_params params = {.model = path, .device = test_device, .context = 64, .batch = 16};
    for (uint32_t i = 0; i < TOKENS; i++) ids[i] = (i * 2654435761u >> 9) % VOCAB;
    must(engine_open(&e, &params, &error), &error);
    assert_int_equal(engine_info(e)->n_vocab, VOCAB);
    must(timeline_create(&t, e, &error), &error);
    must(timeline_append(t, ids, TOKENS, out, NULL, &error), &error);
    timeline_destroy(&t);
    engine_close(&e);
}

/* A GPU has other kernels for other formats: their sums are in another order, and real ones round to f16. */
static double limit_here(void)
{
    struct engine_device list[16];
    struct error error;
    size_t count = 0;
    must(engine_devices(list, 16, &count, &error), &error);
    for (size_t i = 0; i < count; i++)
        if (!strcmp(list[i].id, test_device) && list[i].is_software) return 1e-10;
    return on_cpu() ? 0 : 1e-5;
}

static void same_logits(const char *what, const char *path)
{
    double difference = 0, size = 0;
    logits_of(path, other_logits);
    for (size_t i = 0; i < TOKENS * VOCAB; i++) {
        double d = (double)other_logits[i] - (double)base_logits[i];
        difference += d * d;
        size += (double)base_logits[i] * (double)base_logits[i];
    }
    printf("   %s: NMSE %.1e\n", what, difference / size);
    if (!(size > 0 && difference / size <= limit_here())) fail_msg("%s: NMSE %g", what, difference / size);
}

static void make_base(const char *preset, const char *type)
{
    struct error error;
    const struct test_model model = {.preset = preset, .type = type, .seed = 5};
    must(test_model_write(base_path, &model, &error), &error);
    logits_of(base_path, base_logits);
}

/* ------------------------------------------------------------------------------------------------ one kv_b tensor */

/* Rows of `from` [rows][width] as columns of `to` [width][rows]. */
static void transpose(const float *from, float *to, size_t rows, size_t width)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < width; i++) to[i * rows + r] = from[r * width + i];
}

static void join_layer(struct copy *c, uint32_t layer)
{
    struct piece k = *find_piece(c, layer, "attn_k_b.weight"), v = *find_piece(c, layer, "attn_v_b.weight");
    size_t n = (size_t)k.ne[0], r = (size_t)k.ne[1], row = quant_row_bytes(v.format, r), values = row * (size_t)v.ne[1];
    char name[80];
    snprintf(name, sizeof name, "blk.%u.attn_kv_b.weight", layer);
    struct piece *kv = add_piece(c, name, v.format, (const uint64_t[]){r, k.ne[2] * (n + v.ne[1]), 1, 1});
    float *across = need(n * r * sizeof *across), *along = need(n * r * sizeof *along);
    char *to = kv->data;
    for (size_t h = 0; h < k.ne[2]; h++) {
        k.format->decode((char *)k.data + h * r * quant_row_bytes(k.format, n), across, n * r);
        transpose(across, along, r, n);
        for (size_t j = 0; j < n; j++, to += row) v.format->encode(along + j * r, NULL, to, r);
        memcpy(to, (char *)v.data + h * values, values);
        to += values;
    }
    free(across);
    free(along);
    drop_piece(c, find_piece(c, layer, "attn_k_b.weight"));
    drop_piece(c, find_piece(c, layer, "attn_v_b.weight"));
}

/* Back again, with the keys in F32. */
static void split_layer(struct copy *c, uint32_t layer, size_t heads, size_t n)
{
    struct piece kv = *find_piece(c, layer, "attn_kv_b.weight");
    size_t r = (size_t)kv.ne[0], v = (size_t)kv.ne[1] / heads - n, row = quant_row_bytes(kv.format, r);
    char name[80];
    snprintf(name, sizeof name, "blk.%u.attn_k_b.weight", layer);
    float *keys = add_piece(c, name, quant_format(QUANT_F32), (const uint64_t[]){n, r, heads, 1})->data;
    snprintf(name, sizeof name, "blk.%u.attn_v_b.weight", layer);
    char *values = add_piece(c, name, kv.format, (const uint64_t[]){r, v, heads, 1})->data;
    float *along = need(n * r * sizeof *along);
    for (size_t h = 0; h < heads; h++) {
        const char *from = (const char *)kv.data + h * (n + v) * row;
        kv.format->decode(from, along, n * r);
        transpose(along, keys + h * n * r, n, r);
        memcpy(values + h * v * row, from + n * row, v * row);
    }
    free(along);
    drop_piece(c, find_piece(c, layer, "attn_kv_b.weight"));
}

/* In plain formats the file in one piece has the weights of the one it was made of. In quantised ones its keys were
 * rounded along other rows: it is compared with itself in two pieces. */
static void joined_as(const char *preset, const char *type)
{
    struct copy c;
    const struct test_shape *s = test_shape_named(preset);
    make_base(preset, type);
    copy_open(&c, base_path);
    for (uint32_t i = 0; i < s->n_layer; i++) join_layer(&c, i);
    write_copy(&c, other_path);
    if (quant_format_named(type)->block_len == 1) same_logits(type, other_path);
    for (uint32_t i = 0; i < s->n_layer; i++) split_layer(&c, i, s->n_head, s->nope);
    write_copy(&c, base_path);
    logits_of(base_path, base_logits);
    same_logits(type, other_path);
    copy_close(&c);
}

static void joined_keys_and_values(void **state)
{
    (void)state;
    static const char *const types[] = {"F32", "F16", "BF16", "Q8_0", "Q4_K"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) joined_as("all-mla", types[i]);
    joined_as("v3", "Q8_0");
}

/* ---------------------------------------------------------------------------------------------- fused experts */

static void fuse_layer(struct copy *c, uint32_t layer)
{
    struct piece *gate = find_piece(c, layer, "ffn_gate_exps.weight"), *up = find_piece(c, layer, "ffn_up_exps.weight");
    if (!gate) return;
    size_t bytes = gate->bytes / (size_t)gate->ne[2];
    char name[80];
    snprintf(name, sizeof name, "blk.%u.ffn_gate_up_exps.weight", layer);
    struct piece *both =
        add_piece(c, name, gate->format, (const uint64_t[]){gate->ne[0], 2 * gate->ne[1], gate->ne[2], 1});
    for (size_t e = 0; e < gate->ne[2]; e++) {
        memcpy((char *)both->data + 2 * e * bytes, (char *)gate->data + e * bytes, bytes);
        memcpy((char *)both->data + (2 * e + 1) * bytes, (char *)up->data + e * bytes, bytes);
    }
    drop_piece(c, up);
    drop_piece(c, find_piece(c, layer, "ffn_gate_exps.weight"));
}

static void fused_experts(void **state)
{
    (void)state;
    static const char *const types[] = {"F32", "Q8_0", "Q4_K"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct copy c;
        make_base("tiny", types[i]);
        copy_open(&c, base_path);
        for (uint32_t layer = 0; layer < 4; layer++) fuse_layer(&c, layer);
        write_copy(&c, other_path);
        copy_close(&c);
        same_logits(types[i], other_path);
    }
}

/* ------------------------------------------------------------------------------------------- parts and metadata */

static void several_parts(void **state)
{
    (void)state;
    struct copy c;
    make_base("tiny", "Q8_0");
    copy_open(&c, base_path);
    size_t half = c.count / 2;
    for (uint16_t i = 0; i < 2; i++) {
        struct changes split = {.count = 0};
        const unsigned char no[] = {(unsigned char)i, 0}, count[] = {2, 0}, all[] = {(unsigned char)c.count, 0, 0, 0};
        change(&split, "/split.no", GGUF_U16, no, sizeof no);
        change(&split, "/split.count", GGUF_U16, count, sizeof count);
        change(&split, "/split.tensors.count", GGUF_I32, all, sizeof all);
        write_part(&c, part_path[i], &split, i ? half : 0, i ? c.count - half : half);
    }
    copy_close(&c);
    same_logits("two parts", part_path[0]);
}

static void changed_keys(const char *what, const struct changes *changes)
{
    struct copy c;
    copy_open(&c, base_path);
    write_part(&c, other_path, changes, 0, c.count);
    copy_close(&c);
    same_logits(what, other_path);
}

static void layer_maps(void **state)
{
    (void)state;
    static const unsigned char words[16] = {[12] = 1}, bytes[4] = {[3] = 1}, quads[32] = {[24] = 1}, one[4] = {1};
    static const struct {
        const char *what;
        enum gguf_kind kind;
        const unsigned char *data;
        size_t bytes;
    } maps[] = {{"u32 map", GGUF_U32, words, sizeof words},
                {"i32 map", GGUF_I32, words, sizeof words},
                {"u8 map", GGUF_U8, bytes, sizeof bytes},
                {"i64 map", GGUF_I64, quads, sizeof quads}};
    make_base("tiny", "F32");
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        struct changes c = {.count = 0};
        change(&c, "attention.head_count_kv", maps[i].kind, maps[i].data, maps[i].bytes);
        c.values[0].is_array = true;
        c.values[0].count = 4;
        changed_keys(maps[i].what, &c);
    }
    make_base("all-mla", "F32");
    struct changes c = {.count = 0};
    change(&c, "attention.head_count_kv", GGUF_U32, one, sizeof one);
    changed_keys("one number", &c);
}

static void absent_keys(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "leading_dense_block_count", "expert_shared_count",    "expert_gating_func", "vocab_size",
        "attention.key_length",      "attention.value_length", "rope.freq_base",     "kda.head_dim",
        "ssm.conv_kernel",           "feed_forward_length",    "/general.name"};
    static const unsigned char one[] = {0, 0, 0x80, 0x3f};
    struct changes c = {.count = 0};
    make_base("all-mla", "F32");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) change(&c, keys[i], GGUF_U32, NULL, 0);
    changed_keys("keys left out", &c);

    /* deepseek2: a key without its prefix would be kimi-linear's. */
    static const char *const relative[] = {"/deepseek2.expert_gating_func",     "/deepseek2.rope.freq_base",
                                           "/deepseek2.attention.q_lora_rank",  "/deepseek2.attention.key_length",
                                           "/deepseek2.attention.value_length", "/deepseek2.attention.head_count_kv",
                                           "/deepseek2.expert_shared_count",    "/deepseek2.vocab_size",
                                           "/tokenizer.chat_template"};
    struct changes v2 = {.count = 0};
    make_base("v2", "F32");
    for (size_t i = 0; i < sizeof relative / sizeof *relative; i++) change(&v2, relative[i], GGUF_U32, NULL, 0);
    changed_keys("keys of deepseek2 left out", &v2);

    make_base("all-mla", "F32");
    struct changes scale = {.count = 0};
    change(&scale, "expert_weights_scale", GGUF_F32, one, sizeof one);
    struct copy model;
    copy_open(&model, base_path);
    write_part(&model, other_path, &scale, 0, model.count);
    copy_close(&model);
    logits_of(other_path, base_logits);
    scale.values[0].data = NULL;
    changed_keys("no scale and a scale of 1", &scale);
}

static int group(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joined_keys_and_values),
        cmocka_unit_test(fused_experts),
        cmocka_unit_test(several_parts),
        cmocka_unit_test(layer_maps),
        cmocka_unit_test(absent_keys),
    };
    return cmocka_run_group_tests_name(test_device, tests, NULL, NULL);
}

int main(void)
{
    temp_path(base_path, "forms-base.gguf");
    temp_path(other_path, "forms-other.gguf");
    temp_path(part_path[0], "forms-00001-of-00002.gguf");
    temp_path(part_path[1], "forms-00002-of-00002.gguf");
    int failed = for_each_device(group);
    unlink(base_path);
    unlink(other_path);
    unlink(part_path[0]);
    unlink(part_path[1]);
    return failed;
}
