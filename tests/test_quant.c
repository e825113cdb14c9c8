/* SPDX-License-Identifier: MIT
 *
 * The weight formats: sizes; halves; decoding against digests of what ggml's reference decoder gives for the same
 * random blocks; encoding within the error of each format, never worse than zeros, importance obeyed, odd input
 * survived.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "quant/quant.h"

enum { N = 4096 }; /* weights in a check: 16 super-blocks */

static uint64_t next_random(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return *s >> 33;
}

/* Close to normal, variance 1. */
static float next_normal(uint64_t *s)
{
    float sum = 0;
    for (int i = 0; i < 12; i++) sum += (float)(next_random(s) & 0xffffff) * 0x1p-24f;
    return sum - 6;
}

/* What is known of each format. digest: FNV-1a over the decoded floats of four times N weights' worth of random bytes,
 * NaN and zero made one; computed once with ggml's dequantize_row_* (2026-08), but for F32, F16 and BF16, whose digests
 * are this decoder's own (test_halves and test_bfloats check those). nmse: the most that encoding normal weights may
 * lose (stressed_nmse), 2 % above what this encoder reaches. */
static const struct {
    enum quant_type type;
    const char *name;
    uint32_t block_len, block_bytes;
    uint64_t digest;
    double nmse;
} known[] = {
    {QUANT_F32, "F32", 1, 4, 0x191ac4d05f47ce62, 0},
    {QUANT_F16, "F16", 1, 2, 0x0db6aa4907ff0325, 4.2e-08},
    {QUANT_Q4_0, "Q4_0", 32, 18, 0xc998a8ac97bcb325, 0.00452},
    {QUANT_Q4_1, "Q4_1", 32, 20, 0x990f2321c25d44ab, 0.00353},
    {QUANT_Q5_0, "Q5_0", 32, 22, 0x0f839a5a9f94fd25, 0.00112},
    {QUANT_Q5_1, "Q5_1", 32, 24, 0x644baf0b98c7e85a, 0.000805},
    {QUANT_Q8_0, "Q8_0", 32, 34, 0xe44e6dda197b91a5, 1.92e-05},
    {QUANT_Q2_K, "Q2_K", 256, 84, 0x4eaaef257bde6190, 0.0512},
    {QUANT_Q3_K, "Q3_K", 256, 110, 0x7449f057492c8de5, 0.0149},
    {QUANT_Q4_K, "Q4_K", 256, 144, 0x02226395a77910e7, 0.00357},
    {QUANT_Q5_K, "Q5_K", 256, 176, 0x0a03f99caf028adf, 0.000856},
    {QUANT_Q6_K, "Q6_K", 256, 210, 0x80dc31f474ae12db, 0.000192},
    {QUANT_IQ2_XXS, "IQ2_XXS", 256, 66, 0xe52211b1f46faa7d, 0.0862},
    {QUANT_IQ2_XS, "IQ2_XS", 256, 74, 0xbaa1cec3513eda4d, 0.0606},
    {QUANT_IQ3_XXS, "IQ3_XXS", 256, 98, 0xc1678ac91527cbd5, 0.0234},
    {QUANT_IQ1_S, "IQ1_S", 256, 50, 0xd8afd91cd4716105, 0.167},
    {QUANT_IQ4_NL, "IQ4_NL", 32, 18, 0x320a162abcddfe25, 0.00412},
    {QUANT_IQ3_S, "IQ3_S", 256, 110, 0x8159099e6e07d025, 0.0124},
    {QUANT_IQ2_S, "IQ2_S", 256, 82, 0x66a3ec9c9b936a69, 0.0438},
    {QUANT_IQ4_XS, "IQ4_XS", 256, 136, 0x9b36588a81b60461, 0.00421},
    {QUANT_IQ1_M, "IQ1_M", 256, 56, 0xcb8138b62092cc65, 0.134},
    {QUANT_BF16, "BF16", 1, 2, 0x0e092b41d22b2325, 2.79e-06},
    {QUANT_TQ1_0, "TQ1_0", 256, 54, 0xdc2a406991476325, 0.165},
    {QUANT_TQ2_0, "TQ2_0", 256, 66, 0x266ba8268fd04325, 0.165},
    {QUANT_MXFP4, "MXFP4", 32, 17, 0x351ebbe993672325, 0.0114},
};

