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

/* A row of s[start, end): blanks at its end are not shown. */
static int row_end(struct text_rows *rows, const char *s, size_t base, struct text_row row, struct error *error)
{
    while (row.end > row.start && is_blank(s[row.end - 1])) row.end--;
    return rows_push(rows, base + row.start, base + row.end, error);
}

int text_wrap_line(struct text_rows *rows, const char *s, size_t len, size_t base, int width, struct error *error)
{
    size_t start = 0,
           split = 0; /* of the row being filled; the last place where it may end, = start when there is none */
    struct text_cell before = {.columns = 0};
    if (width < 2) width = 2;
    for (size_t at = 0, x = 0; at < len;) {
        struct text_cell cell;
        text_cell(s + at, len - at, &cell);
        if (at > start && is_break(&before, &cell)) split = at;
        const size_t next = text_next(s, len, at);
        const size_t columns = (size_t)text_columns(s + at, next - at, (int)x);
        if (x + columns > (size_t)width && at > start && !(next - at == 1 && is_blank(s[at]))) {
            const size_t end = split > start ? split : at;
            const int rc = row_end(rows, s, base, (struct text_row){start, end}, error);
            if (rc) return rc;
            start = split = at = end; /* measured again from here: tabs stand elsewhere now */
            x = 0;
            continue;
        }
        x += columns;
        before = cell;
        at = next;
    }
    return row_end(rows, s, base, (struct text_row){start, len}, error);
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
