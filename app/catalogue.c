/* SPDX-License-Identifier: MIT
 *
 * The catalogue of Kimi-Linear-48B-A3B-Instruct files, and the memory plan of that model without a file.
 */
#include "app/catalogue.h"

#include <string.h>
#include <strings.h>

#define BARTOWSKI "bartowski/moonshotai_Kimi-Linear-48B-A3B-Instruct-GGUF"
#define YMCKI "ymcki/Kimi-Linear-48B-A3B-Instruct-GGUF"
#define STEM "moonshotai_Kimi-Linear-48B-A3B-Instruct-"
#define MB 1000000ull

/* A size of ours: bits a weight of the type times 49.12e9 weights; an _L or _XL keeps the token embedding and the
 * output in Q8_0. */
#define ESTIMATED(name, type, megabytes, quality, remark) RARE(name, type, NULL, megabytes, quality, remark)
#define RARE(name, type, format, megabytes, quality, remark)                                                           \
    {                                                                                                                  \
        name, BARTOWSKI, STEM type ".gguf", (megabytes)*MB, false, NULL, NULL, format, quality, remark                 \
    }
#define YMCKI_FILE(name, file, megabytes, quality, remark)                                                             \
    {                                                                                                                  \
        name, YMCKI, "Kimi-Linear-48B-A3B-Instruct" file ".gguf", (megabytes)*MB, false, NULL, NULL, NULL, quality,    \
            remark                                                                                                     \
    }

static const uint64_t q8_0_bytes[] = {39761166432, 12487220000};

const struct catalogue_entry catalogue[] = {
    {"bf16", BARTOWSKI, STEM "bf16/" STEM "bf16-00001-of-00003.gguf", 98240 * MB, false, NULL, NULL, NULL, 100,
     "the original; three files"},
    {"q8_0", BARTOWSKI, STEM "Q8_0/" STEM "Q8_0-00001-of-00002.gguf", 52248386432, true, q8_0_bytes, NULL, NULL, 98,
     "as good as the original; two files"},
    ESTIMATED("q6_k_l", "Q6_K_L", 40500, 96, "as good as the original"),
    ESTIMATED("q6_k", "Q6_K", 40300, 95, "as good as the original"),
    ESTIMATED("q5_k_l", "Q5_K_L", 35200, 91, "as good as the original in most answers"),
    ESTIMATED("q5_k_m", "Q5_K_M", 35000, 90, "as good as the original in most answers"),
    YMCKI_FILE("ymcki-q5_k_m", ".Q5_K_M", 34870, 89, "another maker's; perplexity 7.13"),
    ESTIMATED("q5_k_s", "Q5_K_S", 34000, 88, "as good as the original in most answers"),
    ESTIMATED("q4_k_l", "Q4_K_L", 30300, 81, "very good"),
    {"q4_k_m", BARTOWSKI, STEM "Q4_K_M.gguf", 30061058720, true, NULL,
     "a1a7d865370652221f937163f7e94c99e1f114861335ba4f8666606843f1620f", NULL, 80, "very good; the usual choice"},
    YMCKI_FILE("ymcki-q4_k_m", ".Q4_K_M", 29700, 79, "another maker's; perplexity 7.17"),
    YMCKI_FILE("ymcki-jp-q4_k_m", "-jp-imatrix.Q4_K_M", 29700, 78, "tuned for Japanese; perplexity 7.15"),
    ESTIMATED("q4_1", "Q4_1", 30800, 77, "good, and large for it"),
    ESTIMATED("q4_k_s", "Q4_K_S", 28300, 76, "very good"),
    YMCKI_FILE("ymcki-mxfp4_moe", ".MXFP4_MOE", 27210, 74, "another maker's; perplexity 7.18"),
    ESTIMATED("iq4_nl", "IQ4_NL", 27700, 73, "good"),
    ESTIMATED("iq4_xs", "IQ4_XS", 26300, 72, "good; the best below 4.5 bits a weight"),
    YMCKI_FILE("ymcki-iq4_xs", ".IQ4_XS", 26270, 71, "another maker's; perplexity 7.21"),
    ESTIMATED("q4_0", "Q4_0", 27800, 70, "good"),
    ESTIMATED("q3_k_xl", "Q3_K_XL", 25800, 63, "some loss"),
    ESTIMATED("q3_k_l", "Q3_K_L", 25500, 62, "some loss"),
    ESTIMATED("q3_k_m", "Q3_K_M", 23500, 58, "some loss"),
    RARE("iq3_m", "IQ3_M", "IQ3_S", 21700, 57, "some loss; better than its size suggests"),
    ESTIMATED("q3_k_s", "Q3_K_S", 21300, 52, "noticeable loss"),
    RARE("iq3_xs", "IQ3_XS", "IQ3_XXS", 20500, 51, "noticeable loss"),
    RARE("iq3_xxs", "IQ3_XXS", "IQ3_XXS", 19100, 48, "noticeable loss"),
    ESTIMATED("q2_k_l", "Q2_K_L", 18400, 37, "large loss"),
    ESTIMATED("q2_k", "Q2_K", 18000, 36, "large loss"),
    YMCKI_FILE("ymcki-jp-q2_k", "-jp-imatrix.Q2_K", 18029, 35, "tuned for Japanese; large loss"),
    RARE("iq2_m", "IQ2_M", "IQ2_S", 16600, 34, "large loss; usable"),
    RARE("iq2_s", "IQ2_S", "IQ2_S", 15300, 28, "large loss"),
    RARE("iq2_xs", "IQ2_XS", "IQ2_XS", 15000, 26, "large loss"),
    RARE("iq2_xxs", "IQ2_XXS", "IQ2_XXS", 13700, 22, "very large loss"),
    RARE("iq1_m", "IQ1_M", "IQ1_M", 12000, 12, "hardly usable"),
    RARE("iq1_s", "IQ1_S", "IQ1_S", 11000, 8, "hardly usable"),
    {.name = NULL},
};

