/* SPDX-License-Identifier: MIT
 *
 * Opening a model for a command.
 */
#include "app/model_use.h"

#include <stdlib.h>

#include "app/console.h"
#include "app/model_find.h"

#define WORTH_TELLING (1ull << 30)

void model_tell_plan(const struct engine_plan *p)
{
    char line[MEMORY_PLAN_ROOM];
    memory_plan_describe(p, line);
    if (p->weights + p->rows + p->state + p->workspace >= WORTH_TELLING)
        console_say("Memory on %s.", line);
    else
        console_detail("Memory on %s.", line);
}

int model_use(struct engine **out, const struct model_usage *usage, struct error *error)
{
    const struct settings *s = usage->settings;
    struct engine_params params = usage->params;
    struct engine_plan plan;
    char *path = NULL, note[MEMORY_NOTE_ROOM] = "";
    *out = NULL;
    int rc = model_find(usage->name ? usage->name : s->model, s->data_dir, &path, error);
    params.model = path;
    if (!rc) rc = memory_plan_check(&plan, &params, usage->need, note, error);
    if (!rc) model_tell_plan(&plan);
    if (!rc && *note) console_say("%s", note);
    if (!rc) rc = engine_open(out, &params, error);
    free(path);
    return rc;
}