enum { FORMATS = sizeof known / sizeof known[0] };

static void test_the_table_is_whole(void **state)
{
    (void)state;
    size_t count;
    const struct quant_format *const *all = quant_formats(&count);
    assert_int_equal(count, FORMATS);
    for (size_t i = 0; i < count; i++) {
        const struct quant_format *f = quant_format((uint32_t)known[i].type);
        assert_ptr_equal(f, all[i]);
        assert_string_equal(f->name, known[i].name);
        assert_int_equal(f->block_len, known[i].block_len);
        assert_int_equal(f->block_bytes, known[i].block_bytes);
        assert_ptr_equal(quant_format_named(f->name), f);
        assert_int_equal(quant_row_bytes(f, (size_t)f->block_len * 3), (size_t)f->block_bytes * 3);
        if (f->block_len > 1) assert_int_equal(quant_row_bytes(f, f->block_len + 1), 0);
    }
    assert_null(quant_format(4));
    assert_null(quant_format(UINT32_MAX));
    assert_ptr_equal(quant_format_named("q4_k"), quant_format(QUANT_Q4_K));
    assert_null(quant_format_named("Q4_K_M"));
    assert_null(quant_format_named(""));
}

static void test_halves(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = quant_f16_to_f32((uint16_t)h);
        if (isnan(f))
            assert_true((h & 0x7c00) == 0x7c00 && (h & 1023) && isnan(quant_f16_to_f32(quant_f32_to_f16(f))));
        else
            assert_int_equal(quant_f32_to_f16(f), h);
    }
    /* Between two neighbouring halves the nearer is taken, and the even one from the middle. */
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float low = quant_f16_to_f32((uint16_t)h), high = quant_f16_to_f32((uint16_t)(h + 1)),
              middle = (low + high) / 2;
        assert_int_equal(quant_f32_to_f16(middle), h + (h & 1));
        assert_int_equal(quant_f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(quant_f32_to_f16(-nextafterf(middle, INFINITY)), 0x8000 | (h + 1));
    }
    assert_int_equal(quant_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(quant_f32_to_f16(65520), 0x7c00);
    assert_int_equal(quant_f32_to_f16(INFINITY), 0x7c00);
    assert_true(quant_f16_to_f32(1) == 0x1p-24f && quant_f16_to_f32(0x3c00) == 1);
}

static void test_bfloats(void **state)
{
    (void)state;
    assert_int_equal(quant_f32_to_bf16(1), 0x3f80);
    assert_int_equal(quant_f32_to_bf16(1 + 0x1p-8f), 0x3f80);
    assert_int_equal(quant_f32_to_bf16(1 + 0x3p-8f), 0x3f82);
    assert_int_equal(quant_f32_to_bf16(1 + 0x1p-8f + 0x1p-20f), 0x3f81);
    assert_int_equal(quant_f32_to_bf16(-3.4e38f), 0xff80);
    assert_true(isnan(quant_bf16_to_f32(quant_f32_to_bf16(NAN))));
    for (uint32_t h = 0; h < 65536; h++)
        if ((h & 0x7f80) != 0x7f80) assert_int_equal(quant_f32_to_bf16(quant_bf16_to_f32((uint16_t)h)), h);
}

static uint64_t digest_of(const struct quant_format *f)
{
    static float out[N];
    static uint8_t blocks[N * 4];
    uint64_t seed = 11, hash = 0xcbf29ce484222325u;
    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < quant_row_bytes(f, N); i++) blocks[i] = (uint8_t)(next_random(&seed) >> 7);
        f->decode(blocks, out, N);
        for (size_t i = 0; i < N; i++) {
            uint32_t bits = 0x7fc00000;
            if (out[i] == 0) out[i] = 0;
            if (!isnan(out[i])) memcpy(&bits, &out[i], 4);
            hash = (hash ^ bits) * 0x100000001b3u;
        }
    }
    return hash;
}

