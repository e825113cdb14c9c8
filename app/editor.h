/* SPDX-License-Identifier: MIT
 *
 * The user's editor ($VISUAL, else $EDITOR, else vi) on a piece of text.
 */
#ifndef LECTERN_APP_EDITOR_H
#define LECTERN_APP_EDITOR_H

#include "app/term.h"

/* Gives the terminal to the editor and takes it back. *out: the text as it came out, NUL-terminated, free(). An editor
 * that fails is an error, and the text is as it was. */
int editor_edit(struct terminal *, const char *text, char **out, struct error *);

#endif
