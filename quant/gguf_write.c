/* SPDX-License-Identifier: MIT
 *
 * Writing a GGUF file. Descriptions are gathered in memory; the header goes out with the first byte of data. The file
 * grows as PATH.part and takes its name only when it is whole and on disk. put_* never fail at once: a failure (out of
 * memory) is remembered and reported by gguf_write and gguf_writer_finish.
 */
#include "quant/gguf_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct bytes {
    unsigned char *data;
    size_t len, room;
    bool failed; /* out of memory: everything put since is lost */
};

struct gguf_writer {
    char *path, *part;
    int fd;
    bool created; /* the .part file is there */
    struct bytes values, tensors;
    uint64_t n_values, n_tensors;
    uint64_t *sizes; /* bytes of each tensor */
    size_t sizes_room;
    uint64_t data_end; /* where the next described tensor begins, from the start of the data */
    uint64_t align;
    bool header_out;
    uint64_t at;   /* tensor being written */
    uint64_t done; /* bytes of it written */
    struct bytes out;
};

enum { OUT_BYTES = 1 << 20 };

static void bytes_put(struct bytes *b, const void *data, size_t len)
{
    if (b->failed) return;
    if (len > b->room - b->len) {
        size_t room = (b->len + len) * 2 + 64;
        unsigned char *grown = realloc(b->data, room);
        if (!grown) {
            b->failed = true;
            return;
        }
        b->data = grown;
        b->room = room;
    }
    if (len) memcpy(b->data + b->len, data, len);
    b->len += len;
}

static void bytes_u32(struct bytes *b, uint32_t v)
{
    unsigned char le[4];
    for (int i = 0; i < 4; i++) le[i] = (unsigned char)(v >> (8 * i));
    bytes_put(b, le, sizeof le);
}

static void bytes_u64(struct bytes *b, uint64_t v)
{
    bytes_u32(b, (uint32_t)v);
    bytes_u32(b, (uint32_t)(v >> 32));
}

static void bytes_string(struct bytes *b, const char *text, size_t len)
{
    bytes_u64(b, len);
    bytes_put(b, text, len);
}

int gguf_writer_open(struct gguf_writer **out, const char *path, struct error *error)
{
    *out = NULL;
    struct gguf_writer *w = calloc(1, sizeof *w);
    size_t room = strlen(path) + sizeof ".part";
    if (w) *w = (struct gguf_writer){.path = strdup(path), .part = malloc(room), .fd = -1};
    if (!w || !w->path || !w->part) {
        gguf_writer_abort(&w);
        return error_set(error, ERROR_FAILED, "Out of memory while writing %s.", path);
    }
    w->align = GGUF_DEFAULT_ALIGNMENT;
    snprintf(w->part, room, "%s.part", path);
    w->fd = open(w->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) {
        error_set(error, ERROR_DISK, "%s cannot be written: %s.", w->part, strerror(errno));
        gguf_writer_abort(&w);
        return ERROR_DISK;
    }
    w->created = true;
    *out = w;
    return 0;
}

static struct bytes *begin_value(struct gguf_writer *w, const char *key, uint32_t kind)
{
    bytes_string(&w->values, key, strlen(key));
    bytes_u32(&w->values, kind);
    w->n_values++;
    return &w->values;
}

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t value)
{
    if (strcmp(key, "general.alignment") == 0) w->align = value;
    bytes_u32(begin_value(w, key, GGUF_U32), value);
}

void gguf_put_f32(struct gguf_writer *w, const char *key, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bytes_u32(begin_value(w, key, GGUF_F32), bits);
}

void gguf_put_bool(struct gguf_writer *w, const char *key, bool value)
{
    bytes_put(begin_value(w, key, GGUF_BOOL), &(unsigned char){value}, 1);
}

void gguf_put_string(struct gguf_writer *w, const char *key, const char *bytes, size_t len)
{
    bytes_string(begin_value(w, key, GGUF_STRING), bytes, len);
}

