/* SPDX-License-Identifier: MIT
 *
 * Documents then and now.
 */
#include "app/changes.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/progress.h"
#include "app/session.h"

#define NAMED 3   /* new or gone documents told by name; the rest is counted */
#define DETAILS 8 /* changed documents told one by one */

struct telling {
    const struct change_report *report;
    size_t count;
};

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void
say(struct telling *t, const char *format, ...)
{
    char sentence[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    t->count++;
    t->report->tell(t->report->ctx, sentence);
}

/* ---------------------------------------------------------------------------------------------- one document */

static size_t common_bytes(const struct document *a, const struct document *b)
{
    size_t n = a->text_len < b->text_len ? a->text_len : b->text_len, i = 0;
    while (i < n && a->text[i] == b->text[i]) i++;
    return i;
}

static const char *line_at(const struct document *d, size_t offset, char out[32])
{
    struct place place;
    document_place(d, offset, &place);
    return format_count(place.line, out);
}

static void say_change(struct telling *t, const struct document *before, const struct document *now)
{
    size_t same = common_bytes(before, now);
    char line[32], all[32];
    if (same == before->text_len)
        say(t, "%.300s has grown at the end, after line %s.", now->name, line_at(before, same, line));
    else if (same == now->text_len)
        say(t, "%.300s was cut at the end, after line %s of %s.", now->name, line_at(now, same, line),
            line_at(before, before->text_len, all));
    else
        say(t, "%.300s was edited, from about line %s of %s.", now->name, line_at(now, same, line),
            line_at(now, now->text_len, all));
}

/* -------------------------------------------------------------------------------------------------- the lists */

/* What became of each document: its number in the other list, or NONE. */
#define NONE SIZE_MAX

static bool same_text(const struct document *a, const struct document *b)
{
    return !memcmp(a->hash, b->hash, sizeof a->hash);
}

static bool same_path(const struct document *a, const struct document *b)
{
    return a->path && b->path && !strcmp(a->path, b->path);
}

/* By path; else, for a file that was moved, by text. Each document of the old list is taken once. The search begins
 * where the document stands in the new list: mostly that is it. */
static size_t find_before(const struct document_list *before, const struct document *d, size_t at, bool by_text,
                          const bool *is_taken)
{
    for (size_t i = 0; i < before->count; i++) {
        size_t k = (at + i) % before->count;
        const struct document *old = &before->items[k];
        if (!is_taken[k] && (by_text ? same_text(old, d) : same_path(old, d))) return k;
    }
    return NONE;
}

static void match(const struct document_list *before, const struct document_list *now, size_t *origin, bool *is_taken)
{
    for (size_t i = 0; i < now->count; i++) origin[i] = NONE;
    for (int by_text = 0; by_text < 2; by_text++)
        for (size_t i = 0; i < now->count; i++) {
            if (origin[i] != NONE) continue;
            origin[i] = find_before(before, &now->items[i], i, by_text, is_taken);
            if (origin[i] != NONE) is_taken[origin[i]] = true;
        }
}

static void say_changed(struct telling *t, const struct document_list *before, const struct document_list *now,
                        const size_t *origin)
{
    size_t changed = 0;
    for (size_t i = 0; i < now->count; i++) {
        if (origin[i] == NONE || same_text(&before->items[origin[i]], &now->items[i])) continue;
        if (++changed <= DETAILS) say_change(t, &before->items[origin[i]], &now->items[i]);
    }
    if (changed > DETAILS) say(t, "%zu more documents were changed.", changed - DETAILS);
}

/* "b.txt is new." "a, b, c and 7 more are gone." */
static void say_names(struct telling *t, const struct document_list *list, const bool *is_meant, const char *what)
{
    char names[NAMED * 128] = "";
    size_t n = 0, used = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (!is_meant[i] || ++n > NAMED) continue;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%.100s", n > 1 ? ", " : "", list->items[i].name);
    }
    if (n > NAMED)
        say(t, "%s and %zu more are %s.", names, n - NAMED, what);
    else if (n)
        say(t, "%s %s %s.", names, n > 1 ? "are" : "is", what);
}

static void say_new(struct telling *t, const struct document_list *now, const size_t *origin, bool *is_new)
{
    for (size_t i = 0; i < now->count; i++) is_new[i] = origin[i] == NONE;
    say_names(t, now, is_new, "new");
}

static void say_gone(struct telling *t, const struct document_list *before, bool *is_taken)
{
    for (size_t i = 0; i < before->count; i++) is_taken[i] = !is_taken[i];
    say_names(t, before, is_taken, "gone");
}

static void say_order(struct telling *t, const struct document_list *now, const size_t *origin)
{
    size_t last = 0;
    for (size_t i = 0; i < now->count; i++) {
        if (origin[i] == NONE) continue;
        if (origin[i] < last) {
            say(t, "The documents come in another order, from %.300s on.", now->items[i].name);
            return;
        }
        last = origin[i];
    }
}

static int compare(struct telling *t, const struct document_list *before, const struct document_list *now,
                   struct error *error)
{
    size_t *origin = calloc(now->count + 1, sizeof *origin);
    bool *is_taken = calloc(before->count + 1, sizeof *is_taken), *is_new = calloc(now->count + 1, sizeof *is_new);
    int rc = origin && is_taken && is_new ? 0 : error_set(error, ERROR_FAILED, "Out of memory.");
    if (!rc) {
        match(before, now, origin, is_taken);
        say_changed(t, before, now, origin);
        say_new(t, now, origin, is_new);
        say_gone(t, before, is_taken);
        say_order(t, now, origin);
    }
    free(origin);
    free(is_taken);
    free(is_new);
    return rc;
}

int changes_since(struct store *store, int64_t session, const struct document_list *now,
                  const struct change_report *report, size_t *count, struct error *error)
{
    struct document_list before = {0};
    struct store_session_list info = {0};
    struct telling t = {.report = report};
    int rc = session_load_documents(store, session, &before, error);
    if (!rc) rc = compare(&t, &before, now, error);
    if (!rc && t.count) rc = store_session_get(store, session, &info, error);
    if (!rc && t.count && info.count && info.items[0].n_turns)
        say(&t, "The conversation over what was read before stays as session %lld.", (long long)session);
    documents_free(&before);
    store_session_list_free(&info);
    *count = t.count;
    return rc;
}

/* ----------------------------------------------------------------------------------------------------- on disk */

static void compare_file(struct telling *t, const struct document *stored)
{
    struct stat status;
    struct document_list read = {0};
    struct error unread; /* what cannot be read now: the session has its text */
    char *paths[] = {stored->path};
    if (!stored->path || stat(stored->path, &status) || !S_ISREG(status.st_mode)) return;
    if (document_mtime(&status) == stored->mtime && (int64_t)status.st_size == stored->size) return;
    if (!documents_read(&read, paths, 1, &unread) && read.count == 1 && !same_text(stored, &read.items[0])) {
        free(read.items[0].name); /* the path; it is shown as it was named */
        read.items[0].name = strdup(stored->name);
        if (read.items[0].name) say_change(t, stored, &read.items[0]);
    }
    documents_free(&read);
}

size_t changes_on_disk(const struct document_list *stored, const struct change_report *report)
{
    struct telling t = {.report = report};
    for (size_t i = 0; i < stored->count; i++) compare_file(&t, &stored->items[i]);
    return t.count;
}
