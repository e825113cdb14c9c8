/* SPDX-License-Identifier: MIT
 *
 * The progress line, and numbers as people read them.
 */
#include "app/progress.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "app/console.h"

static bool is_shown;
static struct timespec shown_at;

static bool drawn_recently(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double since = (double)(now.tv_sec - shown_at.tv_sec) + 1e-9 * (double)(now.tv_nsec - shown_at.tv_nsec);
    if (is_shown && since < 0.1) return true;
    shown_at = now;
    return false;
}

void progress_show(const struct progress *p)
{
    if (!console_draws() || (p->done < p->total && drawn_recently())) return;
    char done[32], total[32], eta[32], speed[48] = "", left[48] = "";
    if (p->unit)
        format_count(p->done, done), format_count(p->total, total);
    else
        format_bytes(p->done, done), format_bytes(p->total, total);
    if (p->unit && p->rate > 0) snprintf(speed, sizeof speed, ", %.0f %s/s", p->rate, p->unit);
    if (p->eta >= 0 && p->done < p->total) snprintf(left, sizeof left, ", %s left", format_seconds(p->eta, eta));
    double percent = p->total ? 100.0 * (double)p->done / (double)p->total : 100.0;
    fprintf(stderr, "\r%s %s of %s%s%s (%.0f %%)%s%s\033[K", p->what, done, total, p->unit ? " " : "",
            p->unit ? p->unit : "", percent, speed, left);
    fflush(stderr);
    is_shown = true;
}

void progress_clear(void)
{
    if (!is_shown) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    is_shown = false;
}

const char *format_count(uint64_t n, char out[32])
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n), at = 0;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0) out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
    return out;
}

const char *format_bytes(uint64_t n, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)n;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof *units) value /= 1024, unit++;
    snprintf(out, 32, unit && value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

const char *format_seconds(double s, char out[32])
{
    unsigned long long whole = s > 0 ? (unsigned long long)(s + 0.5) : 0;
    if (s < 10)
        snprintf(out, 32, "%.2f s", s > 0 ? s : 0);
    else if (whole < 60)
        snprintf(out, 32, "%llu s", whole);
    else if (whole < 3600)
        snprintf(out, 32, "%llu min %02llu s", whole / 60, whole % 60);
    else
        snprintf(out, 32, "%llu h %02llu min", whole / 3600, whole % 3600 / 60);
    return out;
}
