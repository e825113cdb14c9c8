/* SPDX-License-Identifier: MIT
 *
 * The folder of the store: made with mode 0700, refused where a write-ahead log cannot live, and locked by whoever
 * writes. A folder that was there keeps its own mode (the files in it are 0600 in any case).
 */
#include "store/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define LOCK_WAIT_MS 30000
#define LOCK_STEP_MS 5

static int make_folders(const char *dir, struct error *error)
{
    char path[PATH_MAX];
    size_t length = strlen(dir);
    if (length == 0 || length >= sizeof path)
        return error_set(error, ERROR_USAGE, "The name of the store's folder is empty or too long.");
    for (size_t i = 1; i <= length; i++) {
        if (dir[i] != '/' && dir[i] != '\0') continue;
        memcpy(path, dir, i);
        path[i] = '\0';
        if (mkdir(path, 0700) && errno != EEXIST)
            return error_set(error, ERROR_DISK, "The folder %s cannot be made: %s.", path, strerror(errno));
    }
    return 0;
}

const char *folder_network_name(long type)
{
    switch ((unsigned long)type & 0xffffffffUL) {
    case 0x6969UL:
        return "NFS";
    case 0x517BUL:
    case 0xFE534D42UL:
    case 0xFF534D42UL:
        return "SMB";
    case 0x01021997UL:
        return "9p";
    case 0x5346414FUL:
        return "AFS";
    case 0x00C36400UL:
        return "Ceph";
    default:
        return NULL;
    }
}

static int refuse_network(const char *dir, struct error *error)
{
    struct statfs fs;
    if (statfs(dir, &fs))
        return error_set(error, ERROR_DISK, "The folder %s cannot be used: %s.", dir, strerror(errno));
    const char *name = folder_network_name((long)fs.f_type);
    if (!name) return 0;
    return error_set(error, ERROR_DISK,
                     "The folder %s lies on a network file system (%s), where the database is not safe: choose a local "
                     "folder with --data-dir.",
                     dir, name);
}

int folder_open(const char *dir, int *lock_fd, struct error *error)
{
    *lock_fd = -1;
    int rc = make_folders(dir, error);
    if (!rc) rc = refuse_network(dir, error);
    if (rc) return rc;
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/lectern.lock", dir);
    *lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*lock_fd < 0)
        return error_set(error, ERROR_DISK, "The store's folder %s cannot be written: %s.", dir, strerror(errno));
    return 0;
}

int folder_lock(int lock_fd, struct error *error)
{
    for (int waited = 0; flock(lock_fd, LOCK_EX | LOCK_NB); waited += LOCK_STEP_MS) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return error_set(error, ERROR_DISK, "The store's lock file cannot be locked: %s.", strerror(errno));
        if (waited >= LOCK_WAIT_MS)
            return error_set(
                error, ERROR_FAILED,
                "Another lectern has been writing to this store for %d seconds: try again when it is done.",
                LOCK_WAIT_MS / 1000);
        nanosleep(&(struct timespec){.tv_nsec = LOCK_STEP_MS * 1000000L}, NULL);
    }
    return 0;
}

void folder_unlock(int lock_fd)
{
    flock(lock_fd, LOCK_UN);
}

void folder_close(int lock_fd)
{
    close(lock_fd);
}

int folder_create_file(const char *path, struct error *error)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return error_set(error, ERROR_DISK, "The file %s cannot be written: %s.", path, strerror(errno));
    int rc = 0;
    if (fchmod(fd, 0600))
        rc = error_set(error, ERROR_DISK, "The file %s cannot be made private: %s.", path, strerror(errno));
    close(fd);
    return rc;
}

int folder_sync(const char *dir, struct error *error)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || fsync(fd);
    if (fd >= 0) close(fd);
    return failed ? error_set(error, ERROR_DISK, "The folder %s cannot be synced: %s.", dir, strerror(errno)) : 0;
}
