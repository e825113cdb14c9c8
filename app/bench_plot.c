/* SPDX-License-Identifier: MIT
 *
 * bench --plot: two panels over depth, rows in memory and tokens a second of answering, a line for each model. Depth is
 * shown in doublings.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "app/bench.h"
#include "app/progress.h"
#include "app/sanitize.h"

enum { WIDTH = 420, HEIGHT = 260, LEFT = 64, TOP = 48, GAP = 110, TICKS = 4 };

static const char *const colors[2] = {"#1f6f8b", "#c8553d"};

struct panel {
    const char *title;
    double x, most; /* left edge; the top of the scale */
    double (*value)(const struct bench_plan *, const struct bench_speed *, size_t row);
};

static double rows_gib(const struct bench_plan *plan, const struct bench_speed *speed, size_t row)
{
    (void)plan;
    return (double)(speed->rows[row].depth * speed->info.row_bytes) / (1 << 30);
}

/* The next number that four ticks divide well. */
static double round_up(double x)
{
    static const double steps[] = {1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10};
    if (x <= 0) return 1;
    const double ten = pow(10, floor(log10(x)));
    size_t i = 0;
    while (x > steps[i] * ten * (1 + 1e-9)) i++;
    return steps[i] * ten;
}

static double place_x(const struct panel *p, const struct bench_plan *plan, uint32_t depth)
{
    const double first = log2(plan->depths[0] + 1.0), last = log2(plan->depths[plan->n_depths - 1] + 1.0);
    return p->x + (last > first ? (log2(depth + 1.0) - first) / (last - first) : 0.5) * WIDTH;
}

static double place_y(const struct panel *p, double value)
{
    return TOP + HEIGHT * (1 - value / p->most);
}

static void draw_axes(FILE *f, const struct panel *p, const struct bench_plan *plan)
{
    fprintf(f, "<text x=\"%.0f\" y=\"%d\" font-weight=\"bold\">%s</text>\n", p->x, TOP - 16, p->title);
    for (int i = 0; i <= TICKS; i++) {
        const double value = p->most * i / TICKS, y = place_y(p, value);
        fprintf(f, "<line x1=\"%.0f\" y1=\"%.1f\" x2=\"%.0f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", p->x, y, p->x + WIDTH,
                y);
        fprintf(f, "<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", p->x - 6, y + 4, value);
    }
    for (size_t i = 0; i < plan->n_depths; i++) {
        char depth[32];
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", place_x(p, plan, plan->depths[i]),
                TOP + HEIGHT + 18, format_count(plan->depths[i], depth));
    }
}

static void draw_line(FILE *f, const struct panel *p, const struct bench_plan *plan, const struct bench_speed *speed,
                      const char *color)
{
    fprintf(f, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", color);
    for (size_t i = 0; i < speed->n_rows; i++)
        fprintf(f, "%.1f,%.1f ", place_x(p, plan, speed->rows[i].depth), place_y(p, p->value(plan, speed, i)));
    fprintf(f, "\"/>\n");
    for (size_t i = 0; i < speed->n_rows; i++)
        fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", place_x(p, plan, speed->rows[i].depth),
                place_y(p, p->value(plan, speed, i)), color);
}

static void draw_panel(FILE *f, struct panel *p, const struct bench_plan *plan, const struct bench_speed *speeds,
                       size_t count)
{
    double most = 0;
    for (size_t m = 0; m < count; m++)
        for (size_t i = 0; i < speeds[m].n_rows; i++) most = fmax(most, p->value(plan, &speeds[m], i));
    p->most = round_up(most);
    draw_axes(f, p, plan);
    for (size_t m = 0; m < count; m++) draw_line(f, p, plan, &speeds[m], colors[m]);
}

/* A model's name and layers, with what XML would take for markup left out. */
static void draw_name(FILE *f, const struct bench_speed *speed, size_t at)
{
    char name[SANITIZE_ROOM(128)];
    sanitize_line(speed->info.model_name, name, sizeof name);
    for (char *c = name; *c; c++)
        if (strchr("<>&\"'", *c)) *c = ' ';
    fprintf(f, "<text x=\"%zu\" y=\"%d\" fill=\"%s\">%s: %u KDA, %u MLA</text>\n", LEFT + at * 320, TOP + HEIGHT + 48,
            colors[at], name, speed->info.n_kda, speed->info.n_mla);
}

static void draw(FILE *f, const struct bench_plan *plan, const struct bench_speed *speeds, size_t count)
{
    struct panel panels[2] = {
        {"rows in memory, GiB, over tokens read", LEFT, 1, rows_gib},
        {"answering, tokens a second, over tokens read", LEFT + WIDTH + GAP, 1, bench_decode_rate},
    };
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" "
            "font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
            2 * WIDTH + GAP + LEFT + 40, TOP + HEIGHT + 64);
    for (size_t i = 0; i < 2; i++) draw_panel(f, &panels[i], plan, speeds, count);
    for (size_t m = 0; m < count; m++) draw_name(f, &speeds[m], m);
    fprintf(f, "</svg>\n");
}

int bench_plot(const char *path, const struct bench_plan *plan, const struct bench_speed *speeds, size_t count,
               struct error *error)
{
    FILE *f = fopen(path, "w");
    if (!f) return error_set(error, ERROR_FAILED, "%.400s cannot be written: %s.", path, strerror(errno));
    draw(f, plan, speeds, count);
    bool failed = ferror(f) != 0;
    failed |= fclose(f) != 0;
    return failed ? error_set(error, ERROR_FAILED, "%.400s cannot be written.", path) : 0;
}
