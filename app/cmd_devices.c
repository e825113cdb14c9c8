/* SPDX-License-Identifier: MIT
 *
 * lectern devices: what there is to compute on, and what a model needs there.
 */
#include <stdlib.h>
#include <string.h>

#include "app/commands.h"
#include "app/console.h"
#include "app/json.h"
#include "app/memory_plan.h"
#include "app/model_find.h"
#include "app/model_use.h"
#include "app/options.h"
#include "app/progress.h"
#include "app/sanitize.h"

#define DEVICES_MOST 32

struct devices_options {
    bool json, used;
};

#define AT(field) .offset = offsetof(struct devices_options, field)
static const struct option devices_table[] = {
    {"json", 0, OPTION_FLAG, NULL, NULL, "as JSON", AT(json)},
    {"used", 0, OPTION_FLAG, NULL, NULL, "only the device that --device comes to, in one line", AT(used)},
    {NULL},
};
#undef AT

static const struct command_usage devices_usage = {
    .name = "devices",
    .arguments = "[--used]",
    .about = "Lists the devices with what each can do and the memory that the model needs on each.",
    .options = devices_table,
};

static void print_safe(const char *before, const char *text, const char *after)
{
    char safe[SANITIZE_ROOM(480)];
    sanitize_line(text, safe, sizeof safe);
    printf("%s%s%s", before, safe, after);
}

static void describe_plan(const struct engine_plan *p, struct json *j)
{
    json_open(j, "plan", '{');
    json_uint(j, "weights", p->weights);
    json_uint(j, "rows", p->rows);
    json_uint(j, "state", p->state);
    json_uint(j, "workspace", p->workspace);
    json_uint(j, "available", p->available);
    json_uint(j, "context", p->context);
    json_uint(j, "context_own", p->context_own);
    json_uint(j, "context_fits", p->context_fits);
    json_bool(j, "fits", p->fits);
    json_uint(j, "host", p->host);
    json_uint(j, "host_available", p->host_available);
    json_close(j, '}');
}

static void describe_device(const struct engine_device *d, const struct engine_plan *plan, const char *advice,
                            struct json *j)
{
    json_open(j, NULL, '{');
    json_text(j, "id", d->id);
    json_text(j, "name", d->name);
    json_bool(j, "usable", d->is_usable);
    json_bool(j, "software", d->is_software);
    json_uint(j, "memory", d->memory);
    json_uint(j, "memory_free", d->memory_free);
    json_text(j, "note", d->note);
    if (plan) describe_plan(plan, j);
    if (*advice) json_text(j, "advice", advice);
    json_close(j, '}');
}

static void print_device(const struct engine_device *d, const struct engine_plan *plan, const char *advice)
{
    char memory[32], left[32], line[MEMORY_PLAN_ROOM];
    printf("%-10s  ", d->id);
    print_safe("", d->name, "");
    printf("%s, %s (%s free)\n", d->is_software ? " [software]" : "", format_bytes(d->memory, memory),
           format_bytes(d->memory_free, left));
    if (d->note[0]) print_safe(d->is_usable ? "            " : "            not usable: ", d->note, "\n");
    if (plan) printf("            %s\n", memory_plan_describe(plan, line));
    if (*advice) print_safe("            ", advice, "\n");
}

/* The plan for one device; what would fit there instead is `advice`, an empty sentence where all is well. */
static int plan_device(const struct settings *s, const char *model, const struct engine_device *d,
                       struct engine_plan *plan, struct error *advice, struct error *error)
{
    struct engine_params params = settings_engine(s);
    char note[MEMORY_NOTE_ROOM] = "";
    params.device = d->id;
    params.model = model;
    *advice = (struct error){0};
    int rc = memory_plan_check(plan, &params, 0, note, advice);
    if (rc == ERROR_FIT) return 0;
    if (!rc && *note) error_set(advice, ERROR_NONE, "%s", note);
    return rc ? error_set(error, advice->code, "%s", advice->text) : 0;
}

static int list_devices(const struct settings *s, bool as_json, struct error *error)
{
    struct engine_device list[DEVICES_MOST];
    size_t count = 0;
    int rc = engine_devices(list, DEVICES_MOST, &count, error);
    struct json j = {0};
    char *model = NULL;
    bool has_model = !model_find(s->model, s->data_dir, &model, s->model ? error : NULL);
    if (!rc && s->model && !has_model) rc = error->code;
    if (!rc && as_json) json_open(&j, NULL, '[');
    for (size_t i = 0; !rc && i < count; i++) {
        struct engine_plan plan;
        struct error advice = {0};
        bool planned = has_model && list[i].is_usable;
        if (planned) rc = plan_device(s, model, &list[i], &plan, &advice, error);
        if (rc) break;
        if (as_json)
            describe_device(&list[i], planned ? &plan : NULL, advice.text, &j);
        else
            print_device(&list[i], planned ? &plan : NULL, advice.text);
    }
    if (!rc && as_json) {
        json_close(&j, ']');
        json_send(&j);
    }
    json_free(&j);
    free(model);
    return rc;
}

/* The engine's own choice, so that the two can never differ. */
static int show_used(const struct settings *s, bool as_json, struct error *error)
{
    struct engine *engine = NULL;
    struct model_usage usage = {.settings = s, .params = settings_engine(s)};
    if (!usage.params.context) usage.params.context = 1024;
    int rc = model_use(&engine, &usage, error);
    if (!rc && as_json) {
        struct json j = {0};
        json_open(&j, NULL, '{');
        json_text(&j, "id", engine_info(engine)->device_id);
        json_text(&j, "name", engine_info(engine)->device_name);
        json_text(&j, "model", engine_info(engine)->model_name);
        json_close(&j, '}');
        json_send(&j);
        json_free(&j);
    } else if (!rc) {
        print_safe("Device: ", engine_info(engine)->device_name, "");
        print_safe(" (", engine_info(engine)->device_id, ")");
        print_safe(", model: ", engine_info(engine)->model_name, "\n");
    }
    engine_close(&engine);
    return rc;
}

int cmd_devices(int argc, char **argv)
{
    struct settings settings;
    struct devices_options options = {0};
    struct error error = {0};
    int status;
    if (!command_begin(&settings, &devices_usage, &options, &argc, argv, &status)) return status;
    int rc;
    if (argc > 1)
        rc = error_set(&error, ERROR_USAGE, "devices takes no argument \"%.80s\".", argv[1]);
    else
        rc = options.used ? show_used(&settings, options.json, &error) : list_devices(&settings, options.json, &error);
    fflush(stdout);
    if (rc) console_error(&error);
    settings_free(&settings);
    return console_finish(rc);
}
