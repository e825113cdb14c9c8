/* SPDX-License-Identifier: MIT
 *
 * Importance (imatrix.h): gathering, reading, writing. Sums are doubles; a stack's are allocated when its first input
 * comes.
 */
#include "quant/imatrix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char sums_suffix[] = ".in_sum2", counts_suffix[] = ".counts";

struct entry {
    char name[64];
    uint32_t n_in, n_mat;
    double *sums;   /* [n_mat][n_in]; NULL = no input yet */
    double *counts; /* [n_mat] */
    bool is_flat;   /* from an older file, which does not tell n_mat: all of a stack in one row, with one count */
};

struct imatrix {
    struct entry *entries; /* sorted by name */
    size_t count;
};

void imatrix_free(struct imatrix **imatrix)
{
    struct imatrix *m = *imatrix;
    if (!m) return;
    for (size_t i = 0; i < m->count; i++) {
        free(m->entries[i].sums);
        free(m->entries[i].counts);
    }
    free(m->entries);
    free(m);
    *imatrix = NULL;
}

static int out_of_memory(struct error *error)
{
    return error_set(error, ERROR_FAILED, "Out of memory for the importance of weights.");
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static struct entry *find(const struct imatrix *m, const char *name, size_t len)
{
    struct entry key;
    if (len >= sizeof key.name) return NULL;
    memcpy(key.name, name, len);
    key.name[len] = 0;
    return bsearch(&key, m->entries, m->count, sizeof key, compare_entries);
}

static int create(struct imatrix **out, size_t most, struct error *error)
{
    struct imatrix *m = *out = calloc(1, sizeof *m);
    if (m) m->entries = calloc(most + 1, sizeof *m->entries);
    if (m && m->entries) return 0;
    imatrix_free(out);
    return out_of_memory(error);
}

static int allocate(struct entry *e, struct error *error)
{
    e->sums = calloc((size_t)e->n_mat * e->n_in, sizeof *e->sums);
    e->counts = calloc(e->n_mat, sizeof *e->counts);
    return e->sums && e->counts ? 0 : out_of_memory(error);
}

/* ---------------------------------------------------------------------------------------------- gathering */

int imatrix_create(struct imatrix **out, const struct gguf *model, struct error *error)
{
    int rc = create(out, gguf_tensor_count(model), error);
    for (size_t i = 0; !rc && i < gguf_tensor_count(model); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(model, i);
        struct entry *e = &(*out)->entries[(*out)->count];
        if (t->name.len >= sizeof e->name || t->ne[0] > UINT32_MAX || t->ne[2] > UINT32_MAX || t->ne[3] != 1) continue;
        *e = (struct entry){.n_in = (uint32_t)t->ne[0], .n_mat = (uint32_t)t->ne[2]};
        memcpy(e->name, t->name.bytes, t->name.len);
        (*out)->count++;
    }
    if (!rc) qsort((*out)->entries, (*out)->count, sizeof *(*out)->entries, compare_entries);
    return rc;
}

int imatrix_add(struct imatrix *m, const char *name, uint32_t mat, const float *x, uint32_t n, uint32_t width,
                struct error *error)
{
    struct entry *e = find(m, name, strlen(name));
    if (!e || e->n_in != width || mat >= e->n_mat)
        return error_set(error, ERROR_MODEL, "The model has no matrix %u of %s with %u inputs.", mat, name, width);
    int rc = e->counts ? 0 : allocate(e, error);
    if (rc) return rc;
    double *sums = e->sums + (size_t)mat * width;
    for (uint32_t t = 0; t < n; t++)
        for (uint32_t i = 0; i < width; i++)
            sums[i] += (double)x[(size_t)t * width + i] * (double)x[(size_t)t * width + i];
    e->counts[mat] += n;
    return 0;
}

void imatrix_coverage(const struct imatrix *m, size_t *seen, size_t *all)
{
    *seen = *all = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct entry *e = &m->entries[i];
        for (uint32_t j = 0; e->counts && j < e->n_mat; j++) *seen += e->counts[j] > 0;
        *all += e->counts ? e->n_mat : 0;
    }
}

/* ------------------------------------------------------------------------------------------------ writing */

static void describe(struct gguf_writer *w, const struct entry *e)
{
    char name[96];
    snprintf(name, sizeof name, "%s%s", e->name, sums_suffix);
    gguf_put_tensor(w, name, quant_format(QUANT_F32), 2, (const uint64_t[2]){e->n_in, e->n_mat});
    snprintf(name, sizeof name, "%s%s", e->name, counts_suffix);
    gguf_put_tensor(w, name, quant_format(QUANT_F32), 2, (const uint64_t[2]){1, e->n_mat});
}

static int write_doubles(struct gguf_writer *w, const double *values, size_t n, struct error *error)
{
    float part[256];
    int rc = 0;
    for (size_t at = 0; !rc && at < n; at += 256) {
        size_t count = n - at < 256 ? n - at : 256;
        for (size_t i = 0; i < count; i++) part[i] = (float)values[at + i];
        rc = gguf_write(w, part, count * sizeof *part, error);
    }
    return rc;
}

