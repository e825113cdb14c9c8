/* SPDX-License-Identifier: MIT
 *
 * Copying a text, on the user's word only: wl-copy or xclip where a desktop is, else the terminal is asked (OSC 52),
 * which works over ssh and in tmux with set-clipboard on.
 */
#ifndef LECTERN_APP_CLIPBOARD_H
#define LECTERN_APP_CLIPBOARD_H

#include <stddef.h>

#include "quant/error.h"

/* *way gets how it went, for the message: "wl-copy", "xclip", "the terminal". */
int clipboard_copy(const char *text, size_t len, const char **way, struct error *);

#endif
