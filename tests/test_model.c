/* SPDX-License-Identifier: MIT
 *
 * Opening models: what is missing or wrong is named in the sentence, damaged files are refused or run but never crash,
 * what does not fit is refused before it is loaded.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/make_model.h"
#include "tests/on_devices.h"

static char good_path[128], changed_path[128];

static void must(int rc, const struct error *error)
{
    if (rc) fail_msg("%s", error->text);
}

/* --------------------------------------------------------------------------------------------- changed copies */

/* What a copy of the good model does otherwise. Zero and NULL: nothing. */
struct change {
    const char *drop_key, *text_key, *text, *number_key;
    uint32_t number;
    const char *drop_tensor, *rename_tensor, *new_name;
    const char *swap_tensor; /* first two dimensions exchanged */
    const char *half_tensor; /* told to be F16, with half the data */
    bool fuse_experts;       /* gate and up in one tensor */
};

static bool is_named(struct gguf_string s, const char *name)
{
    return name && s.len == strlen(name) && !memcmp(s.bytes, name, s.len);
}

static void copy_values(struct gguf_writer *w, const struct gguf *good, const struct change *c)
{
    for (size_t i = 0; i < gguf_value_count(good); i++) {
        const struct gguf_value *v = gguf_value_at(good, i);
        bool replaced = is_named(v->key, c->text_key) || is_named(v->key, c->number_key);
        if (!replaced && !is_named(v->key, c->drop_key)) gguf_put_copy(w, v);
    }
    if (c->text_key) gguf_put_string(w, c->text_key, c->text, strlen(c->text));
    if (c->number_key) gguf_put_u32(w, c->number_key, c->number);
}

static bool is_expert(const struct gguf_tensor *t, const char *suffix)
{
    size_t n = strlen(suffix);
    return t->name.len > n && !memcmp(t->name.bytes + t->name.len - n, suffix, n);
}

static bool is_dropped(const struct gguf_tensor *t, const struct change *c)
{
    return is_named(t->name, c->drop_tensor) || (c->fuse_experts && is_expert(t, "ffn_up_exps.weight"));
}

static void describe(struct gguf_writer *w, const struct gguf_tensor *t, const struct change *c)
{
    char name[80];
    uint64_t ne[4];
    const struct quant_format *format = t->format;
    memcpy(ne, t->ne, sizeof ne);
    snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.bytes);
    if (is_named(t->name, c->rename_tensor)) snprintf(name, sizeof name, "%s", c->new_name);
    if (is_named(t->name, c->half_tensor)) format = quant_format(QUANT_F16);
    if (is_named(t->name, c->swap_tensor)) {
        ne[0] = t->ne[1];
        ne[1] = t->ne[0];
    }
    if (c->fuse_experts && is_expert(t, "ffn_gate_exps.weight")) {
        memcpy(strstr(name, "gate_exps"), "gate_up_exps.weight", sizeof "gate_up_exps.weight");
        ne[1] *= 2;
    }
    gguf_put_tensor(w, name, format, t->n_dims, ne);
}

/* Gate and up of each expert in turn. */
static void write_fused(struct gguf_writer *w, const struct gguf *good, const struct gguf_tensor *gate)
{
    struct error error;
    char name[80];
    snprintf(name, sizeof name, "%.*s", (int)gate->name.len, gate->name.bytes);
    memcpy(strstr(name, "gate_exps"), "up_exps.weight", sizeof "up_exps.weight");
    const struct gguf_tensor *up = gguf_tensor_named(good, name);
    size_t bytes = gate->bytes / gate->ne[2];
    for (size_t e = 0; e < gate->ne[2]; e++) {
        must(gguf_write(w, (const char *)gate->data + e * bytes, bytes, &error), &error);
        must(gguf_write(w, (const char *)up->data + e * bytes, bytes, &error), &error);
    }
}

