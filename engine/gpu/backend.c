/* SPDX-License-Identifier: MIT
 *
 * The Vulkan backend as engine/ops.h sees it: opening, listing devices, loading weights, the table of operations.
 */
#include "engine/gpu/gpu.h"
#include "engine/gpu/profile.h"

#include <stdlib.h>
#include <string.h>

enum { LOADERS = 8 }; /* threads that fill staging memory: as many as a memory bus feeds */

static void backend_destroy(struct backend *b)
{
    struct gpu *gpu = gpu_of(b);
    if (gpu->device && gpu->vk.DeviceWaitIdle) gpu->vk.DeviceWaitIdle(gpu->device);
    if (gpu->device && gpu->vk.DestroyDevice) {
        gpu_profile_destroy(gpu);
        gpu_cache_close(gpu);
        gpu_pipelines_destroy(gpu);
        gpu_transfer_destroy(gpu);
        gpu_memory_destroy(gpu);
        gpu_commands_destroy(gpu);
    }
    gpu_device_destroy(gpu);
    pool_destroy(&gpu->pool);
    free(gpu);
}

static int scratch_prepare(struct gpu *gpu, const struct shape *shape, uint32_t batch, struct error *error)
{
    int rc = gpu_kda_prepare(gpu, shape, batch, error);
    if (!rc) rc = gpu_mla_prepare(gpu, shape, batch, error);
    if (!rc) rc = gpu_moe_prepare(gpu, shape, batch, error);
    if (!rc) rc = gpu_matmul_prepare(gpu, shape, batch, error);
    return rc;
}

static int backend_prepare(struct backend *b, const struct shape *shape, uint32_t batch, struct error *error)
{
    struct gpu *gpu = gpu_of(b);
    gpu->batch = batch;
    return scratch_prepare(gpu, shape, batch, error);
}

uint64_t gpu_scratch_bytes(const struct engine_device *device, const struct shape *shape, uint32_t batch)
{
    struct error error;
    struct gpu plan = {.caps = {.is_software = device->is_software,
                                .coopmat = device->has_matrices,
                                .shared_bytes = UINT32_MAX,
                                .subgroup = 32}};
    uint64_t sum = 0;
    scratch_prepare(&plan, shape, batch, &error); /* without a device and with memory to share nothing fails */
    for (size_t i = 0; i < GPU_SCRATCH_COUNT; i++) sum += plan.scratch[i].bytes;
    return sum;
}

static int backend_alloc(struct backend *b, size_t bytes, const char *label, uint64_t *addr, struct error *error)
{
    gpu_recording_drop(gpu_of(b));
    return gpu_alloc(gpu_of(b), bytes, label, addr, error);
}

static void backend_release(struct backend *b, uint64_t addr)
{
    gpu_recording_drop(gpu_of(b));
    gpu_release(gpu_of(b), addr);
}

static int backend_upload(struct backend *b, uint64_t dst, const void *src, size_t bytes, struct error *error)
{
    gpu_recording_drop(gpu_of(b));
    return gpu_upload(gpu_of(b), dst, src, bytes, error);
}

static void *backend_room(struct backend *b, size_t bytes)
{
    return gpu_room(gpu_of(b), bytes);
}

static void backend_rooms_end(struct backend *b)
{
    gpu_rooms_end(gpu_of(b));
}

static int backend_download(struct backend *b, void *dst, uint64_t src, size_t bytes, struct error *error)
{
    gpu_recording_drop(gpu_of(b));
    return gpu_download(gpu_of(b), dst, src, bytes, error);
}

static int backend_begin(struct backend *b, struct error *error)
{
    return gpu_begin(gpu_of(b), error);
}

static int backend_submit(struct backend *b, struct error *error)
{
    return gpu_submit(gpu_of(b), error);
}

static int backend_start(struct backend *b, struct error *error)
{
    return gpu_start(gpu_of(b), error);
}

static int backend_finish(struct backend *b, struct error *error)
{
    return gpu_finish(gpu_of(b), error);
}

/* Timestamps are those of one batch: while operations are timed, none is recorded ahead. */
static uint64_t backend_recorded(const struct backend *b)
{
    const struct gpu *gpu = (const struct gpu *)b;
    return gpu->recorder.recording && !gpu->error.code && !gpu->profile ? gpu->recorder.batch : 0;
}

static void backend_fill(struct backend *b, uint64_t dst, uint32_t word, size_t bytes)
{
    gpu_fill(gpu_of(b), dst, word, bytes);
}

static void backend_copy(struct backend *b, uint64_t dst, uint64_t src, size_t bytes)
{
    gpu_copy(gpu_of(b), dst, src, bytes);
}

static void backend_put(struct backend *b, uint64_t dst, const void *src, size_t bytes)
{
    gpu_put(gpu_of(b), dst, src, bytes);
}

static void backend_fetch(struct backend *b, void *dst, uint64_t src, size_t bytes)
{
    gpu_fetch(gpu_of(b), dst, src, bytes);
}

static const struct backend_ops gpu_ops = {
    .destroy = backend_destroy,
    .prepare = backend_prepare,
    .alloc = backend_alloc,
    .release = backend_release,
    .weight_load = gpu_weight_load,
    .upload = backend_upload,
    .download = backend_download,
    .room = backend_room,
    .rooms_end = backend_rooms_end,
    .begin = backend_begin,
    .submit = backend_submit,
    .start = backend_start,
    .finish = backend_finish,
    .recorded = backend_recorded,
    .fill = backend_fill,
    .copy = backend_copy,
    .put = backend_put,
    .fetch = backend_fetch,
    .embed = gpu_embed,
    .rms_norm = gpu_rms_norm,
    .matmul = gpu_matmul,
    .norm_matmul = gpu_norm_matmul,
    .swiglu = gpu_swiglu,
    .kda_conv = gpu_kda_conv,
    .kda_gate = gpu_kda_gate,
    .kda_delta = gpu_kda_delta,
    .kda_out = gpu_kda_out,
    .rope = gpu_rope,
    .mla_store = gpu_mla_store,
    .mla_attend = gpu_mla_attend,
    .moe_route = gpu_route,
    .moe_experts = gpu_moe_experts,
    .kda_block = gpu_kda_block,
    .moe_block = gpu_moe_block,
    .profile_start = gpu_profile_start,
    .profile_read = gpu_profile_read,
};

