/* SPDX-License-Identifier: MIT
 *
 * lectern quantize: a model file rewritten in another type. stdout: with --dry-run, a line for each tensor and one
 * with the bytes of all weights, before and after, and the bits a weight; stderr: progress and a closing remark.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "app/commands.h"
#include "app/console.h"
#include "app/model_find.h"
#include "app/options.h"
#include "app/progress.h"
#include "quant/quantize.h"

struct quantize_options {
    bool dry_run, keep_split;
    const char *imatrix;
    const char *tensor_type; /* from the environment or lectern.ini; those of the command line are gathered apart */
};

#define AT(field) .offset = offsetof(struct quantize_options, field)
static const struct option quantize_table[] = {
    {"dry-run", 0, OPTION_FLAG, NULL, NULL, "write nothing; list the tensors and the size on stdout", AT(dry_run)},
    {"imatrix", 0, OPTION_TEXT, "FILE", NULL, "importance of weights, as lectern imatrix or llama.cpp gathers it",
     AT(imatrix)},
    {"keep-split", 0, OPTION_FLAG, NULL, NULL, "several files as the input's: OUT-00001-of-0000N.gguf", AT(keep_split)},
    {"tensor-type", 0, OPTION_TEXT, "REGEX=TYPE", NULL, "the type of tensors whose name matches; may be repeated",
     AT(tensor_type)},
    {NULL},
};
#undef AT

enum { MOST_OVERRIDES = 64 };

struct overrides {
    struct quantize_override items[MOST_OVERRIDES];
    char *texts[MOST_OVERRIDES]; /* owned: the patterns */
    size_t count;
};

static void overrides_free(struct overrides *o)
{
    for (size_t i = 0; i < o->count; i++) free(o->texts[i]);
}

/* Adds REGEX=TYPE; the last '=' parts them. */
static int overrides_add(struct overrides *o, const char *text, struct error *error)
{
    const char *parting = text ? strrchr(text, '=') : NULL;
    const struct quant_format *format = parting ? quant_format_named(parting + 1) : NULL;
    if (!format || !format->encode)
        return error_set(error, ERROR_USAGE, "--tensor-type takes REGEX=TYPE with a type such as Q8_0 or Q4_K.");
    if (o->count == MOST_OVERRIDES) return error_set(error, ERROR_USAGE, "At most 64 --tensor-type can be given.");
    char *pattern = strndup(text, (size_t)(parting - text));
    if (!pattern) return error_set(error, ERROR_FAILED, "Out of memory.");
    o->texts[o->count] = pattern;
    o->items[o->count++] = (struct quantize_override){.pattern = pattern, .format = format};
    return 0;
}

/* Takes every --tensor-type out of argv: the option table keeps only one value of a name. */
static int overrides_take(struct overrides *o, int *argc, char **argv, struct error *error)
{
    static const char name[] = "--tensor-type";
    const size_t len = sizeof name - 1;
    int left = 0, rc = 0;
    bool ended = false;
    for (int i = 0; i < *argc; i++) {
        ended = ended || strcmp(argv[i], "--") == 0;
        if (!ended && !rc && strncmp(argv[i], name, len) == 0 && argv[i][len] == '=')
            rc = overrides_add(o, argv[i] + len + 1, error);
        else if (!ended && !rc && strcmp(argv[i], name) == 0)
            rc = overrides_add(o, ++i < *argc ? argv[i] : NULL, error);
        else
            argv[left++] = argv[i];
    }
    *argc = left;
    return rc;
}

struct teller {
    bool lists; /* --dry-run: a line for each tensor */
    struct timespec start;
};

static double seconds_since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) * 1e-9;
}

