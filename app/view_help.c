/* SPDX-License-Identifier: MIT
 *
 * Help and messages: two pages over the panes. Help is made from the live tables of keys and commands.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "app/commands_slash.h"
#include "app/pager.h"
#include "app/view.h"

#define HELP_COLUMNS 64

struct pager_view {
    struct pager help, messages;
    bool is_narrow;       /* help is made for less than HELP_COLUMNS */
    size_t messages_made; /* how many messages the page holds */
};

static void keys_of_row(const struct key_row *row, char *out, size_t cap)
{
    char name[24];
    size_t n = 0;
    out[0] = '\0';
    for (size_t k = 0; k < KEYS_PER_ROW && row->keys[k]; k++)
        n += (size_t)snprintf(out + n, cap - n, "%s%s", k ? ", " : "", keys_name(row->keys[k], name));
}

static void add_entry(struct pager *pager, bool is_narrow, const char *what, const char *help)
{
    if (is_narrow)
        pager_add(pager, "  %s\n      %s", what, help);
    else
        pager_add(pager, "  %-24s %s", what, help);
}

static void make_help(struct pager *pager, bool is_narrow)
{
    size_t count;
    const struct key_row *rows = keys_table(&count);
    char keys[KEYS_PER_ROW * 26];
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || rows[i].map != rows[i - 1].map)
            pager_add(pager, "%s%c%s", i ? "\n" : "", PAGER_STRONG, keymap_name(rows[i].map));
        keys_of_row(&rows[i], keys, sizeof keys);
        add_entry(pager, is_narrow, keys, rows[i].help);
    }
    const struct slash_command *commands = slash_table(&count);
    pager_add(pager, "\n%cCommands", PAGER_STRONG);
    for (size_t i = 0; i < count; i++) {
        snprintf(keys, sizeof keys, "/%s %s", commands[i].name, commands[i].arguments);
        add_entry(pager, is_narrow, keys, commands[i].help);
    }
    add_entry(pager, is_narrow, "@FILE", "in a question: puts the file on the desk first");
}

static void make_messages(struct tui *tui)
{
    struct pager_view *view = tui->pager;
    if (view->messages_made == tui->desk->n_messages && view->messages.text.len) return;
    pager_clear(&view->messages);
    view->messages_made = tui->desk->n_messages;
    view->messages.top = SIZE_MAX / 2; /* drawing takes it to the last page */
    if (!tui->desk->n_messages) pager_add(&view->messages, "No messages so far.");
    for (size_t back = DESK_MESSAGES; back-- > 0;) {
        const struct desk_message *message = desk_message_at(tui->desk, back);
        if (!message) continue;
        char when[16];
        struct tm local;
        localtime_r(&message->when, &local);
        strftime(when, sizeof when, "%H:%M:%S", &local);
        pager_add(&view->messages, "%s  %s%s", when, message->kind == MESSAGE_ERROR ? "error: " : "", message->text);
    }
}

static int help_create(struct tui *tui, struct error *error)
{
    tui->pager = calloc(1, sizeof *tui->pager);
    if (!tui->pager) return error_set(error, ERROR_FAILED, "Out of memory while opening the screen.");
    make_help(&tui->pager->help, false);
    return 0;
}

static void help_destroy(struct tui *tui)
{
    if (!tui->pager) return;
    pager_free(&tui->pager->help);
    pager_free(&tui->pager->messages);
    free(tui->pager);
    tui->pager = NULL;
}

/* Ctrl-C closes a page too, but first it stops what is under way. */
static bool page_act(struct tui *tui, struct pager *pager, int action)
{
    const bool closes = action == ACTION_CANCEL || (action == ACTION_INTERRUPT && !desk_is_busy(tui->desk));
    if (!closes) return pager_act(pager, action);
    tui->overlay = VIEW_NONE;
    pager->top = 0;
    return true;
}

static void help_draw(struct tui *tui, const struct area *area)
{
    struct pager_view *view = tui->pager;
    if (view->is_narrow != (area->width < HELP_COLUMNS)) {
        view->is_narrow = !view->is_narrow;
        pager_clear(&view->help);
        make_help(&view->help, view->is_narrow);
    }
    pager_draw(&view->help, area);
}

static bool help_act(struct tui *tui, int action)
{
    return page_act(tui, &tui->pager->help, action);
}

static void messages_draw(struct tui *tui, const struct area *area)
{
    make_messages(tui);
    pager_draw(&tui->pager->messages, area);
}
static bool messages_act(struct tui *tui, int action)
{
    return page_act(tui, &tui->pager->messages, action);
}

static void page_hint(struct tui *tui, char *out, size_t cap)
{
    (void)tui;
    snprintf(out, cap, "PgUp PgDn scroll \u00b7 q closes");
}

const struct view_ops help_ops = {
    .title = "Help",
    .keymap = KEYMAP_PAGER,
    .create = help_create,
    .destroy = help_destroy,
    .draw = help_draw,
    .act = help_act,
    .hint = page_hint,
};

const struct view_ops messages_ops = {
    .title = "Messages",
    .keymap = KEYMAP_PAGER,
    .draw = messages_draw,
    .act = messages_act,
    .hint = page_hint,
};
