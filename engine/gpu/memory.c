/* SPDX-License-Identifier: MIT
 *
 * Device memory. A block is one VkDeviceMemory with one VkBuffer over the whole of it and one address. Large requests
 * get a block of their own; small ones are cut from shared blocks, first fit, and merge again when released. Blocks
 * are kept sorted by address, so that the buffer of an address is found by bisection. On unified devices all is mapped.
 */
#include "engine/gpu/gpu.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 256, SHARED_BLOCK = 64 << 20 };

struct piece { /* of a block, in order of offset, covering all of it */
    uint64_t offset, size;
    bool used;
};

struct gpu_block {
    VkDeviceMemory memory;
    VkBuffer buffer;
    uint64_t addr, size;
    unsigned char *mapped; /* NULL where the host cannot reach it */
    struct piece *pieces;
    uint32_t n_pieces, cap_pieces;
};

enum memory_kind { MEMORY_DEVICE, MEMORY_HOST };

/* ------------------------------------------------------------------------------------------------------ blocks */

static void block_destroy(struct gpu *gpu, struct gpu_block *block)
{
    if (!block) return;
    if (block->buffer) gpu->vk.DestroyBuffer(gpu->device, block->buffer, NULL);
    if (block->memory) gpu->vk.FreeMemory(gpu->device, block->memory, NULL);
    free(block->pieces);
    free(block);
}

/* The first allowed memory type that has all of `must` and most of the wishes; UINT32_MAX when none. */
static uint32_t memory_type_find(const struct gpu *gpu, uint32_t allowed, VkMemoryPropertyFlags must,
                                 VkMemoryPropertyFlags wish)
{
    uint32_t second = UINT32_MAX;
    for (uint32_t i = 0; i < gpu->memory_types.memoryTypeCount; i++) {
        VkMemoryPropertyFlags flags = gpu->memory_types.memoryTypes[i].propertyFlags;
        if (!(allowed >> i & 1) || (flags & must) != must) continue;
        if ((flags & wish) == wish) return i;
        if (second == UINT32_MAX) second = i;
    }
    return second;
}

static VkResult block_bind(struct gpu *gpu, struct gpu_block *block, enum memory_kind kind)
{
    const VkMemoryPropertyFlags host = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    bool map = kind == MEMORY_HOST || gpu->caps.is_unified;
    VkMemoryRequirements needs;
    gpu->vk.GetBufferMemoryRequirements(gpu->device, block->buffer, &needs);
    uint32_t type =
        kind == MEMORY_HOST
            ? memory_type_find(gpu, needs.memoryTypeBits, host, VK_MEMORY_PROPERTY_HOST_CACHED_BIT)
            : memory_type_find(gpu, needs.memoryTypeBits, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, map ? host : 0);
    if (type == UINT32_MAX) return VK_ERROR_FEATURE_NOT_PRESENT;
    map = map && (gpu->memory_types.memoryTypes[type].propertyFlags & host) == host;
    const VkMemoryAllocateFlagsInfo flags = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
        .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT,
    };
    const VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .pNext = &flags,
        .allocationSize = needs.size,
        .memoryTypeIndex = type,
    };
    VkResult r = gpu->vk.AllocateMemory(gpu->device, &info, NULL, &block->memory);
    if (!r) r = gpu->vk.BindBufferMemory(gpu->device, block->buffer, block->memory, 0);
    void *mapped = NULL;
    if (!r && map) r = gpu->vk.MapMemory(gpu->device, block->memory, 0, VK_WHOLE_SIZE, 0, &mapped);
    block->mapped = mapped;
    return r;
}

static void block_name(struct gpu *gpu, const struct gpu_block *block, const char *label)
{
    if (!gpu->vk.SetDebugUtilsObjectNameEXT || !gpu->messenger) return;
    const VkDebugUtilsObjectNameInfoEXT info = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_OBJECT_NAME_INFO_EXT,
        .objectType = VK_OBJECT_TYPE_BUFFER,
        .objectHandle = (uint64_t)(uintptr_t)block->buffer,
        .pObjectName = label,
    };
    gpu->vk.SetDebugUtilsObjectNameEXT(gpu->device, &info);
}

