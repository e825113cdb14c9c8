/* SPDX-License-Identifier: MIT
 *
 * Reference files (score.h says what is in them).
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/score.h"

enum { HEAD_BYTES = 24, ROW_HEAD = 8, CODES = 65535 };
static const char magic[] = "LECTREF1";
static const float deepest = 32; /* nats below the highest that are told apart */

struct reference {
    FILE *file;
    char *path, *part; /* part: NULL when reading */
    struct reference_head head;
    unsigned char *row; /* row_bytes */
    size_t row_bytes;
    uint32_t done; /* rows */
};

static void put_u32(unsigned char *at, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++) at[i] = (unsigned char)(v >> (8 * i));
}

static uint32_t get_u32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put_f32(unsigned char *at, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_u32(at, bits);
}

static float get_f32(const unsigned char *at)
{
    uint32_t bits = get_u32(at);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static void encode_head(const struct reference_head *head, unsigned char *out)
{
    memcpy(out, magic, 8);
    put_u32(out + 8, head->n_vocab);
    put_u32(out + 12, head->chunk);
    put_u32(out + 16, head->n_tokens);
    put_u32(out + 20, head->n_scored);
}

static int create(struct reference **out, const char *path, const struct reference_head *head, struct error *error)
{
    struct reference *r = calloc(1, sizeof *r);
    *out = r;
    if (!r) return error_set(error, ERROR_FAILED, "Out of memory for %s.", path);
    r->head = *head;
    r->row_bytes = ROW_HEAD + 2 * (size_t)head->n_vocab;
    r->path = strdup(path);
    r->row = malloc(r->row_bytes);
    return r->path && r->row ? 0 : error_set(error, ERROR_FAILED, "Out of memory for %s.", path);
}

void reference_close(struct reference **reference)
{
    struct reference *r = *reference;
    if (!r) return;
    if (r->file) fclose(r->file);
    if (r->part) unlink(r->part);
    free(r->path);
    free(r->part);
    free(r->row);
    free(r);
    *reference = NULL;
}

/* ------------------------------------------------------------------------------------------------- writing */

static int write_failed(const struct reference *r, struct error *error)
{
    return error_set(error, ERROR_DISK, "%s cannot be written: %s.", r->path, strerror(errno));
}

static int write_head(struct reference *r, const uint32_t *ids, struct error *error)
{
    unsigned char head[HEAD_BYTES], id[4];
    encode_head(&r->head, head);
    if (fwrite(head, sizeof head, 1, r->file) != 1) return write_failed(r, error);
    for (uint32_t i = 0; i < r->head.n_tokens; i++) {
        put_u32(id, ids[i]);
        if (fwrite(id, sizeof id, 1, r->file) != 1) return write_failed(r, error);
    }
    return 0;
}

int reference_create(struct reference **out, const char *path, const struct reference_head *head, const uint32_t *ids,
                     struct error *error)
{
    int rc = create(out, path, head, error);
    size_t room = strlen(path) + sizeof ".part";
    char *part = rc ? NULL : malloc(room);
    if (!rc && !part) rc = error_set(error, ERROR_FAILED, "Out of memory for %s.", path);
    if (!rc) {
        snprintf(part, room, "%s.part", path);
        (*out)->file = fopen(part, "wb");
        if ((*out)->file)
            (*out)->part = part;
        else
            rc = write_failed(*out, error), free(part);
    }
    if (!rc) rc = write_head(*out, ids, error);
    if (rc) reference_close(out);
    return rc;
}

int reference_write(struct reference *r, const float *row, struct error *error)
{
    size_t n = r->head.n_vocab;
    float highest = row[score_best(row, n)], range = 0;
    for (size_t i = 0; i < n; i++) range = fmaxf(range, fminf(highest - row[i], deepest));
    float step = range / CODES;
    put_f32(r->row, highest);
    put_f32(r->row + 4, step);
    for (size_t i = 0; i < n; i++) {
        float code = step > 0 ? fminf(nearbyintf((highest - row[i]) / step), CODES) : 0;
        r->row[ROW_HEAD + 2 * i] = (unsigned char)((unsigned)code & 0xff);
        r->row[ROW_HEAD + 2 * i + 1] = (unsigned char)((unsigned)code >> 8);
    }
    if (fwrite(r->row, r->row_bytes, 1, r->file) != 1) return write_failed(r, error);
    r->done++;
    return 0;
}

int reference_finish(struct reference **reference, struct error *error)
{
    struct reference *r = *reference;
    int rc = r->done == r->head.n_scored
                 ? 0
                 : error_set(error, ERROR_FAILED, "%s: %u rows came of %u.", r->path, r->done, r->head.n_scored);
    if (!rc && (fflush(r->file) || fsync(fileno(r->file)))) rc = write_failed(r, error);
    if (!rc && rename(r->part, r->path)) rc = write_failed(r, error);
    if (!rc) {
        free(r->part);
        r->part = NULL;
    }
    reference_close(reference);
    return rc;
}

/* ------------------------------------------------------------------------------------------------- reading */

/* Compares the file's head and size with what this run needs. */
static int check_head(struct reference *r, struct error *error)
{
    unsigned char head[HEAD_BYTES];
    struct stat st;
    if (fread(head, sizeof head, 1, r->file) != 1 || memcmp(head, magic, 8))
        return error_set(error, ERROR_INPUT, "%s is not a reference file; perplexity --save makes them.", r->path);
    const struct reference_head *want = &r->head;
    uint32_t n_vocab = get_u32(head + 8), chunk = get_u32(head + 12);
    if (n_vocab != want->n_vocab)
        return error_set(error, ERROR_INPUT, "%s is of a model of %u tokens, this one has %u.", r->path, n_vocab,
                         want->n_vocab);
    if (chunk != want->chunk)
        return error_set(error, ERROR_INPUT, "%s was made with --chunk %u, not %u.", r->path, chunk, want->chunk);
    if (get_u32(head + 16) != want->n_tokens || get_u32(head + 20) != want->n_scored)
        return error_set(error, ERROR_INPUT, "%s was made from another text.", r->path);
    uint64_t size = HEAD_BYTES + 4 * (uint64_t)want->n_tokens + (uint64_t)want->n_scored * r->row_bytes;
    if (fstat(fileno(r->file), &st) || (uint64_t)st.st_size != size)
        return error_set(error, ERROR_INPUT, "%s is not whole: %llu bytes were expected.", r->path,
                         (unsigned long long)size);
    return 0;
}

static int check_ids(struct reference *r, const uint32_t *ids, struct error *error)
{
    unsigned char id[4];
    for (uint32_t i = 0; i < r->head.n_tokens; i++) {
        if (fread(id, sizeof id, 1, r->file) != 1) return error_set(error, ERROR_INPUT, "%s ends early.", r->path);
        if (get_u32(id) != ids[i])
            return error_set(error, ERROR_INPUT, "%s was made from another text: token %u differs.", r->path, i);
    }
    return 0;
}

int reference_open(struct reference **out, const char *path, const struct reference_head *head, const uint32_t *ids,
                   struct error *error)
{
    int rc = create(out, path, head, error);
    if (!rc && !((*out)->file = fopen(path, "rb")))
        rc = error_set(error, ERROR_INPUT, "%s cannot be opened: %s.", path, strerror(errno));
    if (!rc) rc = check_head(*out, error);
    if (!rc) rc = check_ids(*out, ids, error);
    if (rc) reference_close(out);
    return rc;
}

int reference_read(struct reference *r, float *row, struct error *error)
{
    if (r->done == r->head.n_scored || fread(r->row, r->row_bytes, 1, r->file) != 1)
        return error_set(error, ERROR_INPUT, "%s ends early.", r->path);
    float highest = get_f32(r->row), step = get_f32(r->row + 4);
    if (!(highest <= 0 && highest > -deepest) || !(step >= 0 && step <= deepest / CODES))
        return error_set(error, ERROR_INPUT, "%s is broken: row %u is no distribution.", r->path, r->done);
    for (size_t i = 0; i < r->head.n_vocab; i++) {
        unsigned code = (unsigned)r->row[ROW_HEAD + 2 * i] | (unsigned)r->row[ROW_HEAD + 2 * i + 1] << 8;
        row[i] = highest - step * (float)code;
    }
    r->done++;
    score_log_softmax(row, r->head.n_vocab);
    return 0;
}
