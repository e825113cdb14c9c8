/* SPDX-License-Identifier: MIT
 *
 * The walk, and the matcher of the kimi-k2 pattern (pretokenize.h). Every match_* function takes a place in the text
 * and returns where its alternative ends when it matches there, else the place itself; backtracking is spelled out, and
 * no alternative reads more than a constant number of times what the match and the run after it hold.
 */
#include "engine/pretokenize_internal.h"

#include "engine/unicode_tables.h"
#include "engine/utf8.h"

enum { CLASS_WORD = UNICODE_LETTER | UNICODE_NUMBER, CLASS_ANY_WORD = CLASS_WORD | UNICODE_SPACE };

struct character {
    uint32_t code;  /* UTF8_INVALID: a stray byte */
    unsigned class; /* bits of enum unicode_class */
    size_t end;     /* where the next one starts */
};

static struct character read_character(const struct pretokenizer *p, size_t at)
{
    unsigned char byte = (unsigned char)p->text[at];
    if (byte < 0x80) return (struct character){byte, unicode_class(byte), at + 1};
    uint32_t code;
    size_t n = utf8_decode(p->text + at, p->cut - at, &code);
    return (struct character){code, code == UTF8_INVALID ? 0 : unicode_class(code), at + n};
}

static bool is_newline(struct character c)
{
    return c.code == '\r' || c.code == '\n';
}

/* The end of the run of characters that have one of the class bits, at most `most` of them. */
static size_t skip_class(const struct pretokenizer *p, size_t at, unsigned class, unsigned most)
{
    for (; at < p->cut && most > 0; most--) {
        struct character c = read_character(p, at);
        if (!(c.class & class)) break;
        at = c.end;
    }
    return at;
}

static size_t skip_newlines(const struct pretokenizer *p, size_t at)
{
    while (at < p->cut && (p->text[at] == '\r' || p->text[at] == '\n')) at++;
    return at;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)? U+017F, the long s, folds to s; nothing else outside ASCII folds to these letters. */
static size_t skip_contraction(const struct pretokenizer *p, size_t at)
{
    size_t left = p->cut - at;
    const char *text = p->text + at;
    if (left < 2 || text[0] != '\'') return at;
    char first = (char)(text[1] | 0x20);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
    if (left < 3) return at;
    if (text[1] == '\xC5' && text[2] == '\xBF') return at + 3;
    char second = (char)(text[2] | 0x20);
    bool is_long =
        (first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l');
    return is_long ? at + 3 : at;
}

/* [HEAD]*[TAIL]+: when nothing after the greedy run of HEAD is TAIL, the run gives back characters down to its last
 * one that is both. */
static size_t match_head_tail(const struct pretokenizer *p, size_t at)
{
    size_t start = at, last_both = at;
    bool has_both = false;
    while (at < p->cut) {
        struct character c = read_character(p, at);
        if (!(c.class & UNICODE_HEAD)) break;
        if (c.class & UNICODE_TAIL) {
            has_both = true;
            last_both = at;
        }
        at = c.end;
    }
    size_t end = skip_class(p, at, UNICODE_TAIL, UINT32_MAX);
    if (end > at) return end;
    return has_both ? skip_class(p, last_both, UNICODE_TAIL, UINT32_MAX) : start;
}

/* [HEAD]+[TAIL]* */
static size_t match_head(const struct pretokenizer *p, size_t at)
{
    size_t end = skip_class(p, at, UNICODE_HEAD, UINT32_MAX);
    return end > at ? skip_class(p, end, UNICODE_TAIL, UINT32_MAX) : at;
}

/* Alternatives 2 and 3: `core` with the optional character in front, then without it. */
static size_t match_word(const struct pretokenizer *p, size_t at, size_t (*core)(const struct pretokenizer *, size_t))
{
    struct character c = read_character(p, at);
    if (!(c.class & CLASS_WORD) && !is_newline(c)) {
        size_t end = core(p, c.end);
        if (end > c.end) return skip_contraction(p, end);
    }
    size_t end = core(p, at);
    return end > at ? skip_contraction(p, end) : at;
}

/* Alternative 5. */
static size_t match_symbols(const struct pretokenizer *p, size_t at)
{
    size_t start = p->text[at] == ' ' ? at + 1 : at, end = start;
    while (end < p->cut) {
        struct character c = read_character(p, end);
        if (c.class & CLASS_ANY_WORD) break;
        end = c.end;
    }
    return end > start ? skip_newlines(p, end) : at;
}

/* Alternatives 6, 7 and 8 share the run of space: up to its last newline; else, when something follows, all but its
 * last character; else all of it. */
static size_t match_space(const struct pretokenizer *p, size_t at)
{
    size_t end = at, last = at, after_newline = at;
    while (end < p->cut) {
        struct character c = read_character(p, end);
        if (!(c.class & UNICODE_SPACE)) break;
        last = end;
        end = c.end;
        if (is_newline(c)) after_newline = end;
    }
    if (after_newline > at) return after_newline;
    return end < p->cut && last > at ? last : end;
}

static size_t match_piece(const struct pretokenizer *p, size_t at)
{
    size_t end = skip_class(p, at, UNICODE_HAN, UINT32_MAX);
    if (end == at) end = match_word(p, at, match_head_tail);
    if (end == at) end = match_word(p, at, match_head);
    if (end == at) end = skip_class(p, at, UNICODE_NUMBER, 3);
    if (end == at) end = match_symbols(p, at);
    if (end == at) end = match_space(p, at);
    return end;
}

/* What Moonshot's run cutter takes for space: Python's str.isspace(), which knows four separators more than \s. */
static bool is_run_space(struct character c)
{
    return (c.class & UNICODE_SPACE) != 0 || (c.code >= 0x1C && c.code <= 0x1F);
}

/* The end of the part that starts at p->at: where a run grows too long, else the end of the text. */
static size_t find_cut(struct pretokenizer *p)
{
    unsigned run = 0;
    bool was_space = false;
    p->cut = p->len;
    for (size_t at = p->at; at < p->len;) {
        struct character c = read_character(p, at);
        bool is_space = is_run_space(c);
        run = is_space == was_space ? run + 1 : 1;
        was_space = is_space;
        if (run > PRETOKENIZE_MAX_RUN) return at;
        at = c.end;
    }
    return p->len;
}

bool pretokenizer_next(struct pretokenizer *p, const char **piece, size_t *n)
{
    if (p->at >= p->len) return false;
    size_t end;
    if (p->kind == PRETOKENIZE_DEEPSEEK_LLM) {
        end = pretokenize_deepseek(p);
    } else {
        if (p->at >= p->cut) p->cut = find_cut(p);
        end = match_piece(p, p->at);
    }
    *piece = p->text + p->at;
    *n = end - p->at;
    p->at = end;
    return true;
}
