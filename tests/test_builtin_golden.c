/* SPDX-License-Identifier: MIT
 *
 * The built-in model against its golden file: greedy answers to a few questions over a part of the sample document, and
 * the eight best logits of some rows, all made by the cpu in f32. Made anew for another model with
 *   test_builtin_golden make > tests/golden_builtin.txt
 * A line of the file: "prompt ID...", "answer ID..." (with the token that ends it), "row POSITION ID:LOGIT...".
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "app/prompt.h"
#include "tests/on_devices.h"

enum { SKIPPED = 77, MOST_TOKENS = 1024, MOST_ANSWER = 64, BEST = 8, ROWS = 4, SAMPLE_BYTES = 1800 };

static const char model_path[] = "models/lectern-mini.gguf", golden_path[] = "tests/golden_builtin.txt";

struct asked {
    uint32_t ids[MOST_TOKENS];
    size_t n_prompt, n; /* the answer lies behind the prompt */
};

struct opened {
    struct engine *engine;
    struct timeline *timeline;
    uint32_t n_vocab;
};

static void open_model(struct opened *o, const char *device)
{
    struct error error = {0};
    const struct engine_params params = {
        .model = model_path, .device = device, .context = MOST_TOKENS, .rows_dtype = ENGINE_F32};
    if (engine_open(&o->engine, &params, &error) || timeline_create(&o->timeline, o->engine, &error))
        fail_msg("%s: %s", device, error.text);
    o->n_vocab = engine_info(o->engine)->n_vocab;
}

static void close_model(struct opened *o)
{
    timeline_destroy(&o->timeline);
    engine_close(&o->engine);
}