static void write_changed(const struct change *c)
{
    struct error error;
    struct gguf *good;
    struct gguf_writer *w;
    must(gguf_open(&good, good_path, &error), &error);
    must(gguf_writer_open(&w, changed_path, &error), &error);
    copy_values(w, good, c);
    for (size_t i = 0; i < gguf_tensor_count(good); i++)
        if (!is_dropped(gguf_tensor_at(good, i), c)) describe(w, gguf_tensor_at(good, i), c);
    for (size_t i = 0; i < gguf_tensor_count(good); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(good, i);
        if (is_dropped(t, c)) continue;
        if (c->fuse_experts && is_expert(t, "ffn_gate_exps.weight"))
            write_fused(w, good, t);
        else
            must(gguf_write(w, t->data, is_named(t->name, c->half_tensor) ? t->bytes / 2 : t->bytes, &error), &error);
    }
    must(gguf_writer_finish(&w, &error), &error);
    gguf_close(&good);
}

/* ---------------------------------------------------------------------------------------------------- refusals */

static int open_changed(struct engine **e, struct error *error)
{
    const struct engine_params params = {.model = changed_path, .device = "cpu", .context = 256, .batch = 16};
    return engine_open(e, &params, error);
}

static void refused(const struct change *c, const char *reason)
{
    struct error error = {0};
    struct engine *e;
    write_changed(c);
    assert_int_equal(open_changed(&e, &error), ERROR_MODEL);
    assert_null(e);
    if (!strstr(error.text, reason)) fail_msg("\"%s\" does not say \"%s\"", error.text, reason);
}

static void missing_keys(void **state)
{
    (void)state;
    static const char *const keys[] = {"block_count",
                                       "embedding_length",
                                       "attention.head_count",
                                       "attention.head_count_kv",
                                       "context_length",
                                       "attention.layer_norm_rms_epsilon",
                                       "kda.head_dim",
                                       "ssm.conv_kernel",
                                       "attention.kv_lora_rank",
                                       "rope.dimension_count",
                                       "attention.key_length_mla",
                                       "attention.value_length_mla",
                                       "feed_forward_length",
                                       "expert_used_count",
                                       "expert_feed_forward_length"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char key[80];
        snprintf(key, sizeof key, "kimi-linear.%s", keys[i]);
        refused(&(struct change){.drop_key = key}, key);
    }
    refused(&(struct change){.drop_key = "general.architecture"}, "no architecture");
}

static void wrong_values(void **state)
{
    (void)state;
    refused(&(struct change){.text_key = "general.architecture", .text = "llama"},
            "Architecture llama is not supported: lectern runs kimi-linear and deepseek2");
    refused(&(struct change){.text_key = "general.architecture", .text = "deepseek"},
            "Architecture deepseek is not supported: lectern runs kimi-linear and deepseek2");
    refused(&(struct change){.text_key = "general.architecture", .text = "deepseek2"},
            "lacks the key deepseek2.block_count");
    refused(&(struct change){.number_key = "kimi-linear.block_count", .number = 5}, "4 entries for 5 layers");
    refused(&(struct change){.number_key = "kimi-linear.block_count", .number = 0}, "block_count is 0");
    refused(&(struct change){.number_key = "kimi-linear.kda.head_dim", .number = 60}, "multiples of 8");
    refused(&(struct change){.number_key = "kimi-linear.attention.head_count", .number = 3}, "blk.0.attn_q.weight");
    refused(&(struct change){.number_key = "kimi-linear.ssm.conv_kernel", .number = 5}, "conv_kernel is 5");
    refused(&(struct change){.number_key = "kimi-linear.expert_gating_func", .number = 3}, "sigmoid");
    refused(&(struct change){.number_key = "kimi-linear.expert_group_count", .number = 2}, "is 0 of 2 groups");
    refused(&(struct change){.number_key = "kimi-linear.expert_group_count", .number = 3},
            "8 experts cannot be grouped");
    refused(&(struct change){.number_key = "kimi-linear.expert_used_count", .number = 9}, "9 experts");
    refused(&(struct change){.number_key = "kimi-linear.rope.dimension_count", .number = 96}, "key_length_mla");
    refused(&(struct change){.number_key = "kimi-linear.vocab_size", .number = 511}, "vocab_size is 511");
    refused(&(struct change){.number_key = "kimi-linear.expert_shared_count", .number = 2}, "shared experts");
    refused(&(struct change){.number_key = "kimi-linear.expert_weights_scale", .number = 0}, "expert_weights_scale");
}

