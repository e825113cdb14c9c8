/* SPDX-License-Identifier: MIT
 *
 * lectern perplexity: how well a model predicts a text, and how far it is from a reference (itself in more bits).
 * The text is cut into chunks of N tokens, each read from an empty state with [BOS] in place of its first token where
 * the model starts with one; tokens of the second half of a chunk are scored, so that each has at least N / 2 before
 * it. stdout: the figures; stderr: progress.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "app/commands.h"
#include "app/console.h"
#include "app/json.h"
#include "app/model_use.h"
#include "app/options.h"
#include "app/progress.h"
#include "app/score.h"

struct perplexity_options {
    bool json;
    uint32_t chunk, most;
    const char *kl, *save;
};

#define AT(field) .offset = offsetof(struct perplexity_options, field)
static const struct option perplexity_table[] = {
    {"json", 0, OPTION_FLAG, NULL, NULL, "as JSON", AT(json)},
    {"chunk", 0, OPTION_UINT, "N", "512", "tokens read at once, from an empty state", AT(chunk), .most = 1u << 20},
    {"chunks", 0, OPTION_UINT, "N", "0", "most chunks; 0: the whole text", AT(most), .most = 1u << 24},
    {"save", 0, OPTION_TEXT, "REF", NULL, "write the distributions, for --kl", AT(save)},
    {"kl", 0, OPTION_TEXT, "REF", NULL, "compare with those of another model file", AT(kl)},
    {NULL},
};
#undef AT

static const struct command_usage perplexity_usage = {
    .name = "perplexity",
    .arguments = "[MODEL] FILE [--save REF] [--kl REF]",
    .about =
        "Perplexity of a text (- is stdin), with its standard error. The text is read in chunks of --chunk tokens,\n"
        "each from an empty state; the second half of each is scored, a shorter rest of the text is left out.\n"
        "--save keeps every scored distribution (2 bytes a vocabulary entry); --kl, with the same text and chunks,\n"
        "tells the mean divergence KL(reference || this model) and how often both find the same token likeliest.",
    .options = perplexity_table,
};

struct perplexity {
    const struct perplexity_options *options;
    struct engine *engine;
    struct timeline *timeline;
    struct token_list ids;          /* whole chunks, as evaluated */
    size_t text_bytes, text_tokens; /* all of the text */
    uint32_t chunk, n_chunks, scored_in_chunk;
    float *rows, *other; /* logits of a piece; a row of the reference */
    uint32_t rows_room;  /* rows */
    struct reference *save, *kl;
    struct mean loss, divergence, excess; /* nats; excess: our loss less the reference's */
    size_t agreed;
    double worst;
    struct timespec start;
};

/* ---------------------------------------------------------------------------------------------------- text */

/* Cuts the tokens to whole chunks and puts [BOS] at the start of each, where the model has one. */
static int cut_chunks(struct perplexity *p, const char *path, struct error *error)
{
    struct token_list start = {0};
    int rc = chat_begin(p->engine, &start, error);
    if (rc) return rc;
    size_t n = p->ids.count / p->chunk;
    if (p->options->most && n > p->options->most) n = p->options->most;
    if (n > UINT32_MAX / p->chunk) n = UINT32_MAX / p->chunk;
    if (!n)
        rc = error_set(error, ERROR_INPUT, "%s has %zu tokens, fewer than one chunk of %u.", path, p->ids.count,
                       p->chunk);
    p->n_chunks = (uint32_t)n;
    p->ids.count = n * p->chunk;
    for (size_t i = 0; start.count && i < n; i++) p->ids.ids[i * p->chunk] = start.ids[0];
    token_list_free(&start);
    return rc;
}

static int tokenize(struct perplexity *p, const char *path, struct error *error)
{
    char *text = NULL;
    size_t len = 0;
    int rc = score_read_text(path, &text, &len, error);
    if (!rc) rc = engine_tokenize(p->engine, text, len, &p->ids, error);
    free(text);
    p->text_bytes = len;
    p->text_tokens = p->ids.count;
    return rc ? rc : cut_chunks(p, path, error);
}

/* ------------------------------------------------------------------------------------------------- scoring */

