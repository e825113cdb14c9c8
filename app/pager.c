/* SPDX-License-Identifier: MIT
 *
 * Scrolling (pager.h).
 */
#include "app/pager.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "app/keys.h"

void pager_clear(struct pager *pager)
{
    text_block_free(&pager->text);
}

void pager_free(struct pager *pager)
{
    text_block_free(&pager->text);
    *pager = (struct pager){0};
}

void pager_add(struct pager *pager, const char *format, ...)
{
    char line[1200];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    strcat(line, "\n");
    text_block_append(&pager->text, line, strlen(line), NULL);
}

static size_t last_top(const struct pager *pager)
{
    const size_t rows = pager->text.rows.count ? pager->text.rows.count - 1 : 0; /* the last is empty */
    return rows > (size_t)pager->height ? rows - (size_t)pager->height : 0;
}

void pager_draw(struct pager *pager, const struct area *area)
{
    pager->height = area->height;
    if (text_block_wrap(&pager->text, area->width - 2, NULL)) return;
    if (pager->top > last_top(pager)) pager->top = last_top(pager);
    for (int y = 0; y < area->height && pager->top + (size_t)y < pager->text.rows.count; y++) {
        const struct text_row row = pager->text.rows.items[pager->top + (size_t)y];
        const char *s = pager->text.text + row.start;
        const bool is_strong = row.end > row.start && *s == PAGER_STRONG;
        draw_text(area, y, 1, is_strong ? STYLE_STRONG : STYLE_PLAIN, s + is_strong, row.end - row.start - is_strong);
    }
}

bool pager_act(struct pager *pager, int action)
{
    const size_t page = pager->height > 1 ? (size_t)pager->height - 1 : 1;
    const size_t step = action == ACTION_PAGE_UP || action == ACTION_PAGE_DOWN ? page : 1;
    switch (action) {
    case ACTION_UP:
    case ACTION_WHEEL_UP:
    case ACTION_PAGE_UP:
        pager->top = pager->top > step ? pager->top - step : 0;
        return true;
    case ACTION_DOWN:
    case ACTION_WHEEL_DOWN:
    case ACTION_PAGE_DOWN:
        pager->top += step; /* drawing keeps it in bounds */
        return true;
    case ACTION_TOP:
        pager->top = 0;
        return true;
    case ACTION_BOTTOM:
        pager->top = last_top(pager);
        return true;
    default:
        return false;
    }
}
