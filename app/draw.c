/* SPDX-License-Identifier: MIT
 *
 * Cells onto ncurses' screen (draw.h).
 */
#include "app/draw.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void put(const struct area *area, int y, int x, enum style style, const wchar_t *chars)
{
    const struct style_look look = term_look(area->terminal, style);
    cchar_t cell;
    if (setcchar(&cell, chars, look.attributes, look.pair, NULL) == OK) mvadd_wch(area->y + y, area->x + x, &cell);
}

static void put_run(const struct area *area, int y, int x, int end, enum style style, const wchar_t *chars)
{
    for (; x < end && x < area->width; x++) put(area, y, x, style, chars);
}

int draw_text(const struct area *area, int y, int x, enum style style, const char *s, size_t len)
{
    if (y < 0 || y >= area->height) return x;
    const int origin = x;
    for (size_t at = 0; at < len && s[at] != '\n';) {
        struct text_cell cell;
        text_cell(s + at, len - at, &cell);
        at += cell.bytes;
        if (cell.columns == 0) continue;
        if (cell.chars[0] == L'\t') {
            const int end = x + TEXT_TAB - (x - origin) % TEXT_TAB;
            put_run(area, y, x, end, style, L" ");
            x = end;
            continue;
        }
        if (x + cell.columns > area->width) break;
        put(area, y, x, style, cell.chars);
        x += cell.columns;
    }
    return x;
}

int draw_format(const struct area *area, int y, int x, enum style style, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    return draw_text(area, y, x, style, line, strlen(line));
}

void draw_row(const struct area *area, int y, enum style style, const char *left, const char *right)
{
    put_run(area, y, 0, area->width, style, L" ");
    int room = area->width;
    if (right && *right) {
        const int columns = text_columns(right, strlen(right), 0);
        if (columns + 1 < room) {
            draw_text(area, y, room - columns - 1, style, right, strlen(right));
            room -= columns + 2;
        }
    }
    struct area narrow = *area;
    narrow.width = room;
    if (left) draw_text(&narrow, y, 1, style, left, strlen(left));
}

void draw_rule(const struct area *area, int y, enum style style, const char *right)
{
    if (y < 0 || y >= area->height) return;
    put_run(area, y, 0, area->width, style, L"\u2500");
    if (!right || !*right) return;
    const int columns = text_columns(right, strlen(right), 0);
    const int x = area->width - columns - 4;
    if (x < 0) return;
    put_run(area, y, x, x + columns + 2, style, L" ");
    draw_text(area, y, x + 1, style, right, strlen(right));
}

void draw_divider(const struct area *area, int x)
{
    for (int y = 0; y < area->height; y++) put(area, y, x, STYLE_DIM, L"\u2502");
}

void draw_bar(const struct area *area, int y, int x, int columns, double share)
{
    const int full = (int)(share * columns + 0.5);
    put_run(area, y, x, x + full, STYLE_GOOD, L"\u2588");
    put_run(area, y, x + full, x + columns, STYLE_DIM, L"\u2591");
}

void draw_mark(const struct area *area, int y, int x, int columns, enum style style)
{
    const struct style_look look = term_look(area->terminal, style);
    if (x >= area->width) return;
    if (x + columns > area->width) columns = area->width - x;
    mvchgat(area->y + y, area->x + x, columns, look.attributes, look.pair, NULL);
}

void draw_cursor(const struct area *area, int y, int x)
{
    if (x >= area->width) x = area->width - 1;
    move(area->y + y, area->x + x);
    area->terminal->shows_cursor = true;
}
