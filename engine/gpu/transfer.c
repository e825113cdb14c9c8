/* SPDX-License-Identifier: MIT
 *
 * Between host and device. Outside a batch they meet in staging memory used in turn: while the device copies one part,
 * the host's threads fill the next. Where device memory is mapped they fill it in place. Inside a batch small things
 * travel with the commands.
 */
#include "engine/gpu/gpu.h"

#include <string.h>

enum { STAGE_BYTES = 32 << 20, SLICE_BYTES = 1 << 20, INBOX_BYTES = 1 << 20 };

/* ---------------------------------------------------------------------------------------------------- staging */

/* The next staging memory, free of earlier use. */
static int stage_take(struct gpu *gpu, struct gpu_stage **out, struct error *error)
{
    struct gpu_stage *stage = &gpu->stages[gpu->next_stage];
    gpu->next_stage = (gpu->next_stage + 1) % GPU_STAGES;
    *out = stage;
    if (!stage->host.block) return gpu_host_create(gpu, &stage->host, STAGE_BYTES, "staging", error);
    return gpu_wait(gpu, stage->end, error);
}

/* Copies between staging and device memory. */
static int stage_copy(struct gpu *gpu, struct gpu_stage *stage, uint64_t addr, size_t bytes, bool to_device,
                      struct error *error)
{
    VkCommandBuffer commands = VK_NULL_HANDLE;
    VkBuffer buffer;
    VkBufferCopy region = {.size = bytes};
    if (!gpu_find(gpu, addr, &buffer, to_device ? &region.dstOffset : &region.srcOffset))
        return error_set(error, ERROR_FAILED, "a transfer names memory that is not allocated");
    int rc = gpu_transfer_begin(gpu, &commands, error);
    if (rc) return rc;
    if (to_device)
        gpu->vk.CmdCopyBuffer(commands, stage->host.buffer, buffer, 1, &region);
    else
        gpu->vk.CmdCopyBuffer(commands, buffer, stage->host.buffer, 1, &region);
    rc = gpu_flush(gpu, commands, error);
    stage->end = gpu->submitted;
    return rc;
}

/* ------------------------------------------------------------------------------------------- slices by threads */

struct slices {
    const struct gpu_source *source;
    size_t offset, bytes; /* of the part in the source */
    size_t slice;
    unsigned char *to;
};

static void slice_read(void *ctx, uint32_t task, uint32_t thread)
{
    const struct slices *s = ctx;
    (void)thread;
    const size_t at = task * s->slice, rest = s->bytes - at, bytes = rest < s->slice ? rest : s->slice;
    s->source->read(s->source->ctx, s->offset + at, bytes, s->to + at);
}

/* The bytes [offset, offset + bytes) of the source, by all threads. */
static void source_read(struct gpu *gpu, const struct gpu_source *source, size_t offset, size_t bytes,
                        unsigned char *to)
{
    const size_t slice = source->grain < SLICE_BYTES ? SLICE_BYTES / source->grain * source->grain : source->grain;
    struct slices s = {source, offset, bytes, slice, to};
    pool_run(gpu->pool, slice_read, &s, gpu_div_up(bytes, slice));
}

int gpu_upload_from(struct gpu *gpu, uint64_t dst, size_t bytes, const struct gpu_source *source, struct error *error)
{
    unsigned char *mapped;
    int rc = gpu_reach(gpu, dst, bytes, &mapped, error);
    if (rc) return rc;
    if (mapped) {
        source_read(gpu, source, 0, bytes, mapped);
        return 0;
    }
    if (source->grain > STAGE_BYTES) return error_set(error, ERROR_FAILED, "a row is too long to be loaded");
    const size_t most = STAGE_BYTES / source->grain * source->grain;
    for (size_t done = 0; !rc && done < bytes;) {
        const size_t part = bytes - done < most ? bytes - done : most;
        struct gpu_stage *stage;
        if ((rc = stage_take(gpu, &stage, error))) return rc;
        source_read(gpu, source, done, part, stage->host.bytes);
        rc = stage_copy(gpu, stage, dst + done, part, true, error);
        done += part;
    }
    return rc;
}

static void plain_read(const void *ctx, size_t offset, size_t bytes, unsigned char *to)
{
    memcpy(to, (const unsigned char *)ctx + offset, bytes);
}

int gpu_upload(struct gpu *gpu, uint64_t dst, const void *src, size_t bytes, struct error *error)
{
    return gpu_upload_from(gpu, dst, bytes, &(struct gpu_source){plain_read, src, 1}, error);
}

/* ---------------------------------------------------------------------------------------------------- downloads */

