/* SPDX-License-Identifier: MIT
 *
 * The input: a small text of several lines with readline's ways of editing. It knows no screen; keys.h maps keys to the
 * operations. The cursor is a byte offset and always stands between graphemes. Text put in is made safe first
 * (sanitize.h), so what stands here can be shown as it is.
 */
#ifndef LECTERN_APP_EDITLINE_H
#define LECTERN_APP_EDITLINE_H

#include "app/text.h"

#define EDITLINE_UNDO 64                /* steps kept */
#define EDITLINE_MOST ((size_t)1 << 20) /* bytes; a longer paste is refused whole */

enum edit_op {
    EDIT_LEFT,
    EDIT_RIGHT,
    EDIT_WORD_LEFT,
    EDIT_WORD_RIGHT,
    EDIT_LINE_START, /* of the logical line */
    EDIT_LINE_END,
    EDIT_BACKSPACE,
    EDIT_DELETE,
    EDIT_KILL_END, /* to the end of the line; at the end: the newline */
    EDIT_KILL_START,
    EDIT_KILL_BLANK_BACK, /* to the blank before, as Ctrl-W */
    EDIT_KILL_WORD_BACK,
    EDIT_KILL_WORD,
    EDIT_YANK,
    EDIT_TRANSPOSE,
    EDIT_UNDO,
};

struct edit_state {
    char *text;
    size_t len, cursor;
};

struct editline {
    char *text; /* NUL-terminated; NULL when nothing was ever put in */
    size_t len, capacity, cursor;
    char *killed;
    size_t killed_len;
    struct edit_state undo[EDITLINE_UNDO];
    size_t n_undo;
    bool is_typing; /* the last change was typed: the next typed character belongs to the same undo step */
};

/* Inserts at the cursor. */
int editline_insert(struct editline *, const char *s, size_t len, struct error *);
/* Replaces [from, cursor) by s: what a completion does. */
int editline_replace(struct editline *, size_t from, const char *s, size_t len, struct error *);
/* Replaces everything; the cursor goes to the end. */
int editline_set(struct editline *, const char *s, size_t len, struct error *);
int editline_do(struct editline *, enum edit_op, struct error *);
/* One row up (-1) or down (1) of the input as wrapped at `width`; false when there is none. */
bool editline_move_row(struct editline *, int direction, int width);
const char *editline_text(const struct editline *); /* never NULL */
void editline_free(struct editline *);

#endif