const char *catalogue_file_name(const struct catalogue_entry *e)
{
    const char *slash = strrchr(e->file, '/');
    return slash ? slash + 1 : e->file;
}

const struct catalogue_entry *catalogue_find(const char *name)
{
    for (const struct catalogue_entry *e = catalogue; e->name; e++)
        if (!strcasecmp(e->name, name)) return e;
    return NULL;
}

const struct catalogue_entry *catalogue_find_file(const char *file)
{
    for (const struct catalogue_entry *e = catalogue; e->name; e++)
        if (!strcmp(catalogue_file_name(e), file)) return e;
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

/* Activations and staging: what engine_plan says of this model for batches of 128 to 2,048 lies under these lines, the
 * GPU's for one without matrices in hardware. */
static uint64_t workspace_bytes(uint32_t batch, bool is_cpu)
{
    return (76ull << 20) + (uint64_t)batch * (is_cpu ? 535000 : 210000);
}

static struct engine_plan plan_batch(const struct catalogue_entry *e, uint64_t available,
                                     const struct engine_params *params, uint32_t batch, bool is_cpu)
{
    uint64_t block = row_bytes(params->rows_dtype) * STATE_SEGMENT;
    struct engine_plan p = {
        .weights = e->bytes,
        .state = state_bytes(),
        .workspace = workspace_bytes(batch, is_cpu),
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

/* A batch that is not told is engine_plan's: on a GPU the largest of three that fits. */
struct engine_plan catalogue_plan(const struct catalogue_entry *e, uint64_t available,
                                  const struct engine_params *params, bool is_cpu)
{
    if (params->batch) return plan_batch(e, available, params, params->batch, is_cpu);
    uint32_t batch = is_cpu ? 512 : 2048;
    struct engine_plan p = plan_batch(e, available, params, batch, is_cpu);
    for (; !p.fits && batch > 512; batch /= 2) p = plan_batch(e, available, params, batch / 2, is_cpu);
    return p;
}
