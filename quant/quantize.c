/* SPDX-License-Identifier: MIT
 *
 * The streaming quantizer. A tensor is a run of whole blocks in both its old and its new format, so it is cut into
 * pieces without regard to rows; each piece is shared out to the threads, decoded, encoded and written in order.
 */
#include "quant/quantize.h"
#include "quant/quantize_outputs.h"

#include <pthread.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

enum {
    SHARE = 1 << 16, /* weights a thread takes of a piece: 256 KiB of floats; a multiple of every block length */
    MOST_THREADS = 64,
};

static enum quant_type narrower(enum quant_type type)
{
    switch (type) {
    case QUANT_Q4_K:
        return QUANT_Q5_0;
    case QUANT_Q5_K:
        return QUANT_Q5_1;
    case QUANT_Q6_K:
        return QUANT_Q8_0;
    default:
        return QUANT_IQ4_NL;
    }
}

const struct quant_format *quantize_fallback(const struct quant_format *wanted, uint64_t row_len)
{
    if (row_len % wanted->block_len == 0) return wanted;
    const struct quant_format *f = wanted->block_len == 256 ? quant_format(narrower(wanted->type)) : NULL;
    return f && row_len % f->block_len == 0 ? f : quant_format(QUANT_F16);
}

/* One thread's part of a piece. */
struct share {
    const struct quant_format *from, *to;
    const unsigned char *in;
    unsigned char *out;
    float *weights; /* SHARE */
    size_t n;
    const struct imatrix *importance; /* NULL: all alike */
    const struct gguf_tensor *tensor; /* of which these are the weights from `first` on */
    uint64_t first;
    float *importances; /* SHARE */
};

struct job {
    const struct quantize_params *params;
    struct gguf *in;
    struct outputs out;
    struct gguf_writer *writer; /* of the tensor at hand */
    regex_t *patterns;          /* compiled overrides */
    size_t n_patterns;
    const struct quant_format **formats; /* of each tensor */
    uint32_t threads;
    struct share *shares;
    bool *weighed;         /* does the importance tell of this tensor? */
    float *weights;        /* threads * SHARE */
    float *importances;    /* the same; one when there is no importance */
    unsigned char *blocks; /* threads * SHARE * 4 */
    struct quantize_progress progress;
    struct error *error;
};

static void *share_run(void *arg)
{
    struct share *s = arg;
    s->from->decode(s->in, s->weights, s->n);
    if (s->importance) imatrix_fill(s->importance, s->tensor, s->first, s->n, s->importances);
    s->to->encode(s->weights, s->importance ? s->importances : NULL, s->out, s->n);
    return NULL;
}

static bool tell(struct job *job)
{
    return !job->params->progress || job->params->progress(job->params->user, &job->progress);
}

static int cancelled(struct job *job)
{
    return error_set(job->error, ERROR_CANCELLED, "Quantising %s was stopped.", job->params->in);
}

/* Runs the shares of a piece: the first here, the others on threads; one that cannot be started runs here too. */
static void run_shares(struct job *job, size_t count)
{
    pthread_t thread[MOST_THREADS];
    bool started[MOST_THREADS] = {false};
    for (size_t i = 1; i < count; i++) started[i] = pthread_create(&thread[i], NULL, share_run, &job->shares[i]) == 0;
    for (size_t i = 0; i < count; i++)
        if (!started[i]) share_run(&job->shares[i]);
    for (size_t i = 1; i < count; i++)
        if (started[i]) pthread_join(thread[i], NULL);
}

/* Converts n weights from block `at` of the tensor on and writes them. */
static int convert_piece(struct job *job, const struct gguf_tensor *t, const struct quant_format *to, uint64_t at,
                         size_t n)
{
    const unsigned char *in = (const unsigned char *)t->data + at / t->format->block_len * t->format->block_bytes;
    size_t count = 0;
    for (size_t done = 0; done < n; count++) {
        size_t part = n - done < SHARE ? n - done : SHARE;
        job->shares[count] = (struct share){.from = t->format,
                                            .to = to,
                                            .in = in + quant_row_bytes(t->format, done),
                                            .out = job->blocks + quant_row_bytes(to, done),
                                            .weights = job->weights + done,
                                            .n = part};
        if (job->weighed[job->progress.tensor]) {
            job->shares[count].importance = job->params->importance;
            job->shares[count].tensor = t;
            job->shares[count].first = at + done;
            job->shares[count].importances = job->importances + done;
        }
        done += part;
    }
    run_shares(job, count);
    return gguf_write(job->writer, job->blocks, quant_row_bytes(to, n), job->error);
}

