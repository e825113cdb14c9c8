/* SPDX-License-Identifier: MIT
 *
 * Listing and choosing devices.
 */
#include "engine/device.h"

#include <string.h>

#include "engine/cpu/cpu.h"

enum { MOST_DEVICES = 16, STAGING = 64 << 20 };

int engine_devices(struct engine_device *list, size_t cap, size_t *count, struct error *error)
{
    *count = 0;
    if (!cap) return 0;
    cpu_device(&list[0]);
    *count = 1;
    size_t gpus = 0;
    int rc = gpu_devices(list + 1, cap - 1, &gpus, error);
    *count += gpus;
    return rc;
}

static int choose_numbered(struct device_choice *out, const struct engine_device *list, size_t count, const char *name,
                           struct error *error)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i].id, name)) continue;
        if (!list[i].is_usable)
            return error_set(error, ERROR_FIT, "%s (%s) cannot be used: %s.", name, list[i].name, list[i].note);
        out->index = (uint32_t)i;
        out->info = list[i];
        return 0;
    }
    return error_set(error, ERROR_FIT, "There is no device %s; lectern devices lists those there are.", name);
}

/* The real GPU with the most memory; false when there is none. */
static bool choose_best(struct device_choice *out, const struct engine_device *list, size_t count)
{
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        if (!list[i].is_usable || list[i].is_software) continue;
        if (found && list[i].memory <= out->info.memory) continue;
        out->index = (uint32_t)i;
        out->info = list[i];
        found = true;
    }
    return found;
}

int device_choose(struct device_choice *out, const char *name, struct error *error)
{
    struct engine_device list[MOST_DEVICES];
    size_t count = 0;
    *out = (struct device_choice){.is_cpu = true};
    if (!name) name = "auto";
    cpu_device(&out->info);
    if (!strcmp(name, "cpu")) return 0;
    bool is_auto = !strcmp(name, "auto");
    if (!is_auto && strncmp(name, "vulkan", 6))
        return error_set(error, ERROR_USAGE, "Device %s is not auto, cpu, vulkan or vulkan:N.", name);

    int rc = gpu_devices(list, MOST_DEVICES, &count, error);
    if (rc) return is_auto ? 0 : rc;
    if (is_auto) {
        out->is_cpu = !choose_best(out, list, count);
        return 0;
    }
    out->is_cpu = false;
    if (strcmp(name, "vulkan")) return choose_numbered(out, list, count, name, error);
    if (choose_best(out, list, count)) return 0;
    return error_set(error, ERROR_FIT, "There is no Vulkan GPU; a software device must be named, as vulkan:0.");
}

int device_open(struct backend **out, const struct device_choice *choice, const struct engine_params *params,
                struct error *error)
{
    if (choice->is_cpu) {
        int rc = cpu_backend_open(out, params->threads, error);
        if (!rc && params->activations == ENGINE_Q8_0) cpu_round_activations(*out);
        return rc;
    }
    const int rc = gpu_backend_open(out, choice->index, params->validate, error);
    if (!rc && params->cache_dir) gpu_keep_kernels(*out, params->cache_dir);
    return rc;
}

uint32_t device_messages(const struct backend *backend)
{
    return strcmp(backend->id, "cpu") ? gpu_validation_messages(backend) : 0;
}

uint64_t device_scratch(const struct device_choice *choice, const struct shape *s, uint32_t batch, uint32_t threads)
{
    if (!choice->is_cpu) return gpu_scratch_bytes(&choice->info, s, batch);
    return cpu_scratch_bytes(s, batch, pool_default_threads(threads));
}

uint64_t device_host_bytes(const struct device_choice *choice)
{
    return choice->is_cpu ? 0 : STAGING;
}
