/* SPDX-License-Identifier: MIT
 *
 * The quantizer: fallbacks, mixes, and whole files rewritten: names, shapes and metadata stay, weights stay near, what
 * must be F32 is F32; dry runs, overrides, cancelling, replacing a file by itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "quant/quantize.h"
#include "tests/make_model.h"

static char folder[] = "/tmp/lectern-quantize-XXXXXX";
static char in_path[64], out_path[64];

static int make_inputs(void **state)
{
    (void)state;
    struct error error;
    struct test_model m = {.preset = "tiny", .seed = 3};
    if (!mkdtemp(folder)) return -1;
    snprintf(in_path, sizeof in_path, "%s/in.gguf", folder);
    snprintf(out_path, sizeof out_path, "%s/out.gguf", folder);
    return test_model_write(in_path, &m, &error);
}

static int remove_inputs(void **state)
{
    (void)state;
    unlink(in_path);
    unlink(out_path);
    return rmdir(folder);
}

static void test_short_rows_fall_back(void **state)
{
    (void)state;
    static const struct {
        enum quant_type wanted;
        uint64_t row;
        enum quant_type got;
    } rows[] = {
        {QUANT_Q4_K, 512, QUANT_Q4_K},    {QUANT_Q4_K, 128, QUANT_Q5_0},   {QUANT_Q5_K, 128, QUANT_Q5_1},
        {QUANT_Q6_K, 96, QUANT_Q8_0},     {QUANT_Q2_K, 128, QUANT_IQ4_NL}, {QUANT_Q3_K, 800, QUANT_IQ4_NL},
        {QUANT_IQ4_XS, 64, QUANT_IQ4_NL}, {QUANT_TQ1_0, 32, QUANT_IQ4_NL}, {QUANT_Q4_K, 100, QUANT_F16},
        {QUANT_Q8_0, 100, QUANT_F16},     {QUANT_Q8_0, 96, QUANT_Q8_0},    {QUANT_F32, 7, QUANT_F32},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(quantize_fallback(quant_format((uint32_t)rows[i].wanted), rows[i].row)->type, rows[i].got);
}

/* The format of one tensor of the test model (four layers, the last of them MLA; eight experts), or of the same model
 * with another number of experts. */
static enum quant_type chosen(const char *mix, const char *name, uint32_t experts, bool weighed)
{
    struct gguf *g;
    struct error error;
    struct quantize_source source;
    assert_int_equal(gguf_open(&g, in_path, &error), 0);
    quantize_source(&source, g, weighed);
    assert_int_equal(source.layers, 4);
    assert_int_equal(source.experts, 8);
    assert_int_equal(source.values, 3);
    assert_false(source.grouped);
    source.experts = experts;
    const struct gguf_tensor *t = gguf_tensor_named(g, name);
    assert_non_null(t);
    enum quant_type type = quantize_choose(quantize_mix_named(mix), &source, t)->type;
    gguf_close(&g);
    return type;
}

