/* SPDX-License-Identifier: MIT
 *
 * The chat template (turns.h).
 */
#include "engine/turns.h"

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

int turns_begin(const struct tokenizer *t, struct token_list *out, struct error *error)
{
    return tokenizer_add_bos(t) ? push_mark(t, MARK_BOS, out, error) : 0;
}

int turns_open(const struct tokenizer *t, enum chat_role role, struct token_list *out, struct error *error)
{
    size_t count = out->count;
    int rc = push_mark(t, roles[role].mark, out, error);
    if (rc == 0) rc = tokenizer_encode(t, roles[role].name, strlen(roles[role].name), out, error);
    if (rc == 0) rc = push_mark(t, MARK_MIDDLE, out, error);
    if (rc) out->count = count;
    return rc;
}

int turns_close(const struct tokenizer *t, struct token_list *out, struct error *error)
{
    return push_mark(t, MARK_END, out, error);
}
