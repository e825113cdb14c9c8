/* SPDX-License-Identifier: MIT
 *
 * The chat template over a tokenizer (tokenizer.h, enum chat_form): what engine.h's chat_* do, for those who have no
 * engine.
 */
#ifndef LECTERN_ENGINE_TURNS_H
#define LECTERN_ENGINE_TURNS_H

#include "engine/tokenizer.h"

/* All append to out; on an error the list is as it was. */
int turns_begin(const struct tokenizer *, struct token_list *out,
                struct error *error); /* [BOS], if the model wants it */
int turns_open(const struct tokenizer *, enum chat_role role, struct token_list *out, struct error *error);
int turns_text(const struct tokenizer *, enum chat_role role, const char *text, size_t len, struct token_list *out,
               struct error *error);
int turns_close(const struct tokenizer *, enum chat_role role, struct token_list *out, struct error *error);

#endif
