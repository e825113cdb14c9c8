/* SPDX-License-Identifier: MIT
 *
 * From what the user says (--device) to a device and its backend: the one place that knows there are two kinds.
 */
#ifndef LECTERN_ENGINE_DEVICE_H
#define LECTERN_ENGINE_DEVICE_H

#include "engine/ops.h"

struct device_choice {
    bool is_cpu;
    uint32_t index; /* of the Vulkan device */
    struct engine_device info;
};

/* "auto" or NULL: the real GPU with the most memory, else the cpu. "vulkan": the same, but no cpu. "vulkan:N": that
 * one, a software device too. ERROR_USAGE for another name, ERROR_FIT for a device that is not there or not usable. */
int device_choose(struct device_choice *out, const char *name, struct error *error);

int device_open(struct backend **out, const struct device_choice *, const struct engine_params *, struct error *error);

/* Messages of the validation layers so far; 0 on the cpu. */
uint32_t device_messages(const struct backend *);

/* Working memory the backend takes beside what graph.c allocates. */
uint64_t device_scratch(const struct device_choice *, const struct shape *, uint32_t batch, uint32_t threads);
/* Memory of this machine that the backend takes beside the device's own. */
uint64_t device_host_bytes(const struct device_choice *);

#endif
