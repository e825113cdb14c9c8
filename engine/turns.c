/* SPDX-License-Identifier: MIT
 *
 * The chat template (turns.h).
 */
#include "engine/turns.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    enum tokenizer_mark mark;
    const char *name;
} roles[] = {
    [CHAT_SYSTEM] = {MARK_SYSTEM, "system"},
    [CHAT_USER] = {MARK_USER, "user"},
    [CHAT_ASSISTANT] = {MARK_ASSISTANT, "assistant"},
};

static int push_mark(const struct tokenizer *t, enum tokenizer_mark mark, struct token_list *out, struct error *error)
{
    uint32_t id;
    if (!tokenizer_mark(t, mark, &id)) return error_set(error, ERROR_MODEL, "The model has no chat template tokens.");
    return token_list_push(out, id, error);
}

static int push_text(const struct tokenizer *t, const char *text, struct token_list *out, struct error *error)
{
    return tokenizer_encode(t, text, strlen(text), out, error);
}

int turns_begin(const struct tokenizer *t, struct token_list *out, struct error *error)
{
    uint32_t id;
    const bool has_bos =
        tokenizer_add_bos(t) || (tokenizer_chat(t) == CHAT_DEEPSEEK && tokenizer_mark(t, MARK_BOS, &id));
    return has_bos ? push_mark(t, MARK_BOS, out, error) : 0;
}

/* DeepSeek's: "User:" and the text after a space, which belongs to the text's first token (turns_text). */
static int open_plain(const struct tokenizer *t, enum chat_role role, struct token_list *out, struct error *error)
{
    if (role == CHAT_SYSTEM) return 0;
    return push_text(t, role == CHAT_USER ? "User:" : "Assistant:", out, error);
}

int turns_open(const struct tokenizer *t, enum chat_role role, struct token_list *out, struct error *error)
{
    size_t count = out->count;
    if (tokenizer_chat(t) == CHAT_DEEPSEEK) return open_plain(t, role, out, error);
    int rc = push_mark(t, roles[role].mark, out, error);
    if (rc == 0) rc = push_text(t, roles[role].name, out, error);
    if (rc == 0) rc = push_mark(t, MARK_MIDDLE, out, error);
    if (rc) out->count = count;
    return rc;
}

int turns_text(const struct tokenizer *t, enum chat_role role, const char *text, size_t len, struct token_list *out,
               struct error *error)
{
    /* What a model answered begins with the space already. */
    const bool is_after_space = role == CHAT_ASSISTANT && len && (*text == ' ' || *text == '\n');
    if (tokenizer_chat(t) != CHAT_DEEPSEEK || role == CHAT_SYSTEM || is_after_space)
        return tokenizer_encode(t, text, len, out, error);
    char *spaced = len < SIZE_MAX ? malloc(len + 1) : NULL;
    if (!spaced) return error_set(error, ERROR_FAILED, "Out of memory for a turn.");
    *spaced = ' ';
    if (len) memcpy(spaced + 1, text, len);
    int rc = tokenizer_encode(t, spaced, len + 1, out, error);
    free(spaced);
    return rc;
}

int turns_close(const struct tokenizer *t, enum chat_role role, struct token_list *out, struct error *error)
{
    if (tokenizer_chat(t) == CHAT_KIMI) return push_mark(t, MARK_END, out, error);
    if (role == CHAT_ASSISTANT) return push_mark(t, MARK_EOS, out, error);
    return push_text(t, "\n\n", out, error);
}
