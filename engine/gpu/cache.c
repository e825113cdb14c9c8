/* SPDX-License-Identifier: MIT
 *
 * Compiled kernels kept on disk, so that a driver compiles each only once. The file is a SHA-256 of the rest, then what
 * the driver gave (VkPipelineCacheHeaderVersionOne and bytes of its own). Its name tells devices and drivers apart. It
 * is a cache: a file that is damaged, foreign or out of reach is the same as none.
 */
#include "engine/gpu/gpu.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIGEST = 32, HEADER = 16 + VK_UUID_SIZE, FILE_MOST = 256 << 20 };

static bool digest_of(const unsigned char *bytes, size_t size, unsigned char out[DIGEST])
{
    return EVP_Digest(bytes, size, out, NULL, EVP_sha256(), NULL) == 1;
}

/* The header the driver's data must have. */
static void header_expected(const VkPhysicalDeviceProperties *device, unsigned char out[HEADER])
{
    const uint32_t words[] = {HEADER, VK_PIPELINE_CACHE_HEADER_VERSION_ONE, device->vendorID, device->deviceID};
    memcpy(out, words, sizeof words);
    memcpy(out + sizeof words, device->pipelineCacheUUID, VK_UUID_SIZE);
}

/* dir/pipelines-VENDOR-DEVICE-UUID.bin; NULL without memory. */
static char *path_make(const VkPhysicalDeviceProperties *device, const char *dir)
{
    const size_t size = strlen(dir) + 80;
    char *path = malloc(size);
    if (!path) return NULL;
    int at = snprintf(path, size, "%s/pipelines-%04x-%04x-", dir, device->vendorID, device->deviceID);
    for (size_t i = 0; i < VK_UUID_SIZE; i++)
        at += snprintf(path + at, size - (size_t)at, "%02x", device->pipelineCacheUUID[i]);
    snprintf(path + at, size - (size_t)at, ".bin");
    return path;
}

/* ------------------------------------------------------------------------------------------------------ reading */

static bool read_all(int fd, unsigned char *bytes, size_t size)
{
    while (size) {
        const ssize_t n = read(fd, bytes, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes += n;
        size -= (size_t)n;
    }
    return true;
}

/* The file as it lies there, or NULL; the caller frees it. */
static unsigned char *file_read(const char *path, size_t *size)
{
    struct stat status;
    unsigned char *bytes = NULL;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return NULL;
    if (!fstat(fd, &status) && S_ISREG(status.st_mode) && status.st_size >= DIGEST + HEADER &&
        status.st_size <= FILE_MOST) {
        *size = (size_t)status.st_size;
        bytes = malloc(*size);
    }
    if (bytes && !read_all(fd, bytes, *size)) {
        free(bytes);
        bytes = NULL;
    }
    close(fd);
    return bytes;
}

static bool file_is_ours(const VkPhysicalDeviceProperties *device, const unsigned char *bytes, size_t size)
{
    unsigned char digest[DIGEST], header[HEADER];
    header_expected(device, header);
    return digest_of(bytes + DIGEST, size - DIGEST, digest) && !memcmp(bytes, digest, DIGEST) &&
           !memcmp(bytes + DIGEST, header, HEADER);
}

/* A pipeline cache that starts with these bytes takes the place of the empty one. */
static void cache_start(struct gpu *gpu, const unsigned char *bytes, size_t size)
{
    const VkPipelineCacheCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO, .initialDataSize = size, .pInitialData = bytes};
    VkPipelineCache cache;
    if (gpu->vk.CreatePipelineCache(gpu->device, &info, NULL, &cache)) return;
    gpu->vk.DestroyPipelineCache(gpu->device, gpu->pipeline_cache, NULL);
    gpu->pipeline_cache = cache;
    gpu->cache_bytes = size;
}

void gpu_cache_open(struct gpu *gpu, const char *dir)
{
    VkPhysicalDeviceProperties device;
    size_t size;
    gpu->vk.GetPhysicalDeviceProperties(gpu->physical, &device);
    gpu->cache_path = path_make(&device, dir);
    unsigned char *bytes = gpu->cache_path ? file_read(gpu->cache_path, &size) : NULL;
    if (bytes && file_is_ours(&device, bytes, size)) cache_start(gpu, bytes + DIGEST, size - DIGEST);
    free(bytes);
}

/* ------------------------------------------------------------------------------------------------------ writing */

static bool write_all(int fd, const unsigned char *bytes, size_t size)
{
    while (size) {
        const ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes += n;
        size -= (size_t)n;
    }
    return true;
}

/* The folders above the file, those missing. */
static void folders_make(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
}

/* Whole or not at all: another process may be reading, or writing the same. */
static void file_write(char *path, const unsigned char *bytes, size_t size)
{
    const size_t length = strlen(path) + sizeof ".XXXXXX";
    char *temporary = malloc(length);
    if (!temporary) return;
    snprintf(temporary, length, "%s.XXXXXX", path);
    folders_make(path);
    const int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd >= 0) {
        const bool written = write_all(fd, bytes, size);
        if (close(fd) || !written || rename(temporary, path)) unlink(temporary);
    }
    free(temporary);
}

void gpu_cache_close(struct gpu *gpu)
{
    size_t size = 0;
    unsigned char *bytes = NULL;
    if (gpu->cache_path && !gpu->vk.GetPipelineCacheData(gpu->device, gpu->pipeline_cache, &size, NULL) &&
        size > gpu->cache_bytes && size <= FILE_MOST - DIGEST)
        bytes = malloc(DIGEST + size);
    if (bytes && !gpu->vk.GetPipelineCacheData(gpu->device, gpu->pipeline_cache, &size, bytes + DIGEST) &&
        digest_of(bytes + DIGEST, size, bytes))
        file_write(gpu->cache_path, bytes, DIGEST + size);
    free(bytes);
    free(gpu->cache_path);
    gpu->cache_path = NULL;
}
