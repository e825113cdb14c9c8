/* SPDX-License-Identifier: MIT
 *
 * A text one can scroll in: help, messages.
 */
#ifndef LECTERN_APP_PAGER_H
#define LECTERN_APP_PAGER_H

#include "app/draw.h"

struct pager {
    struct text_block text; /* the first column of a row may be a style mark: see PAGER_STRONG */
    size_t top;             /* row */
    int height;             /* as last drawn */
};
#define PAGER_STRONG '\001' /* at the start of a logical line: shown strong, itself not shown */

void pager_clear(struct pager *);
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void pager_add(struct pager *, const char *format, ...); /* a line; what does not fit in memory is left out */
void pager_draw(struct pager *, const struct area *);
bool pager_act(struct pager *, int action); /* the scrolling ones */
void pager_free(struct pager *);

#endif
