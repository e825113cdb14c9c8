/* SPDX-License-Identifier: MIT
 *
 * Between host and device. Outside a batch they meet in staging memory used in turn: while the device copies one part,
 * the host's threads fill the next. Where device memory is mapped they fill it in place. Inside a batch small things
 * travel with the commands. For a restore the staging memory is cut into rooms, which others fill: an upload from one
 * is a copy by the device and nothing else; what else is uploaded meanwhile goes through a smaller memory, aside.
 */
#include "engine/gpu/gpu.h"

#include <string.h>

enum {
    STAGE_BYTES = 32 << 20,
    ASIDE_BYTES = 4 << 20,
    SLICE_BYTES = 1 << 20,
    INBOX_BYTES = 1 << 20,
    ROOM_ALIGNMENT = 256
};

/* ---------------------------------------------------------------------------------------------------- staging */

static int stage_ready(struct gpu *gpu, struct gpu_stage *stage, size_t bytes, struct error *error)
{
    if (!stage->host.block) return gpu_host_create(gpu, &stage->host, bytes, "staging", error);
    return gpu_wait(gpu, stage->end, error);
}

/* The next staging memory, free of earlier use. */
static int stage_take(struct gpu *gpu, struct gpu_stage **out, struct error *error)
{
    const bool aside = gpu->rooms.count != 0;
    *out = aside ? &gpu->aside[gpu->next_stage] : &gpu->stages[gpu->next_stage];
    gpu->next_stage = (gpu->next_stage + 1) % GPU_STAGES;
    return stage_ready(gpu, *out, aside ? ASIDE_BYTES : STAGE_BYTES, error);
}

struct stage_part { /* bytes [at, at + bytes) of staging memory, and where they are on the device */
    struct gpu_stage *stage;
    size_t at, bytes;
    uint64_t addr;
};

/* Copies between staging and device memory. */
static int stage_copy(struct gpu *gpu, const struct stage_part *part, bool to_device, struct error *error)
{
    VkCommandBuffer commands = VK_NULL_HANDLE;
    VkBuffer buffer, host = part->stage->host.buffer;
    VkDeviceSize offset;
    if (!gpu_find(gpu, part->addr, &buffer, &offset))
        return error_set(error, ERROR_FAILED, "a transfer names memory that is not allocated");
    int rc = gpu_transfer_begin(gpu, &commands, error);
    if (rc) return rc;
    if (to_device)
        gpu->vk.CmdCopyBuffer(commands, host, buffer, 1, &(VkBufferCopy){part->at, offset, part->bytes});
    else
        gpu->vk.CmdCopyBuffer(commands, buffer, host, 1, &(VkBufferCopy){offset, part->at, part->bytes});
    rc = gpu_flush(gpu, commands, error);
    part->stage->end = gpu->submitted;
    return rc;
}

/* ------------------------------------------------------------------------------------------------------ rooms */

static bool rooms_open(struct gpu *gpu, size_t bytes)
{
    struct gpu_rooms *rooms = &gpu->rooms;
    struct error ignored;
    const size_t room = (bytes + ROOM_ALIGNMENT - 1) / ROOM_ALIGNMENT * ROOM_ALIGNMENT;
    if (gpu->caps.is_unified || !bytes || room < bytes || room > STAGE_BYTES) return false;
    for (uint32_t i = 0; i < GPU_STAGES; i++)
        if (stage_ready(gpu, &gpu->stages[i], STAGE_BYTES, &ignored)) return false;
    const uint32_t most = GPU_ROOMS / GPU_STAGES, fit = (uint32_t)(STAGE_BYTES / room);
    *rooms = (struct gpu_rooms){.bytes = room, .each = fit < most ? fit : most};
    rooms->count = rooms->each * GPU_STAGES;
    return true;
}

