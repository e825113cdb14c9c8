/* SPDX-License-Identifier: MIT
 *
 * The catalogue of Kimi-Linear-48B-A3B-Instruct files, and the memory plan of that model without a file.
 */
#include "app/catalogue.h"

#include <string.h>
#include <strings.h>

#define BARTOWSKI "bartowski/moonshotai_Kimi-Linear-48B-A3B-Instruct-GGUF"
#define YMCKI "ymcki/Kimi-Linear-48B-A3B-Instruct-GGUF"
#define MB 1000000ull

/* A size of ours: bits a weight of the type times 49.12e9 weights. */
#define ESTIMATED(name, type, megabytes, quality, remark)                                                              \
    {                                                                                                                  \
        name, BARTOWSKI, "moonshotai_Kimi-Linear-48B-A3B-Instruct-" type ".gguf", (megabytes)*MB, false, NULL,         \
            quality, remark                                                                                            \
    }
#define YMCKI_FILE(name, type, megabytes, quality, remark)                                                             \
    {                                                                                                                  \
        name, YMCKI, "Kimi-Linear-48B-A3B-Instruct." type ".gguf", (megabytes)*MB, false, NULL, quality, remark        \
    }

const struct catalogue_entry catalogue[] = {
    ESTIMATED("q6_k", "Q6_K", 40300, 95, "as good as the original"),
    ESTIMATED("q5_k_m", "Q5_K_M", 35000, 90, "as good as the original in most answers"),
    YMCKI_FILE("ymcki-q5_k_m", "Q5_K_M", 34870, 89, "another maker's; perplexity 7.12-7.13"),
    ESTIMATED("q5_k_s", "Q5_K_S", 34000, 88, "as good as the original in most answers"),
    {"q4_k_m", BARTOWSKI, "moonshotai_Kimi-Linear-48B-A3B-Instruct-Q4_K_M.gguf", 30061058720, true,
     "a1a7d865370652221f937163f7e94c99e1f114861335ba4f8666606843f1620f", 80, "very good; the usual choice"},
    YMCKI_FILE("ymcki-q4_k_m", "Q4_K_M", 29700, 79, "another maker's; perplexity 7.15-7.17"),
    ESTIMATED("q4_k_s", "Q4_K_S", 28300, 76, "very good"),
    YMCKI_FILE("ymcki-mxfp4_moe", "MXFP4_MOE", 27210, 74, "another maker's; perplexity 7.18"),
    ESTIMATED("iq4_nl", "IQ4_NL", 27700, 73, "good"),
    ESTIMATED("iq4_xs", "IQ4_XS", 26300, 72, "good; the best below 4.5 bits a weight"),
    YMCKI_FILE("ymcki-iq4_xs", "IQ4_XS", 26270, 71, "another maker's; perplexity 7.21"),
    ESTIMATED("q3_k_l", "Q3_K_L", 25500, 62, "some loss"),
    ESTIMATED("q3_k_m", "Q3_K_M", 23500, 58, "some loss"),
    ESTIMATED("iq3_m", "IQ3_M", 21700, 57, "some loss; better than its size suggests"),
    ESTIMATED("q3_k_s", "Q3_K_S", 21300, 52, "noticeable loss"),
    ESTIMATED("iq3_xs", "IQ3_XS", 20500, 51, "noticeable loss"),
    ESTIMATED("iq3_xxs", "IQ3_XXS", 19100, 48, "noticeable loss"),
    ESTIMATED("q2_k", "Q2_K", 18000, 36, "large loss"),
    ESTIMATED("iq2_m", "IQ2_M", 16600, 34, "large loss; usable"),
    ESTIMATED("iq2_s", "IQ2_S", 15300, 28, "large loss"),
    ESTIMATED("iq2_xs", "IQ2_XS", 15000, 26, "large loss"),
    ESTIMATED("iq2_xxs", "IQ2_XXS", 13700, 22, "very large loss"),
    ESTIMATED("iq1_m", "IQ1_M", 12000, 12, "hardly usable"),
    ESTIMATED("iq1_s", "IQ1_S", 11000, 8, "hardly usable"),
    {.name = NULL},
};

const struct catalogue_entry *catalogue_find(const char *name)
{
    for (const struct catalogue_entry *e = catalogue; e->name; e++)
        if (!strcasecmp(e->name, name)) return e;
    return NULL;
}

const struct catalogue_entry *catalogue_find_file(const char *file)
{
    for (const struct catalogue_entry *e = catalogue; e->name; e++)
        if (!strcmp(e->file, file)) return e;
    return NULL;
}

/* ------------------------------------------------------------------------------------------------- the plan */

enum { MLA_LAYERS = 7, ROW = 512 + 64, KDA_LAYERS = 20, HEADS = 32, HEAD = 128, HISTORY = 3 };

/* One token's MLA rows, all layers. */
static uint64_t row_bytes(enum engine_dtype dtype)
{
    uint64_t row = dtype == ENGINE_Q8_0 ? ROW / 32 * 34 : dtype == ENGINE_F16 ? ROW * 2 : ROW * 4;
    return row * MLA_LAYERS;
}

static uint64_t state_bytes(void)
{
    uint64_t matrices = (uint64_t)KDA_LAYERS * HEADS * HEAD * HEAD;
    uint64_t histories = (uint64_t)KDA_LAYERS * HISTORY * 3 * HEADS * HEAD;
    return (matrices + histories) * sizeof(float);
}

/* Activations and staging: what engine_plan says of this model for batches of 128 to 2,048 lies under this line. */
static uint64_t workspace_bytes(uint32_t batch)
{
    return (76ull << 20) + (uint64_t)(batch ? batch : 512) * 535000;
}

struct engine_plan catalogue_plan(const struct catalogue_entry *e, uint64_t available,
                                  const struct engine_params *params)
{
    uint64_t block = row_bytes(params->rows_dtype) * STATE_SEGMENT;
    struct engine_plan p = {
        .weights = e->bytes,
        .state = state_bytes(),
        .workspace = workspace_bytes(params->batch),
        .available = available,
        .context = params->context ? params->context : CATALOGUE_CONTEXT,
    };
    p.rows = ((uint64_t)p.context + STATE_SEGMENT - 1) / STATE_SEGMENT * block;
    /* Unlike engine_plan, the cpu's weights count: from a disk they would be read anew for every token. */
    uint64_t fixed = p.weights + p.state + p.workspace;
    uint64_t tokens = fixed < p.available ? (p.available - fixed) / block * STATE_SEGMENT : 0;
    p.context_fits = tokens < 1u << 20 ? (uint32_t)tokens : 1u << 20;
    p.fits = p.context <= p.context_fits;
    return p;
}
