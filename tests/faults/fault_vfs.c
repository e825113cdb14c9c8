/* SPDX-License-Identifier: MIT
 *
 * See fault_vfs.h.
 */
#include "tests/faults/fault_vfs.h"

#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_IMAGES 16
#define SECTOR 512u

struct change {
    struct change *next;
    bool truncate;
    size_t at, size; /* truncate: size is the new length */
    uint8_t *data;
};

struct image {
    char path[PATH_MAX];
    uint8_t *data;
    size_t size;
    bool exists;
    struct change *first, **last;
};

struct fault_file {
    sqlite3_file base; /* SQLite's view of us */
    struct image *image;
    sqlite3_file *real; /* behind us in the same allocation */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sqlite3_vfs *real_vfs, our_vfs;
static struct {
    enum fault_call call;
    unsigned n, seen;
    int code;
    bool forever, fired;
} plan;
static struct {
    bool on, cut;
    unsigned n, seen;
    struct image images[MOST_IMAGES];
    size_t count;
} power;

/* ----------------------------------------------------------------------------------------------- the images */

static void image_apply(struct image *i, const struct change *c)
{
    size_t end = c->truncate ? c->size : c->at + c->size;
    if (end > i->size) {
        i->data = realloc(i->data, end);
        if (!i->data) abort();
        memset(i->data + i->size, 0, end - i->size);
        i->size = end;
    }
    if (c->truncate)
        i->size = c->size;
    else
        memcpy(i->data + c->at, c->data, c->size);
}

static void image_forget(struct image *i)
{
    while (i->first) {
        struct change *c = i->first;
        i->first = c->next;
        free(c->data);
        free(c);
    }
    i->last = &i->first;
}

static void image_sync(struct image *i)
{
    for (const struct change *c = i->first; c; c = c->next) image_apply(i, c);
    image_forget(i);
}

static void image_change(struct image *i, bool truncate, size_t at, const void *data, size_t size)
{
    struct change *c = calloc(1, sizeof *c);
    if (!c) abort();
    *c = (struct change){.truncate = truncate, .at = at, .size = size, .data = truncate ? NULL : malloc(size + 1)};
    if (!truncate) memcpy(c->data, data, size);
    *i->last = c;
    i->last = &c->next;
}

static struct image *image_find(const char *path)
{
    for (size_t i = 0; i < power.count; i++)
        if (strcmp(power.images[i].path, path) == 0) return &power.images[i];
    return NULL;
}

/* At opening a file is as the disk has it. */
static struct image *image_open(const char *path)
{
    if (!power.on || !path) return NULL;
    struct image *i = image_find(path);
    if (i && i->exists) return i;
    if (!i) {
        if (power.count == MOST_IMAGES) abort();
        i = &power.images[power.count++];
        snprintf(i->path, sizeof i->path, "%s", path);
    }
    i->last = &i->first;
    i->exists = true;
    i->size = 0;
    FILE *f = fopen(path, "rb");
    uint8_t block[4096];
    for (size_t n; f && (n = fread(block, 1, sizeof block, f)) > 0;)
        image_apply(i, &(struct change){.at = i->size, .size = n, .data = block});
    if (f) fclose(f);
    return i;
}

/* --------------------------------------------------------------------------------------------------- failing */

/* Under the mutex. What the call must answer instead of being done, or SQLITE_OK. */
static int verdict(enum fault_call call)
{
    bool changes = call != FAULT_READ && call != FAULT_OPEN;
    if (power.on && changes && !power.cut && power.n && ++power.seen == power.n) power.cut = true;
    if (power.cut && call != FAULT_READ) return SQLITE_IOERR_WRITE;
    if (!plan.n || plan.call != call) return SQLITE_OK;
    plan.seen++;
    if (plan.seen != plan.n && !(plan.forever && plan.seen > plan.n)) return SQLITE_OK;
    plan.fired = true;
    return plan.code;
}

static struct fault_file *file_of(sqlite3_file *f)
{
    return (struct fault_file *)f;
}

static int f_close(sqlite3_file *f)
{
    struct fault_file *file = file_of(f);
    return file->real->pMethods ? file->real->pMethods->xClose(file->real) : SQLITE_OK;
}

static int f_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at)
{
    pthread_mutex_lock(&mutex);
    int code = verdict(FAULT_READ);
    pthread_mutex_unlock(&mutex);
    sqlite3_file *real = file_of(f)->real;
    return code ? code : real->pMethods->xRead(real, to, n, at);
}

static int f_write(sqlite3_file *f, const void *from, int n, sqlite3_int64 at)
{
    struct fault_file *file = file_of(f);
    pthread_mutex_lock(&mutex);
    int code = verdict(FAULT_WRITE);
    if (!code && file->image) image_change(file->image, false, (size_t)at, from, (size_t)n);
    if (!code) code = file->real->pMethods->xWrite(file->real, from, n, at);
    pthread_mutex_unlock(&mutex);
    return code;
}

static int f_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    struct fault_file *file = file_of(f);
    pthread_mutex_lock(&mutex);
    int code = verdict(FAULT_TRUNCATE);
    if (!code && file->image) image_change(file->image, true, 0, NULL, (size_t)size);
    if (!code) code = file->real->pMethods->xTruncate(file->real, size);
    pthread_mutex_unlock(&mutex);
    return code;
}

static int f_sync(sqlite3_file *f, int flags)
{
    (void)flags; /* durability is ours to model here: the real disk need not be asked */
    struct fault_file *file = file_of(f);
    pthread_mutex_lock(&mutex);
    int code = verdict(FAULT_SYNC);
    if (!code && file->image) image_sync(file->image);
    pthread_mutex_unlock(&mutex);
    return code;
}