static uint32_t best_id(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* ------------------------------------------------------------------------------------------------------- checking */

/* How far a row may be from the golden one, and the lead that the best logit needs for the choice to be checked. */
static double tolerance(void)
{
    return on_cpu() ? 1e-3 : 5e-2;
}

static size_t read_list(const char *text, uint32_t *ids, size_t room)
{
    size_t n = 0;
    char *end;
    for (unsigned long id = strtoul(text, &end, 10); end != text; id = strtoul(text, &end, 10)) {
        assert_true(n < room);
        ids[n++] = (uint32_t)id;
        text = end;
    }
    return n;
}

/* [n][n_vocab]: the rows of the prompt and the answer. */
static float *evaluate(struct opened *o, const struct asked *a)
{
    struct error error = {0};
    float *rows = malloc(a->n * o->n_vocab * sizeof *rows);
    assert_non_null(rows);
    timeline_clear(o->timeline);
    if (timeline_append(o->timeline, a->ids, a->n, rows, NULL, &error)) fail_msg("%s", error.text);
    return rows;
}

static void check_answer(const struct opened *o, const struct asked *a, const float *rows)
{
    for (size_t i = a->n_prompt; i < a->n; i++) {
        const float *row = rows + (i - 1) * o->n_vocab;
        uint32_t best = best_id(row, o->n_vocab);
        if (best != a->ids[i] && (double)row[best] - (double)row[a->ids[i]] > 2 * tolerance())
            fail_msg("token %zu of the answer: %u, not %u", i - a->n_prompt, best, a->ids[i]);
    }
}

static void check_row(const struct opened *o, const struct asked *a, const float *rows, const char *line)
{
    size_t at;
    int used, count = 0;
    uint32_t id;
    float want;
    assert_int_equal(sscanf(line, "row %zu%n", &at, &used), 1);
    assert_true(at < a->n);
    for (line += used; sscanf(line, " %u:%f%n", &id, &want, &used) == 2; line += used, count++) {
        assert_true(id < o->n_vocab);
        double off = fabs((double)rows[at * o->n_vocab + id] - (double)want);
        if (!(off <= tolerance())) fail_msg("row %zu, token %u: %.4f off", at, id, off);
    }
    assert_int_equal(count, BEST);
}

static void golden_answers(void **state)
{
    (void)state;
    struct opened o = {0};
    struct asked a = {0};
    char line[16 * MOST_TOKENS];
    float *rows = NULL;
    size_t answers = 0;
    FILE *f = fopen(golden_path, "r");
    assert_non_null(f);
    open_model(&o, test_device);
    while (fgets(line, sizeof line, f)) {
        if (!strncmp(line, "prompt ", 7)) {
            free(rows);
            rows = NULL;
            a.n = a.n_prompt = read_list(line + 7, a.ids, MOST_TOKENS - MOST_ANSWER);
        } else if (!strncmp(line, "answer ", 7)) {
            a.n = a.n_prompt + read_list(line + 7, a.ids + a.n_prompt, MOST_ANSWER);
            rows = evaluate(&o, &a);
            check_answer(&o, &a, rows);
            answers++;
        } else {
            assert_non_null(rows);
            check_row(&o, &a, rows, line);
        }
    }
    free(rows);
    fclose(f);
    close_model(&o);
    assert_true(answers >= 4);
}

/* --------------------------------------------------------------------------------------------------------- making */

static void print_row(const struct opened *o, const float *row, size_t at)
{
    uint32_t ids[BEST];
    printf("row %zu", at);
    for (size_t k = 0; k < BEST; k++) {
        ids[k] = UINT32_MAX;
        for (uint32_t i = 0; i < o->n_vocab; i++) {
            bool taken = false;
            for (size_t j = 0; j < k; j++) taken |= ids[j] == i;
            if (!taken && (ids[k] == UINT32_MAX || row[i] > row[ids[k]])) ids[k] = i;
        }
        printf(" %u:%.5f", ids[k], (double)row[ids[k]]);
    }
    printf("\n");
}

static int make_prompt(const struct opened *o, const char *document, const char *question, struct asked *a,
                       struct error *error)
{
    struct token_list ids = {0};
    struct worker_document d = {.name = "sample.txt", .text = document, .text_len = strlen(document)};
    int rc = prompt_prefix(o->engine, NULL, &d, 1, &ids, error);
    if (!rc) rc = prompt_question(o->engine, question, strlen(question), PROMPT_ON_DOCUMENTS, &ids, error);
    if (!rc && ids.count > MOST_TOKENS - MOST_ANSWER) rc = error_set(error, ERROR_INPUT, "The prompt is too long.");
    if (!rc) memcpy(a->ids, ids.ids, ids.count * sizeof *ids.ids);
    a->n = a->n_prompt = ids.count;
    token_list_free(&ids);
    return rc;
}

static int make_answer(struct opened *o, struct asked *a, struct error *error)
{
    timeline_clear(o->timeline);
    int rc = timeline_append(o->timeline, a->ids, a->n, NULL, NULL, error);
    while (!rc && a->n < a->n_prompt + MOST_ANSWER) {
        uint32_t id = best_id(timeline_logits(o->timeline), o->n_vocab);
        a->ids[a->n++] = id;
        if (engine_is_stop(o->engine, id)) break;
        rc = timeline_append(o->timeline, &id, 1, NULL, NULL, error);
    }
    return rc;
}

static void print_ids(const char *what, const uint32_t *ids, size_t n)
{
    printf("%s", what);
    for (size_t i = 0; i < n; i++) printf(" %u", ids[i]);
    printf("\n");
}

static int make(void)
{
    static const char *const questions[] = {"What is the locker code of Ada?", "What does it say about submarines?",
                                            "Quote the sentence that mentions the lemon.",
                                            "How does the document begin?"};
    static char sample[SAMPLE_BYTES + 1];
    struct opened o = {0};
    struct error error = {0};
    FILE *f = fopen("docs/sample.txt", "r");
    if (!f || fread(sample, 1, SAMPLE_BYTES, f) != SAMPLE_BYTES) return 1;
    fclose(f);
    const char *document = strstr(sample, "Wednesday.");
    if (!document) return 1;
    open_model(&o, "cpu");
    int rc = 0;
    for (size_t q = 0; !rc && q < sizeof questions / sizeof *questions; q++) {
        struct asked a = {0};
        rc = make_prompt(&o, document, questions[q], &a, &error);
        if (!rc) rc = make_answer(&o, &a, &error);
        if (rc) break;
        float *rows = evaluate(&o, &a);
        print_ids("prompt", a.ids, a.n_prompt);
        print_ids("answer", a.ids + a.n_prompt, a.n - a.n_prompt);
        const size_t at[ROWS] = {a.n_prompt / 3, a.n_prompt * 2 / 3, a.n_prompt - 1, a.n - 2};
        for (size_t i = 0; i < ROWS; i++) print_row(&o, rows + at[i] * o.n_vocab, at[i]);
        free(rows);
    }
    if (rc) fprintf(stderr, "%s\n", error.text);
    close_model(&o);
    return rc;
}

static int group(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_answers)};
    return cmocka_run_group_tests_name(test_device, tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    if (access(model_path, R_OK)) {
        printf("skipped: no built-in model in this checkout\n");
        return SKIPPED;
    }
    if (argc > 1 && !strcmp(argv[1], "make")) return make();
    return for_each_device(group);
}
