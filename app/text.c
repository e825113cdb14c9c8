/* SPDX-License-Identifier: MIT
 *
 * Cells, columns and grapheme steps (text.h).
 */
#include "app/text.h"

#include <utf8proc.h>

#include "app/sanitize.h"

#define REPLACEMENT 0xfffd
#define JOINER 0x200d

/* One code point of s[0, len); broken bytes are taken one at a time. */
static size_t decode(const char *s, size_t len, int32_t *code_point)
{
    const unsigned char first = (unsigned char)s[0];
    if (first < 0x80) {
        *code_point = first;
        return 1;
    }
    utf8proc_int32_t cp = -1;
    const utf8proc_ssize_t most = len < 4 ? (utf8proc_ssize_t)len : 4;
    const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s, most, &cp);
    if (n < 1) {
        *code_point = REPLACEMENT;
        return 1;
    }
    *code_point = cp;
    return (size_t)n;
}

/* What stands on the screen for a character that is not shown as it is. */
static int32_t shown(int32_t cp)
{
    if (cp == '\t' || sanitize_is_safe((uint32_t)cp)) return cp;
    if (cp < 0x20) return 0x2400 + cp;
    return cp == 0x7f ? 0x2421 : REPLACEMENT;
}

static int width_of(int32_t cp)
{
    if (cp >= 0x20 && cp < 0x7f) return 1;
    if (cp == '\t') return 1;
    const int width = wcwidth((wchar_t)cp);
    return width < 0 ? 1 : width;
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f;
}
static bool is_skin_tone(int32_t cp)
{
    return cp >= 0x1f3fb && cp <= 0x1f3ff;
}
static bool is_selector(int32_t cp)
{
    return cp == 0xfe0e || cp == 0xfe0f;
}

/* Takes the marks that follow a base character; n characters are in the cell already. */
static void take_marks(const char *s, size_t len, unsigned n, struct text_cell *cell)
{
    const bool is_wide = cell->columns == 2;
    while (cell->bytes < len) {
        int32_t cp;
        const size_t step = decode(s + cell->bytes, len - cell->bytes, &cp);
        if (is_skin_tone(cp) && is_wide) {
            cell->bytes += step;
            continue;
        }
        cp = shown(cp);
        if (cp == '\t' || width_of(cp) != 0) break;
        cell->bytes += step;
        if (is_selector(cp) || (cp == JOINER && is_wide) || n > TEXT_MARKS) continue;
        cell->chars[n++] = (wchar_t)cp;
    }
    cell->chars[n] = 0;
}

void text_cell(const char *s, size_t len, struct text_cell *out)
{
    if (is_plain((unsigned char)s[0]) && (len == 1 || (unsigned char)s[1] < 0x80)) {
        *out = (struct text_cell){.chars = {(wchar_t)s[0]}, .columns = 1, .bytes = 1};
        return;
    }
    int32_t cp;
    *out = (struct text_cell){.bytes = decode(s, len, &cp)};
    cp = shown(cp);
    out->columns = width_of(cp);
    if (out->columns == 0) return; /* a mark without a base */
    if (out->columns > 0 && wcwidth((wchar_t)cp) < 0 && cp != '\t') cp = REPLACEMENT;
    out->chars[0] = (wchar_t)cp;
    if (cp == '\t') return;
    take_marks(s, len, 1, out);
}

int text_columns(const char *s, size_t len, int x)
{
    const int start = x;
    for (size_t at = 0; at < len;) {
        struct text_cell cell;
        text_cell(s + at, len - at, &cell);
        x += cell.chars[0] == L'\t' ? TEXT_TAB - x % TEXT_TAB : cell.columns;
        at += cell.bytes;
    }
    return x - start;
}

size_t text_fit(const char *s, size_t len, int columns)
{
    size_t at = 0;
    for (int x = 0; at < len;) {
        const size_t next = text_next(s, len, at);
        x += text_columns(s + at, next - at, x);
        if (x > columns) break;
        at = next;
    }
    return at;
}

size_t text_next(const char *s, size_t len, size_t at)
{
    if (at >= len) return len;
    int32_t before;
    at += decode(s + at, len - at, &before);
    utf8proc_int32_t state = 0;
    while (at < len) {
        if (before >= 0x20 && before < 0x7f && (unsigned char)s[at] < 0x80) break;
        int32_t cp;
        const size_t step = decode(s + at, len - at, &cp);
        if (utf8proc_grapheme_break_stateful(before, cp, &state)) break;
        before = cp;
        at += step;
    }
    return at;
}

/* Grapheme rules look back without bound only along marks, flags and joined emoji; starting this many bytes earlier, at
 * a plain character or the text's start, is enough. */
static size_t safe_start(const char *s, size_t at)
{
    size_t from = at > 0 ? at - 1 : 0;
    while (from > 0 && !(is_plain((unsigned char)s[from]) || s[from] == '\n')) from--;
    return from;
}

size_t text_prev(const char *s, size_t len, size_t at)
{
    if (at > len) at = len;
    size_t last = safe_start(s, at);
    for (size_t next = last; next < at; next = text_next(s, len, next)) last = next;
    return last;
}

static bool is_word(const char *s, size_t len, size_t at)
{
    int32_t cp;
    decode(s + at, len - at, &cp);
    switch (utf8proc_category(cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return true;
    default:
        return false;
    }
}

size_t text_word_end(const char *s, size_t len, size_t at)
{
    while (at < len && !is_word(s, len, at)) at = text_next(s, len, at);
    while (at < len && is_word(s, len, at)) at = text_next(s, len, at);
    return at;
}

size_t text_word_start(const char *s, size_t len, size_t at)
{
    while (at > 0 && !is_word(s, len, text_prev(s, len, at))) at = text_prev(s, len, at);
    while (at > 0 && is_word(s, len, text_prev(s, len, at))) at = text_prev(s, len, at);
    return at;
}

int32_t text_fold(int32_t code_point)
{
    if (code_point < 0x80) return code_point >= 'A' && code_point <= 'Z' ? code_point + 32 : code_point;
    return utf8proc_tolower(code_point);
}

/* Does pattern stand at s[at]? *end gets where it stops. */
static bool matches(const char *s, size_t len, size_t at, const char *pattern, size_t *end)
{
    while (*pattern) {
        if (at >= len) return false;
        int32_t a, b;
        size_t pattern_left = 1;
        while (pattern_left < 4 && pattern[pattern_left]) pattern_left++;
        at += decode(s + at, len - at, &a);
        pattern += decode(pattern, pattern_left, &b);
        if (text_fold(a) != text_fold(b)) return false;
    }
    *end = at;
    return true;
}

size_t text_find(const char *s, size_t len, size_t from, const char *pattern, size_t *end)
{
    if (!*pattern) return SIZE_MAX;
    for (size_t at = from; at < len; at++) {
        if (((unsigned char)s[at] & 0xc0) == 0x80) continue;
        if (matches(s, len, at, pattern, end)) return at;
    }
    return SIZE_MAX;
}