static int block_create(struct gpu *gpu, uint64_t size, enum memory_kind kind, const char *label,
                        struct gpu_block **out, struct error *error)
{
    *out = NULL;
    struct gpu_block *block = calloc(1, sizeof *block);
    if (!block) return error_set(error, ERROR_FAILED, "out of memory");
    block->size = size;
    const VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = size,
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                 VK_BUFFER_USAGE_TRANSFER_DST_BIT | VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT |
                 VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT,
    };
    VkResult r = gpu->vk.CreateBuffer(gpu->device, &info, NULL, &block->buffer);
    if (!r) r = block_bind(gpu, block, kind);
    if (r) {
        block_destroy(gpu, block);
        if (r == VK_ERROR_OUT_OF_DEVICE_MEMORY || r == VK_ERROR_OUT_OF_HOST_MEMORY)
            return error_set(error, ERROR_FIT, "%s has no room for %.1f MiB more (%s)", gpu->caps.name,
                             (double)size / (1 << 20), label);
        return gpu_result(error, r, "allocating memory");
    }
    const VkBufferDeviceAddressInfo address = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
        .buffer = block->buffer,
    };
    block->addr = gpu->vk.GetBufferDeviceAddress(gpu->device, &address);
    block_name(gpu, block, label);
    *out = block;
    return 0;
}

