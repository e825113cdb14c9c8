/* SPDX-License-Identifier: MIT
 *
 * Logical lines into rows (text.h).
 */
#include "app/text.h"

#include <stdlib.h>
#include <string.h>

static int rows_push(struct text_rows *rows, size_t start, size_t end, struct error *error)
{
    if (rows->count == rows->capacity) {
        const size_t capacity = rows->capacity ? 2 * rows->capacity : 16;
        struct text_row *items = realloc(rows->items, capacity * sizeof *items);
        if (!items) return error_set(error, ERROR_FAILED, "Out of memory while wrapping text.");
        rows->items = items;
        rows->capacity = capacity;
    }
    rows->items[rows->count++] = (struct text_row){.start = start, .end = end};
    return 0;
}

void text_rows_free(struct text_rows *rows)
{
    free(rows->items);
    *rows = (struct text_rows){0};
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool in_list(const wchar_t *list, wchar_t c)
{
    return c && wcschr(list, c);
}

/* Closing marks that do not begin a row, opening ones that do not end it. */
static bool may_begin(wchar_t c)
{
    return !in_list(L"\u3001\u3002\uff0c\uff0e\uff01\uff1f\uff1a\uff1b\u300d\u300f\uff09\u3011\u300b\u3009\u3015"
                    L"\u2019\u201d\u2026\u30fc\u3005,.!?:;)]}'\"",
                    c);
}
static bool may_end(wchar_t c)
{
    return !in_list(L"\u300c\u300e\uff08\u3010\u300a\u3008\u3014\u2018\u201c([{'\"", c);
}

/* May a row end between these two cells? */
static bool is_break(const struct text_cell *before, const struct text_cell *after)
{
    const wchar_t a = before->chars[0], b = after->chars[0];
    if (a == L' ' || a == L'\t') return b != L' ' && b != L'\t';
    if (b == L' ' || b == L'\t') return false; /* blanks stay with the row they end */
    if (before->columns == 2 || after->columns == 2) return may_begin(b) && may_end(a);
    return a == L'-' && b != L'-' && (b > 0x7f || (b >= L'A' && b <= L'Z') || (b >= L'a' && b <= L'z'));
}

struct wrapper {
    struct text_rows *rows;
    const char *s;
    size_t len, base;
    int width;
    size_t start;   /* of the row being filled */
    size_t split;   /* last place where it may end; = start when there is none */
    int x, split_x; /* columns up to here, and up to split */
};

static int row_end(struct wrapper *w, size_t end, struct error *error)
{
    size_t shown = end;
    while (shown > w->start && is_blank(w->s[shown - 1])) shown--;
    return rows_push(w->rows, w->base + w->start, w->base + shown, error);
}

/* The grapheme [at, next) did not fit. */
static int wrapper_break(struct wrapper *w, size_t at, struct error *error)
{
    const bool at_split = w->split > w->start;
    const size_t end = at_split ? w->split : at;
    const int rc = row_end(w, end, error);
    if (rc) return rc;
    w->x = at_split ? w->x - w->split_x : 0;
    w->start = w->split = end;
    w->split_x = 0;
    return 0;
}

int text_wrap_line(struct text_rows *rows, const char *s, size_t len, size_t base, int width, struct error *error)
{
    struct wrapper w = {.rows = rows, .s = s, .len = len, .base = base, .width = width < 2 ? 2 : width};
    struct text_cell before = {.columns = 0};
    for (size_t at = 0; at < len;) {
        struct text_cell cell;
        text_cell(s + at, len - at, &cell);
        const size_t next = text_next(s, len, at);
        if (at > w.start && is_break(&before, &cell)) {
            w.split = at;
            w.split_x = w.x;
        }
        const int columns = text_columns(s + at, next - at, w.x);
        if (w.x + columns > w.width && at > w.start && !is_blank(s[at])) {
            const int rc = wrapper_break(&w, at, error);
            if (rc) return rc;
            continue; /* measured again: a long word may have to be cut once more */
        }
        w.x += columns;
        before = cell;
        at = next;
    }
    return row_end(&w, len, error);
}

int text_wrap(struct text_rows *rows, const char *s, size_t len, int width, struct error *error)
{
    for (size_t at = 0;;) {
        const char *newline = len > at ? memchr(s + at, '\n', len - at) : NULL;
        const size_t end = newline ? (size_t)(newline - s) : len;
        const int rc = text_wrap_line(rows, s + at, end - at, at, width, error);
        if (rc || !newline) return rc;
        at = end + 1;
    }
}

size_t text_row_at(const struct text_rows *rows, size_t offset)
{
    size_t low = 0, high = rows->count;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (rows->items[middle].start <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* ------------------------------------------------------------------------------------------------ blocks */

int text_block_append(struct text_block *block, const char *s, size_t len, struct error *error)
{
    if (block->len + len + 1 > block->capacity) {
        size_t capacity = block->capacity ? block->capacity : 64;
        while (capacity < block->len + len + 1) capacity *= 2;
        char *text = realloc(block->text, capacity);
        if (!text) return error_set(error, ERROR_FAILED, "Out of memory while keeping text.");
        block->text = text;
        block->capacity = capacity;
    }
    if (len) memcpy(block->text + block->len, s, len);
    block->len += len;
    block->text[block->len] = '\0';
    return 0;
}

int text_block_wrap(struct text_block *block, int width, struct error *error)
{
    if (block->width == width && block->wrapped == block->len && block->rows.count) return 0;
    if (block->width != width || !block->rows.count) {
        block->line_start = 0;
        block->line_row = 0;
    }
    block->rows.count = block->line_row;
    size_t at = block->line_start;
    for (;;) {
        const char *newline = block->len > at ? memchr(block->text + at, '\n', block->len - at) : NULL;
        const size_t end = newline ? (size_t)(newline - block->text) : block->len;
        block->line_start = at;
        block->line_row = block->rows.count;
        const char *line = block->text ? block->text + at : "";
        const int rc = text_wrap_line(&block->rows, line, end - at, at, width, error);
        if (rc) {
            block->width = 0;
            return rc;
        }
        if (!newline) break;
        at = end + 1;
    }
    block->width = width;
    block->wrapped = block->len;
    return 0;
}

void text_block_free(struct text_block *block)
{
    free(block->text);
    text_rows_free(&block->rows);
    *block = (struct text_block){0};
}
