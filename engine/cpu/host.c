/* SPDX-License-Identifier: MIT
 *
 * What the machine is: the processor's name, its memory, and which kernels it can run.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/cpu/cpu.h"

static bool has_nothing_special(void)
{
    return true;
}

#if defined(LECTERN_KERNELS_X86)
static bool has_v3(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

static bool has_v4(void)
{
    return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512cd");
}

static bool has_vnni(void)
{
    return has_v4() && __builtin_cpu_supports("avx512vnni");
}
#endif

static const struct {
    const struct kernels *kernels;
    bool (*runs)(void);
} variants[] = {
    {&cpu_kernels_base, has_nothing_special},
#if defined(LECTERN_KERNELS_X86)
    {&cpu_kernels_v3, has_v3},
    {&cpu_kernels_v4, has_v4},
    {&cpu_kernels_vnni, has_vnni},
#endif
};

const struct kernels *cpu_kernels_at(size_t index)
{
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        if (variants[i].runs() && index-- == 0) return variants[i].kernels;
    return NULL;
}

const struct kernels *cpu_kernels(void)
{
    const struct kernels *best = &cpu_kernels_base;
    for (size_t i = 0; cpu_kernels_at(i); i++) best = cpu_kernels_at(i);
    return best;
}

static void processor_name(char *out, size_t size)
{
    snprintf(out, size, "CPU");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) return;
    char line[256];
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, "model name", 10)) continue;
        const char *value = strchr(line, ':');
        if (!value) continue;
        value += 1 + strspn(value + 1, " \t");
        snprintf(out, size, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    fclose(f);
}

/* What the system says can be had without swapping; 0 when it does not tell. */
static uint64_t memory_available(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    if (!f) return 0;
    char line[128];
    unsigned long long kib = 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) break;
    fclose(f);
    return (uint64_t)kib * 1024;
}

void cpu_device(struct engine_device *out)
{
    *out = (struct engine_device){.id = "cpu", .is_usable = true};
    processor_name(out->name, sizeof out->name);
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE), cores = sysconf(_SC_NPROCESSORS_ONLN);
    out->memory = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
    out->memory_free = memory_available();
    if (!out->memory_free) out->memory_free = out->memory;
    snprintf(out->note, sizeof out->note, "%ld cores, %s kernels", cores, cpu_kernels()->name);
}
