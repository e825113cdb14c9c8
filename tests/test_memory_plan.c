/* SPDX-License-Identifier: MIT
 *
 * The memory plan in words, what is said instead of a model that does not fit, and names of models in several files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "app/catalogue.h"
#include "app/memory_plan.h"
#include "app/model_parts.h"
#include "app/pull_source.h"

#define GIB (1ull << 30)

/* The catalogue's model of that name on a card with so many bytes free. */
static struct engine_plan on_card(const char *name, uint64_t available, const struct engine_params *params)
{
    struct engine_plan p = catalogue_plan(catalogue_find(name), available, params, false);
    p.context_own = 1u << 20;
    p.host = 200 << 20;
    p.host_available = 16 * GIB;
    strcpy(p.device_id, "vulkan:0");
    strcpy(p.device_name, "Some Card");
    return p;
}

static void says(const char *text, const char *part)
{
    if (!strstr(text, part)) fail_msg("\"%s\" does not say \"%s\"", text, part);
}

static void describes(void **state)
{
    (void)state;
    char line[MEMORY_PLAN_ROOM];
    struct engine_params params = {.rows_dtype = ENGINE_F16, .context = 131072};
    struct engine_plan p = on_card("q4_k_m", 32 * GIB, &params);
    assert_string_equal(memory_plan_describe(&p, line),
                        "vulkan:0: weights 28.0 GiB, rows 1008 MiB for 131,072 tokens, state 42.8 MiB, buffers 486 MiB "
                        "of 32.0 GiB free; host: 200 MiB of 16.0 GiB free: fits");
    p = on_card("q4_k_m", 29 * GIB, &params);
    says(memory_plan_describe(&p, line), ": does not fit; 104,448 tokens would");
    p = on_card("q4_k_m", 24 * GIB, &params);
    assert_string_equal(strstr(memory_plan_describe(&p, line), "16.0 GiB free"), "16.0 GiB free: does not fit");
    p.is_cpu = true;
    says(memory_plan_describe(&p, line), "weights 28.0 GiB read in place");
    assert_null(strstr(line, "host"));
}

/* The sentence for the model of that name on a card with so many bytes free. */
static const char *refusal(const char *name, uint64_t available, const struct engine_params *params)
{
    static struct error error;
    struct engine_params small = *params;
    small.rows_dtype = ENGINE_Q8_0;
    struct engine_plan p = on_card(name, available, params), q8_0 = on_card(name, available, &small);
    assert_false(p.fits);
    assert_int_equal(memory_plan_refuse(&p, params->rows_dtype == ENGINE_Q8_0 ? NULL : &q8_0, params, &error),
                     ERROR_FIT);
    assert_true(strlen(error.text) < sizeof error.text - 1);
    assert_int_equal(error.text[strlen(error.text) - 1], '.');
    return error.text;
}

static void refuses_with_what_fits(void **state)
{
    (void)state;
    struct engine_params params = {.rows_dtype = ENGINE_F16, .context = 131072};
    assert_string_equal(refusal("q4_k_m", 29 * GIB, &params),
                        "Some Card has 29.0 GiB free and 29.2 GiB are needed (weights 28.0 GiB, rows 1008 MiB for "
                        "131,072 tokens, state 42.8 MiB, buffers 179 MiB); what would fit: --ctx 104448 or --kv-dtype "
                        "q8_0 or the smaller type ymcki-q4_k_m (lectern pull ymcki-q4_k_m) or --device cpu.");
    says(refusal("q4_k_m", 24 * GIB, &params),
         "what would fit: the smaller type q3_k_m (lectern pull q3_k_m) or --device cpu.");
    params.context = 1u << 20;
    says(refusal("q4_k_m", 32 * GIB, &params), "what would fit: --ctx 503808 or --kv-dtype q8_0 with --ctx 948736 or");
    /* Nothing of the catalogue is small enough; and a model that is none of its. */
    says(refusal("q2_k", 4 * GIB, &params), "what would fit: a smaller type (lectern quantize) or --device cpu.");
    struct engine_plan p = on_card("q2_k", 4 * GIB, &params);
    struct error error;
    p.state /= 2;
    p.available = 16 * GIB;
    memory_plan_refuse(&p, NULL, &params, &error);
    says(error.text, "what would fit: a smaller type (lectern quantize) or --device cpu.");
}

