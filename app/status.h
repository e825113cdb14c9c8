/* SPDX-License-Identifier: MIT
 *
 * The three lines around the panes: what can be seen (top), the last message or the keys (above the bottom), the state
 * of everything (bottom).
 */
#ifndef LECTERN_APP_STATUS_H
#define LECTERN_APP_STATUS_H

#include "app/view.h"

void status_draw_header(struct tui *, const struct area *screen);
void status_draw_message(struct tui *, const struct area *screen);
void status_draw_line(struct tui *, const struct area *screen);

#endif
