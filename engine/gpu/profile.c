/* SPDX-License-Identifier: MIT
 *
 * Timestamps between commands, summed by label.
 */
#include "engine/gpu/profile.h"

#include <stdlib.h>
#include <string.h>

enum { MARKS = 4096, LABELS = 64 };

struct gpu_profile {
    VkQueryPool pool;
    const char *labels[MARKS]; /* of the command that ends at mark i; mark 0 is the batch's begin */
    uint64_t ticks[MARKS];
    uint32_t n_marks;
    struct gpu_timing sums[LABELS];
    uint32_t n_sums;
};

int gpu_profile_start(struct gpu *gpu, struct error *error)
{
    if (gpu->profile) return 0;
    if (gpu->caps.tick_ns <= 0) return error_set(error, ERROR_FIT, "%s has no timestamps", gpu->caps.name);
    struct gpu_profile *profile = calloc(1, sizeof *profile);
    if (!profile) return error_set(error, ERROR_FAILED, "out of memory");
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
    gpu->vk.CmdResetQueryPool(commands, gpu->profile->pool, 0, MARKS);
    gpu_profile_mark(gpu, commands, "begin");
}

void gpu_profile_mark(struct gpu *gpu, VkCommandBuffer commands, const char *label)
{
    struct gpu_profile *profile = gpu->profile;
    if (!profile || profile->n_marks == MARKS) return;
    gpu->vk.CmdWriteTimestamp(commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, profile->pool, profile->n_marks);
    profile->labels[profile->n_marks++] = label;
}

static void sum_add(struct gpu_profile *profile, const char *label, double ns)
{
    uint32_t i = 0;
    while (i < profile->n_sums && strcmp(profile->sums[i].label, label)) i++;
    if (i == LABELS) return;
    if (i == profile->n_sums) profile->sums[profile->n_sums++] = (struct gpu_timing){.label = label};
    profile->sums[i].ns += ns;
    profile->sums[i].count++;
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
        sum_add(profile, profile->labels[i], (double)(profile->ticks[i] - profile->ticks[i - 1]) * gpu->caps.tick_ns);
}

static int timing_compare(const void *a, const void *b)
{
    const struct gpu_timing *x = a, *y = b;
    return (x->ns < y->ns) - (x->ns > y->ns);
}

const struct gpu_timing *gpu_profile_read(struct gpu *gpu, uint32_t *count)
{
    *count = gpu->profile ? gpu->profile->n_sums : 0;
    if (!*count) return NULL;
    qsort(gpu->profile->sums, *count, sizeof(struct gpu_timing), timing_compare);
    return gpu->profile->sums;
}
