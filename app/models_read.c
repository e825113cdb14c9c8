/* SPDX-License-Identifier: MIT
 *
 * Model files read from end to end: held against their manifests, or copied in.
 */
#include "app/models.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/catalogue.h"
#include "quant/gguf.h"

#define CHUNK (16u << 20)
#define PATH_ROOM (DOWNLOAD_NAME_MOST + 32u)

/* ------------------------------------------------------------------------------------------------- reading */

static int open_folder(const char *folder, int *dir, struct error *error)
{
    *dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*dir >= 0) return 0;
    return error_set(error, ERROR_FAILED, "%.300s cannot be opened: %s.", folder, strerror(errno));
}

/* Reads a file once, chunk by chunk; compares with the manifest's chunks, or notes them; may copy. */
struct scan {
    int in, out; /* out: -1 = no copy */
    struct manifest *m;
    const struct download_hooks *hooks;
    bool compares;
    size_t bad;
    uint8_t whole[32];
};

static bool read_chunk(int in, unsigned char *buffer, size_t want)
{
    for (size_t have = 0; have < want;) {
        ssize_t n = read(in, buffer + have, want - have);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        have += (size_t)n;
    }
    return true;
}

static bool write_chunk(int out, const unsigned char *buffer, size_t left)
{
    while (left) {
        ssize_t n = write(out, buffer, left);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        buffer += n;
        left -= (size_t)n;
    }
    return true;
}

static int scan_chunk(struct scan *s, size_t index, unsigned char *buffer, EVP_MD_CTX *whole, struct error *error)
{
    struct manifest_chunk *chunk = &s->m->chunks[index];
    size_t size = (size_t)manifest_chunk_bytes(s->m, index);
    uint8_t hash[32];
    if (!s->hooks->tick(s->hooks->ctx, DOWNLOAD_CHECKING, index * s->m->chunk, s->m->size))
        return error_set(error, ERROR_CANCELLED, "Stopped.");
    if (!read_chunk(s->in, buffer, size))
        return error_set(error, ERROR_FAILED, "The file is shorter than it was, or cannot be read.");
    if (!EVP_Digest(buffer, size, hash, NULL, EVP_sha256(), NULL) || !EVP_DigestUpdate(whole, buffer, size))
        return error_set(error, ERROR_FAILED, "The file could not be hashed.");
    if (s->compares && chunk->state == CHUNK_HERE && memcmp(hash, chunk->sha256, sizeof hash)) s->bad++;
    if (!s->compares) memcpy(chunk->sha256, hash, sizeof hash), chunk->state = CHUNK_HERE;
    if (s->out >= 0 && !write_chunk(s->out, buffer, size))
        return error_set(error, ERROR_DISK, "The copy cannot be written: %s.", strerror(errno));
    return 0;
}

static int scan_file(struct scan *s, struct error *error)
{
    unsigned char *buffer = malloc((size_t)s->m->chunk);
    EVP_MD_CTX *whole = EVP_MD_CTX_new();
    int rc = 0;
    if (!buffer || !whole || !EVP_DigestInit_ex(whole, EVP_sha256(), NULL))
        rc = error_set(error, ERROR_FAILED, "Out of memory.");
    for (size_t i = 0; !rc && i < s->m->n_chunks; i++) rc = scan_chunk(s, i, buffer, whole, error);
    if (!rc && !EVP_DigestFinal_ex(whole, s->whole, NULL))
        rc = error_set(error, ERROR_FAILED, "The file could not be hashed.");
    EVP_MD_CTX_free(whole);
    free(buffer);
    return rc;
}

static int open_model(int dir, const char *path, int *file, uint64_t *size, struct error *error)
{
    struct stat status;
    *file = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*file < 0 || fstat(*file, &status))
        return error_set(error, ERROR_MODEL, "%.300s cannot be opened: %s.", path, strerror(errno));
    if (!S_ISREG(status.st_mode) || status.st_size <= 0)
        return error_set(error, ERROR_MODEL, "%.300s is not a model file.", path);
    *size = (uint64_t)status.st_size;
    return 0;
}

