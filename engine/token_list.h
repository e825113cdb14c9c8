/* SPDX-License-Identifier: MIT
 *
 * Inside the engine: room in a token_list ahead of writing into it.
 */
#ifndef LECTERN_ENGINE_TOKEN_LIST_H
#define LECTERN_ENGINE_TOKEN_LIST_H

#include "engine/engine.h"

/* Makes room for `more` ids after those there: ids[count, count + more) may be written. */
int token_list_reserve(struct token_list *, size_t more, struct error *error);

#endif
