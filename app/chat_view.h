/* SPDX-License-Identifier: MIT
 *
 * The chat pane, shared by its two files: view_chat.c shows what was said, chat_input.c is the input below it.
 */
#ifndef LECTERN_APP_CHAT_VIEW_H
#define LECTERN_APP_CHAT_VIEW_H

#include "app/complete.h"
#include "app/view.h"

/* A row of the transcript. item 0 is what lies on the desk, item 1 + i is turn i, the last what goes on now. */
enum chat_row_kind { ROW_TEXT, ROW_DOCUMENT, ROW_BAR };
struct chat_row {
    enum chat_row_kind kind;
    enum style style;
    int indent;
    bool is_quoted;     /* first row of a question: gets its mark */
    bool in_scratch;    /* start, len are in chat_view.scratch, else in the turn's text */
    size_t item, order; /* order: the byte of the text, or its place among the item's other rows */
    size_t start, len;  /* ROW_DOCUMENT: start is the document */
    double share;       /* ROW_BAR */
};

enum chat_mode {
    CHAT_INPUT,
    CHAT_HISTORY, /* Ctrl-R */
    CHAT_REWIND,  /* choosing an earlier question */
};

struct chat_view {
    struct chat_row *rows;
    size_t n_rows, row_capacity;
    struct text_block scratch;        /* texts made for rows, this frame */
    bool follows;                     /* the end stays in sight */
    size_t top;                       /* first row shown */
    size_t anchor_item, anchor_order; /* the row at the top, so that it stays there when rows change */
    int height, width;                /* of the transcript as last drawn */

    struct editline input;
    int input_width;
    enum chat_mode mode;
    size_t keep;       /* the question is asked from this turn on; SIZE_MAX = at the end */
    size_t history_at; /* SIZE_MAX = not in the history */
    char *draft;       /* what was typed before going into the history */
    struct editline search;
    size_t found;  /* history index; SIZE_MAX = none */
    size_t chosen; /* turn index in CHAT_REWIND */
    int64_t escaped_at;
    struct completion completion;
};

/* view_chat.c */
void chat_scroll(struct chat_view *, long rows);
void chat_scroll_to_end(struct chat_view *);

/* chat_input.c */
int chat_input_rows(struct chat_view *, const struct area *pane); /* for the pane's size */
void chat_draw_input(struct tui *, const struct area *pane, int rows);
bool chat_act(struct tui *, int action);
bool chat_type(struct tui *, const char *s, size_t n);
void chat_hint(struct tui *, char *out, size_t cap);
void chat_take_returned(struct tui *); /* a question that failed goes back into an empty input */

#endif