/* An empty manifest for a file that lies there, with the catalogue's hash where it knows one. */
static int describe_anew(struct manifest *m, const char *name, uint64_t size, struct error *error)
{
    const struct catalogue_entry *e = catalogue_find_file(name);
    int rc = manifest_init(m, "", size, CHUNK, error);
    if (!rc && e && e->sha256 && hash_from_hex(e->sha256, m->sha256)) m->trust = TRUST_CATALOGUE;
    return rc;
}

/* -------------------------------------------------------------------------------------------------- verify */

static int verify_file(int dir, const char *name, struct scan *s, struct models_verdict *out, struct error *error)
{
    char path[PATH_ROOM];
    bool found = false;
    uint64_t size = 0;
    struct error why;
    snprintf(path, sizeof path, "%.200s.manifest", name);
    int rc = open_model(dir, name, &s->in, &size, error);
    if (rc) return rc;
    if (manifest_read(s->m, dir, path, &found, &why)) s->hooks->say(s->hooks->ctx, why.text);
    if (!found && (rc = describe_anew(s->m, name, size, error))) return rc;
    if (s->m->size != size)
        return error_set(error, ERROR_MODEL, "%.200s has %llu bytes and should have %llu.", name,
                         (unsigned long long)size, (unsigned long long)s->m->size);
    s->compares = found;
    if ((rc = scan_file(s, error))) return rc;
    out->was_known = s->m->trust != TRUST_NONE;
    out->is_whole_right = !out->was_known || !memcmp(s->whole, s->m->sha256, sizeof s->whole);
    out->bad = s->bad;
    out->n_chunks = s->m->n_chunks;
    memcpy(out->sha256, s->whole, sizeof out->sha256);
    if (found || !out->is_whole_right) return 0;
    if (!out->was_known) s->m->trust = TRUST_COMPUTED;
    memcpy(s->m->sha256, s->whole, sizeof s->whole);
    return manifest_write(s->m, dir, path, error);
}

int models_verify(const char *folder, const char *name, const struct download_hooks *hooks, struct models_verdict *out,
                  struct error *error)
{
    struct manifest m = {.size = 0};
    struct scan s = {.in = -1, .out = -1, .m = &m, .hooks = hooks};
    int dir, lock = -1;
    *out = (struct models_verdict){0};
    int rc = open_folder(folder, &dir, error);
    if (rc) return rc;
    rc = download_lock(dir, name, &lock, error);
    if (!rc) rc = verify_file(dir, name, &s, out, error);
    download_unlock(dir, name, lock);
    manifest_free(&m);
    if (s.in >= 0) close(s.in);
    close(dir);
    return rc;
}

/* -------------------------------------------------------------------------------------------------- import */

/* The first file of the model at path; opening it opens them all. */
static int check_import(const char *path, char **first, struct model_parts *parts, struct error *error)
{
    const char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;
    char name[DOWNLOAD_NAME_MOST + 1];
    struct gguf *file = NULL;
    if (!download_name_is_good(last))
        return error_set(error, ERROR_USAGE,
                         "\"%.200s\" cannot be the name of a model here: letters, digits, '.', '_', '-', ending in "
                         ".gguf.",
                         last);
    *parts = model_parts_of(last);
    model_parts_name(parts, 1, name); /* as long as the name of any other */
    if (!(*first = strdup(path))) return error_set(error, ERROR_FAILED, "Out of memory.");
    memcpy(*first + (last - path), name, strlen(name));
    int rc = gguf_open(&file, *first, error);
    gguf_close(&file);
    return rc;
}