/* The index of the first block above addr. */
static uint32_t block_above(const struct gpu *gpu, uint64_t addr)
{
    uint32_t low = 0, high = gpu->n_blocks;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (gpu->blocks[middle]->addr > addr)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static struct gpu_block *block_of(const struct gpu *gpu, uint64_t addr)
{
    uint32_t i = block_above(gpu, addr);
    if (!i) return NULL;
    struct gpu_block *block = gpu->blocks[i - 1];
    return addr - block->addr < block->size ? block : NULL;
}

static int block_insert(struct gpu *gpu, struct gpu_block *block, struct error *error)
{
    if (gpu->n_blocks == gpu->cap_blocks) {
        uint32_t cap = gpu->cap_blocks ? gpu->cap_blocks * 2 : 32;
        struct gpu_block **grown = realloc(gpu->blocks, cap * sizeof(*grown));
        if (!grown) return error_set(error, ERROR_FAILED, "out of memory");
        gpu->blocks = grown;
        gpu->cap_blocks = cap;
    }
    uint32_t at = block_above(gpu, block->addr);
    memmove(&gpu->blocks[at + 1], &gpu->blocks[at], (gpu->n_blocks - at) * sizeof *gpu->blocks);
    gpu->blocks[at] = block;
    gpu->n_blocks++;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------ pieces */

static bool pieces_grow(struct gpu_block *block)
{
    if (block->n_pieces < block->cap_pieces) return true;
    uint32_t cap = block->cap_pieces ? block->cap_pieces * 2 : 8;
    struct piece *grown = realloc(block->pieces, cap * sizeof *grown);
    if (!grown) return false;
    block->pieces = grown;
    block->cap_pieces = cap;
    return true;
}

/* Cuts `size` bytes from the block's first hole that has them. 0 = none has, or no memory to say so. */
static uint64_t piece_take(struct gpu_block *block, uint64_t size)
{
    for (uint32_t i = 0; i < block->n_pieces; i++) {
        if (block->pieces[i].used || block->pieces[i].size < size) continue;
        if (block->pieces[i].size > size) {
            if (!pieces_grow(block)) return 0;
            struct piece *p = &block->pieces[i];
            memmove(p + 1, p, (block->n_pieces - i) * sizeof *p);
            block->n_pieces++;
            p[1].offset += size;
            p[1].size -= size;
            p[0].size = size;
        }
        block->pieces[i].used = true;
        return block->addr + block->pieces[i].offset;
    }
    return 0;
}

static void piece_remove(struct gpu_block *block, uint32_t i)
{
    memmove(&block->pieces[i], &block->pieces[i + 1], (block->n_pieces - i - 1) * sizeof *block->pieces);
    block->n_pieces--;
}

static void piece_give(struct gpu_block *block, uint64_t offset)
{
    uint32_t i = 0;
    while (i < block->n_pieces && block->pieces[i].offset != offset) i++;
    if (i == block->n_pieces) return;
    block->pieces[i].used = false;
    if (i + 1 < block->n_pieces && !block->pieces[i + 1].used) {
        block->pieces[i].size += block->pieces[i + 1].size;
        piece_remove(block, i + 1);
    }
    if (i > 0 && !block->pieces[i - 1].used) {
        block->pieces[i - 1].size += block->pieces[i].size;
        piece_remove(block, i);
    }
}

int gpu_alloc(struct gpu *gpu, size_t bytes, const char *label, uint64_t *addr, struct error *error)
{
    *addr = 0;
    uint64_t size = ((uint64_t)(bytes ? bytes : 1) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (size < bytes || size > gpu->caps.alloc_max)
        return error_set(error, ERROR_FIT, "%s cannot hold %.1f MiB in one piece (%s)", gpu->caps.name,
                         (double)bytes / (1 << 20), label);
    bool own = size > SHARED_BLOCK / 4;
    for (uint32_t i = 0; !own && i < gpu->n_blocks; i++)
        if ((*addr = piece_take(gpu->blocks[i], size))) return 0;

    struct gpu_block *block = NULL;
    int rc = block_create(gpu, own ? size : SHARED_BLOCK, MEMORY_DEVICE, own ? label : "shared", &block, error);
    if (rc) return rc;
    if (!pieces_grow(block)) rc = error_set(error, ERROR_FAILED, "out of memory");
    if (!rc) rc = block_insert(gpu, block, error);
    if (rc) {
        block_destroy(gpu, block);
        return rc;
    }
    block->pieces[block->n_pieces++] = (struct piece){.size = block->size};
    *addr = piece_take(block, size);
    return *addr ? 0 : error_set(error, ERROR_FAILED, "out of memory");
}

void gpu_release(struct gpu *gpu, uint64_t addr)
{
    struct gpu_block *block = addr ? block_of(gpu, addr) : NULL;
    if (!block) return;
    piece_give(block, addr - block->addr);
    if (block->n_pieces > 1 || block->pieces[0].used) return;
    gpu_wait(gpu, gpu->submitted, NULL);
    uint32_t at = block_above(gpu, block->addr) - 1;
    memmove(&gpu->blocks[at], &gpu->blocks[at + 1], (gpu->n_blocks - at - 1) * sizeof *gpu->blocks);
    gpu->n_blocks--;
    block_destroy(gpu, block);
}

bool gpu_find(const struct gpu *gpu, uint64_t addr, VkBuffer *buffer, VkDeviceSize *offset)
{
    const struct gpu_block *block = block_of(gpu, addr);
    if (!block) return false;
    *buffer = block->buffer;
    *offset = addr - block->addr;
    return true;
}

int gpu_scratch_reserve(struct gpu *gpu, enum gpu_scratch_use use, size_t bytes, struct error *error)
{
    static const char *const labels[GPU_SCRATCH_COUNT] = {"packed rows", "scratch"};
    struct gpu_range *scratch = &gpu->scratch[use];
    if (scratch->bytes >= bytes) return 0;
    if (scratch->addr) gpu_release(gpu, scratch->addr);
    *scratch = (struct gpu_range){0};
    int rc = gpu->device ? gpu_alloc(gpu, bytes, labels[use], &scratch->addr, error) : 0;
    if (!rc) scratch->bytes = bytes;
    return rc;
}

int gpu_host_create(struct gpu *gpu, struct gpu_host *out, size_t bytes, const char *label, struct error *error)
{
    *out = (struct gpu_host){0};
    int rc = block_create(gpu, bytes, MEMORY_HOST, label, &out->block, error);
    if (rc) return rc;
    out->buffer = out->block->buffer;
    out->bytes = out->block->mapped;
    out->size = bytes;
    return 0;
}

void gpu_host_destroy(struct gpu *gpu, struct gpu_host *host)
{
    block_destroy(gpu, host->block);
    *host = (struct gpu_host){0};
}

int gpu_reach(const struct gpu *gpu, uint64_t addr, size_t bytes, unsigned char **mapped, struct error *error)
{
    const struct gpu_block *block = block_of(gpu, addr);
    *mapped = NULL;
    if (!block || bytes > block->size - (addr - block->addr))
        return error_set(error, ERROR_FAILED, "a transfer names memory that is not allocated");
    if (block->mapped) *mapped = block->mapped + (addr - block->addr);
    return 0;
}

void gpu_memory_destroy(struct gpu *gpu)
{
    for (uint32_t i = 0; i < gpu->n_blocks; i++) block_destroy(gpu, gpu->blocks[i]);
    free(gpu->blocks);
}
