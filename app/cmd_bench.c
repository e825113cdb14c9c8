/* SPDX-License-Identifier: MIT
 *
 * lectern bench: tokens a second, reading and answering, at several depths (bench_speed.c), of one model or of two side
 * by side; with --profile each operation's share (bench_profile.c); as a table, JSON, a plot (bench_plot.c). With
 * --resume: bench_resume.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "app/bench.h"
#include "app/commands.h"
#include "app/console.h"
#include "app/json.h"
#include "app/progress.h"
#include "app/sanitize.h"

struct bench_options {
    bool json, profile, made, resume, cold, compare, types;
    const char *depths, *versus, *plot;
    uint32_t prefill, decode, tokens;
};

#define AT(field) .offset = offsetof(struct bench_options, field)
static const struct option bench_table[] = {
    {"json", 0, OPTION_FLAG, NULL, NULL, "as JSON", AT(json)},
    {"depth", 'd', OPTION_TEXT, "N,N...", "0,4096", "tokens before what is measured", AT(depths)},
    {"prefill", 0, OPTION_UINT, "N", "512", "tokens read at each depth", AT(prefill), .most = 1u << 20},
    {"decode", 0, OPTION_UINT, "N", "64", "tokens generated at each depth", AT(decode), .most = 1u << 20},
    {"profile", 0, OPTION_FLAG, NULL, NULL, "what each operation took, on the device's clock", AT(profile)},
    {"made", 0, OPTION_FLAG, NULL, NULL, "depths are made up of empty rows, not read: as fast to look at", AT(made)},
    {"vs", 0, OPTION_TEXT, "MODEL", NULL, "a second model beside the first, in the same run", AT(versus)},
    {"plot", 0, OPTION_TEXT, "FILE", NULL, "rows and speed over depth as an SVG", AT(plot)},
    {"resume", 0, OPTION_FLAG, NULL, NULL, "measure saving and coming back instead", AT(resume)},
    {"tokens", 0, OPTION_UINT, "N", "4096", "--resume: tokens read, saved and taken back", AT(tokens),
     .most = 1u << 24},
    {"cold", 0, OPTION_FLAG, NULL, NULL, "--resume: once more with the file out of the page cache", AT(cold)},
    {"compare", 0, OPTION_FLAG, NULL, NULL, "--resume: f32 state and f16 rows against f16 state and q8_0 rows",
     AT(compare)},
    {"types", 0, OPTION_FLAG, NULL, NULL, "measure products with each weight format instead; needs no model",
     AT(types)},
    {NULL},
};
#undef AT

static const struct command_usage bench_usage = {
    .name = "bench",
    .arguments = "[--depth N,N] [--prefill N] [--decode N] [--profile] [--vs MODEL]\n"
                 "                     | --resume [--tokens N] [--cold] [--compare] [--made] | --types",
    .about = "Measures reading (prefill) and answering (decode) at several depths on one device, or with --resume\n"
             "what coming back to a stored state costs, against reading it again, or with --types how fast the device\n"
             "multiplies by each weight format.",
    .options = bench_table,
};

static int compare_depths(const void *a, const void *b)
{
    const uint32_t *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

static int parse_depths(struct bench_plan *plan, const char *list, struct error *error)
{
    const char *at = list;
    for (;;) {
        char *end;
        errno = 0;
        unsigned long value = strtoul(at, &end, 10);
        if (end == at || errno || value > 1u << 24 || (*end && *end != ',') || *at == '-' ||
            plan->n_depths == BENCH_DEPTHS)
            return error_set(error, ERROR_USAGE, "--depth: \"%.80s\" is not a list of up to %d numbers.", list,
                             BENCH_DEPTHS);
        plan->depths[plan->n_depths++] = (uint32_t)value;
        if (!*end) break;
        at = end + 1;
    }
    qsort(plan->depths, plan->n_depths, sizeof *plan->depths, compare_depths);
    return 0;
}

static double rate(uint32_t tokens, double seconds)
{
    return seconds > 0 ? tokens / seconds : 0;
}

double bench_decode_rate(const struct bench_plan *plan, const struct bench_speed *speed, size_t row)
{
    return rate(plan->decode, speed->rows[row].decode.seconds);
}

static void print_profiles(const struct bench_speed *speed)
{
    char depth[32];
    for (size_t i = 0; i < speed->n_rows; i++) {
        printf("\nprefill at %s\n", format_count(speed->rows[i].depth, depth));
        bench_profile_print(&speed->rows[i].prefill, &speed->peaks);
        printf("\ndecode at %s\n", format_count(speed->rows[i].depth, depth));
        bench_profile_print(&speed->rows[i].decode, &speed->peaks);
    }
}

static void print_table(const struct bench_plan *plan, const struct bench_speed *speed)
{
    const struct engine_info *info = &speed->info;
    char model[SANITIZE_ROOM(128)], device[SANITIZE_ROOM(128)], weights[32], depth[32], rows[32];
    sanitize_line(info->model_name, model, sizeof model);
    sanitize_line(info->device_name, device, sizeof device);
    printf("model    %s, %s\ndevice   %s (%s), batch %u%s\n\n", model, format_bytes(info->weight_bytes, weights),
           device, info->device_id, info->batch, plan->made ? ", depths made up" : "");
    printf("%10s  %12s  %14s  %14s\n", "depth", "rows", "prefill tok/s", "decode tok/s");
    for (size_t i = 0; i < speed->n_rows; i++)
        printf("%10s  %12s  %14.1f  %14.1f\n", format_count(speed->rows[i].depth, depth),
               format_bytes(speed->rows[i].depth * info->row_bytes, rows),
               rate(plan->prefill, speed->rows[i].prefill.seconds), bench_decode_rate(plan, speed, i));
    if (plan->profile) print_profiles(speed);
}

/* What the second has of the first's rows and speed. */
static void print_ratios(const struct bench_plan *plan, const struct bench_speed speeds[2])
{
    char depth[32];
    printf("\n%10s  %26s  %26s\n", "depth", "rows, second to first", "decode, first to second");
    for (size_t i = 0; i < speeds[0].n_rows; i++) {
        const double second = bench_decode_rate(plan, &speeds[1], i);
        printf("%10s  %26.2f  %26.2f\n", format_count(speeds[0].rows[i].depth, depth),
               (double)speeds[1].info.row_bytes / (double)speeds[0].info.row_bytes,
               second > 0 ? bench_decode_rate(plan, &speeds[0], i) / second : 0);
    }
}