/* What llama.cpp v0.5.0 chooses for the same tensors of such models. */
static void test_mixes_choose(void **state)
{
    (void)state;
    static const struct {
        const char *mix, *tensor;
        uint32_t experts;
        bool weighed;
        enum quant_type type;
    } rows[] = {
        {"q4_k_m", "blk.1.ffn_up_exps.weight", 256, false, QUANT_Q4_K},
        {"Q4_K_M", "blk.2.ffn_down_exps.weight", 256, false, QUANT_Q6_K},
        {"Q4_K_M", "blk.1.ffn_down_exps.weight", 256, false, QUANT_Q4_K},
        {"Q4_K_M", "blk.0.attn_v.weight", 256, false, QUANT_Q4_K},
        {"Q4_K_M", "blk.2.attn_v.weight", 256, false, QUANT_Q6_K},
        {"Q4_K_M", "blk.2.attn_v.weight", 8, false, QUANT_Q8_0},
        {"Q4_K_M", "blk.2.attn_k.weight", 8, false, QUANT_Q8_0},
        {"Q4_K_M", "output.weight", 256, false, QUANT_Q6_K},
        {"Q4_K_S", "blk.2.attn_v.weight", 256, false, QUANT_Q5_K},
        {"Q3_K_M", "blk.1.attn_v.weight", 256, false, QUANT_Q5_K},
        {"Q3_K_M", "blk.2.attn_v.weight", 256, false, QUANT_Q4_K},
        {"Q3_K_M", "blk.3.ffn_down_exps.weight", 256, false, QUANT_Q4_K},
        {"Q3_K_L", "blk.3.attn_output.weight", 256, false, QUANT_Q5_K},
        {"Q3_K_L", "blk.3.attn_output.weight", 8, false, QUANT_Q3_K},
        {"Q2_K", "blk.3.attn_output.weight", 256, false, QUANT_Q3_K},
        {"Q2_K", "blk.3.attn_v_b.weight", 256, false, QUANT_Q2_K},
        {"IQ3_XXS", "blk.1.ffn_down_exps.weight", 256, false, QUANT_Q3_K},
        {"IQ3_XXS", "blk.1.ffn_down_exps.weight", 256, true, QUANT_IQ3_XXS},
        {"IQ2_M", "blk.0.attn_v.weight", 256, true, QUANT_Q4_K},
        {"IQ2_M", "token_embd.weight", 256, true, QUANT_IQ3_S},
        {"MXFP4_MOE", "blk.3.ffn_up_exps.weight", 256, false, QUANT_MXFP4},
        {"MXFP4_MOE", "blk.3.ffn_up_shexp.weight", 256, false, QUANT_Q8_0},
        {"MXFP4_MOE", "blk.3.attn_v_b.weight", 256, false, QUANT_Q8_0}, /* llama.cpp takes it for experts: MXFP4 */
        {"Lectern-2.7", "blk.1.ffn_up_exps.weight", 256, false, QUANT_IQ2_S},
        {"lectern-2.7", "blk.1.attn_v.weight", 256, false, QUANT_Q6_K},
        {"lectern-2.7", "blk.1.ssm_f_a.weight", 256, false, QUANT_Q6_K},
        {"lectern-2.7", "blk.1.ffn_up_shexp.weight", 256, false, QUANT_Q5_K},
        {"lectern-2.7", "output.weight", 256, false, QUANT_Q6_K},
        {"lectern-3.3", "blk.1.ffn_down_exps.weight", 256, false, QUANT_IQ3_S},
        {"lectern-3.3", "blk.1.ffn_gate_exps.weight", 8, false, QUANT_IQ3_XXS},
        {"lectern-4.2", "blk.1.ffn_up_exps.weight", 256, false, QUANT_IQ3_S},
        {"lectern-4.2", "blk.2.ffn_up_exps.weight", 256, false, QUANT_IQ4_XS},
        {"lectern-4.2", "blk.1.ffn_down_exps.weight", 256, false, QUANT_IQ4_XS},
        {"lectern-4.2", "blk.1.ffn_gate_inp.weight", 256, false, QUANT_F32},
        {"Q2_K", "blk.1.ssm_conv1d_q.weight", 256, false, QUANT_F32},
        {"Q2_K", "blk.1.ssm_a", 256, false, QUANT_F32},
        {"Q2_K", "blk.1.ssm_dt.bias", 256, false, QUANT_F32},
        {"Q2_K", "blk.1.exp_probs_b.bias", 256, false, QUANT_F32},
        {"Q2_K", "blk.1.ffn_gate_inp.weight", 256, false, QUANT_F32},
        {"Q2_K", "output_norm.weight", 256, false, QUANT_F32},
    };
    assert_null(quantize_mix_named("Q9_Z"));
    for (size_t i = 0; quantize_mix_name(i); i++) assert_non_null(quantize_mix_named(quantize_mix_name(i)));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (chosen(rows[i].mix, rows[i].tensor, rows[i].experts, rows[i].weighed) != rows[i].type)
            fail_msg(
                "%s, %u experts: %s is %s", rows[i].mix, rows[i].experts, rows[i].tensor,
                quant_format((uint32_t)chosen(rows[i].mix, rows[i].tensor, rows[i].experts, rows[i].weighed))->name);
}