/* A card is never given a type that it has no kernels for; the cpu takes all. */
static void suggests_what_runs(void **state)
{
    (void)state;
    struct engine_params params = {.rows_dtype = ENGINE_F16};
    for (uint64_t gib = 8; gib < 120; gib++) {
        const struct catalogue_entry *card = memory_plan_suggest(gib * GIB, false, UINT64_MAX, &params);
        const struct catalogue_entry *cpu = memory_plan_suggest(gib * GIB, true, UINT64_MAX, &params);
        assert_true(!card || !card->format || engine_gpu_takes(card->format));
        assert_true(!card || catalogue_plan(card, gib * GIB, &params, false).fits);
        assert_true(!cpu || catalogue_plan(cpu, gib * GIB, &params, true).fits);
    }
    assert_string_equal(memory_plan_suggest(120 * GIB, true, UINT64_MAX, &params)->name, "bf16");
    assert_null(memory_plan_suggest(8 * GIB, true, UINT64_MAX, &params));
    assert_true(engine_gpu_takes("Q4_K"));
    assert_false(engine_gpu_takes("Q4_X"));
}

static void parts(void **state)
{
    (void)state;
    char name[DOWNLOAD_NAME_MOST + 1];
    struct model_parts p = model_parts_of("a-b-00002-of-00003.gguf");
    assert_string_equal(p.stem, "a-b");
    assert_true(p.number == 2 && p.count == 3);
    model_parts_name(&p, 1, name);
    assert_string_equal(name, "a-b-00001-of-00003.gguf");
    static const char *const single[] = {
        "a.gguf",
        "-00001-of-00002.gguf",
        "a-00000-of-00003.gguf",
        "a-00004-of-00003.gguf",
        "a-00001-of-00001.gguf",
        "a-1-of-3.gguf",
        "a-00001-of-00003",
        "a-00001-of-01025.gguf",
        "a-0000a-of-00003.gguf",
        "a-00001_of-00003.gguf",
        "00001-of-2.gguf",
    };
    for (size_t i = 0; i < sizeof single / sizeof *single; i++) {
        p = model_parts_of(single[i]);
        model_parts_name(&p, 1, name);
        assert_true(p.count == 1 && p.number == 1);
        assert_string_equal(name, single[i]);
    }
}

static void sources_turn(void **state)
{
    (void)state;
    struct pull_source s;
    struct error error;
    assert_int_equal(pull_source_parse(&s, "Q8_0", NULL, &error), 0);
    assert_int_equal(s.parts.count, 2);
    pull_source_turn(&s, 2);
    assert_string_equal(s.name, "moonshotai_Kimi-Linear-48B-A3B-Instruct-Q8_0-00002-of-00002.gguf");
    assert_string_equal(s.address.after, "/moonshotai_Kimi-Linear-48B-A3B-Instruct-Q8_0/"
                                         "moonshotai_Kimi-Linear-48B-A3B-Instruct-Q8_0-00002-of-00002.gguf");
    /* The last name in the path, wherever else it stands. */
    static const char url[] = "https://x.org/a-00002-of-00002.gguf/a-00002-of-00002.gguf?n=a-00002-of-00002.gguf";
    assert_int_equal(pull_source_parse(&s, url, NULL, &error), 0);
    assert_string_equal(s.name, "a-00001-of-00002.gguf");
    assert_string_equal(s.address.before,
                        "https://x.org/a-00002-of-00002.gguf/a-00001-of-00002.gguf?n=a-00002-of-00002.gguf");
    pull_source_turn(&s, 2);
    assert_string_equal(s.address.before, url);
    assert_int_equal(pull_source_parse(&s, "hf:o/r/a.gguf", NULL, &error), 0);
    pull_source_turn(&s, 1);
    assert_string_equal(s.address.after, "/a.gguf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(describes), cmocka_unit_test(refuses_with_what_fits), cmocka_unit_test(suggests_what_runs),
        cmocka_unit_test(parts),     cmocka_unit_test(sources_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
