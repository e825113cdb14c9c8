/* SPDX-License-Identifier: MIT
 *
 * The part on the disk: room made for all of it first, chunks written where they belong, read back for the hash of the
 * whole, and renamed when all is right. Every name is opened below the folder's descriptor, never through a link.
 */
#include "app/download_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "app/progress.h"

bool download_name_is_good(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+";
    size_t len = strlen(name);
    return len > 5 && len <= DOWNLOAD_NAME_MOST && name[0] != '.' && name[0] != '-' && strspn(name, allowed) == len &&
           !strcmp(name + len - 5, ".gguf");
}

/* ---------------------------------------------------------------------------------------------------- lock */

/* Is the file we hold still the one under that name? */
static bool is_same_file(int file, int dir, const char *name)
{
    struct stat held, named;
    return !fstat(file, &held) && !fstatat(dir, name, &named, AT_SYMLINK_NOFOLLOW) && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
}

int download_lock(int dir, const char *name, int *lock, struct error *error)
{
    char path[DOWNLOAD_NAME_MOST + 32];
    snprintf(path, sizeof path, "%.200s.lock", name);
    for (;;) {
        int file = openat(dir, path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (file < 0) return error_set(error, ERROR_DISK, "%.220s cannot be made: %s.", path, strerror(errno));
        if (flock(file, LOCK_EX | LOCK_NB)) {
            int failed = errno;
            close(file);
            if (failed == EWOULDBLOCK)
                return error_set(error, ERROR_FAILED, "Another lectern is busy with %.200s.", name);
            return error_set(error, ERROR_FAILED, "%.220s cannot be locked: %s.", path, strerror(failed));
        }
        if (is_same_file(file, dir, path)) {
            *lock = file;
            return 0;
        }
        close(file); /* its holder removed it just now */
    }
}

void download_unlock(int dir, const char *name, int lock)
{
    char path[DOWNLOAD_NAME_MOST + 32];
    if (lock < 0) return;
    snprintf(path, sizeof path, "%.200s.lock", name);
    unlinkat(dir, path, 0);
    close(lock);
}

/* --------------------------------------------------------------------------------------------------- space */

static int no_room(uint64_t need, uint64_t have, struct error *error)
{
    char missing[32], needed[32];
    return error_set(error, ERROR_DISK, "The disk has no room: %s more are needed, %s are missing.",
                     format_bytes(need, needed), format_bytes(need > have ? need - have : need, missing));
}

int download_check_space(int dir, uint64_t bytes, struct error *error)
{
    struct statvfs fs;
    if (fstatvfs(dir, &fs))
        return error_set(error, ERROR_DISK, "The disk cannot be asked for room: %s.", strerror(errno));
    uint64_t have = (uint64_t)fs.f_bavail * fs.f_frsize;
    return have < bytes ? no_room(bytes, have, error) : 0;
}

static int write_error(const struct download *d, int failed, struct error *error)
{
    uint64_t left = d->m.size - d->here;
    struct statvfs fs;
    if (failed == ENOSPC || failed == EDQUOT)
        return no_room(left, fstatvfs(d->dir, &fs) ? 0 : (uint64_t)fs.f_bavail * fs.f_frsize, error);
    if (failed == EFBIG) {
        char size[32];
        return error_set(error, ERROR_DISK, "A file of %s is more than this disk or a limit (ulimit -f) allows.",
                         format_bytes(d->m.size, size));
    }
    return error_set(error, ERROR_DISK, "%.220s cannot be written: %s.", d->part, strerror(failed));
}

int part_open(struct download *d, struct error *error)
{
    struct stat status;
    d->file = openat(d->dir, d->part, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (d->file < 0 || fstat(d->file, &status))
        return error_set(error, ERROR_DISK, "%.220s cannot be opened: %s.", d->part, strerror(errno));
    if (!S_ISREG(status.st_mode)) return error_set(error, ERROR_DISK, "%.220s is not a file.", d->part);
    uint64_t taken = (uint64_t)status.st_blocks * 512;
    int rc = taken < d->m.size ? download_check_space(d->dir, d->m.size - taken, error) : 0;
    if (rc) return rc;
    /* A disk that cannot reserve says EOPNOTSUPP; then the check above must do, and a full disk is met on the way. */
    if (fallocate(d->file, 0, 0, (off_t)d->m.size) && errno != EOPNOTSUPP) return write_error(d, errno, error);
    if (ftruncate(d->file, (off_t)d->m.size)) return write_error(d, errno, error);
    return 0;
}

int part_write(struct download *d, uint64_t at, const void *bytes, size_t n, struct error *error)
{
    const unsigned char *from = bytes;
    while (n) {
        ssize_t written = pwrite(d->file, from, n, (off_t)at);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return write_error(d, written < 0 ? errno : ENOSPC, error);
        from += written;
        at += (uint64_t)written;
        n -= (size_t)written;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------- reading */

/* The chunk's bytes into the buffer; are they the ones that arrived? */
static bool chunk_is_right(struct download *d, size_t index)
{
    uint8_t hash[32];
    size_t have = 0, want = (size_t)manifest_chunk_bytes(&d->m, index);
    while (have < want) {
        ssize_t n = pread(d->file, d->buffer + have, want - have, (off_t)(index * d->m.chunk + have));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        have += (size_t)n;
    }
    return EVP_Digest(d->buffer, want, hash, NULL, EVP_sha256(), NULL) &&
           !memcmp(hash, d->m.chunks[index].sha256, sizeof hash);
}

static void drop_chunk(struct download *d, size_t index)
{
    d->m.chunks[index].state = CHUNK_MISSING;
    d->here -= manifest_chunk_bytes(&d->m, index);
}

/* Adds the buffer, which holds chunk `hashed`, to the whole's hash. */
static bool add_to_whole(struct download *d)
{
    if (!EVP_DigestUpdate(d->whole, d->buffer, (size_t)manifest_chunk_bytes(&d->m, d->hashed))) return false;
    d->hashed++;
    return true;
}

int part_restart_hash(struct download *d, struct error *error)
{
    d->hashed = 0;
    if (!d->whole) d->whole = EVP_MD_CTX_new();
    if (!d->whole || !EVP_DigestInit_ex(d->whole, EVP_sha256(), NULL)) return out_of_memory(error);
    return 0;
}

int part_check(struct download *d, size_t *bad, struct error *error)
{
    const struct download_hooks *hooks = d->params->hooks;
    uint64_t total = manifest_bytes_here(&d->m), done = 0;
    *bad = 0;
    int rc = part_restart_hash(d, error);
    for (size_t i = 0; !rc && i < d->m.n_chunks; i++) {
        if (d->m.chunks[i].state == CHUNK_MISSING) continue;
        if (!hooks->tick(hooks->ctx, DOWNLOAD_CHECKING, done, total))
            return error_set(error, ERROR_CANCELLED, "Stopped.");
        done += manifest_chunk_bytes(&d->m, i);
        if (!chunk_is_right(d, i)) {
            drop_chunk(d, i);
            ++*bad;
        } else if (d->hashed == i && !add_to_whole(d)) {
            rc = error_set(error, ERROR_FAILED, "The file could not be hashed.");
        }
    }
    return rc;
}

bool part_advance(struct download *d)
{
    if (d->second_look || d->hashed == d->m.n_chunks || d->m.chunks[d->hashed].state != CHUNK_HERE) return false;
    if (chunk_is_right(d, d->hashed)) return add_to_whole(d);
    if (++d->spoiled <= SPOILED_MOST) drop_chunk(d, d->hashed);
    return d->spoiled <= SPOILED_MOST;
}

/* ------------------------------------------------------------------------------------------------- the end */

int part_save(struct download *d, struct error *error)
{
    return manifest_write(&d->m, d->dir, d->part_manifest, error);
}

void part_discard(struct download *d)
{
    unlinkat(d->dir, d->part_manifest, 0);
    unlinkat(d->dir, d->part, 0);
}

int part_install(struct download *d, struct error *error)
{
    /* The manifest first: with it and a part, a run that was cut off here only has to check and rename. */
    int rc = part_save(d, error);
    if (rc) return rc;
    if (fsync(d->file) || renameat(d->dir, d->part, d->dir, d->params->name) || fsync(d->dir))
        return error_set(error, ERROR_DISK, "%.200s cannot be put in place: %s.", d->params->name, strerror(errno));
    if (renameat(d->dir, d->part_manifest, d->dir, d->manifest) || fsync(d->dir))
        return error_set(error, ERROR_DISK, "%.220s cannot be put in place: %s.", d->manifest, strerror(errno));
    return 0;
}
