/* SPDX-License-Identifier: MIT
 *
 * Text on a grid of cells. Three measures of the same UTF-8:
 *   - a grapheme is what the cursor steps over and what is never cut (utf8proc, UAX 29);
 *   - a cell is what ncurses puts at one place: a base character with its marks, one or two columns wide;
 *   - columns are counted with the C library's wcwidth, as ncurses itself does, so that the two never drift apart.
 * Emoji joined by U+200D are shown side by side and skin tones and variation selectors are left out: terminals disagree
 * about the width of the composed forms, and agree on that of the parts.
 *
 * Wrapping: a logical line (up to '\n') becomes rows of at most `width` columns, broken after blanks, around wide
 * characters, else inside the word. Offsets are bytes. Nothing here draws.
 */
#ifndef LECTERN_APP_TEXT_H
#define LECTERN_APP_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wchar.h>

#include "quant/error.h"

#define TEXT_TAB 4
#define TEXT_MARKS 4 /* most marks on a base character that are shown; further ones are left out */

struct text_cell {
    wchar_t chars[TEXT_MARKS + 2]; /* base, marks, 0; empty when nothing is shown */
    int columns;                   /* 0, 1 or 2 */
    size_t bytes;                  /* of the text it stands for; at least 1 */
};

/* The cell at s[0, len), len > 0. A tab is returned as itself with columns 1: the caller knows where it stands. Unsafe
 * characters come out as sanitize.h shows them. */
void text_cell(const char *s, size_t len, struct text_cell *out);
/* Columns of s[0, len) when it starts in column x. */
int text_columns(const char *s, size_t len, int x);
/* Bytes of the longest run of whole graphemes of s[0, len) that fits into `columns`. */
size_t text_fit(const char *s, size_t len, int columns);

/* The grapheme boundary after or before `at`; len or 0 at the ends. */
size_t text_next(const char *s, size_t len, size_t at);
size_t text_prev(const char *s, size_t len, size_t at);
/* The end of the word at or after `at`, the start of the word before it (letters and digits of any script). */
size_t text_word_end(const char *s, size_t len, size_t at);
size_t text_word_start(const char *s, size_t len, size_t at);
/* Simple case folding of one code point. */
int32_t text_fold(int32_t code_point);
/* First match of pattern at or after `from`, ignoring case; SIZE_MAX when there is none. *end gets the match's end. */
size_t text_find(const char *s, size_t len, size_t from, const char *pattern, size_t *end);

/* ------------------------------------------------------------------------------------------------- rows */

struct text_row {
    size_t start, end; /* bytes shown; blanks at the break are outside */
};
struct text_rows {
    struct text_row *items;
    size_t count, capacity;
};
/* Appends the rows of a logical line (no '\n' in it): at least one. `base` is added to the offsets. */
int text_wrap_line(struct text_rows *, const char *s, size_t len, size_t base, int width, struct error *);
/* Appends the rows of text with newlines. */
int text_wrap(struct text_rows *, const char *s, size_t len, int width, struct error *);
/* The row that holds the byte `offset` (blanks at a break belong to the row before it). */
size_t text_row_at(const struct text_rows *, size_t offset);
void text_rows_free(struct text_rows *);

/* Text that grows at its end, wrapped: only its last logical line is wrapped again. Zero-initialise. */
struct text_block {
    char *text; /* NUL-terminated once anything was appended */
    size_t len, capacity;
    struct text_rows rows;
    int width;         /* the rows are for; 0 = none yet */
    size_t wrapped;    /* bytes the rows cover */
    size_t line_start; /* start of the last logical line wrapped */
    size_t line_row;   /* its first row */
};
int text_block_append(struct text_block *, const char *s, size_t len, struct error *);
/* Brings rows up to date for this width. */
int text_block_wrap(struct text_block *, int width, struct error *);
void text_block_free(struct text_block *);

#endif