static void test_decoding_matches_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < FORMATS; i++) {
        uint64_t digest = digest_of(quant_format((uint32_t)known[i].type));
        if (digest != known[i].digest) fail_msg("%s decodes to 0x%016llx", known[i].name, (unsigned long long)digest);
    }
}

/* Encodes and decodes; returns the weighted squared error. */
static double round_trip(const struct quant_format *f, const float *x, const float *w, float *back)
{
    static uint8_t blocks[N * 4];
    double error = 0;
    f->encode(x, w, blocks, N);
    f->decode(blocks, back, N);
    for (size_t i = 0; i < N; i++) error += (w ? w[i] : 1) * ((double)x[i] - back[i]) * ((double)x[i] - back[i]);
    return error;
}

static double energy(const float *x, const float *w)
{
    double sum = 0;
    for (size_t i = 0; i < N; i++) sum += (w ? w[i] : 1) * (double)x[i] * x[i];
    return sum;
}

/* The error that encoders without importance keep small, 1 - cos^2 of the angle between the weights and what came back:
 * weight x counts sqrt(1 + x^2 / mean of x^2), the mean taken over a block (quant/fit.h). For a least-squares fit it is
 * the NMSE; a stretch, as codebook formats have (quant/iq_fit.c), does not change it. */
static double stressed_nmse(uint32_t block_len, const float *x, const float *back)
{
    double xq = 0, xx = 0, qq = 0;
    for (size_t first = 0; first < N; first += block_len) {
        double square = 0;
        for (size_t i = first; i < first + block_len; i++) square += (double)x[i] * x[i] / block_len;
        for (size_t i = first; i < first + block_len; i++) {
            double stress = block_len > 1 ? sqrt(1 + (double)x[i] * x[i] / square) : 1;
            xq += stress * (double)x[i] * back[i];
            xx += stress * (double)x[i] * x[i];
            qq += stress * (double)back[i] * back[i];
        }
    }
    return fmax(0, 1 - xq * xq / (xx * qq));
}

static void test_normal_weights_come_back(void **state)
{
    (void)state;
    static float x[N], back[N];
    uint64_t seed = 5;
    for (size_t i = 0; i < N; i++) x[i] = 0.02f * next_normal(&seed) * (float)(1 + i / 512 % 5);
    for (size_t i = 0; i < FORMATS; i++) {
        const struct quant_format *f = quant_format((uint32_t)known[i].type);
        round_trip(f, x, NULL, back);
        double nmse = stressed_nmse(f->block_len, x, back);
        print_message("%-8s %.3f bits a weight, NMSE %.3e\n", f->name, 8.0 * f->block_bytes / f->block_len, nmse);
        if (nmse > known[i].nmse) fail_msg("%s loses %.4e, more than %.4e", f->name, nmse, known[i].nmse);
    }
}

/* A weight that matters a thousand times more is met more closely than when all count the same. */
static void test_importance_is_obeyed(void **state)
{
    (void)state;
    static float x[N], w[N], even[N], weighted[N];
    uint64_t seed = 6;
    for (size_t i = 0; i < N; i++) {
        x[i] = next_normal(&seed);
        w[i] = i % 8 == 3 ? 1000 : 1;
    }
    for (size_t i = 0; i < FORMATS; i++) {
        const struct quant_format *f = quant_format((uint32_t)known[i].type);
        if (f->block_len == 1) continue;
        double before = 0, after = round_trip(f, x, w, weighted);
        round_trip(f, x, NULL, even);
        for (size_t j = 0; j < N; j++) before += w[j] * ((double)x[j] - even[j]) * ((double)x[j] - even[j]);
        if (!(after < before)) fail_msg("%s: %g with importance, %g without", f->name, after, before);
    }
}

