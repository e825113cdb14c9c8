/* SPDX-License-Identifier: MIT
 *
 * Which sessions are in use, over all processes. Who uses session N holds a shared lock on byte N of DIR/lectern.lock,
 * through an open file description of its own (F_OFD_SETLK). The kernel drops the locks of a process that dies, kill -9
 * included: nothing goes stale, and no process id can be mistaken for another. Asking through another description
 * (lock_fd) meets this process's own holds too; asking through lease_fd meets those of others alone.
 *
 * A hold is taken under the store's write lock, so that it stands either before an eviction looks or after it is done.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/internal.h"

int lease_open(const char *dir, int *fd, struct error *error)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/lectern.lock", dir);
    *fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (*fd >= 0) return 0;
    return error_set(error, ERROR_DISK, "The store's lock file cannot be opened: %s.", strerror(errno));
}

static int lock_byte(int fd, int64_t session, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = session, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &lock);
}

/* A lost time of use costs nothing but a little precision: no error. */
static void note_use(struct store *store, int64_t session)
{
    struct error ignored;
    if (write_begin(store, &ignored)) return;
    int rc = db_run(store->writer, "UPDATE session SET used = ?2 WHERE id = ?1",
                    DB_VALUES(db_int(session), db_int(store_now())), &ignored);
    write_end(store, rc, &ignored);
}

int store_session_hold(struct store *store, int64_t session, struct error *error)
{
    int rc = write_hold(store, error);
    if (rc) return rc;
    if (lock_byte(store->lease_fd, session, F_RDLCK))
        rc = error_set(error, ERROR_DISK, "The session cannot be marked as in use: %s.", strerror(errno));
    write_release(store);
    if (!rc) note_use(store, session);
    return rc;
}

void store_session_release(struct store *store, int64_t session)
{
    lock_byte(store->lease_fd, session, F_UNLCK); /* what fails to be released is with the process */
}

/* Where the system cannot tell, the session counts as in use. */
static bool is_locked(int fd, int64_t session)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = session, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &lock) || lock.l_type != F_UNLCK;
}

bool lease_is_held(const struct store *store, int64_t session)
{
    return is_locked(store->lock_fd, session);
}

bool lease_is_held_by_another(const struct store *store, int64_t session)
{
    return is_locked(store->lease_fd, session);
}