static struct bytes *begin_array(struct gguf_writer *w, const char *key, uint32_t kind, size_t count)
{
    struct bytes *b = begin_value(w, key, GGUF_ARRAY);
    bytes_u32(b, kind);
    bytes_u64(b, count);
    return b;
}

void gguf_put_i32_array(struct gguf_writer *w, const char *key, const int32_t *values, size_t count)
{
    struct bytes *b = begin_array(w, key, GGUF_I32, count);
    for (size_t i = 0; i < count; i++) bytes_u32(b, (uint32_t)values[i]);
}

void gguf_put_string_array(struct gguf_writer *w, const char *key, const struct gguf_string *values, size_t count)
{
    struct bytes *b = begin_array(w, key, GGUF_STRING, count);
    for (size_t i = 0; i < count; i++) bytes_string(b, values[i].bytes, values[i].len);
}

void gguf_put_copy(struct gguf_writer *w, const struct gguf_value *v)
{
    static const char alignment[] = "general.alignment";
    int64_t align;
    if (v->key.len == sizeof alignment - 1 && memcmp(v->key.bytes, alignment, v->key.len) == 0 && !v->is_array &&
        gguf_read_int(v->kind, v->data, &align))
        w->align = (uint64_t)align;
    bytes_string(&w->values, v->key.bytes, v->key.len);
    bytes_u32(&w->values, v->is_array ? (uint32_t)GGUF_ARRAY : (uint32_t)v->kind);
    if (v->is_array) {
        bytes_u32(&w->values, v->kind);
        bytes_u64(&w->values, v->count);
    }
    bytes_put(&w->values, v->data, v->bytes);
    w->n_values++;
}

static bool sizes_grow(struct gguf_writer *w)
{
    if (w->n_tensors < w->sizes_room) return true;
    size_t room = w->sizes_room * 2 + 64;
    uint64_t *grown = realloc(w->sizes, room * sizeof *grown);
    if (!grown) return false;
    w->sizes = grown;
    w->sizes_room = room;
    return true;
}

void gguf_put_tensor(struct gguf_writer *w, const char *name, const struct quant_format *format, uint32_t n_dims,
                     const uint64_t *ne)
{
    if (!sizes_grow(w)) {
        w->tensors.failed = true;
        return;
    }
    uint64_t bytes = quant_row_bytes(format, (size_t)ne[0]);
    bytes_string(&w->tensors, name, strlen(name));
    bytes_u32(&w->tensors, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) bytes_u64(&w->tensors, ne[i]);
    for (uint32_t i = 1; i < n_dims; i++) bytes *= ne[i];
    bytes_u32(&w->tensors, format->type);
    bytes_u64(&w->tensors, w->data_end);
    w->sizes[w->n_tensors++] = bytes;
    w->data_end += (bytes + w->align - 1) / w->align * w->align;
}