#define REAL file_of(f)->real
static int f_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return REAL->pMethods->xFileSize(REAL, size);
}
static int f_lock(sqlite3_file *f, int level)
{
    return REAL->pMethods->xLock(REAL, level);
}
static int f_unlock(sqlite3_file *f, int level)
{
    return REAL->pMethods->xUnlock(REAL, level);
}
static int f_reserved(sqlite3_file *f, int *out)
{
    return REAL->pMethods->xCheckReservedLock(REAL, out);
}
static int f_control(sqlite3_file *f, int op, void *arg)
{
    return REAL->pMethods->xFileControl(REAL, op, arg);
}
static int f_sector(sqlite3_file *f)
{
    return REAL->pMethods->xSectorSize(REAL);
}
static int f_device(sqlite3_file *f)
{
    return REAL->pMethods->xDeviceCharacteristics(REAL);
}
static int f_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
    return REAL->pMethods->xShmMap(REAL, page, size, extend, out);
}
static int f_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
    return REAL->pMethods->xShmLock(REAL, at, n, flags);
}
static void f_barrier(sqlite3_file *f)
{
    REAL->pMethods->xShmBarrier(REAL);
}
static int f_unmap(sqlite3_file *f, int delete_it)
{
    return REAL->pMethods->xShmUnmap(REAL, delete_it);
}
#undef REAL

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = f_close,
    .xRead = f_read,
    .xWrite = f_write,
    .xTruncate = f_truncate,
    .xSync = f_sync,
    .xFileSize = f_size,
    .xLock = f_lock,
    .xUnlock = f_unlock,
    .xCheckReservedLock = f_reserved,
    .xFileControl = f_control,
    .xSectorSize = f_sector,
    .xDeviceCharacteristics = f_device,
    .xShmMap = f_map,
    .xShmLock = f_shm_lock,
    .xShmBarrier = f_barrier,
    .xShmUnmap = f_unmap,
};

static int v_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *f, int flags, int *out)
{
    (void)vfs;
    struct fault_file *file = file_of(f);
    *file = (struct fault_file){.real = (sqlite3_file *)(file + 1)};
    file->real->pMethods = NULL;
    pthread_mutex_lock(&mutex);
    int code = verdict(FAULT_OPEN);
    if (!code) code = real_vfs->xOpen(real_vfs, path, file->real, flags, out);
    if (!code) file->image = image_open(path);
    pthread_mutex_unlock(&mutex);
    file->base.pMethods = code ? NULL : &methods;
    return code;
}

static int v_delete(sqlite3_vfs *vfs, const char *path, int sync_dir)
{
    (void)vfs;
    pthread_mutex_lock(&mutex);
    int code = verdict(FAULT_DELETE);
    if (!code) code = real_vfs->xDelete(real_vfs, path, sync_dir);
    struct image *i = code ? NULL : image_find(path);
    if (i) {
        image_forget(i);
        i->exists = false;
    }
    pthread_mutex_unlock(&mutex);
    return code;
}

/* ---------------------------------------------------------------------------------------------------- public */

void fault_install(void)
{
    real_vfs = sqlite3_vfs_find(NULL);
    our_vfs = *real_vfs;
    our_vfs.szOsFile = (int)sizeof(struct fault_file) + real_vfs->szOsFile;
    our_vfs.zName = "fault";
    our_vfs.xOpen = v_open;
    our_vfs.xDelete = v_delete;
    sqlite3_vfs_register(&our_vfs, 1);
}

void fault_uninstall(void)
{
    sqlite3_vfs_unregister(&our_vfs);
    sqlite3_vfs_register(real_vfs, 1);
}

void fault_arm(enum fault_call call, unsigned n, int code, bool forever)
{
    pthread_mutex_lock(&mutex);
    plan.call = call;
    plan.n = n;
    plan.seen = 0;
    plan.code = code;
    plan.forever = forever;
    plan.fired = false;
    pthread_mutex_unlock(&mutex);
}

bool fault_fired(void)
{
    return plan.fired;
}

void power_start(unsigned n)
{
    pthread_mutex_lock(&mutex);
    power.on = true;
    power.cut = false;
    power.n = n;
    power.seen = 0;
    pthread_mutex_unlock(&mutex);
}

bool power_is_cut(void)
{
    return power.cut;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Any of the pending changes may have reached the disk, in any combination, sector by sector. */
static void image_survive(struct image *i, uint64_t *rng)
{
    uint64_t mood = next_random(rng) % 4; /* nothing, everything, whole changes, sectors */
    for (const struct change *c = i->first; c; c = c->next) {
        if (mood == 0 || (mood >= 2 && next_random(rng) % 2)) continue;
        if (mood < 3 || c->truncate) {
            image_apply(i, c);
            continue;
        }
        for (size_t at = 0; at < c->size; at += SECTOR)
            if (next_random(rng) % 2)
                image_apply(i, &(struct change){.at = c->at + at,
                                                .size = c->size - at < SECTOR ? c->size - at : SECTOR,
                                                .data = c->data + at});
    }
    image_forget(i);
}

void power_restore(const char *from, const char *to, uint64_t seed)
{
    uint64_t rng = seed * 2654435761u + 1;
    for (size_t n = 0; n < power.count; n++) {
        struct image *i = &power.images[n];
        const char *name = strrchr(i->path, '/');
        if (strncmp(i->path, from, strlen(from)) != 0 || !name) continue;
        image_survive(i, &rng);
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s%s", to, name);
        FILE *f = i->exists ? fopen(path, "wb") : NULL;
        if (f && i->size) fwrite(i->data, 1, i->size, f);
        if (f) fclose(f);
    }
    for (size_t n = 0; n < power.count; n++) free(power.images[n].data);
    memset(&power, 0, sizeof power);
}
