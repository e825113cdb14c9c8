/* SPDX-License-Identifier: MIT
 *
 * Device time of every command, by its label, when asked for. Timestamps keep commands from overlapping a little, so
 * totals are for comparing parts, not for quoting.
 */
#ifndef LECTERN_ENGINE_GPU_PROFILE_H
#define LECTERN_ENGINE_GPU_PROFILE_H

#include "engine/gpu/gpu.h"

/* As backend_ops has them. */
int gpu_profile_start(struct backend *, struct engine_peaks *, struct error *error);
size_t gpu_profile_read(struct backend *, struct engine_timing *out, size_t cap);
void gpu_profile_destroy(struct gpu *);

/* command.c tells: a batch begins, a command was recorded, all are recorded, the batch is done. Nothing unless started. */
void gpu_profile_begin(struct gpu *, VkCommandBuffer);
void gpu_profile_mark(struct gpu *, VkCommandBuffer, const char *label, double bytes, double flops);
void gpu_profile_recorded(struct gpu *);
void gpu_profile_end(struct gpu *);

#endif
