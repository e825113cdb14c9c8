/* SPDX-License-Identifier: MIT
 *
 * The open tokenizer: text to tokens, tokens to bytes and names (tokenizer.h).
 */
#include "engine/tokenizer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/token_list.h"
#include "engine/tokenizer_internal.h"

void tokenizer_close(struct tokenizer **tokenizer)
{
    struct tokenizer *t = *tokenizer;
    if (!t) return;
    bpe_free(&t->bpe);
    free(t->words);
    free(t->pool);
    free(t->tokens);
    free(t);
    *tokenizer = NULL;
}

uint32_t tokenizer_n_vocab(const struct tokenizer *t)
{
    return t->n_vocab;
}

bool tokenizer_add_bos(const struct tokenizer *t)
{
    return t->add_bos;
}

enum chat_form tokenizer_chat(const struct tokenizer *t)
{
    return t->chat;
}

const char *tokenizer_chat_note(const struct tokenizer *t)
{
    return t->chat_note;
}

static bool has_token(const struct tokenizer *t, char byte)
{
    return t->bpe.byte_token[(unsigned char)byte] != BPE_NONE;
}

static int encode_bytes(const struct tokenizer *t, const char *piece, size_t n, struct token_list *out,
                        struct error *error)
{
    uint32_t whole = vocab_find(t, piece, n);
    if (whole != BPE_NONE && t->tokens[whole].is_whole) return token_list_push(out, whole, error);
    int rc = token_list_reserve(out, n, error);
    if (rc) return rc;
    size_t count = 0;
    rc = bpe_merge(&t->bpe, piece, n, out->ids + out->count, &count, error);
    if (rc == 0) out->count += count;
    return rc;
}

/* Each byte that the vocabulary lacks becomes U+FFFD. */
static int encode_replaced(const struct tokenizer *t, const char *piece, size_t n, struct token_list *out,
                           struct error *error)
{
    static const char replacement[] = {'\xEF', '\xBF', '\xBD'};
    char *text = n < SIZE_MAX / 3 ? malloc(3 * n) : NULL;
    size_t len = 0;
    if (!text) return error_set(error, ERROR_FAILED, "Out of memory for a word of %zu bytes.", n);
    for (size_t i = 0; i < n; i++) {
        const bool is_known = has_token(t, piece[i]);
        memcpy(text + len, is_known ? piece + i : replacement, is_known ? 1 : sizeof replacement);
        len += is_known ? 1 : sizeof replacement;
    }
    int rc = encode_bytes(t, text, len, out, error);
    free(text);
    return rc;
}

static int encode_piece(const struct tokenizer *t, const char *piece, size_t n, struct token_list *out,
                        struct error *error)
{
    for (size_t i = 0; t->lacks_bytes && i < n; i++)
        if (!has_token(t, piece[i])) return encode_replaced(t, piece, n, out, error);
    return encode_bytes(t, piece, n, out, error);
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, struct token_list *out,
                     struct error *error)
{
    struct pretokenizer walk = {.text = text, .len = len, .kind = t->pre};
    size_t count = out->count, n;
    const char *piece;
    while (pretokenizer_next(&walk, &piece, &n)) {
        int rc = encode_piece(t, piece, n, out, error);
        if (rc) {
            out->count = count;
            return rc;
        }
    }
    return 0;
}

const char *tokenizer_bytes(const struct tokenizer *t, uint32_t id, size_t *len)
{
    bool has_bytes = id < t->n_vocab && t->tokens[id].kind == TOKEN_ORDINARY;
    *len = has_bytes ? t->tokens[id].len : 0;
    return has_bytes ? t->pool + t->tokens[id].at : "";
}

const char *tokenizer_special_name(const struct tokenizer *t, uint32_t id)
{
    if (id >= t->n_vocab || t->tokens[id].kind != TOKEN_SPECIAL) return NULL;
    return t->pool + t->tokens[id].at;
}

bool tokenizer_is_stop(const struct tokenizer *t, uint32_t id)
{
    return id < t->n_vocab && (id == t->marks[MARK_END] || id == t->marks[MARK_EOT] || id == t->marks[MARK_EOS]);
}

bool tokenizer_find_special(const struct tokenizer *t, const char *name, uint32_t *id)
{
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        if (t->tokens[i].kind != TOKEN_SPECIAL || strcmp(t->pool + t->tokens[i].at, name) != 0) continue;
        *id = i;
        return true;
    }
    return false;
}

bool tokenizer_mark(const struct tokenizer *t, enum tokenizer_mark mark, uint32_t *id)
{
    if (t->marks[mark] == BPE_NONE) return false;
    *id = t->marks[mark];
    return true;
}