/* Shapes of input that trip searches. Returns false after the last. */
static bool odd_input(int which, float *x)
{
    uint64_t seed = 9;
    for (size_t i = 0; i < N; i++) {
        float v = next_normal(&seed);
        switch (which) {
        case 0:
            x[i] = 0;
            break;
        case 1:
            x[i] = 0.25f;
            break;
        case 2:
            x[i] = -fabsf(v);
            break;
        case 3:
            x[i] = i % 256 == 77 ? 3000 : v * 1e-3f;
            break;
        case 4:
            x[i] = v * 1e-7f;
            break;
        case 5:
            x[i] = v * 5000;
            break;
        case 6:
            x[i] = v > 0 ? 1.0f : -1.0f;
            break;
        case 7:
            x[i] = i % 32 < 31 ? 0 : v;
            break;
        case 8:
            x[i] = 5 + 0.01f * v;
            break;
        default:
            return false;
        }
    }
    return true;
}

static void test_odd_weights_are_never_worse_than_zeros(void **state)
{
    (void)state;
    static float x[N], back[N];
    for (int which = 0; odd_input(which, x); which++)
        for (size_t i = 0; i < FORMATS; i++) {
            const struct quant_format *f = quant_format((uint32_t)known[i].type);
            double error = round_trip(f, x, NULL, back);
            if (!(error <= energy(x, NULL) * 1.0001)) fail_msg("%s, input %d: error %g", f->name, which, error);
        }
}

static void test_bad_weights_are_survived(void **state)
{
    (void)state;
    static float x[N], w[N], back[N];
    const float bad[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-42f, -0.0f};
    uint64_t seed = 12;
    for (size_t i = 0; i < N; i++) {
        x[i] = next_random(&seed) % 5 ? next_normal(&seed) : bad[next_random(&seed) % 7];
        w[i] = next_random(&seed) % 5 ? 1 : bad[next_random(&seed) % 7];
    }
    for (size_t i = 0; i < FORMATS; i++) {
        const struct quant_format *f = quant_format((uint32_t)known[i].type);
        round_trip(f, x, w, back);
        for (size_t j = 0; j < N && f->block_len > 1; j++)
            if (!isfinite(back[j])) fail_msg("%s gives %g for %g", f->name, back[j], x[j]);
    }
}

/* Any bit pattern decodes: run under the sanitizers, this is the check that no index leaves its table. */
static void test_any_block_decodes(void **state)
{
    (void)state;
    static uint8_t blocks[N * 4];
    static float out[N];
    uint64_t seed = 4;
    for (size_t i = 0; i < FORMATS; i++) {
        const struct quant_format *f = quant_format((uint32_t)known[i].type);
        for (int fill = 0; fill < 40; fill++) {
            size_t bytes = quant_row_bytes(f, N);
            for (size_t j = 0; j < bytes; j++)
                blocks[j] = fill == 0 ? 0 : fill == 1 ? 255 : (uint8_t)(next_random(&seed) >> 5);
            for (size_t j = 0; j < N; j++) out[j] = 12345;
            f->decode(blocks, out, N);
            for (size_t j = 0; fill == 0 && j < N; j++) assert_true(fabsf(out[j]) < 1e-30f);
        }
    }
}

/* encode(decode(b)) decodes to the same floats for blocks that an encoder made: nothing drifts when files are converted
 * twice. Exact for the plain formats; for the others the second trip may not add more than rounding. */
static void test_second_trip_adds_little(void **state)
{
    (void)state;
    static float x[N], once[N], twice[N];
    uint64_t seed = 15;
    for (size_t i = 0; i < N; i++) x[i] = next_normal(&seed);
    for (size_t i = 0; i < FORMATS; i++) {
        const struct quant_format *f = quant_format((uint32_t)known[i].type);
        double first = round_trip(f, x, NULL, once);
        double second = round_trip(f, once, NULL, twice);
        if (!(second <= first * 0.35 + 1e-9)) fail_msg("%s: first trip %g, second %g", f->name, first, second);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_table_is_whole),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_bfloats),
        cmocka_unit_test(test_decoding_matches_the_reference),
        cmocka_unit_test(test_normal_weights_come_back),
        cmocka_unit_test(test_importance_is_obeyed),
        cmocka_unit_test(test_odd_weights_are_never_worse_than_zeros),
        cmocka_unit_test(test_bad_weights_are_survived),
        cmocka_unit_test(test_any_block_decodes),
        cmocka_unit_test(test_second_trip_adds_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