static int check_finite(const struct imatrix *m, struct error *error)
{
    for (size_t i = 0; i < m->count; i++) {
        const struct entry *e = &m->entries[i];
        for (size_t j = 0; e->sums && j < (size_t)e->n_mat * e->n_in; j++)
            if (!(e->sums[j] <= 3e38))
                return error_set(error, ERROR_MODEL, "The inputs of %s are not finite.", e->name);
    }
    return 0;
}

int imatrix_write(const struct imatrix *m, const char *path, const struct imatrix_origin *origin, struct error *error)
{
    struct gguf_writer *w = NULL;
    int rc = check_finite(m, error);
    if (!rc) rc = gguf_writer_open(&w, path, error);
    if (rc) return rc;
    gguf_put_string(w, "general.type", "imatrix", 7);
    gguf_put_string_array(w, "imatrix.datasets", origin->files, origin->n_files);
    gguf_put_u32(w, "imatrix.chunk_count", origin->chunks);
    gguf_put_u32(w, "imatrix.chunk_size", origin->chunk);
    for (size_t i = 0; i < m->count; i++)
        if (m->entries[i].counts) describe(w, &m->entries[i]);
    for (size_t i = 0; !rc && i < m->count; i++) {
        const struct entry *e = &m->entries[i];
        if (!e->counts) continue;
        rc = write_doubles(w, e->sums, (size_t)e->n_mat * e->n_in, error);
        if (!rc) rc = write_doubles(w, e->counts, e->n_mat, error);
    }
    if (!rc) return gguf_writer_finish(&w, error);
    gguf_writer_abort(&w);
    return rc;
}

/* ------------------------------------------------------------------------------------------------ reading */

static bool is_f32(const struct gguf_tensor *t)
{
    return t && t->format->type == QUANT_F32;
}

/* Not negative and not above what a mean can be taken of. */
static bool read_floats(const struct gguf_tensor *t, double *out, size_t n)
{
    const unsigned char *at = t->data;
    for (size_t i = 0; i < n; i++) {
        float v;
        memcpy(&v, at + i * sizeof v, sizeof v);
        if (!(v >= 0 && v <= 3.4e38f)) return false;
        out[i] = (double)v;
    }
    return true;
}

static int read_entry(struct entry *e, const struct gguf *file, const struct gguf_tensor *sums, struct error *error)
{
    char name[96];
    size_t len = sums->name.len - (sizeof sums_suffix - 1);
    snprintf(name, sizeof name, "%.*s%s", (int)len, sums->name.bytes, counts_suffix);
    const struct gguf_tensor *counts = gguf_tensor_named(file, name);
    uint64_t n_mat = sums->ne[1] * sums->ne[2];
    memcpy(e->name, sums->name.bytes, len);
    if (!is_f32(sums) || !is_f32(counts) || sums->ne[0] > UINT32_MAX || n_mat > UINT32_MAX || sums->ne[3] != 1 ||
        counts->bytes != n_mat * sizeof(float))
        return error_set(error, ERROR_MODEL, "The importance of %s is not F32 sums and as many counts.", e->name);
    e->n_in = (uint32_t)sums->ne[0];
    e->n_mat = (uint32_t)n_mat;
    int rc = allocate(e, error);
    if (rc) return rc;
    if (!read_floats(sums, e->sums, (size_t)e->n_mat * e->n_in) || !read_floats(counts, e->counts, e->n_mat))
        return error_set(error, ERROR_MODEL, "The importance of %s is negative or not finite.", e->name);
    return 0;
}

