/* SPDX-License-Identifier: MIT
 *
 * The table of keys (keys.h). A new key is one line here.
 */
#include "app/keys.h"

#include <ncurses.h>
#include <stdio.h>
#include <string.h>

#define EDIT(op) (ACTION_EDIT + (op))

static const struct key_row table[] = {
    {KEYMAP_ANY, ACTION_HELP, {KEY_FN(KEY_F(1))}, "these keys (? does too where nothing is being typed)"},
    {KEYMAP_ANY, ACTION_LIBRARY, {KEY_FN(KEY_F(2))}, "library: documents and sessions"},
    {KEYMAP_ANY, ACTION_READER, {KEY_FN(KEY_F(3))}, "reader: the text"},
    {KEYMAP_ANY, ACTION_CHAT, {KEY_FN(KEY_F(4))}, "chat"},
    {KEYMAP_ANY, ACTION_MESSAGES, {KEY_FN(KEY_F(5))}, "messages so far"},
    {KEYMAP_ANY, ACTION_NEXT_PANE, {'\t'}, "next pane"},
    {KEYMAP_ANY, ACTION_PREVIOUS_PANE, {KEY_FN(KEY_BTAB)}, "previous pane"},
    {KEYMAP_ANY,
     ACTION_INTERRUPT,
     {KEY_CTRL('C')},
     "stop reading or answering; else clear the input; else, twice, quit"},
    {KEYMAP_ANY, ACTION_CANCEL, {KEY_ESCAPE}, "cancel; twice in the chat: go back to an earlier question"},
    {KEYMAP_ANY, ACTION_REDRAW, {KEY_CTRL('L')}, "draw the screen anew"},
    {KEYMAP_ANY, ACTION_SUSPEND, {KEY_CTRL('Z')}, "suspend"},
    {KEYMAP_ANY, ACTION_QUIT, {KEY_CTRL('D'), KEY_FN(KEY_F(10))}, "quit"},

    {KEYMAP_CHAT, ACTION_SELECT, {'\r', KEY_FN(KEY_ENTER)}, "send (\\ before it: new line)"},
    {KEYMAP_CHAT, ACTION_NEWLINE, {KEY_ALT('\r'), KEY_CTRL('J'), KEY_FN(KEY_SHIFT_ENTER)}, "new line"},
    {KEYMAP_CHAT, ACTION_COMPLETE, {'\t'}, "complete a / command or a path; else next pane"},
    {KEYMAP_CHAT, ACTION_PAGE_UP, {KEY_FN(KEY_PPAGE)}, "scroll up"},
    {KEYMAP_CHAT, ACTION_PAGE_DOWN, {KEY_FN(KEY_NPAGE)}, "scroll down"},
    {KEYMAP_CHAT, ACTION_TOP, {KEY_FN(KEY_CTRL_HOME)}, "scroll to the beginning (Home too, with no input)"},
    {KEYMAP_CHAT, ACTION_BOTTOM, {KEY_FN(KEY_CTRL_END)}, "scroll to the end and follow it (End too, with no input)"},
    {KEYMAP_CHAT, ACTION_UP, {KEY_FN(KEY_UP), KEY_CTRL('P')}, "line up, or the question before"},
    {KEYMAP_CHAT, ACTION_DOWN, {KEY_FN(KEY_DOWN), KEY_CTRL('N')}, "line down, or the question after"},
    {KEYMAP_CHAT, ACTION_HISTORY_SEARCH, {KEY_CTRL('R')}, "search the questions asked before"},
    {KEYMAP_CHAT, ACTION_EDITOR, {KEY_CTRL('G')}, "edit the input in $VISUAL or $EDITOR"},
    {KEYMAP_CHAT, ACTION_DELETE_OR_QUIT, {KEY_CTRL('D')}, "delete the character; with no input, quit"},
    {KEYMAP_CHAT, EDIT(EDIT_LEFT), {KEY_FN(KEY_LEFT), KEY_CTRL('B')}, "left"},
    {KEYMAP_CHAT, EDIT(EDIT_RIGHT), {KEY_FN(KEY_RIGHT), KEY_CTRL('F')}, "right"},
    {KEYMAP_CHAT, EDIT(EDIT_WORD_LEFT), {KEY_ALT('b'), KEY_FN(KEY_CTRL_LEFT)}, "word left"},
    {KEYMAP_CHAT, EDIT(EDIT_WORD_RIGHT), {KEY_ALT('f'), KEY_FN(KEY_CTRL_RIGHT)}, "word right"},
    {KEYMAP_CHAT, EDIT(EDIT_LINE_START), {KEY_FN(KEY_HOME), KEY_CTRL('A')}, "start of the line"},
    {KEYMAP_CHAT, EDIT(EDIT_LINE_END), {KEY_FN(KEY_END), KEY_CTRL('E')}, "end of the line"},
    {KEYMAP_CHAT, EDIT(EDIT_BACKSPACE), {KEY_FN(KEY_BACKSPACE), 127, KEY_CTRL('H')}, "delete the character before"},
    {KEYMAP_CHAT, EDIT(EDIT_DELETE), {KEY_FN(KEY_DC)}, "delete the character"},
    {KEYMAP_CHAT, EDIT(EDIT_KILL_END), {KEY_CTRL('K')}, "cut to the end of the line"},
    {KEYMAP_CHAT, EDIT(EDIT_KILL_START), {KEY_CTRL('U')}, "cut to the start of the line"},
    {KEYMAP_CHAT, EDIT(EDIT_KILL_BLANK_BACK), {KEY_CTRL('W')}, "cut to the blank before"},
    {KEYMAP_CHAT, EDIT(EDIT_KILL_WORD_BACK), {KEY_ALT(127), KEY_ALT(KEY_CTRL('H'))}, "cut the word before"},
    {KEYMAP_CHAT, EDIT(EDIT_KILL_WORD), {KEY_ALT('d')}, "cut the word after"},
    {KEYMAP_CHAT, EDIT(EDIT_YANK), {KEY_CTRL('Y')}, "put back what was cut"},
    {KEYMAP_CHAT, EDIT(EDIT_TRANSPOSE), {KEY_CTRL('T')}, "swap two characters"},
    {KEYMAP_CHAT, EDIT(EDIT_UNDO), {KEY_CTRL('_')}, "undo"},

    {KEYMAP_READER, ACTION_UP, {KEY_FN(KEY_UP), 'k'}, "line up"},
    {KEYMAP_READER, ACTION_DOWN, {KEY_FN(KEY_DOWN), 'j'}, "line down"},
    {KEYMAP_READER, ACTION_PAGE_UP, {KEY_FN(KEY_PPAGE), 'b'}, "page up"},
    {KEYMAP_READER, ACTION_PAGE_DOWN, {KEY_FN(KEY_NPAGE), ' '}, "page down"},
    {KEYMAP_READER, ACTION_TOP, {KEY_FN(KEY_HOME), 'g'}, "beginning"},
    {KEYMAP_READER, ACTION_BOTTOM, {KEY_FN(KEY_END), 'G'}, "end"},
    {KEYMAP_READER, ACTION_SEARCH, {'/'}, "search"},
    {KEYMAP_READER, ACTION_SEARCH_NEXT, {'n'}, "next match"},
    {KEYMAP_READER, ACTION_SEARCH_PREVIOUS, {'N'}, "match before"},
    {KEYMAP_READER, ACTION_NEXT_DOCUMENT, {']'}, "next document"},
    {KEYMAP_READER, ACTION_PREVIOUS_DOCUMENT, {'['}, "document before"},
    {KEYMAP_READER, ACTION_HELP, {'?'}, "these keys"},
    {KEYMAP_READER, ACTION_CHAT, {'q'}, "back to the chat"},

    {KEYMAP_LIBRARY, ACTION_UP, {KEY_FN(KEY_UP), 'k'}, "line up"},
    {KEYMAP_LIBRARY, ACTION_DOWN, {KEY_FN(KEY_DOWN), 'j'}, "line down"},
    {KEYMAP_LIBRARY, ACTION_PAGE_UP, {KEY_FN(KEY_PPAGE)}, "page up"},
    {KEYMAP_LIBRARY, ACTION_PAGE_DOWN, {KEY_FN(KEY_NPAGE)}, "page down"},
    {KEYMAP_LIBRARY, ACTION_TOP, {KEY_FN(KEY_HOME), 'g'}, "first"},
    {KEYMAP_LIBRARY, ACTION_BOTTOM, {KEY_FN(KEY_END), 'G'}, "last"},
    {KEYMAP_LIBRARY, ACTION_SELECT, {'\r', KEY_FN(KEY_ENTER)}, "open the document or the session"},
    {KEYMAP_LIBRARY, ACTION_REMOVE, {KEY_FN(KEY_DC), 'd'}, "remove the session (press twice)"},
    {KEYMAP_LIBRARY, ACTION_HELP, {'?'}, "these keys"},
    {KEYMAP_LIBRARY, ACTION_CHAT, {'q'}, "back to the chat"},

    {KEYMAP_PAGER, ACTION_UP, {KEY_FN(KEY_UP), 'k'}, "line up"},
    {KEYMAP_PAGER, ACTION_DOWN, {KEY_FN(KEY_DOWN), 'j'}, "line down"},
    {KEYMAP_PAGER, ACTION_PAGE_UP, {KEY_FN(KEY_PPAGE), 'b'}, "page up"},
    {KEYMAP_PAGER, ACTION_PAGE_DOWN, {KEY_FN(KEY_NPAGE), ' '}, "page down"},
    {KEYMAP_PAGER, ACTION_TOP, {KEY_FN(KEY_HOME), 'g'}, "beginning"},
    {KEYMAP_PAGER, ACTION_BOTTOM, {KEY_FN(KEY_END), 'G'}, "end"},
    {KEYMAP_PAGER, ACTION_CANCEL, {'q', '?', '\r'}, "close"},
};

