/* SPDX-License-Identifier: MIT
 *
 * lectern logits: the door through which others check us. Reads token ids, writes the logits after each:
 * int32 n_tokens, int32 n_vocab, then float32 [n_tokens][n_vocab], little-endian.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/commands.h"
#include "app/console.h"
#include "app/model_use.h"
#include "app/options.h"

struct logits_options {
    const char *tokens, *out;
    int rows_dtype; /* f32 unless told: what is checked is the arithmetic, not the rounding of rows */
};

static const struct option_choice rows_dtypes[] = {
    {"f32", ENGINE_F32}, {"f16", ENGINE_F16}, {"q8_0", ENGINE_Q8_0}, {NULL, 0}};

#define AT(field) .offset = offsetof(struct logits_options, field)
static const struct option logits_table[] = {
    {"tokens", 0, OPTION_TEXT, "FILE", NULL, "token ids as decimal numbers; - is stdin", AT(tokens)},
    {"out", 'o', OPTION_TEXT, "FILE", NULL, "where the logits go", AT(out)},
    {"rows-dtype", 0, OPTION_CHOICE, "TYPE", "f32", "MLA rows: f32, f16 or q8_0 (in place of --kv-dtype)",
     AT(rows_dtype), rows_dtypes},
    {NULL},
};
#undef AT

static int read_ids(FILE *in, const char *name, struct token_list *ids, struct error *error)
{
    unsigned long long value;
    int got;
    while ((got = fscanf(in, "%10llu", &value)) == 1) {
        if (value > UINT32_MAX) return error_set(error, ERROR_INPUT, "%s: %llu is no token id.", name, value);
        int rc = token_list_push(ids, (uint32_t)value, error);
        if (rc) return rc;
    }
    if (ferror(in)) return error_set(error, ERROR_INPUT, "%s: %s.", name, strerror(errno));
    if (got == 0) return error_set(error, ERROR_INPUT, "%s: not a number after %zu token ids.", name, ids->count);
    return ids->count ? 0 : error_set(error, ERROR_INPUT, "%s: no token ids.", name);
}

static int read_tokens(const char *path, struct token_list *ids, struct error *error)
{
    if (!strcmp(path, "-")) return read_ids(stdin, "stdin", ids, error);
    FILE *in = fopen(path, "r");
    if (!in) return error_set(error, ERROR_INPUT, "%s: %s.", path, strerror(errno));
    int rc = read_ids(in, path, ids, error);
    fclose(in);
    return rc;
}

static int write_failed(const char *path, struct error *error)
{
    return error_set(error, ERROR_DISK, "%s: %s.", path, strerror(errno));
}

/* Evaluates batch by batch, so that only one batch of logits is held. */
static int write_rows(struct timeline *timeline, const struct engine_info *info, const struct token_list *ids,
                      FILE *out, const char *path, struct error *error)
{
    int32_t head[2] = {(int32_t)ids->count, (int32_t)info->n_vocab};
    float *logits = malloc((size_t)info->batch * info->n_vocab * sizeof *logits);
    if (!logits) return error_set(error, ERROR_FAILED, "Out of memory for the logits of %u tokens.", info->batch);
    int rc = fwrite(head, sizeof head, 1, out) == 1 ? 0 : write_failed(path, error);
    for (size_t at = 0; !rc && at < ids->count; at += info->batch) {
        size_t n = ids->count - at < info->batch ? ids->count - at : info->batch;
        rc = timeline_append(timeline, ids->ids + at, n, logits, NULL, error);
        if (!rc && fwrite(logits, sizeof *logits * info->n_vocab, n, out) != n) rc = write_failed(path, error);
    }
    free(logits);
    return rc;
}

static int write_logits(struct engine *engine, const struct token_list *ids, const char *path, struct error *error)
{
    struct timeline *timeline;
    int rc = timeline_create(&timeline, engine, error);
    if (rc) return rc;
    FILE *out = fopen(path, "wb");
    rc = out ? write_rows(timeline, engine_info(engine), ids, out, path, error) : write_failed(path, error);
    if (out && fclose(out) && !rc) rc = write_failed(path, error);
    timeline_destroy(&timeline);
    return rc;
}

static int run(const struct model_usage *usage, const struct logits_options *options, struct error *error)
{
    struct token_list ids = {0};
    struct engine *engine = NULL;
    int rc = read_tokens(options->tokens, &ids, error);
    if (!rc) rc = model_use(&engine, usage, error);
    if (!rc) rc = write_logits(engine, &ids, options->out, error);
    if (!rc && engine_info(engine)->validation_messages)
        rc = error_set(error, ERROR_FAILED, "The validation layers had %u messages.",
                       engine_info(engine)->validation_messages);
    engine_close(&engine);
    token_list_free(&ids);
    return rc;
}

int cmd_logits(int argc, char **argv)
{
    static const struct command_usage usage = {
        .name = "logits",
        .arguments = "[MODEL] --tokens FILE --out FILE",
        .about = "Writes the logits after every token: int32 n_tokens, int32 n_vocab, float32 rows.",
        .options = logits_table,
    };
    struct settings settings;
    struct logits_options options = {0};
    struct error error;
    int status;
    if (!command_begin(&settings, &usage, &options, &argc, argv, &status)) return status;
    struct model_usage model = {
        .settings = &settings, .name = argc == 2 ? argv[1] : NULL, .params = settings_engine(&settings)};
    model.params.rows_dtype = (enum engine_dtype)options.rows_dtype;
    int rc = argc > 2 || !options.tokens || !options.out
                 ? error_set(&error, ERROR_USAGE, "logits takes a model, --tokens FILE and --out FILE")
                 : run(&model, &options, &error);
    if (rc) console_error(&error);
    settings_free(&settings);
    return rc;
}
