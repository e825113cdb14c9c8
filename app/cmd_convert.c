/* SPDX-License-Identifier: MIT
 *
 * lectern convert: a Hugging Face folder into a model file. stderr: progress and a closing remark.
 */
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "app/commands.h"
#include "app/console.h"
#include "app/options.h"
#include "app/progress.h"
#include "quant/convert.h"

struct convert_options {
    int type; /* enum quant_type */
    const char *name;
};

static const struct option_choice types[] = {
    {"F16", QUANT_F16}, {"BF16", QUANT_BF16}, {"Q8_0", QUANT_Q8_0}, {"F32", QUANT_F32}, {NULL, 0}};

#define AT(field) .offset = offsetof(struct convert_options, field)
static const struct option convert_table[] = {
    {"type", 0, OPTION_CHOICE, "TYPE", "BF16", "F16, BF16, Q8_0 or F32", AT(type), types},
    {"name", 0, OPTION_TEXT, "TEXT", NULL, "the model's name; default: the folder's", AT(name)},
    {NULL},
};
#undef AT

static const struct command_usage convert_usage = {
    .name = "convert",
    .arguments = "DIR OUT.gguf [--type TYPE]",
    .about = "Makes a model file of a Hugging Face folder of KimiLinearForCausalLM: config.json, safetensors,\n"
             "tiktoken.model, tokenizer_config.json. Vectors, the router and the short convolutions stay F32.",
    .options = convert_table,
};

static double seconds_since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) * 1e-9;
}

static bool tell(void *user, const struct convert_progress *p)
{
    double seconds = seconds_since(user);
    double rate = seconds > 0 ? (double)p->done / seconds : 0;
    progress_show(&(struct progress){.what = "Converting",
                                     .unit = "weights",
                                     .done = p->done,
                                     .total = p->total,
                                     .rate = rate,
                                     .eta = rate > 0 ? (double)(p->total - p->done) / rate : -1});
    return console_signal() == 0;
}

static int convert(struct convert_params *params, struct error *error)
{
    struct timespec start;
    struct convert_result result;
    char size[32], spent[32], count[32];
    clock_gettime(CLOCK_MONOTONIC, &start);
    params->progress = tell;
    params->user = &start;
    int rc = console_catch_signals(error);
    if (!rc) rc = convert_folder(params, &result, error);
    progress_clear();
    if (rc) return rc;
    if (result.unused) console_say("%zu tensors of %s have no place in the model.", result.unused, params->dir);
    console_say("%s: %s weights, %s in %s.", params->out, format_count(result.weights, count),
                format_bytes(result.bytes, size), format_seconds(seconds_since(&start), spent));
    return 0;
}

static int run(const struct convert_options *options, const char *dir, const char *out, struct error *error)
{
    char *real = options->name ? NULL : realpath(dir, NULL);
    struct convert_params params = {
        .dir = dir,
        .out = out,
        .name = options->name ? options->name
                : real        ? basename(real)
                              : "model",
        .format = quant_format((uint32_t)options->type),
    };
    int rc = convert(&params, error);
    free(real);
    return rc;
}

int cmd_convert(int argc, char **argv)
{
    struct settings settings;
    struct convert_options options = {0};
    struct error error = {0};
    int status;
    if (!command_begin(&settings, &convert_usage, &options, &argc, argv, &status)) return status;
    int rc = argc == 3 ? run(&options, argv[1], argv[2], &error)
                       : error_set(&error, ERROR_USAGE, "convert takes DIR OUT.gguf.");
    if (rc) console_error(&error);
    if (rc == ERROR_CANCELLED) rc = console_signal_status(console_signal());
    settings_free(&settings);
    return console_finish(rc);
}