/* Same format: the bytes as they are. */
static int copy_piece(struct job *job, const struct gguf_tensor *t, uint64_t at, size_t n)
{
    const unsigned char *in = (const unsigned char *)t->data + at / t->format->block_len * t->format->block_bytes;
    return gguf_write(job->writer, in, quant_row_bytes(t->format, n), job->error);
}

static uint64_t weights_of(const struct gguf_tensor *t)
{
    return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
}

static int convert_tensor(struct job *job, const struct gguf_tensor *t, const struct quant_format *to)
{
    uint64_t n = weights_of(t), piece = (uint64_t)job->threads * SHARE;
    for (uint64_t at = 0; at < n; at += piece) {
        size_t part = (size_t)(n - at < piece ? n - at : piece);
        int rc = to == t->format ? copy_piece(job, t, at, part) : convert_piece(job, t, to, at, part);
        if (rc) return rc;
        gguf_forget((const unsigned char *)t->data + at / t->format->block_len * t->format->block_bytes,
                    quant_row_bytes(t->format, part));
        job->progress.done += part;
        if (!tell(job)) return cancelled(job);
    }
    return 0;
}

/* What the overrides say of a tensor, or NULL. */
static const struct quant_format *overridden(const struct job *job, struct gguf_string name)
{
    char text[80];
    const struct quant_format *found = NULL;
    snprintf(text, sizeof text, "%.*s", (int)name.len, name.bytes);
    for (size_t i = 0; i < job->n_patterns; i++)
        if (regexec(&job->patterns[i], text, 0, NULL, 0) == 0) found = job->params->overrides[i].format;
    return found;
}

/* Bytes that are copied, and numbers that are only rounded, need no importance. */
static int choose_importance(struct job *job, size_t i, struct quantize_result *result)
{
    const struct gguf_tensor *t = gguf_tensor_at(job->in, i);
    if (!job->params->importance) return 0;
    int rc = imatrix_find(job->params->importance, t, &job->weighed[i], job->error);
    if (job->formats[i]->block_len == 1 || job->formats[i] == t->format) job->weighed[i] = false;
    result->weighed += job->weighed[i];
    return rc;
}

static int choose_formats(struct job *job, struct quantize_result *result)
{
    struct quantize_source source;
    quantize_source(&source, job->in, job->params->importance != NULL);
    for (size_t i = 0; i < gguf_tensor_count(job->in); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(job->in, i);
        const struct quant_format *f = quantize_choose(job->params->mix, &source, t);
        const struct quant_format *other = quantize_keeps_f32(t) ? NULL : overridden(job, t->name);
        f = quantize_fallback(other ? other : f, t->ne[0]);
        if (!f->encode && f != t->format)
            return error_set(job->error, ERROR_USAGE, "%s can be read but not written.", f->name);
        job->formats[i] = f;
        int rc = choose_importance(job, i, result);
        if (rc) return rc;
        result->weights += weights_of(t);
        result->in_bytes += t->bytes;
        result->out_bytes += weights_of(t) / f->block_len * f->block_bytes;
    }
    job->progress.total = result->weights;
    return 0;
}

static bool copied_key(struct gguf_string key)
{
    static const char *const dropped[] = {"general.file_type", "general.quantization_version", "general.alignment"};
    if (key.len >= 6 && memcmp(key.bytes, "split.", 6) == 0) return false;
    for (size_t i = 0; i < sizeof dropped / sizeof dropped[0]; i++)
        if (key.len == strlen(dropped[i]) && memcmp(key.bytes, dropped[i], key.len) == 0) return false;
    return true;
}

static struct gguf_writer *writer_of(const struct job *job, size_t tensor)
{
    return job->out.writers[job->out.count > 1 ? gguf_tensor_shard(job->in, tensor) : 0];
}

