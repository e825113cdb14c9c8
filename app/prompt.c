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

/* All documents as one text, each ended by a blank line. */
static int join_documents(const struct worker_document *documents, size_t count, char **text, size_t *len,
                          struct error *error)
{
    static const char heading[] = "File: ";
    size_t size = 1;
    for (size_t i = 0; i < count; i++) size += documents[i].text_len + strlen(documents[i].name) + sizeof heading + 4;
    *text = malloc(size);
    if (!*text) return error_set(error, ERROR_FAILED, "Out of memory.");
    char *at = *text;
    for (size_t i = 0; i < count; i++) {
        const struct worker_document *d = &documents[i];
        size_t n = d->text_len;
        while (n && is_space(d->text[n - 1])) n--;
        if (count > 1) {
            at = put(at, heading, sizeof heading - 1);
            at = put(at, d->name, strlen(d->name));
            at = put(at, "\n\n", 2);
        }
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
    if (!rc) rc = engine_tokenize(engine, text, len, out, error);
    free(text);
    return rc;
}

int prompt_question(const struct engine *engine, const char *question, size_t len, bool is_first,
                    struct token_list *out, struct error *error)
{
    trim(&question, &len);
    if (!len) return error_set(error, ERROR_USAGE, "The question is empty.");
    int rc = is_first ? 0 : chat_open(engine, CHAT_USER, out, error);
    if (!rc) rc = engine_tokenize(engine, question, len, out, error);
    if (!rc) rc = chat_close(engine, out, error);
    if (!rc) rc = chat_open(engine, CHAT_ASSISTANT, out, error);
    return rc;
}

int prompt_answer(const struct engine *engine, const char *answer, size_t len, struct token_list *out,
                  struct error *error)
{
    int rc = engine_tokenize(engine, answer, len, out, error);
    return rc ? rc : chat_close(engine, out, error);
}