/* Waits for what is on its way in staging memory, and copies it out. */
static int stage_drain(struct gpu *gpu, const struct gpu_stage *stage, void *dst, size_t bytes, struct error *error)
{
    int rc = gpu_wait(gpu, stage->end, error);
    if (rc) return rc;
    source_read(gpu, &(struct gpu_source){plain_read, stage->host.bytes, 1}, 0, bytes, dst);
    return 0;
}

int gpu_download(struct gpu *gpu, void *dst, uint64_t src, size_t bytes, struct error *error)
{
    unsigned char *to = dst, *mapped;
    int rc = gpu_reach(gpu, src, bytes, &mapped, error);
    if (rc) return rc;
    if (mapped) {
        memcpy(dst, mapped, bytes);
        return 0;
    }
    struct gpu_stage *pending = NULL;
    size_t pending_bytes = 0;
    while (bytes || pending) {
        struct gpu_stage *stage = NULL;
        const size_t part = bytes < STAGE_BYTES ? bytes : STAGE_BYTES;
        rc = bytes ? stage_take(gpu, &stage, error) : 0;
        if (!rc && stage) rc = stage_copy(gpu, stage, src, part, false, error);
        if (!rc && pending) rc = stage_drain(gpu, pending, to, pending_bytes, error);
        if (rc) return rc;
        to += pending_bytes;
        pending = stage;
        pending_bytes = stage ? part : 0;
        src += part;
        bytes -= part;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------ in a batch */

/* Host memory of at least that many bytes. Not while a batch is using it. */
static bool host_grow(struct gpu *gpu, struct gpu_host *host, size_t bytes, const char *label)
{
    struct error error;
    if (host->size >= bytes) return true;
    gpu_host_destroy(gpu, host);
    int rc = gpu_host_create(gpu, host, bytes, label, &error);
    if (rc) gpu_fail(gpu, rc, "%s", error.text);
    return !rc;
}

void gpu_put(struct gpu *gpu, uint64_t dst, const void *src, size_t bytes)
{
    VkBuffer buffer;
    VkBufferCopy region = {.size = bytes};
    const size_t at = gpu->n_puts ? gpu->puts[gpu->n_puts - 1].at + gpu->puts[gpu->n_puts - 1].bytes : 0;
    VkCommandBuffer commands = gpu_record(gpu, (struct gpu_range){0}, (struct gpu_range){dst, bytes});
    if (!commands || !host_grow(gpu, &gpu->inbox, INBOX_BYTES, "inbox")) return;
    if (bytes % 4 || at + bytes > INBOX_BYTES || gpu->n_puts == GPU_PUTS ||
        !gpu_find(gpu, dst, &buffer, &region.dstOffset)) {
        gpu_fail(gpu, ERROR_FAILED, "a batch cannot take %zu bytes along", bytes);
        return;
    }
    region.srcOffset = at;
    gpu->vk.CmdCopyBuffer(commands, gpu->inbox.buffer, buffer, 1, &region);
    gpu->puts[gpu->n_puts++] = (struct gpu_put){src, bytes, at};
}

void gpu_fetch(struct gpu *gpu, void *dst, uint64_t src, size_t bytes)
{
    VkBuffer buffer;
    VkBufferCopy region = {.size = bytes};
    VkCommandBuffer commands = gpu_record(gpu, (struct gpu_range){src, bytes}, (struct gpu_range){0});
    if (!commands || !host_grow(gpu, &gpu->results, bytes, "results")) return;
    if (gpu->fetch.bytes || !gpu_find(gpu, src, &buffer, &region.srcOffset)) {
        gpu_fail(gpu, ERROR_FAILED, "a batch cannot bring %zu bytes back", bytes);
        return;
    }
    gpu->vk.CmdCopyBuffer(commands, buffer, gpu->results.buffer, 1, &region);
    gpu->fetch = (struct gpu_fetch){dst, bytes};
}

void gpu_travel_drop(struct gpu *gpu)
{
    gpu->fetch = (struct gpu_fetch){0};
    gpu->n_puts = 0;
}

void gpu_travel_start(struct gpu *gpu)
{
    for (uint32_t i = 0; i < gpu->n_puts; i++)
        memcpy(gpu->inbox.bytes + gpu->puts[i].at, gpu->puts[i].from, gpu->puts[i].bytes);
    gpu->fetching = gpu->fetch;
    gpu_travel_drop(gpu);
}

void gpu_travel_finish(struct gpu *gpu, bool ok)
{
    if (ok && gpu->fetching.bytes) memcpy(gpu->fetching.to, gpu->results.bytes, gpu->fetching.bytes);
    gpu->fetching = (struct gpu_fetch){0};
}

void gpu_transfer_destroy(struct gpu *gpu)
{
    for (uint32_t i = 0; i < GPU_STAGES; i++) gpu_host_destroy(gpu, &gpu->stages[i].host);
    gpu_host_destroy(gpu, &gpu->results);
    gpu_host_destroy(gpu, &gpu->inbox);
}
