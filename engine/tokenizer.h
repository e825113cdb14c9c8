/* SPDX-License-Identifier: MIT
 *
 * The tokenizer: byte-level BPE behind one of the pre-tokenisers of pretokenize.h, read from a model file or from a
 * tiktoken vocabulary (kimi-k2). Read-only once open.
 *
 * A token is ordinary (it stands for bytes), special (it has a name, and no text becomes it) or unused (neither).
 * Merge order. With `tokenizer.ggml.merges` a pair joins as the list says, and a pre-token which is itself a token is
 * taken whole only if the merges lead there. Without it the lowest id of the joined bytes goes first, and a pre-token
 * that is a token is always taken whole: tiktoken's rule. For a vocabulary whose ids are merge ranks both are the same.
 */
#ifndef LECTERN_ENGINE_TOKENIZER_H
#define LECTERN_ENGINE_TOKENIZER_H

#include "engine/engine.h"
#include "quant/gguf.h"

struct tokenizer;

enum tokenizer_mark { /* the specials the program itself needs; from MARK_END on those of Kimi's chat template */
                      MARK_BOS,
                      MARK_EOS,
                      MARK_EOT,
                      MARK_END,
                      MARK_USER,
                      MARK_ASSISTANT,
                      MARK_SYSTEM,
                      MARK_MIDDLE,
                      N_MARKS,
};

/* From a model file's metadata. ERROR_MODEL, with what is wrong, for whatever is broken or missing: counts, types,
 * token texts, merges, ids, the specials of the chat template. */
int tokenizer_open(struct tokenizer **out, const struct gguf *file, struct error *error);

struct tokenizer_special {
    uint32_t id;
    const char *name;
};

/* From a tiktoken file: a line each of base64, a space, and the rank, which is the id; ranks run from 0. Specials
 * follow, at ids of their own beyond the last rank; ids between are unused. add_bos is false. */
int tokenizer_open_tiktoken(struct tokenizer **out, const char *path, const struct tokenizer_special *specials,
                            size_t n_specials, struct error *error);

void tokenizer_close(struct tokenizer **); /* accepts NULL and half-built */

uint32_t tokenizer_n_vocab(const struct tokenizer *);
bool tokenizer_add_bos(const struct tokenizer *); /* a prompt starts with [BOS] */

/* Appends the tokens of text[0, len); on an error the list is as it was. Specials are not looked for. A byte that the
 * vocabulary has no token for (none of UTF-8) is read as U+FFFD. */
int tokenizer_encode(const struct tokenizer *, const char *text, size_t len, struct token_list *out,
                     struct error *error);

/* As engine_token_bytes, engine_special_name and engine_is_stop; an id out of range has no bytes and no name. */
const char *tokenizer_bytes(const struct tokenizer *, uint32_t id, size_t *len);
const char *tokenizer_special_name(const struct tokenizer *, uint32_t id);
bool tokenizer_is_stop(const struct tokenizer *, uint32_t id);

/* The chat template, known by its shape in tokenizer.chat_template; where that is absent or unknown, by the
 * pre-tokeniser. */
enum chat_form {
    CHAT_KIMI,     /* <|im_ROLE|>ROLE<|im_middle|>text<|im_end|>, nothing between turns */
    CHAT_DEEPSEEK, /* "text\n\n", "User: text\n\n", "Assistant: text" and the token of the end; [BOS] before all */
};
enum chat_form tokenizer_chat(const struct tokenizer *);
/* A sentence when the template was guessed, else NULL. */
const char *tokenizer_chat_note(const struct tokenizer *);

/* The id of a special; false when the file has none of that name. */
bool tokenizer_find_special(const struct tokenizer *, const char *name, uint32_t *id);
/* The same for the program's own. Those of the chat template are always there, [BOS] when add_bos. The end of an answer
 * is MARK_END of Kimi's template and MARK_EOS of DeepSeek's. */
bool tokenizer_mark(const struct tokenizer *, enum tokenizer_mark mark, uint32_t *id);

#endif
