/* SPDX-License-Identifier: MIT
 *
 * Device time of every command, by its label, when asked for with gpu_profile_start. Timestamps keep commands from
 * overlapping a little, so totals are for comparing parts, not for quoting.
 */
#ifndef LECTERN_ENGINE_GPU_PROFILE_H
#define LECTERN_ENGINE_GPU_PROFILE_H

#include "engine/gpu/gpu.h"

struct gpu_timing { /* one label's sum */
    const char *label;
    double ns;
    uint64_t count;
};

/* Starts collecting. ERROR_FIT when the device has no timestamps. */
int gpu_profile_start(struct gpu *, struct error *);
/* The sums so far, largest first; valid until the next submit. */
const struct gpu_timing *gpu_profile_read(struct gpu *, uint32_t *count);
void gpu_profile_destroy(struct gpu *);

/* command.c tells: a batch begins, a command was recorded, the batch is done. Nothing unless started. */
void gpu_profile_begin(struct gpu *, VkCommandBuffer);
void gpu_profile_mark(struct gpu *, VkCommandBuffer, const char *label);
void gpu_profile_end(struct gpu *);

#endif