/* The copy is at .part with no manifest: a run that is cut off leaves something that the next pull throws away. */
static int copy_in(int dir, const char *name, struct scan *s, struct error *error)
{
    char part[PATH_ROOM], manifest[PATH_ROOM];
    snprintf(part, sizeof part, "%.200s.part", name);
    snprintf(manifest, sizeof manifest, "%.200s.manifest", name);
    int rc = download_check_space(dir, s->m->size, error);
    if (rc) return rc;
    s->out = openat(dir, part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (s->out < 0 && errno == EEXIST)
        return error_set(error, ERROR_FAILED,
                         "A part of %.200s is here already: go on with lectern pull, or remove it.", name);
    if (s->out < 0) return error_set(error, ERROR_DISK, "%.220s cannot be made: %s.", part, strerror(errno));
    rc = scan_file(s, error);
    if (!rc && s->m->trust && memcmp(s->whole, s->m->sha256, sizeof s->whole))
        rc =
            error_set(error, ERROR_FAILED, "The file has another SHA-256 than the catalogue says: it is not imported.");
    if (!s->m->trust) s->m->trust = TRUST_COMPUTED;
    memcpy(s->m->sha256, s->whole, sizeof s->whole);
    if (!rc && fsync(s->out)) rc = error_set(error, ERROR_DISK, "The copy cannot be written: %s.", strerror(errno));
    if (!rc) rc = manifest_write(s->m, dir, manifest, error);
    if (!rc && (renameat(dir, part, dir, name) || fsync(dir)))
        rc = error_set(error, ERROR_DISK, "%.200s cannot be put in place: %s.", name, strerror(errno));
    if (rc) unlinkat(dir, part, 0), unlinkat(dir, manifest, 0);
    return rc;
}

static int import_file(int dir, const char *path, const char *name, const struct download_hooks *hooks,
                       struct error *error)
{
    struct manifest m = {.size = 0};
    struct scan s = {.in = -1, .out = -1, .m = &m, .hooks = hooks};
    struct stat status;
    uint64_t size = 0;
    int lock = -1;
    int rc = download_lock(dir, name, &lock, error);
    if (!rc && !fstatat(dir, name, &status, AT_SYMLINK_NOFOLLOW))
        rc = error_set(error, ERROR_FAILED, "%.200s is here already; `lectern models rm` removes it.", name);
    if (!rc) rc = open_model(AT_FDCWD, path, &s.in, &size, error);
    if (!rc) rc = describe_anew(&m, name, size, error);
    if (!rc) rc = copy_in(dir, name, &s, error);
    download_unlock(dir, name, lock);
    manifest_free(&m);
    if (s.in >= 0) close(s.in);
    if (s.out >= 0) close(s.out);
    return rc;
}

/* All of it or nothing: what was copied before a file that cannot be is taken away again. */
static int import_files(int dir, char *path, const struct model_parts *parts, const struct download_hooks *hooks,
                        struct error *error)
{
    char name[DOWNLOAD_NAME_MOST + 1], manifest[PATH_ROOM];
    unsigned done = 0;
    int rc = 0;
    for (; !rc && done < parts->count; done += !rc) {
        model_parts_name(parts, done + 1, name);
        memcpy(path + strlen(path) - strlen(name), name, strlen(name));
        rc = import_file(dir, path, name, hooks, error);
    }
    for (unsigned i = 1; rc && i <= done; i++) {
        model_parts_name(parts, i, name);
        snprintf(manifest, sizeof manifest, "%.200s.manifest", name);
        unlinkat(dir, name, 0);
        unlinkat(dir, manifest, 0);
    }
    return rc;
}

int models_import(const char *folder, const char *path, const struct download_hooks *hooks,
                  char name[DOWNLOAD_NAME_MOST + 1], struct error *error)
{
    struct model_parts parts;
    char *first = NULL;
    int dir = -1;
    int rc = check_import(path, &first, &parts, error);
    if (!rc) rc = open_folder(folder, &dir, error);
    if (!rc) rc = import_files(dir, first, &parts, hooks, error);
    if (!rc) model_parts_name(&parts, 1, name);
    if (dir >= 0) close(dir);
    free(first);
    return rc;
}
