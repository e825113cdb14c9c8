/* SPDX-License-Identifier: MIT
 *
 * Drawing into a rectangle of the screen. Everything goes through text_cell, so nothing that could steer the terminal
 * is ever written, and nothing leaves its rectangle. Coordinates are the area's own.
 */
#ifndef LECTERN_APP_DRAW_H
#define LECTERN_APP_DRAW_H

#include "app/term.h"
#include "app/text.h"

struct area {
    struct terminal *terminal;
    int y, x, height, width; /* on the screen */
};

/* s[0, len) from (y, x) on; what does not fit is left out. Returns the column after it. A newline ends it. */
int draw_text(const struct area *, int y, int x, enum style, const char *s, size_t len);
/* The same for one formatted line. */
#if defined(__GNUC__)
__attribute__((format(printf, 5, 6)))
#endif
int draw_format(const struct area *, int y, int x, enum style, const char *format, ...);
/* The row in one style: text at the left and at the right (either may be NULL); left gives way. */
void draw_row(const struct area *, int y, enum style, const char *left, const char *right);
/* A horizontal line with a text at its right end (may be NULL). */
void draw_rule(const struct area *, int y, enum style, const char *right);
void draw_divider(const struct area *, int x); /* vertical, the height of the area */
/* share 0..1, `columns` wide */
void draw_bar(const struct area *, int y, int x, int columns, double share);
/* Restyles `columns` cells that are there already. */
void draw_mark(const struct area *, int y, int x, int columns, enum style);
/* Where the hardware cursor is to stand. */
void draw_cursor(const struct area *, int y, int x);

#endif