static void json_speed(struct json *j, const struct bench_plan *plan, const struct bench_speed *speed)
{
    const struct engine_info *info = &speed->info;
    json_text(j, "model", info->model_name);
    json_text(j, "device", info->device_name);
    json_text(j, "device_id", info->device_id);
    json_uint(j, "weight_bytes", info->weight_bytes);
    json_uint(j, "row_bytes", info->row_bytes);
    json_uint(j, "batch", info->batch);
    json_uint(j, "prefill", plan->prefill);
    json_uint(j, "decode", plan->decode);
    json_bool(j, "made", plan->made);
    json_uint(j, "validation_messages", info->validation_messages);
    if (plan->profile) {
        json_real(j, "copy_bytes_per_second", speed->peaks.bytes_per_second);
        json_real(j, "product_flops_per_second", speed->peaks.flops_per_second);
    }
    json_open(j, "rows", '[');
    for (size_t i = 0; i < speed->n_rows; i++) {
        const struct bench_row *row = &speed->rows[i];
        json_open(j, NULL, '{');
        json_uint(j, "depth", row->depth);
        json_uint(j, "rows_bytes", row->depth * info->row_bytes);
        json_real(j, "prefill_seconds", row->prefill.seconds);
        json_real(j, "prefill_tokens_per_second", rate(plan->prefill, row->prefill.seconds));
        json_real(j, "decode_seconds", row->decode.seconds);
        json_real(j, "decode_tokens_per_second", bench_decode_rate(plan, speed, i));
        if (plan->profile) {
            bench_profile_json(j, "prefill_profile", &row->prefill);
            bench_profile_json(j, "decode_profile", &row->decode);
        }
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void print_json(const struct bench_plan *plan, const struct bench_speed *speeds, size_t count)
{
    struct json j = {0};
    json_open(&j, NULL, '{');
    json_speed(&j, plan, speeds);
    if (count > 1) {
        json_open(&j, "versus", '{');
        json_speed(&j, plan, speeds + 1);
        json_close(&j, '}');
    }
    json_close(&j, '}');
    json_send(&j);
    json_free(&j);
}

static void print(const struct bench_options *options, const struct bench_plan *plan, const struct bench_speed *speeds,
                  size_t count)
{
    if (options->json) {
        print_json(plan, speeds, count);
        return;
    }
    print_table(plan, speeds);
    if (count == 1) return;
    printf("\n");
    print_table(plan, speeds + 1);
    print_ratios(plan, speeds);
}

static int run_bench(const struct settings *s, const struct bench_options *options, struct error *error)
{
    struct bench_plan plan = {
        .prefill = options->prefill, .decode = options->decode, .profile = options->profile, .made = options->made};
    struct bench_speed *speeds = calloc(2, sizeof *speeds);
    const size_t count = options->versus ? 2 : 1;
    int rc = speeds ? parse_depths(&plan, options->depths, error) : error_set(error, ERROR_FAILED, "Out of memory.");
    if (!rc) rc = console_catch_signals(error);
    for (size_t i = 0; !rc && i < count; i++) rc = bench_speed(&speeds[i], s, i ? options->versus : NULL, &plan, error);
    if (!rc) print(options, &plan, speeds, count);
    if (!rc && options->plot) rc = bench_plot(options->plot, &plan, speeds, count, error);
    free(speeds);
    return rc;
}

static int run_resume(const struct settings *settings, const struct bench_options *options, struct error *error)
{
    const struct bench_resume_options resume = {
        .tokens = options->tokens,
        .cold = options->cold,
        .json = options->json,
        .made = options->made,
        .compare = options->compare,
    };
    return bench_resume(settings, &resume, error);
}

int cmd_bench(int argc, char **argv)
{
    struct settings settings;
    struct bench_options options = {0};
    struct error error = {0};
    int status;
    if (!command_begin(&settings, &bench_usage, &options, &argc, argv, &status)) return status;
    int rc;
    if (argc > 1)
        rc = error_set(&error, ERROR_USAGE, "bench takes no argument \"%.80s\".", argv[1]);
    else if (options.resume && !options.tokens)
        rc = error_set(&error, ERROR_USAGE, "--tokens: at least one token is needed.");
    else if (options.types)
        rc = bench_types(&settings, options.json, &error);
    else if (options.resume)
        rc = run_resume(&settings, &options, &error);
    else if (!options.prefill && !options.decode)
        rc = error_set(&error, ERROR_USAGE, "There is nothing to measure.");
    else
        rc = run_bench(&settings, &options, &error);
    fflush(stdout);
    if (rc) console_error(&error);
    if (console_signal()) rc = console_signal_status(console_signal());
    settings_free(&settings);
    return console_finish(rc);
}
