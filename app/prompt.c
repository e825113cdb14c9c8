/* SPDX-License-Identifier: MIT
 *
 * Documents, questions and answers -> tokens.
 */
#include "app/prompt.h"

#include <stdlib.h>
#include <string.h>

const char prompt_system_text[] = "You are a reading assistant. Answer from the document and quote it.";

static bool is_space(char c)
{
    return c && strchr(" \t\n\v\f\r", c);
}

static void trim(const char **text, size_t *len)
{
    while (*len && is_space((*text)[*len - 1])) --*len;
    while (*len && is_space(**text)) ++*text, --*len;
}

static char *put(char *at, const char *bytes, size_t n)
{
    if (n) memcpy(at, bytes, n);
    return at + n;
}

/* What stands before document i: the first one's name is told when a second comes, so that the first lies the same
 * alone and in company, and adding a document changes nothing before it. */
static int put_heading(const struct worker_document *documents, size_t i, char *out, size_t cap)
{
    if (!i) return 0;
    if (i > 1) return snprintf(out, cap, "File: %s\n\n", documents[i].name);
    return snprintf(out, cap, "(The text above is %s.)\n\nFile: %s\n\n", documents[0].name, documents[1].name);
}

/* All documents as one text, each ended by a blank line. */
static int join_documents(const struct worker_document *documents, size_t count, char **text, size_t *len,
                          struct error *error)
{
    size_t size = 1;
    for (size_t i = 0; i < count; i++) size += documents[i].text_len + 2 * strlen(documents[i].name) + 64;
    *text = malloc(size);
    if (!*text) return error_set(error, ERROR_FAILED, "Out of memory.");
    char *at = *text;
    for (size_t i = 0; i < count; i++) {
        const struct worker_document *d = &documents[i];
        size_t n = d->text_len;
        while (n && is_space(d->text[n - 1])) n--;
        at += put_heading(documents, i, at, size - (size_t)(at - *text));
        at = put(at, d->text, n);
        at = put(at, "\n\n", 2);
    }
    *len = (size_t)(at - *text);
    return 0;
}

int prompt_prefix(const struct engine *engine, const char *system_text, const struct worker_document *documents,
                  size_t count, struct token_list *out, struct error *error)
{
    if (!system_text) system_text = prompt_system_text;
    char *text = NULL;
    size_t len = 0;
    int rc = join_documents(documents, count, &text, &len, error);
    if (!rc) rc = chat_begin(engine, out, error);
    if (!rc) rc = chat_turn(engine, CHAT_SYSTEM, system_text, strlen(system_text), out, error);
    if (!rc) rc = chat_open(engine, CHAT_USER, out, error);
    if (!rc && len) rc = chat_text(engine, CHAT_USER, text, len, out, error);
    free(text);
    return rc;
}

int prompt_question(const struct engine *engine, const char *question, size_t len, enum prompt_place place,
                    struct token_list *out, struct error *error)
{
    trim(&question, &len);
    if (!len) return error_set(error, ERROR_USAGE, "The question is empty.");
    int rc = place == PROMPT_LATER ? chat_open(engine, CHAT_USER, out, error) : 0;
    if (!rc && place == PROMPT_ON_DOCUMENTS) rc = engine_tokenize(engine, question, len, out, error);
    if (!rc && place != PROMPT_ON_DOCUMENTS) rc = chat_text(engine, CHAT_USER, question, len, out, error);
    if (!rc) rc = chat_close(engine, CHAT_USER, out, error);
    if (!rc) rc = chat_open(engine, CHAT_ASSISTANT, out, error);
    return rc;
}

int prompt_answer(const struct engine *engine, const char *answer, size_t len, struct token_list *out,
                  struct error *error)
{
    int rc = chat_text(engine, CHAT_ASSISTANT, answer, len, out, error);
    return rc ? rc : chat_close(engine, CHAT_ASSISTANT, out, error);
}

/* ------------------------------------------------------------------------------------------------ kept turns */

/* The tokens around the words. */
static int frame_turn(const struct engine *engine, const struct prompt_turn *t, struct token_list *before,
                      struct token_list *after, struct error *error)
{
    int rc = t->is_question && t->place == PROMPT_LATER ? chat_open(engine, CHAT_USER, before, error) : 0;
    if (!rc) rc = chat_close(engine, t->is_question ? CHAT_USER : CHAT_ASSISTANT, after, error);
    return !rc && t->is_question ? chat_open(engine, CHAT_ASSISTANT, after, error) : rc;
}

/* Whether the pieces of the ids, as they stream, make up the text. */
static int spell(const struct engine *engine, const uint32_t *ids, size_t n, const struct prompt_turn *t, bool *same,
                 struct error *error)
{
    struct utf8_stream stream = {0};
    size_t at = 0;
    *same = true;
    for (size_t i = 0; *same && i <= n; i++) {
        size_t n_bytes = 0;
        const char *bytes = i < n ? engine_token_bytes(engine, ids[i], &n_bytes) : NULL;
        char *out = malloc(n_bytes * 3 + 4);
        if (!out) return error_set(error, ERROR_FAILED, "Out of memory.");
        size_t got = i < n ? utf8_stream_push(&stream, bytes, n_bytes, out) : utf8_stream_end(&stream, out);
        *same = got <= t->len - at && !memcmp(out, t->text + at, got);
        if (*same) at += got;
        free(out);
    }
    *same = *same && at == t->len;
    return 0;
}

static bool ids_are(const uint32_t *ids, const struct token_list *list)
{
    return !list->count || !memcmp(ids, list->ids, list->count * sizeof *ids);
}

static int turn_fits(const struct engine *engine, const struct prompt_turn *t, bool *fits, struct error *error)
{
    struct token_list before = {0}, after = {0};
    size_t n_vocab = engine_info(engine)->n_vocab;
    int rc = frame_turn(engine, t, &before, &after, error);
    *fits = !rc && t->n_ids >= before.count + after.count;
    for (size_t i = 0; *fits && i < t->n_ids; i++) *fits = t->ids[i] < n_vocab;
    *fits = *fits && ids_are(t->ids, &before) && ids_are(t->ids + t->n_ids - after.count, &after);
    size_t n = *fits ? t->n_ids - before.count - after.count : 0;
    if (*fits) rc = spell(engine, t->ids + before.count, n, t, fits, error);
    token_list_free(&before);
    token_list_free(&after);
    return rc;
}

int prompt_kept_turn(const struct engine *engine, const struct prompt_turn *turn, struct token_list *out,
                     struct error *error)
{
    struct prompt_turn t = *turn;
    bool fits;
    if (t.is_question) trim(&t.text, &t.len);
    int rc = turn_fits(engine, &t, &fits, error);
    if (rc) return rc;
    if (fits) return token_list_append(out, t.ids, t.n_ids, error);
    return t.is_question ? prompt_question(engine, t.text, t.len, t.place, out, error)
                         : prompt_answer(engine, t.text, t.len, out, error);
}
