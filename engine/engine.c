/* SPDX-License-Identifier: MIT
 *
 * Opening: model file -> shape -> device -> plan -> weights. What does not fit is refused before anything is loaded.
 */
#include "engine/engine_internal.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"
#include "engine/cpu/observe.h"
#include "engine/device.h"

enum { DEFAULT_BATCH = 512, LARGE_BATCH = 2048, MOST_BATCH = 65536 };

/* Raised when the meaning of saved bytes changes: old states then have another key. */
static const uint32_t state_layout = 1;

/* ------------------------------------------------------------------------------------------------------ sizes */

static uint64_t kda_bytes(const struct shape *s)
{
    return (uint64_t)s->n_kda * s->n_head * s->kda_dim * s->kda_dim * sizeof(float);
}

static uint64_t history_bytes(const struct shape *s)
{
    return (uint64_t)s->n_kda * 3 * s->n_head * s->kda_dim * 3 * sizeof(float);
}

/* Bytes of one row of one layer. */
static int row_bytes(const struct shape *s, enum engine_dtype dtype, uint32_t *out, struct error *error)
{
    uint32_t width = s->kv_lora + s->rope;
    *out = 0;
    switch (dtype) {
    case ENGINE_F32:
        *out = width * 4;
        return 0;
    case ENGINE_F16:
        *out = width * 2;
        return 0;
    case ENGINE_Q8_0:
        if (width % 32)
            return error_set(error, ERROR_USAGE, "Q8_0 rows need a width divisible by 32; this model's is %u.", width);
        *out = width / 32 * 34;
        return 0;
    }
    return error_set(error, ERROR_USAGE, "Rows are f32, f16 or q8_0.");
}

static uint64_t rows_bytes(const struct shape *s, uint32_t row, uint64_t tokens)
{
    return (tokens + STATE_SEGMENT - 1) / STATE_SEGMENT * STATE_SEGMENT * s->n_mla * row;
}

/* ------------------------------------------------------------------------------------------------------- plan */

struct opening {
    const struct engine_params *params;
    uint32_t batch;
    struct model *model;
    struct device_choice device;
    uint32_t row_bytes;
    struct engine_plan plan;
};

/* The most tokens, a whole number of blocks, whose rows take at most `bytes`. */
static uint32_t tokens_within(const struct shape *s, uint32_t row, uint64_t bytes, uint32_t most)
{
    uint64_t block = rows_bytes(s, row, 1);
    if (!block) return most;
    uint64_t tokens = bytes / block * STATE_SEGMENT;
    return tokens < most ? (uint32_t)tokens : most;
}

/* What is held here beside a device: staging; logits; a snapshot and a segment of rows, twice while they are saved. */
static void plan_host(struct opening *o)
{
    const struct shape *s = &o->model->shape;
    struct engine_plan *p = &o->plan;
    struct engine_device cpu;
    cpu_device(&cpu);
    p->is_cpu = o->device.is_cpu;
    p->host_available = cpu.memory_free;
    if (!p->is_cpu)
        p->host = device_host_bytes(&o->device) + 2 * (p->state + rows_bytes(s, o->row_bytes, 1)) +
                  2 * (uint64_t)s->n_vocab * sizeof(float);
    snprintf(p->device_id, sizeof p->device_id, "%s", o->device.info.id);
    snprintf(p->device_name, sizeof p->device_name, "%s", o->device.info.name);
}

static void plan_sizes(struct opening *o)
{
    const struct shape *s = &o->model->shape;
    struct engine_plan *p = &o->plan;
    uint32_t most = o->model->context > o->params->context ? o->model->context : o->params->context;
    p->context = o->params->context ? o->params->context : o->model->context;
    p->context_own = o->model->context;
    p->weights = o->model->weight_bytes;
    p->rows = rows_bytes(s, o->row_bytes, p->context);
    p->state = kda_bytes(s) + history_bytes(s);
    p->workspace = graph_bytes(s, o->batch) + device_scratch(&o->device, s, o->batch, o->params->threads);
    p->available = o->device.info.memory_free;
    /* The cpu reads weights where the file is mapped: the system keeps of them what it has room for. */
    uint64_t fixed = p->state + p->workspace + (o->device.is_cpu ? 0 : p->weights);
    p->context_fits = fixed < p->available ? tokens_within(s, o->row_bytes, p->available - fixed, most) : 0;
    p->fits = p->context <= p->context_fits;
    plan_host(o);
}

static int check_params(const struct engine_params *params, uint32_t *batch, struct error *error)
{
    *batch = params->batch ? params->batch : DEFAULT_BATCH;
    if (!params->model) return error_set(error, ERROR_USAGE, "No model file was given.");
    if (*batch > MOST_BATCH) return error_set(error, ERROR_USAGE, "A batch is at most %d tokens.", MOST_BATCH);
    if (params->context > 1u << 24) return error_set(error, ERROR_USAGE, "A context is at most %u tokens.", 1u << 24);
    if (params->state_dtype != ENGINE_F32 && params->state_dtype != ENGINE_F16)
        return error_set(error, ERROR_USAGE, "The state is f32 or f16.");
    return 0;
}

