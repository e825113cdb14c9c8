/* SPDX-License-Identifier: MIT
 *
 * lectern imatrix: the importance of a model's weights over texts, for quantize --imatrix. Each text is read in chunks,
 * each from an empty state, with [BOS] before it where the model starts with one. The matrix that gives the logits is
 * left out: it is seldom asked while reading, and quantize keeps it in more bits. stderr: progress and a closing
 * remark.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "app/commands.h"
#include "app/console.h"
#include "app/model_find.h"
#include "app/model_use.h"
#include "app/options.h"
#include "app/progress.h"
#include "app/score.h"
#include "quant/imatrix.h"

struct imatrix_options {
    const char *out;
    uint32_t chunk;
};

#define AT(field) .offset = offsetof(struct imatrix_options, field)
static const struct option imatrix_table[] = {
    {"out", 'o', OPTION_TEXT, "FILE", NULL, "where the importance goes (GGUF)", AT(out)},
    {"chunk", 0, OPTION_UINT, "N", "512", "tokens read at once, from an empty state", AT(chunk), .most = 1u << 20},
    {NULL},
};
#undef AT

static const struct command_usage imatrix_usage = {
    .name = "imatrix",
    .arguments = "MODEL FILE... -o OUT.gguf",
    .about = "Gathers which weights of a model matter for texts (- is stdin): the mean square of each input of each\n"
             "matrix. On the cpu. The file is for quantize --imatrix, and for llama.cpp's.",
    .options = imatrix_table,
};

struct gathering {
    const struct imatrix_options *options;
    struct imatrix *imatrix;
    struct engine *engine;
    struct timeline *timeline;
    struct token_list start; /* [BOS], or nothing */
    uint64_t tokens;
    uint32_t chunks;
    struct timespec began;
    int rc; /* of the first imatrix_add that failed */
    struct error error;
};

static void gather(void *ctx, const char *tensor, uint32_t mat, const float *x, uint32_t n, uint32_t width)
{
    struct gathering *g = ctx;
    if (g->rc || !strcmp(tensor, "output.weight")) return;
    g->rc = imatrix_add(g->imatrix, tensor, mat, x, n, width, &g->error);
}

static double seconds_since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) * 1e-9;
}

static void show_progress(const struct gathering *g, size_t done, size_t total)
{
    double seconds = seconds_since(&g->began), rate = seconds > 0 ? (double)g->tokens / seconds : 0;
    progress_show(&(struct progress){.what = "Reading",
                                     .unit = "tok",
                                     .done = done,
                                     .total = total,
                                     .rate = rate,
                                     .eta = rate > 0 ? (double)(total - done) / rate : -1});
}

static int read_chunk(struct gathering *g, const uint32_t *ids, size_t n, struct error *error)
{
    timeline_clear(g->timeline);
    int rc = 0;
    if (g->start.count) rc = timeline_append(g->timeline, g->start.ids, g->start.count, NULL, NULL, error);
    if (!rc) rc = timeline_append(g->timeline, ids, n, NULL, NULL, error);
    if (!rc && g->rc) {
        *error = g->error;
        rc = g->rc;
    }
    if (!rc && console_signal()) rc = error_set(error, ERROR_CANCELLED, "Stopped.");
    g->chunks++;
    g->tokens += n;
    return rc;
}

static int read_file(struct gathering *g, const char *path, struct error *error)
{
    char *text = NULL;
    size_t len = 0;
    struct token_list ids = {0};
    int rc = score_read_text(path, &text, &len, error);
    if (!rc) rc = engine_tokenize(g->engine, text, len, &ids, error);
    if (!rc && !ids.count) rc = error_set(error, ERROR_INPUT, "%s is empty.", path);
    free(text);
    for (size_t at = 0; !rc && at < ids.count; at += g->options->chunk) {
        size_t n = ids.count - at < g->options->chunk ? ids.count - at : g->options->chunk;
        rc = read_chunk(g, ids.ids + at, n, error);
        if (!rc) show_progress(g, at + n, ids.count);
    }
    progress_clear();
    token_list_free(&ids);
    return rc;
}

/* The names of the matrices are those of the file, which is opened for a moment beside the engine's own mapping. */
static int open_model(struct gathering *g, const struct settings *s, const char *model, struct error *error)
{
    struct gguf *file = NULL;
    struct model_usage usage = {
        .settings = s, .name = model, .params = settings_engine(s), .need = g->options->chunk + 1};
    char *path = NULL;
    usage.params.context = g->options->chunk + 1;
    usage.params.observe = gather;
    usage.params.observe_ctx = g;
    if (!strcmp(s->device, "auto")) usage.params.device = "cpu";
    int rc = model_use(&g->engine, &usage, error);
    if (!rc) rc = model_find(model, s->data_dir, &path, error);
    if (!rc) rc = gguf_open(&file, path, error);
    free(path);
    if (rc) return rc;
    rc = imatrix_create(&g->imatrix, file, error);
    gguf_close(&file);
    if (!rc) rc = timeline_create(&g->timeline, g->engine, error);
    return rc ? rc : chat_begin(g->engine, &g->start, error);
}

static int write_out(const struct gathering *g, char *const *files, size_t n_files, struct error *error)
{
    struct gguf_string *names = calloc(n_files, sizeof *names);
    if (!names) return error_set(error, ERROR_FAILED, "Out of memory.");
    for (size_t i = 0; i < n_files; i++) names[i] = (struct gguf_string){files[i], strlen(files[i])};
    struct imatrix_origin origin = {
        .files = names, .n_files = n_files, .chunks = g->chunks, .chunk = g->options->chunk};
    int rc = imatrix_write(g->imatrix, g->options->out, &origin, error);
    free(names);
    return rc;
}

static int run(struct gathering *g, const struct settings *s, int argc, char **argv, struct error *error)
{
    size_t seen, all, n_files = (size_t)argc - 2;
    char count[32], spent[32];
    clock_gettime(CLOCK_MONOTONIC, &g->began);
    int rc = console_catch_signals(error);
    if (!rc) rc = open_model(g, s, argv[1], error);
    for (size_t i = 0; !rc && i < n_files; i++) rc = read_file(g, argv[2 + i], error);
    if (!rc) rc = write_out(g, argv + 2, n_files, error);
    if (!rc) {
        imatrix_coverage(g->imatrix, &seen, &all);
        console_say("%s: %s tokens in %s; %zu of %zu matrices had inputs.", g->options->out,
                    format_count(g->tokens, count), format_seconds(seconds_since(&g->began), spent), seen, all);
    }
    timeline_destroy(&g->timeline);
    engine_close(&g->engine);
    imatrix_free(&g->imatrix);
    token_list_free(&g->start);
    return rc;
}

int cmd_imatrix(int argc, char **argv)
{
    struct settings settings;
    struct imatrix_options options = {0};
    struct error error = {0};
    int status, rc;
    if (!command_begin(&settings, &imatrix_usage, &options, &argc, argv, &status)) return status;
    struct gathering gathering = {.options = &options};
    if (argc < 3 || !options.out)
        rc = error_set(&error, ERROR_USAGE, "imatrix takes MODEL FILE... -o OUT.gguf.");
    else if (!options.chunk)
        rc = error_set(&error, ERROR_USAGE, "--chunk: at least one token is needed.");
    else
        rc = run(&gathering, &settings, argc, argv, &error);
    if (rc) console_error(&error);
    if (console_signal()) rc = console_signal_status(console_signal());
    settings_free(&settings);
    return console_finish(rc);
}