const struct key_row *keys_table(size_t *count)
{
    *count = sizeof table / sizeof *table;
    return table;
}

const char *keymap_name(enum keymap map)
{
    static const char *const names[KEYMAP_COUNT] = {
        [KEYMAP_ANY] = "Everywhere",          [KEYMAP_CHAT] = "Chat",
        [KEYMAP_READER] = "Reader",           [KEYMAP_LIBRARY] = "Library",
        [KEYMAP_PAGER] = "Help and messages",
    };
    return names[map];
}

static int find_in(enum keymap map, int key)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].map != map) continue;
        for (size_t k = 0; k < KEYS_PER_ROW && table[i].keys[k]; k++)
            if (table[i].keys[k] == key) return table[i].action;
    }
    return ACTION_NONE;
}

int keys_find(enum keymap map, int key)
{
    const int action = find_in(map, key);
    return action != ACTION_NONE ? action : find_in(KEYMAP_ANY, key);
}

static const char *function_name(int code)
{
    static const struct {
        int code;
        const char *name;
    } names[] = {
        {KEY_UP, "Up"},
        {KEY_DOWN, "Down"},
        {KEY_LEFT, "Left"},
        {KEY_RIGHT, "Right"},
        {KEY_PPAGE, "PgUp"},
        {KEY_NPAGE, "PgDn"},
        {KEY_HOME, "Home"},
        {KEY_END, "End"},
        {KEY_DC, "Del"},
        {KEY_BACKSPACE, "BkSp"},
        {KEY_ENTER, "Enter"},
        {KEY_BTAB, "Shift-Tab"},
        {KEY_CTRL_LEFT, "Ctrl-Left"},
        {KEY_CTRL_RIGHT, "Ctrl-Right"},
        {KEY_CTRL_HOME, "Ctrl-Home"},
        {KEY_CTRL_END, "Ctrl-End"},
        {KEY_SHIFT_ENTER, "Shift-Enter"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].code == code) return names[i].name;
    return "?";
}

const char *keys_name(int key, char out[24])
{
    const char *alt = key & KEY_META ? "Alt-" : "";
    const int base = key & ~KEY_META;
    if (base & KEY_FUNCTION) {
        const int code = base & ~KEY_FUNCTION;
        if (code >= KEY_F0 && code <= KEY_F(12))
            snprintf(out, 24, "%sF%d", alt, code - KEY_F0);
        else
            snprintf(out, 24, "%s%s", alt, function_name(code));
    } else if (base == '\t' || base == '\r' || base == KEY_ESCAPE || base == ' ' || base == 127) {
        const char *name = base == '\t' ? "Tab" : base == '\r' ? "Enter" : base == KEY_ESCAPE ? "Esc" : "Space";
        snprintf(out, 24, "%s%s", alt, base == 127 ? "BkSp" : name);
    } else if (base < 32) {
        snprintf(out, 24, "%sCtrl-%c", alt, base + 64);
    } else {
        snprintf(out, 24, "%s%c", alt, base);
    }
    return out;
}

const char *keys_name_of(enum keymap map, int action, char out[24])
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].map == map && table[i].action == action) return keys_name(table[i].keys[0], out);
    out[0] = '\0';
    return out;
}