static void describe(struct job *job)
{
    struct gguf_writer *first = job->out.writers[0];
    for (size_t i = 0; i < gguf_value_count(job->in); i++)
        if (copied_key(gguf_value_at(job->in, i)->key)) gguf_put_copy(first, gguf_value_at(job->in, i));
    gguf_put_u32(first, "general.file_type", quantize_mix_file_type(job->params->mix));
    gguf_put_u32(first, "general.quantization_version", 2);
    outputs_describe_split(&job->out, gguf_tensor_count(job->in));
    for (size_t i = 0; i < gguf_tensor_count(job->in); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(job->in, i);
        char name[80];
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.bytes);
        gguf_put_tensor(writer_of(job, i), name, job->formats[i], t->n_dims, t->ne);
    }
}

/* Goes through the tensors: converts and writes them, or in a dry run only tells them. */
static int convert_all(struct job *job)
{
    for (size_t i = 0; i < gguf_tensor_count(job->in); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(job->in, i);
        job->progress.tensor = i;
        job->progress.name = t->name;
        job->progress.from = t->format;
        job->progress.to = job->formats[i];
        int rc = 0;
        if (!job->params->dry_run) {
            job->writer = writer_of(job, i);
            rc = convert_tensor(job, t, job->formats[i]);
        } else {
            job->progress.done += weights_of(t);
            if (!tell(job)) rc = cancelled(job);
        }
        if (rc) return rc;
    }
    return 0;
}

static int compile_patterns(struct job *job)
{
    const struct quantize_params *p = job->params;
    job->patterns = calloc(p->n_overrides + 1, sizeof *job->patterns);
    if (!job->patterns) return error_set(job->error, ERROR_FAILED, "Out of memory while quantising %s.", p->in);
    for (; job->n_patterns < p->n_overrides; job->n_patterns++) {
        const char *pattern = p->overrides[job->n_patterns].pattern;
        if (regcomp(&job->patterns[job->n_patterns], pattern, REG_EXTENDED | REG_NOSUB))
            return error_set(job->error, ERROR_USAGE, "%s is not a regular expression.", pattern);
    }
    return 0;
}

static int prepare(struct job *job)
{
    int rc = compile_patterns(job);
    if (!rc) rc = gguf_open(&job->in, job->params->in, job->error);
    if (rc) return rc;
    job->progress.n_tensors = gguf_tensor_count(job->in);
    job->formats = calloc(job->progress.n_tensors + 1, sizeof *job->formats);
    job->shares = calloc(job->threads, sizeof *job->shares);
    job->weights = malloc((size_t)job->threads * SHARE * sizeof *job->weights);
    job->blocks = malloc((size_t)job->threads * SHARE * 4);
    job->weighed = calloc(job->progress.n_tensors + 1, sizeof *job->weighed);
    size_t importances = job->params->importance ? (size_t)job->threads * SHARE : 1;
    job->importances = malloc(importances * sizeof *job->importances);
    if (!job->weighed || !job->importances || !job->formats || !job->shares || !job->weights || !job->blocks)
        return error_set(job->error, ERROR_FAILED, "Out of memory while quantising %s.", job->params->in);
    return 0;
}

static void job_free(struct job *job)
{
    for (size_t i = 0; i < job->n_patterns; i++) regfree(&job->patterns[i]);
    free(job->patterns);
    free(job->formats);
    free(job->shares);
    free(job->weighed);
    free(job->weights);
    free(job->importances);
    free(job->blocks);
    outputs_abort(&job->out);
    gguf_close(&job->in);
}

int quantize_model(const struct quantize_params *params, struct quantize_result *result, struct error *error)
{
    struct job job = {.params = params, .error = error, .threads = params->threads ? params->threads : 1};
    if (job.threads > MOST_THREADS) job.threads = MOST_THREADS;
    *result = (struct quantize_result){0};
    int rc = prepare(&job);
    if (!rc) rc = choose_formats(&job, result);
    size_t files = !rc && params->keep_split ? gguf_shard_count(job.in) : 1;
    if (!rc && !params->dry_run) rc = outputs_open(&job.out, params->out, files, error);
    if (!rc && !params->dry_run) describe(&job);
    if (!rc) rc = convert_all(&job);
    if (!rc && !params->dry_run) rc = outputs_finish(&job.out, error);
    job_free(&job);
    return rc;
}
