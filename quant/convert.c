/* SPDX-License-Identifier: MIT
 *
 * The streaming converter. Everything is checked and described first; then each tensor goes out in pieces of at most
 * PIECE weights, or a head's worth where it must be transposed.
 */
#include "quant/convert_internal.h"
#include "quant/quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 16 }; /* a multiple of every block length */

struct job {
    const struct convert_params *params;
    struct convert_config config;
    struct safetensors *in;
    struct gguf_writer *out;
    struct convert_plan plan;
    struct convert_progress progress;
    float *weights;        /* room: PIECE, or a head's keys where they are more */
    unsigned char *blocks; /* the same number, at most 4 bytes each */
    size_t room;
    struct error *error;
};

/* Writes n weights; whole rows' worth of blocks. */
static int write_weights(struct job *job, const struct quant_format *to, const float *weights, size_t n)
{
    to->encode(weights, NULL, job->blocks, n);
    return gguf_write(job->out, job->blocks, quant_row_bytes(to, n), job->error);
}

static int step(struct job *job, uint64_t n)
{
    job->progress.done += n;
    if (!job->params->progress || job->params->progress(job->params->user, &job->progress)) return 0;
    return error_set(job->error, ERROR_CANCELLED, "Converting %s was stopped.", job->params->dir);
}

/* Elements [first, first + n) of a source, as they are; bytes where the type is the same. */
static int write_run(struct job *job, const struct convert_item *t, const struct safetensor *from, uint64_t first,
                     uint64_t n)
{
    const unsigned char *in = from->data + first * from->format->block_bytes;
    for (uint64_t at = 0; at < n; at += PIECE) {
        size_t part = (size_t)(n - at < PIECE ? n - at : PIECE);
        const unsigned char *piece = in + at * from->format->block_bytes;
        int rc;
        if (from->format == t->format) {
            rc = gguf_write(job->out, piece, part * from->format->block_bytes, job->error);
        } else {
            from->format->decode(piece, job->weights, part);
            rc = write_weights(job, t->format, job->weights, part);
        }
        if (!rc) rc = step(job, part);
        if (rc) return rc;
    }
    return 0;
}

/* ssm_a: -exp(A_log), one number a head. */
static int write_decay(struct job *job, const struct convert_item *t, const struct safetensor *from)
{
    size_t n = (size_t)from->count;
    from->format->decode(from->data, job->weights, n);
    for (size_t i = 0; i < n; i++) job->weights[i] = (float)-exp((double)job->weights[i]);
    int rc = write_weights(job, t->format, job->weights, n);
    return rc ? rc : step(job, n);
}

/* attn_k_b: of each head's [nope, kv_lora] rows of kv_b the transpose, [kv_lora, nope]. */
static int write_keys(struct job *job, const struct convert_item *t, const struct safetensor *from)
{
    const struct convert_config *c = &job->config;
    size_t nope = c->nope, lora = c->kv_lora;
    float *rows = job->weights, *turned = rows + nope * lora;
    int rc = 0;
    for (uint32_t head = 0; !rc && head < c->n_head; head++) {
        uint64_t first = (uint64_t)head * (nope + c->v_dim) * lora;
        from->format->decode(from->data + first * from->format->block_bytes, rows, nope * lora);
        for (size_t i = 0; i < lora; i++)
            for (size_t j = 0; j < nope; j++) turned[i * nope + j] = rows[j * lora + i];
        rc = write_weights(job, t->format, turned, nope * lora);
        if (!rc) rc = step(job, nope * lora);
    }
    return rc;
}

/* attn_v_b: each head's last v_dim rows of kv_b. */
static int write_values(struct job *job, const struct convert_item *t, const struct safetensor *from)
{
    const struct convert_config *c = &job->config;
    int rc = 0;
    for (uint32_t head = 0; !rc && head < c->n_head; head++) {
        uint64_t row = (uint64_t)head * (c->nope + c->v_dim) + c->nope;
        rc = write_run(job, t, from, row * c->kv_lora, (uint64_t)c->v_dim * c->kv_lora);
    }
    return rc;
}