/* The same for deepseek2: the model "v3" takes the good one's place. */
static void wrong_relatives(void **state)
{
    (void)state;
    struct error error;
    static const char *const keys[] = {"attention.kv_lora_rank",    "rope.dimension_count",       "rope.scaling.factor",
                                       "expert_used_count",         "expert_feed_forward_length", "context_length",
                                       "attention.value_length_mla"};
    static const struct {
        const char *key;
        uint32_t number;
        const char *reason;
    } numbers[] = {
        {"rope.dimension_count", 31, "rope.dimension_count is 31: channels turn in pairs"},
        {"rope.dimension_count", 64, "attention.key_length_mla is 64, not above"},
        {"attention.kv_lora_rank", 65, "blk.0.attn_kv_a_mqa.weight is [96, 96"},
        {"attention.q_lora_rank", 47, "blk.0.attn_q_a.weight is [96, 48"},
        {"expert_gating_func", 4, "expert_gating_func is 4: 1 (softmax) and 2 (sigmoid) are supported"},
        {"expert_group_count", 5, "16 experts cannot be grouped so"},
        {"expert_group_count", 16, "16 experts cannot be grouped so"},
        {"expert_group_count", 300, "0 to 256 is supported"},
        {"expert_group_used_count", 5, "expert_group_used_count is 5 of 4 groups"},
        {"expert_group_used_count", 0, "expert_group_used_count is 0 of 4 groups"},
        {"expert_used_count", 9, "9 experts are to be used of 2 groups of 4"},
        {"expert_weights_norm", 1, "expert_weights_norm is not true or false"},
        {"rope.scaling.factor", 8, "rope.scaling.factor is not a positive number"},
        {"nextn_predict_layers", 4, "4 of 4 layers are for prediction"},
    };
    must(test_model_write(good_path, &(struct test_model){.preset = "v3", .seed = 1}, &error), &error);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char key[80];
        snprintf(key, sizeof key, "deepseek2.%s", keys[i]);
        refused(&(struct change){.drop_key = key}, key);
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char key[80];
        snprintf(key, sizeof key, "deepseek2.%s", numbers[i].key);
        refused(&(struct change){.number_key = key, .number = numbers[i].number}, numbers[i].reason);
    }
    refused(&(struct change){.text_key = "deepseek2.rope.scaling.type", .text = "linear"},
            "rope.scaling.type is linear: yarn and none are supported");
    refused(&(struct change){.drop_tensor = "blk.0.attn_q_b.weight"}, "blk.0.attn_q_b.weight");
    must(test_model_write(good_path, &(struct test_model){.seed = 1, .type = "Q8_0"}, &error), &error);
}

