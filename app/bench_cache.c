/* SPDX-License-Identifier: MIT
 *
 * See bench_cache.h.
 */
#include "app/bench_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/bench.h"

enum { READ_BYTES = 8 << 20 };

/* How much of an open file is in the page cache; -1 where the system does not say. */
static double cached_bytes(int file)
{
    struct stat st;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages, resident = 0;
    if (fstat(file, &st) || st.st_size <= 0) return st.st_size ? -1 : 0;
    pages = ((size_t)st.st_size + page - 1) / page;
    unsigned char *there = malloc(pages);
    void *map = there ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;
    bool known = map != MAP_FAILED && !mincore(map, (size_t)st.st_size, there);
    for (size_t i = 0; known && i < pages; i++) resident += there[i] & 1;
    if (map != MAP_FAILED) munmap(map, (size_t)st.st_size);
    free(there);
    return known ? (double)resident * (double)page : -1;
}

static int drop_file(void *ctx, int folder, const char *name)
{
    struct bench_cache *cache = ctx;
    int file = openat(folder, name, O_RDONLY | O_CLOEXEC);
    if (file < 0) return errno;
    int failed = fsync(file) ? errno : posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    double kept = failed ? 0 : cached_bytes(file);
    close(file);
    if (kept < 0) cache->is_unknown = true;
    if (kept > 0) cache->kept_bytes += kept;
    return failed;
}

static int remove_file(void *ctx, int folder, const char *name)
{
    (void)ctx;
    return unlinkat(folder, name, 0) ? errno : 0;
}

static int each_file(const char *path, int (*visit)(void *, int, const char *), void *ctx, struct error *error)
{
    DIR *dir = opendir(path);
    if (!dir) return error_set(error, ERROR_DISK, "%.300s: %s.", path, strerror(errno));
    int failed = 0;
    for (const struct dirent *entry; !failed && (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) failed = visit(ctx, dirfd(dir), entry->d_name);
    closedir(dir);
    return failed ? error_set(error, ERROR_DISK, "%.300s: %s.", path, strerror(failed)) : 0;
}

int bench_cache_drop(const char *dir, struct bench_cache *out, struct error *error)
{
    *out = (struct bench_cache){0};
    return each_file(dir, drop_file, out, error);
}

int bench_folder_remove(const char *dir, struct error *error)
{
    int rc = each_file(dir, remove_file, NULL, error);
    if (!rc && rmdir(dir)) rc = error_set(error, ERROR_DISK, "%.300s: %s.", dir, strerror(errno));
    return rc;
}

int bench_read_rate(const char *path, double *rate, struct error *error)
{
    void *bytes = malloc(READ_BYTES);
    if (!bytes) return error_set(error, ERROR_FAILED, "Out of memory.");
    double began = bench_clock(), all = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = file < 0 ? -1 : posix_fadvise(file, 0, 0, POSIX_FADV_SEQUENTIAL) ? -1 : 1;
    while (n > 0 && (n = read(file, bytes, READ_BYTES)) > 0) all += (double)n;
    int rc = n < 0 ? error_set(error, ERROR_DISK, "%.300s: %s.", path, strerror(errno)) : 0;
    if (file >= 0) close(file);
    free(bytes);
    *rate = all / (bench_clock() - began);
    return rc;
}
