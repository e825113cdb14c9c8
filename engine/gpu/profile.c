/* SPDX-License-Identifier: MIT
 *
 * Timestamps between commands, summed by label; and what a copy of the device reaches, to hold them against.
 */
#include "engine/gpu/profile.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MARKS = 4096, LABELS = 64, COPY_BYTES = 256 << 20, PEAK_GROUPS = 4096 };

struct mark { /* a command that was recorded */
    const char *label;
    double bytes, flops;
};

struct gpu_profile {
    VkQueryPool pool;
    struct mark marks[MARKS]; /* mark 0 is the batch's begin */
    uint64_t ticks[MARKS];
    uint32_t n_marks;
    double began; /* recording, by the host's clock */
    struct engine_timing sums[LABELS];
    uint32_t n_sums;
};

static double host_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int profile_create(struct gpu *gpu, struct error *error)
{
    if (gpu->caps.tick_ns <= 0) return error_set(error, ERROR_FIT, "%s has no timestamps.", gpu->caps.name);
    struct gpu_profile *profile = calloc(1, sizeof *profile);
    if (!profile) return error_set(error, ERROR_FAILED, "Out of memory.");
    const VkQueryPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
        .queryType = VK_QUERY_TYPE_TIMESTAMP,
        .queryCount = MARKS,
    };
    VkResult r = gpu->vk.CreateQueryPool(gpu->device, &info, NULL, &profile->pool);
    if (r) {
        free(profile);
        return gpu_result(error, r, "making timestamps");
    }
    gpu->profile = profile;
    return 0;
}

/* Copies one half of a buffer to the other. */
static void peak_copy(struct gpu *gpu, uint64_t addr)
{
    const struct params_peak_copy params = {addr, addr + COPY_BYTES, COPY_BYTES / 16};
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "copy",
                          .shader = SHADER_PEAK_COPY,
                          .spec = {256, gpu->caps.subgroup},
                          .n_spec = 2,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {PEAK_GROUPS},
                          .reads = {{addr, COPY_BYTES}},
                          .writes = {{addr + COPY_BYTES, COPY_BYTES}},
                      });
}

static void peak_product(struct gpu *gpu, uint64_t addr)
{
    const struct params_peak_product params = {.never = addr, .rounds = 4096, .value = 0.5f};
    const double subgroups = PEAK_GROUPS * 256.0 / gpu->caps.subgroup;
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "product",
                          .shader = SHADER_PEAK_PRODUCT,
                          .spec = {256, gpu->caps.subgroup},
                          .n_spec = 2,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {PEAK_GROUPS},
                          .flops = subgroups * params.rounds * 4 * 2 * 16 * 16 * 16,
                      });
}

static int peaks_run(struct gpu *gpu, uint64_t addr, struct error *error)
{
    int rc = gpu_begin(gpu, error);
    for (uint32_t i = 0; !rc && i < 4; i++) peak_copy(gpu, addr);
    if (!rc && gpu->caps.coopmat) peak_product(gpu, addr);
    return rc ? rc : gpu_submit(gpu, error);
}

static int peaks_measure(struct gpu *gpu, struct engine_peaks *peaks, struct error *error)
{
    uint64_t addr;
    struct engine_timing timings[3];
    int rc = gpu_alloc(gpu, 2ull * COPY_BYTES, "profile", &addr, error);
    if (rc) return rc;
    rc = peaks_run(gpu, addr, error); /* compiles, and touches the memory */
    gpu->profile->n_sums = 0;
    if (!rc) rc = peaks_run(gpu, addr, error);
    const size_t count = rc ? 0 : gpu_profile_read(&gpu->base, timings, 3);
    for (size_t i = 0; i < count; i++) {
        const struct engine_timing *t = &timings[i];
        if (t->seconds > 0 && t->flops > 0) peaks->flops_per_second = t->flops / t->seconds;
        if (t->seconds > 0 && t->bytes > 0) peaks->bytes_per_second = t->bytes / t->seconds;
    }
    gpu_release(gpu, addr);
    return rc;
}

int gpu_profile_start(struct backend *b, struct engine_peaks *peaks, struct error *error)
{
    struct gpu *gpu = gpu_of(b);
    *peaks = (struct engine_peaks){0};
    int rc = gpu->profile ? 0 : profile_create(gpu, error);
    if (!rc) rc = peaks_measure(gpu, peaks, error);
    if (!rc) gpu->profile->n_sums = 0;
    return rc;
}

void gpu_profile_destroy(struct gpu *gpu)
{
    if (!gpu->profile) return;
    gpu->vk.DestroyQueryPool(gpu->device, gpu->profile->pool, NULL);
    free(gpu->profile);
    gpu->profile = NULL;
}

void gpu_profile_begin(struct gpu *gpu, VkCommandBuffer commands)
{
    if (!gpu->profile) return;
    gpu->profile->n_marks = 0;
    gpu->profile->began = host_clock();
    gpu->vk.CmdResetQueryPool(commands, gpu->profile->pool, 0, MARKS);
    gpu_profile_mark(gpu, commands, "begin", 0, 0);
}

void gpu_profile_mark(struct gpu *gpu, VkCommandBuffer commands, const char *label, double bytes, double flops)
{
    struct gpu_profile *profile = gpu->profile;
    if (!profile || profile->n_marks == MARKS) return;
    gpu->vk.CmdWriteTimestamp(commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, profile->pool, profile->n_marks);
    profile->marks[profile->n_marks++] = (struct mark){label, bytes, flops};
}

static struct engine_timing *sum_add(struct gpu_profile *profile, const struct mark *mark, double seconds)
{
    uint32_t i = 0;
    while (i < profile->n_sums && strcmp(profile->sums[i].label, mark->label)) i++;
    if (i == LABELS) return NULL;
    struct engine_timing *sum = &profile->sums[i];
    if (i == profile->n_sums) {
        *sum = (struct engine_timing){0};
        snprintf(sum->label, sizeof sum->label, "%s", mark->label);
        profile->n_sums++;
    }
    sum->seconds += seconds;
    sum->bytes += mark->bytes;
    sum->flops += mark->flops;
    sum->count++;
    return sum;
}

void gpu_profile_recorded(struct gpu *gpu)
{
    if (!gpu->profile) return;
    const struct mark mark = {.label = "recording"};
    struct engine_timing *sum = sum_add(gpu->profile, &mark, host_clock() - gpu->profile->began);
    if (sum) sum->on_host = true;
}

void gpu_profile_end(struct gpu *gpu)
{
    struct gpu_profile *profile = gpu->profile;
    if (!profile || profile->n_marks < 2) return;
    VkResult r = gpu->vk.GetQueryPoolResults(gpu->device, profile->pool, 0, profile->n_marks, sizeof profile->ticks,
                                             profile->ticks, sizeof(uint64_t),
                                             VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT);
    if (r) return;
    for (uint32_t i = 1; i < profile->n_marks; i++)
        sum_add(profile, &profile->marks[i],
                (double)(profile->ticks[i] - profile->ticks[i - 1]) * gpu->caps.tick_ns * 1e-9);
}

static int timing_compare(const void *a, const void *b)
{
    const struct engine_timing *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

size_t gpu_profile_read(struct backend *b, struct engine_timing *out, size_t cap)
{
    struct gpu_profile *profile = gpu_of(b)->profile;
    if (!profile) return 0;
    qsort(profile->sums, profile->n_sums, sizeof *profile->sums, timing_compare);
    const size_t count = profile->n_sums < cap ? profile->n_sums : cap;
    if (count) memcpy(out, profile->sums, count * sizeof *out);
    return count;
}