static void wrong_tensors(void **state)
{
    (void)state;
    static const char *const names[] = {"token_embd.weight",
                                        "output.weight",
                                        "output_norm.weight",
                                        "blk.0.ssm_f_b.weight",
                                        "blk.0.ssm_a",
                                        "blk.1.ssm_dt.bias",
                                        "blk.2.ssm_conv1d_k.weight",
                                        "blk.0.ffn_down.weight",
                                        "blk.3.attn_v_b.weight",
                                        "blk.1.exp_probs_b.bias",
                                        "blk.2.ffn_down_exps.weight",
                                        "blk.1.ffn_up_exps.weight",
                                        "blk.3.attn_k_b.weight",
                                        "blk.3.ffn_up_shexp.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        refused(&(struct change){.drop_tensor = names[i]}, names[i]);
    refused(&(struct change){.swap_tensor = "blk.0.ffn_up.weight"}, "blk.0.ffn_up.weight is [512, 256");
    refused(&(struct change){.half_tensor = "blk.1.attn_norm.weight"}, "blk.1.attn_norm.weight is F16");
    refused(&(struct change){.rename_tensor = "blk.3.attn_k_b.weight", .new_name = "blk.3.attn_kv_b.weight"},
            "blk.3.attn_kv_b.weight is [64, 128, 4, 1]: [128, 512, 1]");
    refused(&(struct change){.rename_tensor = "blk.3.attn_q.weight", .new_name = "blk.3.attn_q_a.weight"},
            "blk.3.attn_q_a_norm.weight");
}

/* ------------------------------------------------------------------------------------------------- fused experts */

static void logits_of(const char *path, float *out, size_t n)
{
    struct error error;
    struct engine *e;
    struct timeline *t;
    const uint32_t ids[] = {1, 2, 3, 500, 7};
    const struct engine_params params = {.model = path, .device = test_device, .context = 256};
    must(engine_open(&e, &params, &error), &error);
    assert_int_equal(engine_info(e)->n_vocab, n);
    must(timeline_create(&t, e, &error), &error);
    must(timeline_append(t, ids, 5, NULL, NULL, &error), &error);
    memcpy(out, timeline_logits(t), n * sizeof *out);
    timeline_destroy(&t);
    engine_close(&e);
}

static void fused_experts(void **state)
{
    (void)state;
    float split[512], fused[512];
    write_changed(&(struct change){.fuse_experts = true});
    logits_of(good_path, split, 512);
    logits_of(changed_path, fused, 512);
    for (size_t i = 0; i < 512; i++) assert_true(split[i] - fused[i] < 1e-4f && fused[i] - split[i] < 1e-4f);
}

/* ------------------------------------------------------------------------------------------------------ damage */

/* A model that opens although some of its header is damaged must run, whatever numbers come out. */
static void damaged_headers(void **state)
{
    (void)state;
    struct error error;
    struct gguf *good;
    size_t header, refusals = 0;
    must(gguf_open(&good, good_path, &error), &error);
    gguf_header(good, &header);
    gguf_close(&good);
    write_changed(&(struct change){0});
    for (uint32_t seed = 1; seed <= 300; seed++) {
        uint32_t random = seed * 2654435761u, bit = random >> 29;
        long at = (long)((uint64_t)random * 40503u % header);
        FILE *f = fopen(changed_path, "r+b");
        assert_non_null(f);
        fseek(f, at, SEEK_SET);
        int byte = fgetc(f);
        fseek(f, at, SEEK_SET);
        fputc(byte ^ 1 << bit, f);
        fclose(f);
        struct engine *e;
        struct timeline *t;
        const uint32_t ids[] = {1, 2, 3};
        if (open_changed(&e, &error)) {
            refusals++;
            assert_null(e);
        } else {
            must(timeline_create(&t, e, &error), &error);
            must(timeline_append(t, ids, 3, NULL, NULL, &error), &error);
            timeline_destroy(&t);
            engine_close(&e);
        }
        f = fopen(changed_path, "r+b");
        fseek(f, at, SEEK_SET);
        fputc(byte, f);
        fclose(f);
    }
    assert_true(refusals > 0);
}

static void truncated_files(void **state)
{
    (void)state;
    struct error error;
    struct engine *e;
    write_changed(&(struct change){0});
    FILE *f = fopen(changed_path, "rb");
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    fclose(f);
    for (int i = 19; i >= 0; i--) {
        assert_int_equal(truncate(changed_path, size * i / 20), 0);
        assert_int_equal(open_changed(&e, &error), ERROR_MODEL);
    }
    unlink(changed_path);
    assert_int_equal(open_changed(&e, &error), ERROR_MODEL);
}

/* -------------------------------------------------------------------------------------------------------- plan */

static void plans(void **state)
{
    (void)state;
    struct error error;
    struct engine_plan plan;
    struct engine_params params = {
        .model = good_path, .device = test_device, .context = 1000, .batch = 64, .rows_dtype = ENGINE_F16};
    must(engine_plan(&plan, &params, &error), &error);
    assert_true(plan.fits);
    assert_int_equal(plan.context, 1000);
    assert_true(plan.context_fits >= 1000);
    assert_int_equal(plan.rows, 1024 * 160 * 2);
    assert_int_equal(plan.state, 3 * 4 * (64 * 64 + 3 * 64 * 3) * 4);
    assert_true(plan.weights > 0 && plan.workspace > 0 && plan.available > 0);

    struct engine *e;
    must(engine_open(&e, &params, &error), &error);
    const struct engine_info *info = engine_info(e);
    assert_int_equal(info->context, 1000);
    assert_int_equal(info->n_kda, 3);
    assert_int_equal(info->n_mla, 1);
    assert_int_equal(info->row_bytes, 320);
    assert_int_equal(info->weight_bytes, plan.weights);
    assert_string_equal(info->device_id, test_device);
    engine_close(&e);

    params.context = 1u << 24;
    params.rows_dtype = ENGINE_F32;
    must(engine_plan(&plan, &params, &error), &error);
    assert_int_equal(plan.fits, plan.context <= plan.context_fits);
    if (!plan.fits) {
        char fits[32];
        snprintf(fits, sizeof fits, "%u tokens would fit", plan.context_fits);
        assert_int_equal(engine_open(&e, &params, &error), ERROR_FIT);
        assert_non_null(strstr(error.text, fits));
    }
    params.context = 1u << 25;
    assert_int_equal(engine_plan(&plan, &params, &error), ERROR_USAGE);
}

static void devices(void **state)
{
    (void)state;
    struct engine_device list[16];
    struct error error;
    struct engine *e;
    size_t count;
    must(engine_devices(list, 16, &count, &error), &error);
    assert_true(count >= 1);
    assert_string_equal(list[0].id, "cpu");
    assert_true(list[0].is_usable && list[0].memory > 0);
    struct engine_params params = {.model = good_path, .device = "vulkan:99"};
    assert_int_equal(engine_open(&e, &params, &error), ERROR_FIT);
    params.device = "tpu";
    assert_int_equal(engine_open(&e, &params, &error), ERROR_USAGE);
}

struct cancel {
    int calls;
};

static bool stop_at_once(void *ctx, uint64_t done, uint64_t total)
{
    struct cancel *c = ctx;
    c->calls++;
    assert_true(done <= total);
    return false;
}

static void loading_can_be_stopped(void **state)
{
    (void)state;
    struct error error;
    struct engine *e;
    struct cancel cancel = {0};
    const struct engine_params params = {
        .model = good_path, .device = test_device, .progress = stop_at_once, .progress_ctx = &cancel};
    assert_int_equal(engine_open(&e, &params, &error), ERROR_CANCELLED);
    assert_null(e);
    assert_int_equal(cancel.calls, 1);
}

static int group(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fused_experts),
        cmocka_unit_test(plans),
        cmocka_unit_test(loading_can_be_stopped),
    };
    return cmocka_run_group_tests_name(test_device, tests, NULL, NULL);
}

int main(void)
{
    struct error error = {0};
    const struct test_model model = {.seed = 1, .type = "Q8_0"};
    const struct CMUnitTest files[] = {
        cmocka_unit_test(missing_keys),    cmocka_unit_test(wrong_values),    cmocka_unit_test(wrong_tensors),
        cmocka_unit_test(damaged_headers), cmocka_unit_test(truncated_files), cmocka_unit_test(devices),
        cmocka_unit_test(wrong_relatives),
    };
    temp_path(good_path, "model.gguf");
    temp_path(changed_path, "model-changed.gguf");
    if (test_model_write(good_path, &model, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    int failed = cmocka_run_group_tests_name("files", files, NULL, NULL) + for_each_device(group);
    unlink(good_path);
    unlink(changed_path);
    return failed;
}