/* Relative squared distance of two tensors' weights. */
static double distance(const struct gguf_tensor *a, const struct gguf_tensor *b)
{
    size_t n = (size_t)(a->ne[0] * a->ne[1] * a->ne[2] * a->ne[3]);
    float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
    double off = 0, all = 0;
    assert_true(x && y);
    a->format->decode(a->data, x, n);
    b->format->decode(b->data, y, n);
    for (size_t i = 0; i < n; i++) {
        off += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        all += (double)x[i] * x[i];
    }
    free(x);
    free(y);
    return off / all;
}

static void compare(const struct gguf *a, const struct gguf *b, const struct quantize_params *p, double most)
{
    uint32_t n;
    struct quantize_source source;
    quantize_source(&source, a, p->importance != NULL);
    assert_int_equal(gguf_tensor_count(a), gguf_tensor_count(b));
    for (size_t i = 0; i < gguf_tensor_count(a); i++) {
        const struct gguf_tensor *x = gguf_tensor_at(a, i), *y = gguf_tensor_at(b, i);
        assert_int_equal(x->name.len, y->name.len);
        assert_memory_equal(x->name.bytes, y->name.bytes, x->name.len);
        assert_memory_equal(x->ne, y->ne, sizeof x->ne);
        if (!p->n_overrides)
            assert_ptr_equal(y->format, quantize_fallback(quantize_choose(p->mix, &source, x), x->ne[0]));
        if (quantize_keeps_f32(x)) assert_memory_equal(x->data, y->data, x->bytes);
        assert_true(distance(x, y) <= most);
    }
    for (size_t i = 0; i < gguf_value_count(a); i++) {
        const struct gguf_value *v = gguf_value_at(a, i);
        char key[128];
        snprintf(key, sizeof key, "%.*s", (int)v->key.len, v->key.bytes);
        const struct gguf_value *w = gguf_find(b, key);
        assert_true(w && w->kind == v->kind && w->bytes == v->bytes);
        assert_memory_equal(w->data, v->data, v->bytes);
    }
    assert_true(gguf_get_u32(b, "general.file_type", &n) && n == quantize_mix_file_type(p->mix));
}

static struct quantize_result quantize(struct quantize_params p, double most)
{
    struct error error;
    struct gguf *a, *b;
    struct quantize_result result, dry;
    p.in = p.in ? p.in : in_path;
    p.out = out_path;
    if (quantize_model(&p, &result, &error)) fail_msg("%s", error.text);
    assert_int_equal(gguf_open(&a, p.in, &error), 0);
    assert_int_equal(gguf_open(&b, p.out, &error), 0);
    if (p.in != out_path) compare(a, b, &p, most);
    assert_int_equal(result.out_bytes, gguf_tensor_bytes(b));
    p.dry_run = true;
    p.out = "/nonexistent/never-written.gguf";
    if (p.in != out_path) {
        assert_int_equal(quantize_model(&p, &dry, &error), 0);
        assert_memory_equal(&dry, &result, sizeof dry);
    }
    gguf_close(&a);
    gguf_close(&b);
    return result;
}

static void test_models_are_rewritten(void **state)
{
    (void)state;
    static const struct {
        const char *mix;
        double most;
    } mixes[] = {{"F16", 1e-6}, {"Q8_0", 5e-5}, {"Q6_K", 4e-4}, {"Q4_K_M", 7e-3}, {"Q2_K", 0.08}, {"MXFP4_MOE", 0.02}};
    uint64_t last = UINT64_MAX;
    for (size_t i = 0; i < sizeof mixes / sizeof mixes[0]; i++) {
        struct quantize_params p = {.mix = quantize_mix_named(mixes[i].mix), .threads = (uint32_t)(1 + i % 3)};
        uint64_t bytes = quantize(p, mixes[i].most).out_bytes;
        if (i < 5) assert_true(bytes < last);
        last = bytes;
    }
}

static void test_threads_change_nothing(void **state)
{
    (void)state;
    size_t bytes[2];
    unsigned char *files[2];
    for (uint32_t i = 0; i < 2; i++) {
        quantize((struct quantize_params){.mix = quantize_mix_named("Q3_K_M"), .threads = 1 + 2 * i}, 0.03);
        FILE *f = fopen(out_path, "rb");
        assert_non_null(f);
        files[i] = malloc(8u << 20);
        bytes[i] = fread(files[i], 1, 8u << 20, f);
        fclose(f);
    }
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(files[0], files[1], bytes[0]);
    free(files[0]);
    free(files[1]);
}