/* Reads the model's header, picks the device, computes the plan. The caller closes o->model in any case. */
static int opening_begin(struct opening *o, const struct engine_params *params, struct error *error)
{
    *o = (struct opening){.params = params};
    int rc;
    if ((rc = check_params(params, &o->batch, error)) || (rc = model_open(&o->model, params->model, error)) ||
        (rc = row_bytes(&o->model->shape, params->rows_dtype, &o->row_bytes, error)) ||
        (rc = device_choose(&o->device, params->device, error)))
        return rc;
    if (params->observe && !o->device.is_cpu)
        return error_set(error, ERROR_USAGE, "The inputs of matrices can be observed on the cpu only.");
    /* An expert's matrices are read once for all tokens of a batch: a GPU is the faster the more there are. */
    if (!params->batch && !o->device.is_cpu && !o->device.info.is_software) o->batch = LARGE_BATCH;
    plan_sizes(o);
    while (!params->batch && !o->plan.fits && o->batch > DEFAULT_BATCH) {
        o->batch /= 2;
        plan_sizes(o);
    }
    return 0;
}

int engine_plan(struct engine_plan *out, const struct engine_params *params, struct error *error)
{
    struct opening o;
    int rc = opening_begin(&o, params, error);
    if (!rc) *out = o.plan;
    model_close(&o.model);
    return rc;
}

static double gib(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0 * 1024.0);
}

/* The tokens that would fit with q8_0 rows where that is more than fits now, else 0. */
static uint32_t tokens_with_q8_0(const struct opening *o, const struct shape *s)
{
    const struct engine_plan *p = &o->plan;
    uint64_t fixed = p->state + p->workspace + (o->device.is_cpu ? 0 : p->weights);
    uint32_t row, most = p->context;
    if (o->params->rows_dtype == ENGINE_Q8_0 || row_bytes(s, ENGINE_Q8_0, &row, NULL) || fixed >= p->available)
        return 0;
    uint32_t tokens = tokens_within(s, row, p->available - fixed, most);
    return tokens > p->context_fits ? tokens : 0;
}

/* The context to open with; refuses what does not fit. Nothing asked: the model's own, or what there is room for. */
static int settle_context(const struct opening *o, const struct shape *s, uint32_t *context, struct error *error)
{
    const struct engine_plan *p = &o->plan;
    *context = p->context;
    if (p->fits) return 0;
    uint64_t need = p->rows + p->state + p->workspace + (o->device.is_cpu ? 0 : p->weights);
    if (!p->context_fits)
        return error_set(error, ERROR_FIT,
                         "The model does not fit on %s: %.2f GiB are needed, %.2f GiB are free; a smaller type of the "
                         "model or --device cpu may fit.",
                         o->device.info.name, gib(need), gib(p->available));
    if (o->params->context) {
        char more[64] = "";
        const uint32_t small_rows = tokens_with_q8_0(o, s);
        if (small_rows) snprintf(more, sizeof more, ", %u with --kv-dtype q8_0", small_rows);
        return error_set(error, ERROR_FIT,
                         "A context of %u tokens needs %.2f GiB on %s, %.2f GiB are free; %u tokens would fit%s.",
                         p->context, gib(need), o->device.info.name, gib(p->available), p->context_fits, more);
    }
    *context = p->context_fits;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------- open */

static bool hash_u32(EVP_MD_CTX *hash, uint32_t value)
{
    const unsigned char le[4] = {(unsigned char)value, (unsigned char)(value >> 8), (unsigned char)(value >> 16),
                                 (unsigned char)(value >> 24)};
    return EVP_DigestUpdate(hash, le, sizeof le);
}

/* docs/state-format.md, "State key". */
int engine_state_key(const struct engine *e, enum engine_dtype state_dtype, enum engine_dtype rows_dtype,
                     uint8_t key[32], struct error *error)
{
    static const char magic[] = "lectern-state-1";
    const struct shape *s = &e->model->shape;
    const uint32_t words[] = {state_layout,
                              (uint32_t)state_dtype,
                              (uint32_t)rows_dtype,
                              s->n_layer,
                              s->n_kda,
                              s->n_mla,
                              s->n_head,
                              s->kda_dim,
                              s->kv_lora,
                              s->rope,
                              s->n_vocab};
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool ok = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) && EVP_DigestUpdate(hash, magic, sizeof magic - 1) &&
              EVP_DigestUpdate(hash, e->model->fingerprint, sizeof e->model->fingerprint);
    for (size_t i = 0; ok && i < sizeof words / sizeof *words; i++) ok = hash_u32(hash, words[i]);
    ok = ok && EVP_DigestFinal_ex(hash, key, NULL);
    EVP_MD_CTX_free(hash);
    return ok ? 0 : error_set(error, ERROR_FAILED, "The state key could not be computed.");
}

