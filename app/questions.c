/* SPDX-License-Identifier: MIT
 *
 * Questions, one a line (questions.h).
 */
#include "app/questions.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/console.h"

int questions_open(struct questions *q, const char *path, struct error *error)
{
    *q = (struct questions){.fd = STDIN_FILENO};
    if (strcmp(path, "-")) q->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (q->fd < 0)
        return error_set(error, ERROR_INPUT, "The questions in %.300s cannot be read: %s.", path, strerror(errno));
    return 0;
}

/* Moves the line that has begun to the front and leaves room behind it. */
static int make_room(struct questions *q, struct error *error)
{
    q->len -= q->at;
    if (q->at) memmove(q->bytes, q->bytes + q->at, q->len);
    q->at = 0;
    if (q->len > QUESTION_MOST_BYTES) return error_set(error, ERROR_USAGE, "A question is longer than 1 MiB.");
    if (q->capacity >= q->len + 4096) return 0;
    char *bytes = realloc(q->bytes, q->len * 2 + 4096);
    if (!bytes) return error_set(error, ERROR_FAILED, "Out of memory.");
    q->bytes = bytes;
    q->capacity = q->len * 2 + 4096;
    return 0;
}

static int read_more(struct questions *q, struct error *error)
{
    struct pollfd fds[2] = {{.fd = q->fd, .events = POLLIN}, {.fd = console_signal_fd(), .events = POLLIN}};
    int rc = make_room(q, error);
    if (rc) return rc;
    poll(fds, 2, -1); /* interrupted: the signal is looked for anyway */
    if (console_signal() || !fds[0].revents) return 0;
    ssize_t n = read(q->fd, q->bytes + q->len, q->capacity - q->len - 1);
    if (n < 0 && errno != EINTR && errno != EAGAIN)
        return error_set(error, ERROR_INPUT, "The questions cannot be read: %s.", strerror(errno));
    if (n > 0) q->len += (size_t)n;
    q->has_ended = n == 0;
    return 0;
}

/* A whole line in what was read, its end cut off; the last may have none. */
static char *take_line(struct questions *q, bool *has_nul)
{
    size_t left = q->len - q->at;
    char *line = q->bytes + q->at, *end = left ? memchr(line, '\n', left) : NULL;
    if (!end && !(q->has_ended && left)) return NULL;
    size_t n = end ? (size_t)(end - line) : left;
    q->at += end ? n + 1 : n;
    *has_nul = memchr(line, 0, n) != NULL;
    if (n && line[n - 1] == '\r') n--;
    line[n] = 0;
    return line;
}

int questions_next(struct questions *q, const char **line, struct error *error)
{
    bool has_nul = false;
    int rc = 0;
    *line = NULL;
    while (!rc && !*line && !console_signal()) {
        char *found = q->bytes ? take_line(q, &has_nul) : NULL;
        if (has_nul) return error_set(error, ERROR_USAGE, "A question has NUL bytes.");
        if (found && found[strspn(found, " \t")]) *line = found;
        if (found) continue;
        if (q->has_ended) break;
        rc = read_more(q, error);
    }
    return rc;
}

void questions_close(struct questions *q)
{
    if (q->fd > STDIN_FILENO) close(q->fd);
    free(q->bytes);
    *q = (struct questions){0};
}