static int write_item(struct job *job, const struct convert_item *t)
{
    int rc = 0;
    for (uint32_t part = 0; !rc && part < t->parts; part++) {
        const struct safetensor *from;
        rc = convert_source(t, &job->config, job->in, part, &from, job->error);
        if (rc) return rc;
        if (t->rule == RULE_DECAY)
            rc = write_decay(job, t, from);
        else if (t->rule == RULE_KEY)
            rc = write_keys(job, t, from);
        else if (t->rule == RULE_VALUE)
            rc = write_values(job, t, from);
        else
            rc = write_run(job, t, from, 0, from->count);
    }
    return rc;
}

/* Every source is there and has its shape: found out before hours are spent. */
static int check_sources(struct job *job, struct convert_result *result)
{
    const struct safetensor *from;
    size_t used = 0;
    for (size_t i = 0; i < job->plan.count; i++) {
        const struct convert_item *t = &job->plan.items[i];
        for (uint32_t part = 0; part < t->parts; part++) {
            int rc = convert_source(t, &job->config, job->in, part, &from, job->error);
            if (rc) return rc;
        }
        used += t->rule == RULE_VALUE ? 0 : t->parts; /* its source is counted with the keys */
        result->weights += convert_weights(t);
        result->bytes += convert_weights(t) / t->format->block_len * t->format->block_bytes;
    }
    result->tensors = job->plan.count;
    result->unused = safetensors_count(job->in) - used;
    job->progress.total = result->weights;
    return 0;
}

static uint32_t file_type(const struct quant_format *f)
{
    const struct quantize_mix *mix = quantize_mix_named(f->name);
    return mix ? quantize_mix_file_type(mix) : 0;
}

static int describe(struct job *job)
{
    struct gguf_writer *w = job->out;
    gguf_put_string(w, "general.architecture", "kimi-linear", 11);
    gguf_put_string(w, "general.name", job->params->name, strlen(job->params->name));
    gguf_put_u32(w, "general.file_type", file_type(job->params->format));
    gguf_put_u32(w, "general.quantization_version", 2);
    convert_config_put(&job->config, w);
    int rc = convert_vocab_put(job->params->dir, &job->config, w, job->error);
    for (size_t i = 0; !rc && i < job->plan.count; i++) {
        const struct convert_item *t = &job->plan.items[i];
        gguf_put_tensor(w, t->name, t->format, t->n_dims, t->ne);
    }
    return rc;
}

static int prepare(struct job *job, struct convert_result *result)
{
    int rc = convert_config_read(&job->config, job->params->dir, job->error);
    if (!rc) rc = convert_plan_make(&job->plan, &job->config, job->params->format, job->error);
    if (!rc) rc = safetensors_open(&job->in, job->params->dir, job->error);
    if (!rc) rc = check_sources(job, result);
    if (rc) return rc;
    size_t keys = 2 * (size_t)job->config.nope * job->config.kv_lora;
    job->room = keys > PIECE ? keys : PIECE;
    job->weights = malloc(job->room * sizeof *job->weights);
    job->blocks = malloc(job->room * 4);
    if (job->weights && job->blocks) return 0;
    return error_set(job->error, ERROR_FAILED, "Out of memory while converting %s.", job->params->dir);
}

int convert_folder(const struct convert_params *params, struct convert_result *result, struct error *error)
{
    struct job job = {.params = params, .error = error};
    *result = (struct convert_result){0};
    int rc = prepare(&job, result);
    if (!rc) rc = gguf_writer_open(&job.out, params->out, error);
    if (!rc) rc = describe(&job);
    for (size_t i = 0; !rc && i < job.plan.count; i++) {
        job.progress.name = job.plan.items[i].name;
        rc = write_item(&job, &job.plan.items[i]);
    }
    if (!rc) rc = gguf_writer_finish(&job.out, error);
    gguf_writer_abort(&job.out);
    safetensors_close(&job.in);
    free(job.plan.items);
    free(job.weights);
    free(job.blocks);
    return rc;
}