static int compare(struct perplexity *p, const float *row, uint32_t next, struct error *error)
{
    size_t n = engine_info(p->engine)->n_vocab;
    int rc = reference_read(p->kl, p->other, error);
    if (rc) return rc;
    double divergence = score_divergence(p->other, row, n);
    mean_add(&p->divergence, divergence);
    mean_add(&p->excess, (double)p->other[next] - (double)row[next]);
    p->worst = fmax(p->worst, divergence);
    p->agreed += score_best(p->other, n) == score_best(row, n);
    return 0;
}

static int score_row(struct perplexity *p, float *row, uint32_t next, struct error *error)
{
    if (!score_log_softmax(row, engine_info(p->engine)->n_vocab))
        return error_set(error, ERROR_MODEL, "The model's logits are not finite after %zu scored tokens.",
                         p->loss.count);
    mean_add(&p->loss, -(double)row[next]);
    int rc = p->save ? reference_write(p->save, row, error) : 0;
    return !rc && p->kl ? compare(p, row, next, error) : rc;
}

static void show_progress(const struct perplexity *p, uint32_t chunks)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = (double)(now.tv_sec - p->start.tv_sec) + 1e-9 * (double)(now.tv_nsec - p->start.tv_nsec);
    double rate = seconds > 0 ? (double)chunks * p->chunk / seconds : 0;
    progress_show(&(struct progress){.what = "Scoring",
                                     .unit = "tok",
                                     .done = (uint64_t)chunks * p->chunk,
                                     .total = p->ids.count,
                                     .rate = rate,
                                     .eta = rate > 0 ? (double)(p->n_chunks - chunks) * p->chunk / rate : -1});
}

/* The first half without logits, then the rest in pieces of at most rows_room; the last token predicts nothing here. */
static int score_chunk(struct perplexity *p, const uint32_t *ids, struct error *error)
{
    size_t n_vocab = engine_info(p->engine)->n_vocab;
    uint32_t at = p->chunk - 1 - p->scored_in_chunk;
    timeline_clear(p->timeline);
    int rc = timeline_append(p->timeline, ids, at, NULL, NULL, error);
    while (!rc && at + 1 < p->chunk) {
        uint32_t n = p->chunk - 1 - at < p->rows_room ? p->chunk - 1 - at : p->rows_room;
        rc = timeline_append(p->timeline, ids + at, n, p->rows, NULL, error);
        for (uint32_t i = 0; !rc && i < n; i++) rc = score_row(p, p->rows + i * n_vocab, ids[at + i + 1], error);
        at += n;
    }
    if (!rc && console_signal()) rc = error_set(error, ERROR_CANCELLED, "Stopped.");
    return rc;
}

static int open_references(struct perplexity *p, struct error *error)
{
    struct reference_head head = {.n_vocab = engine_info(p->engine)->n_vocab,
                                  .chunk = p->chunk,
                                  .n_tokens = (uint32_t)p->ids.count,
                                  .n_scored = p->n_chunks * p->scored_in_chunk};
    int rc = p->options->kl ? reference_open(&p->kl, p->options->kl, &head, p->ids.ids, error) : 0;
    if (!rc && p->options->save) rc = reference_create(&p->save, p->options->save, &head, p->ids.ids, error);
    return rc;
}

static int score_text(struct perplexity *p, struct error *error)
{
    const struct engine_info *info = engine_info(p->engine);
    p->scored_in_chunk = p->chunk - 1 - p->chunk / 2;
    p->rows_room = p->scored_in_chunk < info->batch ? p->scored_in_chunk : info->batch;
    p->rows = malloc((size_t)p->rows_room * info->n_vocab * sizeof *p->rows);
    p->other = malloc((size_t)info->n_vocab * sizeof *p->other);
    if (!p->rows || !p->other)
        return error_set(error, ERROR_FAILED, "Out of memory for the logits of %u tokens.", p->rows_room);
    int rc = open_references(p, error);
    clock_gettime(CLOCK_MONOTONIC, &p->start);
    for (uint32_t i = 0; !rc && i < p->n_chunks; i++) {
        rc = score_chunk(p, p->ids.ids + (size_t)i * p->chunk, error);
        if (!rc) show_progress(p, i + 1);
    }
    progress_clear();
    return !rc && p->save ? reference_finish(&p->save, error) : rc;
}

/* ------------------------------------------------------------------------------------------------- figures */

struct figures {
    double ppl, ppl_error, agreed, agreed_error;
};