static int read_entries(struct imatrix *m, const struct gguf *file, const char *path, struct error *error)
{
    size_t suffix = sizeof sums_suffix - 1;
    for (size_t i = 0; i < gguf_tensor_count(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        if (t->name.len <= suffix || memcmp(t->name.bytes + t->name.len - suffix, sums_suffix, suffix) != 0) continue;
        int rc = read_entry(&m->entries[m->count++], file, t, error);
        if (rc) return rc;
    }
    if (!m->count) return error_set(error, ERROR_MODEL, "%s has the importance of no matrix.", path);
    qsort(m->entries, m->count, sizeof *m->entries, compare_entries);
    return 0;
}

static int read_gguf(struct imatrix **out, const char *path, struct error *error)
{
    struct gguf *file;
    struct gguf_string type = {"", 0};
    int rc = gguf_open(&file, path, error);
    if (rc) return rc;
    gguf_get_string(file, "general.type", &type);
    if (type.len != 7 || memcmp(type.bytes, "imatrix", 7) != 0)
        rc = error_set(error, ERROR_MODEL, "%s is not an imatrix file; lectern imatrix makes them.", path);
    if (!rc) rc = create(out, gguf_tensor_count(file), error);
    if (!rc) rc = read_entries(*out, file, path, error);
    if (rc) imatrix_free(out);
    gguf_close(&file);
    return rc;
}

/* An older file: i32 entries; each an i32 length and a name, i32 calls, i32 n, n floats, the sums of mean squares over
 * the calls. What follows tells of the text. */
struct older {
    FILE *file;
    const char *path;
    uint64_t left; /* bytes */
};

/* false: the file ends before. */
static bool take(struct older *f, void *out, size_t bytes)
{
    if (bytes > f->left || fread(out, 1, bytes, f->file) != bytes) return false;
    f->left -= bytes;
    return true;
}

static int cut_off(const struct older *f, size_t entry, struct error *error)
{
    return error_set(error, ERROR_MODEL, "%s is cut off or damaged at entry %zu.", f->path, entry + 1);
}

static int read_older_entry(struct older *f, size_t index, struct entry *e, struct error *error)
{
    int32_t len, calls, n;
    if (!take(f, &len, sizeof len) || len < 1 || (size_t)len >= sizeof e->name || !take(f, e->name, (size_t)len) ||
        memchr(e->name, 0, (size_t)len) || !take(f, &calls, sizeof calls) || !take(f, &n, sizeof n) || n < 1 ||
        (uint64_t)n * sizeof(float) > f->left)
        return cut_off(f, index, error);
    e->n_in = (uint32_t)n;
    e->n_mat = 1;
    e->is_flat = true;
    int rc = allocate(e, error);
    if (rc) return rc;
    for (int32_t i = 0; i < n; i++) {
        float v;
        if (!take(f, &v, sizeof v)) return cut_off(f, index, error);
        if (!(v >= 0 && v <= 3.4e38f))
            return error_set(error, ERROR_MODEL, "The importance of %s is negative or not finite.", e->name);
        e->sums[i] = (double)v;
    }
    e->counts[0] = calls > 0 ? calls : 1;
    return 0;
}

static int read_older(struct imatrix **out, struct older *f, struct error *error)
{
    enum { ENTRY_LEAST = 17 }; /* bytes: a letter and a float */
    int32_t count;
    if (!take(f, &count, sizeof count) || count < 1 || (uint64_t)count * ENTRY_LEAST > f->left)
        return error_set(error, ERROR_MODEL, "%s is not an imatrix file; lectern imatrix makes them.", f->path);
    int rc = create(out, (size_t)count, error);
    for (size_t i = 0; !rc && i < (size_t)count; i++) {
        rc = read_older_entry(f, i, &(*out)->entries[i], error);
        (*out)->count++;
    }
    if (!rc) qsort((*out)->entries, (*out)->count, sizeof *(*out)->entries, compare_entries);
    return rc;
}

int imatrix_read(struct imatrix **out, const char *path, struct error *error)
{
    *out = NULL;
    char magic[4] = {0};
    struct older f = {fopen(path, "rb"), path, 0};
    if (!f.file) return read_gguf(out, path, error);
    bool is_gguf = fread(magic, 1, sizeof magic, f.file) == sizeof magic && !memcmp(magic, "GGUF", sizeof magic);
    long size = fseek(f.file, 0, SEEK_END) ? -1 : ftell(f.file);
    f.left = size < 0 ? 0 : (uint64_t)size;
    rewind(f.file);
    int rc = is_gguf ? read_gguf(out, path, error) : read_older(out, &f, error);
    fclose(f.file);
    if (rc) imatrix_free(out);
    return rc;
}

/* ------------------------------------------------------------------------------------------------- using */

int imatrix_find(const struct imatrix *m, const struct gguf_tensor *t, bool *found, struct error *error)
{
    const struct entry *e = find(m, t->name.bytes, t->name.len);
    *found = e && e->counts;
    if (!*found || (e->n_in == t->ne[0] && e->n_mat == t->ne[2] * t->ne[3])) return 0;
    if (e->is_flat && e->n_in == t->ne[0] * t->ne[2] * t->ne[3]) return 0;
    return error_set(error, ERROR_MODEL, "The importance of %s is of another shape: it is another model's.", e->name);
}

void imatrix_fill(const struct imatrix *m, const struct gguf_tensor *t, uint64_t first, size_t n, float *out)
{
    const struct entry *e = find(m, t->name.bytes, t->name.len);
    uint64_t mat_weights = t->ne[0] * t->ne[1];
    for (size_t i = 0; i < n;) {
        uint64_t at = first + i, mat = at / mat_weights, column = at % t->ne[0];
        size_t left = (size_t)(t->ne[0] - column), run = n - i < left ? n - i : left;
        const double *sums = e->sums + mat * t->ne[0] + column;
        double count = e->counts[e->is_flat ? 0 : mat];
        for (size_t j = 0; j < run; j++) out[i + j] = count > 0 ? (float)(sums[j] / count) : 1;
        i += run;
    }
}
