/* SPDX-License-Identifier: MIT
 *
 * bench --profile: which operations a stretch of evaluation spent its time in, and how far each is from what the device
 * can do.
 */
#include <stdio.h>

#include "app/bench.h"

static double rate(double amount, double seconds)
{
    return seconds > 0 ? amount / seconds : 0;
}

void bench_profile_print(const struct bench_profile *p, const struct engine_peaks *peaks)
{
    double device = 0;
    for (size_t i = 0; i < p->count; i++)
        if (!p->timings[i].on_host) device += p->timings[i].seconds;
    printf("%-18s %8s %10s %7s %10s %7s %9s %8s\n", "operation", "runs", "ms", "share", "GB/s", "of copy", "TFLOP/s",
           "of most");
    for (size_t i = 0; i < p->count; i++) {
        const struct engine_timing *t = &p->timings[i];
        if (t->on_host) {
            printf("%-18s %8llu %10.3f   on the host\n", t->label, (unsigned long long)t->count, 1e3 * t->seconds);
            continue;
        }
        const double moved = rate(t->bytes, t->seconds);
        printf("%-18s %8llu %10.3f %6.1f%% %10.1f %6.1f%% %9.2f %6.1f%%\n", t->label, (unsigned long long)t->count,
               1e3 * t->seconds, 100 * rate(t->seconds, device), 1e-9 * moved,
               100 * rate(moved, peaks->bytes_per_second), 1e-12 * rate(t->flops, t->seconds),
               100 * rate(rate(t->flops, t->seconds), peaks->flops_per_second));
    }
    printf("%-18s %8s %10.3f   on the device, of %.3f ms by the wall; a copy moves %.1f GB/s, products reach %.1f "
           "TFLOP/s\n",
           "together", "", 1e3 * device, 1e3 * p->seconds, 1e-9 * peaks->bytes_per_second,
           1e-12 * peaks->flops_per_second);
}

void bench_profile_json(struct json *j, const char *key, const struct bench_profile *p)
{
    json_open(j, key, '[');
    for (size_t i = 0; i < p->count; i++) {
        const struct engine_timing *t = &p->timings[i];
        json_open(j, NULL, '{');
        json_text(j, "operation", t->label);
        json_bool(j, "on_host", t->on_host);
        json_uint(j, "runs", t->count);
        json_real(j, "seconds", t->seconds);
        json_real(j, "bytes", t->bytes);
        json_real(j, "flops", t->flops);
        json_close(j, '}');
    }
    json_close(j, ']');
}
