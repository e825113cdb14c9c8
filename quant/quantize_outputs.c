/* SPDX-License-Identifier: MIT
 *
 * One output file or several. All grow side by side as .part files and take their names only when all data is there.
 */
#include "quant/quantize_outputs.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes of path before what a part's number replaces. */
static size_t stem_of(const char *path)
{
    const size_t len = strlen(path), split = sizeof "-00001-of-00001.gguf" - 1, plain = sizeof ".gguf" - 1;
    if (len >= split && path[len - split] == '-' && memcmp(path + len - split + 6, "-of-", 4) == 0 &&
        strcmp(path + len - plain, ".gguf") == 0)
        return len - split;
    return len >= plain && strcmp(path + len - plain, ".gguf") == 0 ? len - plain : len;
}

static char *part_path(const char *path, size_t number, size_t count)
{
    size_t stem = stem_of(path), room = stem + 64;
    if (count == 1) return strdup(path);
    char *out = malloc(room);
    if (out) snprintf(out, room, "%.*s-%05zu-of-%05zu.gguf", (int)stem, path, number, count);
    return out;
}

int outputs_open(struct outputs *o, const char *path, size_t count, struct error *error)
{
    int rc = 0;
    *o = (struct outputs){
        .writers = calloc(count, sizeof *o->writers), .paths = calloc(count, sizeof *o->paths), .count = count};
    for (size_t i = 0; !rc && i < count; i++) {
        if (o->writers && o->paths) o->paths[i] = part_path(path, i + 1, count);
        if (!o->writers || !o->paths || !o->paths[i])
            rc = error_set(error, ERROR_FAILED, "Out of memory while writing %s.", path);
        if (!rc) rc = gguf_writer_open(&o->writers[i], o->paths[i], error);
    }
    if (rc) outputs_abort(o);
    return rc;
}

/* A whole number of `bytes` bytes, as llama.cpp reads these keys: it insists on their kinds. */
static void put_whole(struct gguf_writer *w, const char *key, enum gguf_kind kind, size_t bytes, size_t value)
{
    unsigned char le[4];
    for (size_t i = 0; i < 4; i++) le[i] = (unsigned char)(value >> (8 * i));
    gguf_put_copy(
        w, &(struct gguf_value){.key = {key, strlen(key)}, .kind = kind, .count = 1, .data = le, .bytes = bytes});
}

void outputs_describe_split(struct outputs *o, size_t n_tensors)
{
    for (size_t i = 0; o->count > 1 && i < o->count; i++) {
        put_whole(o->writers[i], "split.no", GGUF_U16, 2, i);
        put_whole(o->writers[i], "split.count", GGUF_U16, 2, o->count);
        put_whole(o->writers[i], "split.tensors.count", GGUF_I32, 4, n_tensors);
    }
}

int outputs_finish(struct outputs *o, struct error *error)
{
    size_t done = 0;
    int rc = 0;
    while (!rc && done < o->count) {
        rc = gguf_writer_finish(&o->writers[done], error);
        done += !rc;
    }
    for (size_t i = 0; rc && i < done; i++) unlink(o->paths[i]);
    outputs_abort(o);
    return rc;
}

void outputs_abort(struct outputs *o)
{
    for (size_t i = 0; i < o->count; i++) {
        if (o->writers) gguf_writer_abort(&o->writers[i]);
        if (o->paths) free(o->paths[i]);
    }
    free(o->writers);
    free(o->paths);
    *o = (struct outputs){0};
}