static struct figures figures_of(const struct perplexity *p)
{
    double n = (double)p->loss.count, share = (double)p->agreed / n, ppl = exp(p->loss.value);
    return (struct figures){.ppl = ppl,
                            .ppl_error = ppl * mean_error(&p->loss),
                            .agreed = share,
                            .agreed_error = n > 1 ? sqrt(share * (1 - share) / (n - 1)) : (double)NAN};
}

static void print_figures(const struct perplexity *p)
{
    struct figures f = figures_of(p);
    printf("perplexity       %.4f +- %.4f  (%zu tokens scored of %zu, chunks of %u)\n", f.ppl, f.ppl_error,
           p->loss.count, p->ids.count, p->chunk);
    if (!p->kl) return;
    printf("KL divergence    %.6f +- %.6f  (largest %.4f)\n", p->divergence.value, mean_error(&p->divergence),
           p->worst);
    printf("ln perplexity    %+.6f +- %.6f  against the reference\n", p->excess.value, mean_error(&p->excess));
    printf("same top token   %.3f %% +- %.3f\n", 100 * f.agreed, 100 * f.agreed_error);
}

static void print_json(const struct perplexity *p)
{
    const struct engine_info *info = engine_info(p->engine);
    struct figures f = figures_of(p);
    struct json j = {0};
    json_open(&j, NULL, '{');
    json_text(&j, "model", info->model_name);
    json_text(&j, "device", info->device_name);
    json_text(&j, "device_id", info->device_id);
    json_uint(&j, "text_bytes", p->text_bytes);
    json_uint(&j, "text_tokens", p->text_tokens);
    json_uint(&j, "chunk", p->chunk);
    json_uint(&j, "tokens", p->ids.count);
    json_uint(&j, "scored", p->loss.count);
    json_real(&j, "perplexity", f.ppl);
    json_real(&j, "perplexity_error", f.ppl_error);
    if (p->kl) {
        json_real(&j, "kl", p->divergence.value);
        json_real(&j, "kl_error", mean_error(&p->divergence));
        json_real(&j, "kl_largest", p->worst);
        json_real(&j, "ln_perplexity_difference", p->excess.value);
        json_real(&j, "ln_perplexity_difference_error", mean_error(&p->excess));
        json_real(&j, "same_top", f.agreed);
        json_real(&j, "same_top_error", f.agreed_error);
    }
    json_uint(&j, "validation_messages", info->validation_messages);
    json_close(&j, '}');
    json_send(&j);
    json_free(&j);
}

static int open_model(struct perplexity *p, const struct settings *s, struct error *error)
{
    struct model_usage usage = {.settings = s, .params = settings_engine(s), .need = p->chunk};
    usage.params.context = p->chunk;
    int rc = model_use(&p->engine, &usage, error);
    return rc ? rc : timeline_create(&p->timeline, p->engine, error);
}

static int run(struct perplexity *p, const struct settings *s, const char *path, struct error *error)
{
    int rc = console_catch_signals(error);
    if (!rc) rc = open_model(p, s, error);
    if (!rc) rc = tokenize(p, path, error);
    if (!rc) rc = score_text(p, error);
    if (!rc && p->options->json)
        print_json(p);
    else if (!rc)
        print_figures(p);
    reference_close(&p->save);
    reference_close(&p->kl);
    timeline_destroy(&p->timeline);
    engine_close(&p->engine);
    token_list_free(&p->ids);
    free(p->rows);
    free(p->other);
    return rc;
}

int cmd_perplexity(int argc, char **argv)
{
    struct settings settings;
    struct perplexity_options options = {0};
    struct error error = {0};
    int status, rc;
    if (!command_begin(&settings, &perplexity_usage, &options, &argc, argv, &status)) return status;
    struct perplexity p = {.options = &options, .chunk = options.chunk};
    if (argc == 3) settings.model = argv[1];
    if (argc < 2 || argc > 3)
        rc = error_set(&error, ERROR_USAGE, "perplexity takes a model and a text file.");
    else if (options.chunk < 4)
        rc = error_set(&error, ERROR_USAGE, "--chunk: at least 4 tokens are needed to score any.");
    else
        rc = run(&p, &settings, argv[argc - 1], &error);
    if (rc) console_error(&error);
    if (console_signal()) rc = console_signal_status(console_signal());
    settings_free(&settings);
    return console_finish(rc);
}