/* ----------------------------------------------------------------------------------------------------- opening */

/* The real device with the most memory, of those we can use; count when there is none. */
static uint32_t device_best(const struct gpu *gpu, const VkPhysicalDevice *list, uint32_t count)
{
    uint32_t best = count;
    uint64_t most = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct gpu_caps caps;
        gpu_caps_query(gpu, list[i], &caps);
        /* A card of its own goes before a chip that shares the host's memory, however much that is. */
        uint64_t rank = caps.memory / 2 + (caps.is_unified ? 0 : UINT64_MAX / 2);
        if (caps.missing || caps.is_software || rank < most) continue;
        most = rank;
        best = i;
    }
    return best;
}

static int device_pick(struct gpu *gpu, uint32_t index, struct error *error)
{
    VkPhysicalDevice *list;
    uint32_t count;
    int rc = gpu_physical_list(gpu, &list, &count, error);
    if (rc) return rc;
    if (index == UINT32_MAX) {
        index = device_best(gpu, list, count);
        if (index == count) rc = error_set(error, ERROR_FIT, "no graphics device that Vulkan can compute on");
    } else if (index >= count) {
        rc = error_set(error, ERROR_FIT, "there is no device vulkan:%u; Vulkan has %u", index, count);
    }
    if (!rc) {
        gpu->physical = list[index];
        gpu_caps_query(gpu, gpu->physical, &gpu->caps);
        if (gpu->caps.missing)
            rc = error_set(error, ERROR_FIT, "%s cannot be used: it lacks %s", gpu->caps.name, gpu->caps.missing);
    }
    free(list);
    snprintf(gpu->base.id, sizeof gpu->base.id, "vulkan:%u", index % 1000);
    snprintf(gpu->base.name, sizeof gpu->base.name, "%s", gpu->caps.name);
    gpu->base.memory_free = gpu->caps.memory_free;
    return rc;
}

int gpu_backend_open(struct backend **out, uint32_t index, bool validate, struct error *error)
{
    *out = NULL;
    struct gpu *gpu = calloc(1, sizeof *gpu);
    if (!gpu) return error_set(error, ERROR_FAILED, "out of memory");
    gpu->base.ops = &gpu_ops;
    int rc = pool_create(&gpu->pool, pool_default_threads(0) < LOADERS ? 0 : LOADERS, error);
    if (!rc) rc = gpu_instance_create(gpu, validate, error);
    if (!rc) rc = device_pick(gpu, index, error);
    if (!rc) rc = gpu_device_create(gpu, error);
    if (!rc) rc = gpu_commands_create(gpu, error);
    if (!rc) rc = gpu_pipelines_create(gpu, error);
    if (rc)
        backend_destroy(&gpu->base);
    else
        *out = &gpu->base;
    return rc;
}

uint32_t gpu_validation_messages(const struct backend *b)
{
    return b->ops == &gpu_ops ? ((const struct gpu *)b)->messages : 0;
}

void gpu_keep_kernels(struct backend *b, const char *dir)
{
    gpu_cache_open(gpu_of(b), dir);
}

bool gpu_multiplies_halves(const struct backend *b)
{
    return b->ops == &gpu_ops &&
           (((const struct gpu *)b)->caps.coopmat || ((const struct gpu *)b)->caps.plain_matrices);
}

void gpu_act_as_hardware(struct backend *b)
{
    gpu_of(b)->caps.is_software = gpu_of(b)->caps.is_unified = false;
}

bool gpu_act_with_matrices(struct backend *b)
{
    gpu_act_as_hardware(b);
    gpu_of(b)->caps.plain_matrices = !gpu_of(b)->caps.coopmat && gpu_of(b)->caps.f16;
    return gpu_of(b)->caps.plain_matrices;
}

int gpu_devices(struct engine_device *list, size_t cap, size_t *count, struct error *error)
{
    VkPhysicalDevice *physical = NULL;
    uint32_t found = 0;
    *count = 0;
    struct gpu *gpu = calloc(1, sizeof *gpu);
    if (!gpu) return error_set(error, ERROR_FAILED, "out of memory");
    gpu->base.ops = &gpu_ops;
    /* No loader, or no driver: nothing to list, which is not a failure. */
    int rc = gpu_instance_create(gpu, false, error);
    if (rc == ERROR_FIT)
        rc = 0;
    else if (!rc)
        rc = gpu_physical_list(gpu, &physical, &found, error);
    for (uint32_t i = 0; i < found && i < cap; i++) {
        struct gpu_caps caps;
        struct engine_device *device = &list[i];
        gpu_caps_query(gpu, physical[i], &caps);
        *device = (struct engine_device){.is_software = caps.is_software,
                                         .is_usable = !caps.missing,
                                         .has_matrices = caps.coopmat,
                                         .memory = caps.memory,
                                         .memory_free = caps.memory_free};
        snprintf(device->name, sizeof device->name, "%s", caps.name);
        snprintf(device->id, sizeof device->id, "vulkan:%u", i % 1000);
        gpu_caps_describe(&caps, device->note, sizeof device->note);
        *count = i + 1;
    }
    free(physical);
    backend_destroy(&gpu->base);
    return rc;
}