static void test_overrides(void **state)
{
    (void)state;
    struct gguf *g;
    struct error error;
    const struct quantize_override wishes[] = {{"_exps\\.", quant_format(QUANT_Q4_K)},
                                               {"^blk\\.1\\..*_exps\\.", quant_format(QUANT_Q3_K)},
                                               {"ssm_f_b|ffn_gate_inp", quant_format(QUANT_Q6_K)}};
    struct quantize_params p = {.mix = quantize_mix_named("Q8_0"), .overrides = wishes, .n_overrides = 3, .threads = 2};
    quantize(p, 0.03);
    assert_int_equal(gguf_open(&g, out_path, &error), 0);
    static const struct {
        const char *name, *format;
    } is[] = {{"blk.1.ffn_up_exps.weight", "Q3_K"},
              {"blk.2.ffn_up_exps.weight", "Q4_K"},
              {"blk.2.ffn_up_shexp.weight", "Q8_0"},
              {"blk.1.ssm_f_b.weight", "Q8_0"}, /* Q6_K does not fit rows of 64 */
              {"blk.1.ffn_gate_inp.weight", "F32"}};
    for (size_t i = 0; i < sizeof is / sizeof is[0]; i++)
        assert_string_equal(gguf_tensor_named(g, is[i].name)->format->name, is[i].format);
    gguf_close(&g);
    struct quantize_result result;
    const struct quantize_override broken = {"(", quant_format(QUANT_Q4_K)};
    p = (struct quantize_params){.in = in_path, .out = out_path, .mix = p.mix, .overrides = &broken, .n_overrides = 1};
    assert_int_equal(quantize_model(&p, &result, &error), ERROR_USAGE);
}

static bool stop_at_third(void *user, const struct quantize_progress *p)
{
    int *calls = user;
    assert_true(p->done <= p->total && p->tensor < p->n_tensors && p->from && p->to);
    return ++*calls < 3;
}

static void part_path(char *out, size_t room, const char *stem, unsigned number)
{
    snprintf(out, room, "%s/%s-%05u-of-00002.gguf", folder, stem, number);
}

static void put_number(struct gguf_writer *w, const char *key, enum gguf_kind kind, size_t bytes, unsigned char value)
{
    const unsigned char le[4] = {value};
    gguf_put_copy(w, &(struct gguf_value){{key, strlen(key)}, kind, false, 1, le, bytes});
}

/* The input in two parts, its first ten tensors in the first. */
static void write_parts(const struct gguf *g)
{
    struct error error;
    for (unsigned part = 0; part < 2; part++) {
        struct gguf_writer *w;
        char path[96], name[80];
        size_t first = part ? 10 : 0, end = part ? gguf_tensor_count(g) : 10;
        part_path(path, sizeof path, "in", part + 1);
        assert_int_equal(gguf_writer_open(&w, path, &error), 0);
        for (size_t i = 0; !part && i < gguf_value_count(g); i++) gguf_put_copy(w, gguf_value_at(g, i));
        put_number(w, "split.no", GGUF_U16, 2, (unsigned char)part);
        put_number(w, "split.count", GGUF_U16, 2, 2);
        put_number(w, "split.tensors.count", GGUF_I32, 4, (unsigned char)gguf_tensor_count(g));
        for (size_t i = first; i < end; i++) {
            const struct gguf_tensor *t = gguf_tensor_at(g, i);
            snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.bytes);
            gguf_put_tensor(w, name, t->format, t->n_dims, t->ne);
        }
        for (size_t i = first; i < end; i++)
            assert_int_equal(gguf_write(w, gguf_tensor_at(g, i)->data, gguf_tensor_at(g, i)->bytes, &error), 0);
        assert_int_equal(gguf_writer_finish(&w, &error), 0);
    }
}

static void assert_same_weights(const struct gguf *a, const struct gguf *b)
{
    assert_int_equal(gguf_tensor_count(a), gguf_tensor_count(b));
    for (size_t i = 0; i < gguf_tensor_count(a); i++) {
        const struct gguf_tensor *x = gguf_tensor_at(a, i), *y = gguf_tensor_at(b, i);
        assert_true(x->format == y->format && x->bytes == y->bytes && x->name.len == y->name.len);
        assert_memory_equal(x->name.bytes, y->name.bytes, x->name.len);
        assert_memory_equal(x->data, y->data, x->bytes);
    }
}