static int flush(struct gguf_writer *w, const unsigned char *data, size_t len, struct error *error)
{
    while (len) {
        ssize_t n = write(w->fd, data, len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return error_set(error, ERROR_DISK, "%s cannot be written: %s.", w->part, strerror(errno));
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Through the buffer, so that small rows do not cost a system call each. */
static int emit(struct gguf_writer *w, const void *data, size_t len, struct error *error)
{
    int rc = 0;
    if (w->out.len + len > OUT_BYTES) {
        rc = flush(w, w->out.data, w->out.len, error);
        w->out.len = 0;
    }
    if (!rc && len > OUT_BYTES) return flush(w, data, len, error);
    if (!rc) bytes_put(&w->out, data, len);
    if (!rc && w->out.failed) rc = error_set(error, ERROR_FAILED, "Out of memory while writing %s.", w->path);
    return rc;
}

static int pad(struct gguf_writer *w, uint64_t len, struct error *error)
{
    static const unsigned char zeros[4096];
    uint64_t left = (w->align - len % w->align) % w->align;
    int rc = 0;
    while (left && !rc) {
        size_t n = left < sizeof zeros ? (size_t)left : sizeof zeros;
        rc = emit(w, zeros, n, error);
        left -= n;
    }
    return rc;
}

static int emit_header(struct gguf_writer *w, struct error *error)
{
    if (w->header_out) return 0;
    w->header_out = true;
    if (w->align < 8 || w->align > GGUF_MOST_ALIGNMENT || (w->align & (w->align - 1)))
        return error_set(error, ERROR_FAILED, "%s: general.alignment is not a power of two from 8 to 1048576.",
                         w->path);
    if (w->values.failed || w->tensors.failed)
        return error_set(error, ERROR_FAILED, "Out of memory while writing %s.", w->path);
    struct bytes start = {0};
    bytes_put(&start, "GGUF", 4);
    bytes_u32(&start, GGUF_VERSION);
    bytes_u64(&start, w->n_tensors);
    bytes_u64(&start, w->n_values);
    int rc = start.failed ? error_set(error, ERROR_FAILED, "Out of memory while writing %s.", w->path)
                          : emit(w, start.data, start.len, error);
    if (!rc) rc = emit(w, w->values.data, w->values.len, error);
    if (!rc) rc = emit(w, w->tensors.data, w->tensors.len, error);
    if (!rc) rc = pad(w, start.len + w->values.len + w->tensors.len, error);
    free(start.data);
    return rc;
}

int gguf_write(struct gguf_writer *w, const void *data, size_t bytes, struct error *error)
{
    int rc = emit_header(w, error);
    if (rc) return rc;
    if (w->at >= w->n_tensors || bytes > w->sizes[w->at] - w->done)
        return error_set(error, ERROR_FAILED, "%s: more tensor data than was described.", w->path);
    rc = emit(w, data, bytes, error);
    if (rc) return rc;
    w->done += bytes;
    if (w->done < w->sizes[w->at]) return 0;
    rc = pad(w, w->done, error);
    w->done = 0;
    w->at++;
    return rc;
}

/* Makes the new name itself durable. */
static int sync_folder(struct gguf_writer *w, struct error *error)
{
    int fd = open(dirname(w->part), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int bad = fd < 0 || fsync(fd);
    if (bad) error_set(error, ERROR_DISK, "The folder of %s cannot be synced: %s.", w->path, strerror(errno));
    if (fd >= 0) close(fd);
    return bad ? ERROR_DISK : 0;
}

static int finish(struct gguf_writer *w, struct error *error)
{
    int rc = emit_header(w, error);
    if (rc) return rc;
    if (w->at != w->n_tensors)
        return error_set(error, ERROR_FAILED, "%s: data came for only %llu of %llu tensors.", w->path,
                         (unsigned long long)w->at, (unsigned long long)w->n_tensors);
    rc = flush(w, w->out.data, w->out.len, error);
    if (rc) return rc;
    int bad = fsync(w->fd);
    bad |= close(w->fd);
    w->fd = -1;
    if (bad || rename(w->part, w->path))
        return error_set(error, ERROR_DISK, "%s cannot be written: %s.", w->path, strerror(errno));
    w->created = false;
    rc = sync_folder(w, error);
    if (rc) unlink(w->path);
    return rc;
}

static void writer_free(struct gguf_writer **writer)
{
    struct gguf_writer *w = *writer;
    if (w->fd >= 0) close(w->fd);
    free(w->path);
    free(w->part);
    free(w->values.data);
    free(w->tensors.data);
    free(w->sizes);
    free(w->out.data);
    free(w);
    *writer = NULL;
}

int gguf_writer_finish(struct gguf_writer **writer, struct error *error)
{
    struct gguf_writer *w = *writer;
    int rc = finish(w, error);
    if (rc)
        gguf_writer_abort(writer);
    else
        writer_free(writer);
    return rc;
}

void gguf_writer_abort(struct gguf_writer **writer)
{
    if (!writer || !*writer) return;
    struct gguf_writer *w = *writer;
    if (w->created) unlink(w->part);
    writer_free(writer);
}
