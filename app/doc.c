/* SPDX-License-Identifier: MIT
 *
 * The list of documents, single files, hashes and places. Formats other than text come in as doc_NAME.c beside
 * doc_text.c; folders are doc_tree.c's.
 */
#include "app/doc.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int no_memory(struct error *error)
{
    return error_set(error, ERROR_FAILED, "Out of memory.");
}

int64_t document_mtime(const struct stat *status)
{
    return (int64_t)status->st_mtim.tv_sec * 1000000000 + status->st_mtim.tv_nsec;
}

void document_free(struct document *d)
{
    free(d->path);
    free(d->name);
    free(d->text);
    free(d->places);
    *d = (struct document){0};
}

void documents_free(struct document_list *list)
{
    for (size_t i = 0; i < list->count; i++) document_free(&list->items[i]);
    for (size_t i = 0; i < list->n_skipped; i++) free(list->skipped[i].name);
    free(list->items);
    free(list->skipped);
    *list = (struct document_list){0};
}

static void *grow(void *items, size_t *capacity, size_t item_size)
{
    size_t more = *capacity ? *capacity * 2 : 16;
    void *grown = more > SIZE_MAX / item_size ? NULL : realloc(items, more * item_size);
    if (grown) *capacity = more;
    return grown;
}

int documents_add(struct document_list *list, struct document *d, struct error *error)
{
    if (list->count == list->capacity) {
        struct document *items = grow(list->items, &list->capacity, sizeof *items);
        if (!items) return no_memory(error);
        list->items = items;
    }
    list->items[list->count++] = *d;
    *d = (struct document){0};
    return 0;
}

int documents_skip(struct document_list *list, const char *name, const char *reason, struct error *error)
{
    if (list->n_skipped == list->skip_capacity) {
        struct document_skip *skipped = grow(list->skipped, &list->skip_capacity, sizeof *skipped);
        if (!skipped) return no_memory(error);
        list->skipped = skipped;
    }
    struct document_skip *skip = &list->skipped[list->n_skipped];
    skip->name = strdup(name);
    if (!skip->name) return no_memory(error);
    snprintf(skip->reason, sizeof skip->reason, "%s", reason);
    list->n_skipped++;
    return 0;
}

/* ------------------------------------------------------------------------------------------------ one file */

static const char *kind_of_file(mode_t mode)
{
    if (S_ISDIR(mode)) return "a folder";
    if (S_ISFIFO(mode)) return "a pipe";
    if (S_ISSOCK(mode)) return "a socket";
    return "a device";
}

/* Opens without waiting for a pipe's writer; *status is the opened file's, so that nothing can be swapped in between.
 */
static int open_regular(const char *path, const char *name, struct stat *status, int *fd, struct error *error)
{
    *fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (*fd < 0) return error_set(error, ERROR_INPUT, "%.300s cannot be read: %s.", name, strerror(errno));
    if (fstat(*fd, status)) {
        int saved = errno;
        close(*fd);
        return error_set(error, ERROR_INPUT, "%.300s cannot be read: %s.", name, strerror(saved));
    }
    if (S_ISREG(status->st_mode)) return 0;
    close(*fd);
    return error_set(error, ERROR_INPUT, "%.300s is %s, not a file.", name, kind_of_file(status->st_mode));
}

static int too_large(const char *name, int64_t most, struct error *error)
{
    return error_set(error, ERROR_INPUT, "%.300s is larger than %lld MiB.", name, (long long)(most >> 20));
}

static int read_bytes(int fd, const char *name, size_t expected, int64_t most, unsigned char **bytes, size_t *n,
                      struct error *error)
{
    size_t capacity = expected + 1 > 4096 ? expected + 1 : 4096;
    *n = 0;
    *bytes = malloc(capacity);
    if (!*bytes) return no_memory(error);
    for (;;) {
        ssize_t got = read(fd, *bytes + *n, capacity - *n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return error_set(error, ERROR_INPUT, "%.300s cannot be read: %s.", name, strerror(errno));
        if (!got) return 0;
        *n += (size_t)got;
        if (*n > (size_t)most) return too_large(name, most, error);
        if (*n < capacity) continue;
        unsigned char *grown = realloc(*bytes, capacity *= 2);
        if (!grown) return no_memory(error);
        *bytes = grown;
    }
}

static int hash_text(struct document *d, struct error *error)
{
    if (EVP_Digest(d->text, d->text_len, d->hash, NULL, EVP_sha256(), NULL) == 1) return 0;
    return error_set(error, ERROR_FAILED, "SHA-256 is not available.");
}

int document_read_file(struct document *out, const char *path, const char *name, int64_t most, struct error *error)
{
    *out = (struct document){0};
    struct stat status;
    int fd;
    int rc = open_regular(path, name, &status, &fd, error);
    if (rc) return rc;
    unsigned char *bytes = NULL;
    size_t n = 0;
    if (status.st_size > most)
        rc = too_large(name, most, error);
    else
        rc = read_bytes(fd, name, (size_t)status.st_size, most, &bytes, &n, error);
    close(fd);
    struct error inner;
    if (!rc && document_clean(bytes, n, &out->text, &out->text_len, &out->encoding, &inner))
        rc = error_set(error, inner.code, "%.300s %s", name, inner.text);
    free(bytes);
    out->mtime = document_mtime(&status);
    out->size = (int64_t)n;
    if (!rc) rc = hash_text(out, error);
    if (!rc && !((out->path = realpath(path, NULL)) && (out->name = strdup(name)))) rc = no_memory(error);
    if (rc) document_free(out);
    return rc;
}

/* ------------------------------------------------------------------------------------------------ the list */

static int read_named(struct document_list *list, const char *path, struct error *error)
{
    struct stat status;
    if (stat(path, &status)) return error_set(error, ERROR_INPUT, "%.300s cannot be read: %s.", path, strerror(errno));
    if (S_ISDIR(status.st_mode)) return document_read_tree(list, path, path, error);
    struct document d;
    int rc = document_read_file(&d, path, path, DOCUMENT_MOST_BYTES, error);
    if (rc) return rc;
    rc = d.text_len ? documents_add(list, &d, error) : documents_skip(list, path, "is empty", error);
    document_free(&d);
    return rc;
}

int documents_read(struct document_list *list, char *const *paths, size_t count, struct error *error)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < count; i++) rc = read_named(list, paths[i], error);
    if (rc || list->count) return rc;
    if (list->n_skipped == 1)
        return error_set(error, ERROR_INPUT, "There is nothing to read: %.300s %s.", list->skipped[0].name,
                         list->skipped[0].reason);
    return error_set(error, ERROR_INPUT, "There is nothing to read: %zu files were skipped.", list->n_skipped);
}

void document_place(const struct document *d, size_t offset, struct place *out)
{
    *out = (struct place){.name = d->name, .line = 1, .column = 1};
    const char *at = d->text, *end = d->text + (offset < d->text_len ? offset : d->text_len);
    for (const char *newline; at < end && (newline = memchr(at, '\n', (size_t)(end - at))); at = newline + 1)
        out->line++;
    out->column = (uint32_t)(end - at) + 1;
}