static void test_parts_stay_parts(void **state)
{
    (void)state;
    struct gguf *g, *whole, *parts;
    struct error error;
    struct quantize_result result;
    char in[96], out[96];
    assert_int_equal(gguf_open(&g, in_path, &error), 0);
    write_parts(g);
    part_path(in, sizeof in, "in", 1);
    snprintf(out, sizeof out, "%s/out.gguf", folder);
    struct quantize_params p = {.in = in, .out = out_path, .mix = quantize_mix_named("Q4_K_M"), .threads = 2};
    assert_int_equal(quantize_model(&p, &result, &error), 0);
    p.keep_split = true;
    p.out = out;
    if (quantize_model(&p, &result, &error)) fail_msg("%s", error.text);
    assert_int_equal(gguf_open(&whole, out_path, &error), 0);
    part_path(out, sizeof out, "out", 1);
    if (gguf_open(&parts, out, &error)) fail_msg("%s", error.text);
    assert_int_equal(gguf_shard_count(whole), 1);
    assert_int_equal(gguf_shard_count(parts), 2);
    assert_same_weights(whole, parts);
    for (size_t i = 0; i < gguf_tensor_count(parts); i++) assert_int_equal(gguf_tensor_shard(parts, i), i >= 10);
    gguf_close(&parts);
    gguf_close(&whole);
    gguf_close(&g);
    /* Stopped: none of the parts is there, nor a .part file. */
    int calls = 0;
    char named[96];
    p = (struct quantize_params){
        .in = in, .out = named, .mix = p.mix, .keep_split = true, .progress = stop_at_third, .user = &calls};
    part_path(named, sizeof named, "new", 1); /* a name that has the ending already */
    assert_int_equal(quantize_model(&p, &result, &error), ERROR_CANCELLED);
    for (unsigned i = 1; i <= 2; i++) {
        part_path(out, sizeof out, "new", i);
        assert_int_not_equal(access(out, F_OK), 0);
        strcat(out, ".part");
        assert_int_not_equal(access(out, F_OK), 0);
        part_path(out, sizeof out, "in", i);
        unlink(out);
        part_path(out, sizeof out, "out", i);
        assert_int_equal(unlink(out), 0);
    }
}

static void test_cancelling_leaves_nothing(void **state)
{
    (void)state;
    int calls = 0;
    struct error error;
    struct quantize_result result;
    struct quantize_params p = {
        .in = in_path, .out = out_path, .mix = quantize_mix_named("Q4_0"), .progress = stop_at_third, .user = &calls};
    char part[80];
    snprintf(part, sizeof part, "%s.part", out_path);
    unlink(out_path);
    assert_int_equal(quantize_model(&p, &result, &error), ERROR_CANCELLED);
    assert_int_equal(calls, 3);
    assert_int_not_equal(access(out_path, F_OK), 0);
    assert_int_not_equal(access(part, F_OK), 0);
    p.in = "/nonexistent/x.gguf";
    assert_int_equal(quantize_model(&p, &result, &error), ERROR_MODEL);
    p.in = in_path;
    p.out = "/nonexistent/x.gguf";
    assert_int_equal(quantize_model(&p, &result, &error), ERROR_DISK);
}

static void test_a_file_may_replace_itself(void **state)
{
    (void)state;
    quantize((struct quantize_params){.mix = quantize_mix_named("Q8_0"), .threads = 2}, 5e-5);
    struct quantize_result r =
        quantize((struct quantize_params){.in = out_path, .mix = quantize_mix_named("Q4_K_M"), .threads = 2}, 1);
    assert_true(r.out_bytes < r.in_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_rows_fall_back),
        cmocka_unit_test(test_mixes_choose),
        cmocka_unit_test(test_models_are_rewritten),
        cmocka_unit_test(test_threads_change_nothing),
        cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_parts_stay_parts),
        cmocka_unit_test(test_cancelling_leaves_nothing),
        cmocka_unit_test(test_a_file_may_replace_itself),
    };
    return cmocka_run_group_tests(tests, make_inputs, remove_inputs);
}
