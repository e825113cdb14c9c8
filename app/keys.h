/* SPDX-License-Identifier: MIT
 *
 * The live key table: one row an action of a keymap, with its keys and what it does. Lookup, the hints and the help
 * page are all made from it. A view's own keymap comes before KEYMAP_ANY.
 */
#ifndef LECTERN_APP_KEYS_H
#define LECTERN_APP_KEYS_H

#include <stddef.h>

#include "app/editline.h"

/* A key: a Unicode character (controls included), or a function key of ncurses, with or without Alt. */
#define KEY_FUNCTION 0x1000000
#define KEY_META 0x2000000
#define KEY_FN(code) (KEY_FUNCTION | (code))
#define KEY_ALT(key) (KEY_META | (key))
#define KEY_CTRL(letter) ((letter)&0x1f)
#define KEY_ESCAPE 27

/* Codes for sequences that terminfo does not name (term.c binds them). */
enum {
    KEY_CTRL_LEFT = 0x2000,
    KEY_CTRL_RIGHT,
    KEY_CTRL_HOME,
    KEY_CTRL_END,
    KEY_SHIFT_ENTER,
    KEY_PASTE_BEGIN,
    KEY_PASTE_END,
};

enum keymap { KEYMAP_ANY, KEYMAP_CHAT, KEYMAP_READER, KEYMAP_LIBRARY, KEYMAP_PAGER, KEYMAP_COUNT };

enum action {
    ACTION_NONE,
    ACTION_HELP,
    ACTION_LIBRARY,
    ACTION_READER,
    ACTION_CHAT,
    ACTION_MESSAGES,
    ACTION_NEXT_PANE,
    ACTION_PREVIOUS_PANE,
    ACTION_INTERRUPT,
    ACTION_CANCEL,
    ACTION_REDRAW,
    ACTION_SUSPEND,
    ACTION_QUIT,
    ACTION_UP,
    ACTION_DOWN,
    ACTION_PAGE_UP,
    ACTION_PAGE_DOWN,
    ACTION_TOP,
    ACTION_BOTTOM,
    ACTION_SELECT,
    ACTION_NEWLINE,
    ACTION_COMPLETE,
    ACTION_HISTORY_SEARCH,
    ACTION_EDITOR,
    ACTION_DELETE_OR_QUIT,
    ACTION_SEARCH,
    ACTION_SEARCH_NEXT,
    ACTION_SEARCH_PREVIOUS,
    ACTION_NEXT_DOCUMENT,
    ACTION_PREVIOUS_DOCUMENT,
    ACTION_REMOVE,
    ACTION_WHEEL_UP, /* from the mouse, one row */
    ACTION_WHEEL_DOWN,
    ACTION_EDIT, /* + enum edit_op */
};

#define KEYS_PER_ROW 4
struct key_row {
    enum keymap map;
    int action;             /* enum action, or ACTION_EDIT + enum edit_op */
    int keys[KEYS_PER_ROW]; /* 0 ends */
    const char *help;
};

/* The table, for help; *count rows. Rows of a map stand together. */
const struct key_row *keys_table(size_t *count);
const char *keymap_name(enum keymap);
/* What a key does there: the map's own row, else KEYMAP_ANY's, else ACTION_NONE. */
int keys_find(enum keymap, int key);
/* "Ctrl-G", "Alt-Enter", "PgUp", "/" */
const char *keys_name(int key, char out[24]);
/* The first key of an action in a map, named; "" when it has none. */
const char *keys_name_of(enum keymap, int action, char out[24]);

#endif