static bool tell(void *user, const struct quantize_progress *p)
{
    struct teller *t = user;
    if (t->lists) {
        printf("%.*s\t%s\t%s\n", (int)p->name.len, p->name.bytes, p->from->name, p->to->name);
    } else {
        double seconds = seconds_since(&t->start);
        double rate = seconds > 0 ? (double)p->done / seconds : 0;
        double eta = rate > 0 ? (double)(p->total - p->done) / rate : -1;
        progress_show(&(struct progress){
            .what = "Quantising", .unit = "weights", .done = p->done, .total = p->total, .rate = rate, .eta = eta});
    }
    return console_signal() == 0;
}

static int unknown_type(const char *type, struct error *error)
{
    char names[400] = "";
    for (size_t i = 0, at = 0; quantize_mix_name(i) && at < sizeof names; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? " " : "", quantize_mix_name(i));
    return error_set(error, ERROR_USAGE, "%.40s is no type; there are %s.", type, names);
}

static int run(struct quantize_params *params, const char *type, const char *importance, struct error *error)
{
    struct imatrix *imatrix = NULL;
    struct teller teller = {.lists = params->dry_run};
    struct quantize_result result;
    char size[2][32], spent[32];
    params->mix = quantize_mix_named(type);
    params->progress = tell;
    params->user = &teller;
    clock_gettime(CLOCK_MONOTONIC, &teller.start);
    int rc = params->mix ? console_catch_signals(error) : unknown_type(type, error);
    if (!rc && importance) rc = imatrix_read(&imatrix, importance, error);
    params->importance = imatrix;
    if (!rc) rc = quantize_model(params, &result, error);
    imatrix_free(&imatrix);
    progress_clear();
    if (rc == ERROR_CANCELLED) return console_error(error), console_signal_status(console_signal());
    if (rc) return console_error(error);
    double bits = 8 * (double)result.out_bytes / (double)(result.weights ? result.weights : 1);
    if (params->dry_run)
        printf("total\t%llu\t%llu\t%.3f\n", (unsigned long long)result.in_bytes, (unsigned long long)result.out_bytes,
               bits);
    console_say("%s: %s of weights become %s (%.2f bits a weight) in %s.", params->out,
                format_bytes(result.in_bytes, size[0]), format_bytes(result.out_bytes, size[1]), bits,
                format_seconds(seconds_since(&teller.start), spent));
    if (importance) console_detail("%zu tensors were encoded by the importance of their weights.", result.weighed);
    return console_finish(0);
}

int cmd_quantize(int argc, char **argv)
{
    static const struct command_usage usage = {
        .name = "quantize",
        .arguments = "IN.gguf OUT.gguf TYPE",
        .about =
            "Rewrites a model in another type: one format (Q8_0, Q4_0, IQ4_XS, ...) or a mix (Q2_K, Q3_K_M, Q4_K_M, "
            "...,\nlectern-2.7, lectern-3.3, lectern-4.2).",
        .options = quantize_table,
    };
    struct settings settings;
    struct quantize_options options = {0};
    struct overrides overrides = {.count = 0};
    struct error error;
    int status = 0;
    int rc = overrides_take(&overrides, &argc, argv, &error);
    if (!command_begin(&settings, &usage, &options, &argc, argv, &status)) {
        overrides_free(&overrides);
        return status;
    }
    if (!rc && options.tensor_type && !overrides.count) rc = overrides_add(&overrides, options.tensor_type, &error);
    if (!rc && argc != 4) rc = error_set(&error, ERROR_USAGE, "quantize takes IN.gguf OUT.gguf TYPE.");
    char *in = NULL;
    if (!rc) rc = model_find(argv[1], settings.data_dir, &in, &error);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct quantize_params params = {
        .in = in,
        .out = argc > 2 ? argv[2] : NULL,
        .overrides = overrides.items,
        .n_overrides = overrides.count,
        .threads = settings.threads ? settings.threads
                   : cores > 0      ? (uint32_t)cores
                                    : 1,
        .keep_split = options.keep_split,
        .dry_run = options.dry_run,
    };
    rc = rc ? console_error(&error) : run(&params, argv[3], options.imatrix, &error);
    overrides_free(&overrides);
    settings_free(&settings);
    free(in);
    return rc;
}