void *gpu_room(struct gpu *gpu, size_t bytes)
{
    struct gpu_rooms *rooms = &gpu->rooms;
    struct error ignored;
    if (!rooms->count && !rooms_open(gpu, bytes)) return NULL;
    const uint32_t i = rooms->next;
    if (bytes > rooms->bytes || rooms->lent[i] || gpu_wait(gpu, rooms->ends[i], &ignored)) return NULL;
    rooms->lent[i] = true;
    rooms->next = (i + 1) % rooms->count;
    return gpu->stages[i / rooms->each].host.bytes + i % rooms->each * rooms->bytes;
}

void gpu_rooms_end(struct gpu *gpu)
{
    for (uint32_t i = 0; gpu->rooms.count && i < GPU_STAGES; i++) gpu->stages[i].end = gpu->submitted;
    gpu->rooms = (struct gpu_rooms){0};
}

/* Whether bytes lie in a room, and where that is. */
static bool room_find(struct gpu *gpu, const void *src, struct stage_part *part, uint32_t *room)
{
    const struct gpu_rooms *rooms = &gpu->rooms;
    for (uint32_t i = 0; rooms->count && i < GPU_STAGES; i++) {
        const uintptr_t at = (uintptr_t)src - (uintptr_t)gpu->stages[i].host.bytes;
        if (at >= rooms->each * rooms->bytes) continue;
        part->stage = &gpu->stages[i];
        part->at = (size_t)at;
        *room = i * rooms->each + (uint32_t)(at / rooms->bytes);
        return true;
    }
    return false;
}

static int room_upload(struct gpu *gpu, const struct stage_part *part, uint32_t room, struct error *error)
{
    struct gpu_rooms *rooms = &gpu->rooms;
    if (part->at % rooms->bytes + part->bytes > rooms->bytes)
        return error_set(error, ERROR_FAILED, "a transfer goes beyond its room");
    int rc = stage_copy(gpu, part, true, error);
    rooms->ends[room] = gpu->submitted;
    rooms->lent[room] = false;
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
    for (size_t done = 0; !rc && done < bytes;) {
        struct stage_part part = {.addr = dst + done, .bytes = bytes - done};
        if ((rc = stage_take(gpu, &part.stage, error))) return rc;
        const size_t most = part.stage->host.size / source->grain * source->grain;
        if (!most) return error_set(error, ERROR_FAILED, "a row is too long to be loaded");
        if (part.bytes > most) part.bytes = most;
        source_read(gpu, source, done, part.bytes, part.stage->host.bytes);
        rc = stage_copy(gpu, &part, true, error);
        done += part.bytes;
    }
    return rc;
}

static void plain_read(const void *ctx, size_t offset, size_t bytes, unsigned char *to)
{
    memcpy(to, (const unsigned char *)ctx + offset, bytes);
}

int gpu_upload(struct gpu *gpu, uint64_t dst, const void *src, size_t bytes, struct error *error)
{
    struct stage_part part = {.addr = dst, .bytes = bytes};
    uint32_t room;
    if (room_find(gpu, src, &part, &room)) return room_upload(gpu, &part, room, error);
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
    if (gpu->rooms.count) return error_set(error, ERROR_FAILED, "a download while staging memory is lent");
    struct stage_part pending = {0};
    while (bytes || pending.stage) {
        struct stage_part part = {.addr = src, .bytes = bytes < STAGE_BYTES ? bytes : STAGE_BYTES};
        rc = bytes ? stage_take(gpu, &part.stage, error) : 0;
        if (!rc && part.stage) rc = stage_copy(gpu, &part, false, error);
        if (!rc && pending.stage) rc = stage_drain(gpu, pending.stage, to, pending.bytes, error);
        if (rc) return rc;
        to += pending.bytes;
        pending = part;
        src += part.bytes;
        bytes -= part.bytes;
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
    for (uint32_t i = 0; i < GPU_STAGES; i++) {
        gpu_host_destroy(gpu, &gpu->stages[i].host);
        gpu_host_destroy(gpu, &gpu->aside[i].host);
    }
    gpu_host_destroy(gpu, &gpu->results);
    gpu_host_destroy(gpu, &gpu->inbox);
}
