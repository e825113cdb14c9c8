/* SPDX-License-Identifier: MIT
 *
 * Events on their way to the foreground: a list under the worker's lock, and an eventfd that is readable while it is
 * not empty. Readings not yet fetched are replaced by the newest, so that a slow screen lags by one at most.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/worker_internal.h"

void event_free(struct event *e)
{
    free(e->text);
    *e = (struct event){0};
}

/* Called with the lock held. */
static void append_event(struct worker *w, struct event_node *node)
{
    node->next = NULL;
    if (w->last_event)
        w->last_event->next = node;
    else
        w->events = node;
    w->last_event = node;
    uint64_t one = 1;
    ssize_t ignored = write(w->event_fd, &one, sizeof one);
    (void)ignored;
}

static void append_spare(struct worker *w)
{
    if (w->spare_used) return;
    w->spare_used = true;
    w->spare = (struct event_node){.event = {.kind = EVENT_ERROR}};
    error_set(&w->spare.event.error, ERROR_FAILED, "Out of memory.");
    append_event(w, &w->spare);
}

static bool replace_reading(struct worker *w, const struct event *e)
{
    bool is_progress = e->kind == EVENT_READING || e->kind == EVENT_LOADING;
    if (!is_progress || !w->last_event || w->last_event->event.kind != e->kind) return false;
    w->last_event->event = *e;
    return true;
}

void worker_emit(struct worker *w, struct event *e)
{
    pthread_mutex_lock(&w->lock);
    bool replaced = replace_reading(w, e);
    struct event_node *node = replaced ? NULL : malloc(sizeof *node);
    if (node) {
        node->event = *e;
        append_event(w, node);
    } else if (!replaced) {
        free(e->text);
        append_spare(w);
    }
    pthread_mutex_unlock(&w->lock);
    *e = (struct event){0};
}

void worker_emit_kind(struct worker *w, enum event_kind kind)
{
    worker_emit(w, &(struct event){.kind = kind});
}

void worker_emit_error(struct worker *w, const struct error *error)
{
    worker_emit(w, &(struct event){.kind = EVENT_ERROR, .error = *error});
}

void worker_note(struct worker *w, enum error_code code, const char *format, ...)
{
    struct event e = {.kind = EVENT_NOTE, .error.code = code};
    va_list args;
    va_start(args, format);
    vsnprintf(e.error.text, sizeof e.error.text, format, args);
    va_end(args);
    e.text = strdup(e.error.text);
    e.text_len = e.text ? strlen(e.text) : 0;
    worker_emit(w, &e);
}

static bool take_event(struct worker *w, struct event *out)
{
    pthread_mutex_lock(&w->lock);
    struct event_node *node = w->events;
    if (node) {
        *out = node->event;
        w->events = node->next;
        if (!w->events) w->last_event = NULL;
        if (node == &w->spare)
            w->spare_used = false;
        else
            free(node);
    }
    uint64_t count;
    if (!w->events && read(w->event_fd, &count, sizeof count) < 0) errno = 0; /* empty already */
    pthread_mutex_unlock(&w->lock);
    return node != NULL;
}

bool worker_event(struct worker *w, struct event *out, int timeout_ms)
{
    double until = worker_clock() + timeout_ms * 1e-3;
    while (!take_event(w, out)) {
        double left = until - worker_clock();
        if (timeout_ms >= 0 && left <= 0) return false;
        struct pollfd wait = {.fd = w->event_fd, .events = POLLIN};
        int rc = poll(&wait, 1, timeout_ms < 0 ? -1 : (int)(left * 1e3) + 1);
        if (rc < 0 && errno != EINTR) return false;
        if (rc < 0 && timeout_ms < 0) return take_event(w, out); /* a signal: the caller has a look */
    }
    return true;
}

int worker_fd(const struct worker *w)
{
    return w->event_fd;
}

void worker_events_free(struct worker *w)
{
    struct event e;
    while (take_event(w, &e)) event_free(&e);
}