static void fill_info(struct engine *e, const struct opening *o, uint32_t context)
{
    struct engine_info *info = &e->info;
    const struct shape *s = &e->model->shape;
    *info = (struct engine_info){
        .n_layer = s->n_layer,
        .n_kda = s->n_kda,
        .n_mla = s->n_mla,
        .n_vocab = s->n_vocab,
        .n_embd = s->n_embd,
        .context = context,
        .batch = o->batch,
        .weight_bytes = e->model->weight_bytes,
        .row_bytes = (uint64_t)s->n_mla * e->row_bytes,
        .state_bytes = kda_bytes(s) + history_bytes(s),
        .parameters = e->model->parameters,
        .state_dtype = o->params->state_dtype,
        .rows_dtype = o->params->rows_dtype,
    };
    memcpy(info->model_name, e->model->name, sizeof info->model_name);
    memcpy(info->architecture, e->model->architecture, sizeof info->architecture);
    memcpy(info->device_name, e->backend->name, sizeof info->device_name);
    memcpy(info->device_id, e->backend->id, sizeof info->device_id);
    memcpy(info->model_fingerprint, e->model->fingerprint, sizeof info->model_fingerprint);
}

static int open_tokenizer(struct engine *e, struct error *error)
{
    int rc = tokenizer_open(&e->tokenizer, e->model->file, error);
    if (rc) return rc;
    uint32_t n = tokenizer_n_vocab(e->tokenizer);
    if (n == e->model->shape.n_vocab) return 0;
    return error_set(error, ERROR_MODEL, "The tokenizer has %u tokens, the model %u.", n, e->model->shape.n_vocab);
}

/* With the model taken over from `o`, the engine is complete or, on failure, for engine_close. */
static int engine_build(struct engine *e, struct opening *o, struct error *error)
{
    const struct model_progress progress = {o->params->progress, o->params->progress_ctx};
    uint32_t context;
    int rc;
    e->model = o->model;
    o->model = NULL;
    e->row_bytes = o->row_bytes;
    e->kda_bytes = (size_t)kda_bytes(&e->model->shape);
    e->history_bytes = (size_t)history_bytes(&e->model->shape);
    if ((rc = settle_context(o, &e->model->shape, &context, error)) || (rc = open_tokenizer(e, error)) ||
        (rc = device_open(&e->backend, &o->device, o->params, error)))
        return rc;
    fill_info(e, o, context);
    if ((rc = engine_state_key(e, e->info.state_dtype, e->info.rows_dtype, e->info.state_key, error)) ||
        (rc = graph_open(&e->graph, e->backend, e->model, o->batch, error)))
        return rc;
    rc = model_load(e->model, e->backend, &progress, error);
    e->info.validation_messages = device_messages(e->backend);
    if (!rc && o->params->observe) rc = observer_install(&e->observer, e->backend, e->model->file, o->params, error);
    return rc;
}

int engine_open(struct engine **out, const struct engine_params *params, struct error *error)
{
    *out = NULL;
    struct engine *e = calloc(1, sizeof *e);
    if (!e) return error_set(error, ERROR_FAILED, "Out of memory for an engine.");
    struct opening o;
    int rc = opening_begin(&o, params, error);
    if (!rc) rc = engine_build(e, &o, error);
    model_close(&o.model);
    if (rc) engine_close(&e);
    *out = e;
    return rc;
}

void engine_close(struct engine **engine)
{
    struct engine *e = *engine;
    if (!e) return;
    observer_remove(&e->observer);
    graph_close(&e->graph);
    if (e->backend) e->backend->ops->destroy(e->backend);
    tokenizer_close(&e->tokenizer);
    model_close(&e->model);
    free(e);
    *engine = NULL;
}

const struct engine_info *engine_info(const struct engine *engine)
{
    return &engine->info;
}

int engine_profile_start(struct engine *e, struct engine_peaks *peaks, struct error *error)
{
    if (!e->backend->ops->profile_start)
        return error_set(error, ERROR_FIT, "%s has no clock of its own to time operations by.", e->info.device_name);
    return e->backend->ops->profile_start(e->backend, peaks, error);
}

size_t engine_profile_read(struct engine *e, struct engine_timing *out, size_t cap)
{
    return e->backend->ops->profile_read ? e->backend->ops->profile_read(e->backend, out, cap) : 0;
}

const struct tokenizer *engine_tokenizer(const struct engine *engine)
{
    return engine->tokenizer;
}
