/* SPDX-License-Identifier: MIT
 *
 * The engine's token and chat functions (engine.h): the tokenizer and the template of the model it holds.
 */
#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "engine/tokenizer.h"
#include "engine/turns.h"

int engine_tokenize(const struct engine *engine, const char *text, size_t len, struct token_list *out,
                    struct error *error)
{
    return tokenizer_encode(engine_tokenizer(engine), text, len, out, error);
}

const char *engine_token_bytes(const struct engine *engine, uint32_t id, size_t *len)
{
    return tokenizer_bytes(engine_tokenizer(engine), id, len);
}

const char *engine_special_name(const struct engine *engine, uint32_t id)
{
    return tokenizer_special_name(engine_tokenizer(engine), id);
}

bool engine_is_stop(const struct engine *engine, uint32_t id)
{
    return tokenizer_is_stop(engine_tokenizer(engine), id);
}

int chat_begin(const struct engine *engine, struct token_list *out, struct error *error)
{
    return turns_begin(engine_tokenizer(engine), out, error);
}

int chat_open(const struct engine *engine, enum chat_role role, struct token_list *out, struct error *error)
{
    return turns_open(engine_tokenizer(engine), role, out, error);
}

int chat_text(const struct engine *engine, enum chat_role role, const char *text, size_t len, struct token_list *out,
              struct error *error)
{
    return turns_text(engine_tokenizer(engine), role, text, len, out, error);
}

int chat_close(const struct engine *engine, enum chat_role role, struct token_list *out, struct error *error)
{
    return turns_close(engine_tokenizer(engine), role, out, error);
}

const char *chat_note(const struct engine *engine)
{
    return tokenizer_chat_note(engine_tokenizer(engine));
}

int chat_turn(const struct engine *engine, enum chat_role role, const char *text, size_t len, struct token_list *out,
              struct error *error)
{
    size_t count = out->count;
    int rc = chat_open(engine, role, out, error);
    if (rc == 0) rc = chat_text(engine, role, text, len, out, error);
    if (rc == 0) rc = chat_close(engine, role, out, error);
    if (rc) out->count = count;
    return rc;
}
