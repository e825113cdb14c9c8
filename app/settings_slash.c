/* SPDX-License-Identifier: MIT
 *
 * The table of settings (settings_slash.h).
 */
#include "app/settings_slash.h"

#include <stdlib.h>
#include <string.h>

enum setting_kind { SETTING_REAL, SETTING_COUNT, SETTING_SEED };

static const struct setting {
    const char *name;
    enum setting_kind kind;
    size_t offset; /* in struct sample_params */
    double least, most;
    const char *help;
} settings[] = {
    {"temp", SETTING_REAL, offsetof(struct sample_params, temperature), 0, 10, "temperature; 0 = always the likeliest"},
    {"top-k", SETTING_COUNT, offsetof(struct sample_params, top_k), 0, 1e6, "0 = off"},
    {"top-p", SETTING_REAL, offsetof(struct sample_params, top_p), 0, 1, "1 = off"},
    {"min-p", SETTING_REAL, offsetof(struct sample_params, min_p), 0, 1, "0 = off"},
    {"seed", SETTING_SEED, offsetof(struct sample_params, seed), 0, 9e15, "of the sampling"},
};

static void describe(const struct setting *setting, const struct sample_params *sample, char *out, size_t cap)
{
    const char *at = (const char *)sample + setting->offset;
    double value;
    if (setting->kind == SETTING_REAL) {
        float real;
        memcpy(&real, at, sizeof real);
        value = (double)real;
    } else if (setting->kind == SETTING_COUNT) {
        uint32_t count;
        memcpy(&count, at, sizeof count);
        value = count;
    } else {
        uint64_t seed;
        memcpy(&seed, at, sizeof seed);
        value = (double)seed;
    }
    snprintf(out, cap, "%s = %.10g (%s)", setting->name, value, setting->help);
}

static void show(struct slash_context *context)
{
    char line[160];
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        describe(&settings[i], &context->desk->sample, line, sizeof line);
        context->say(context->ctx, line);
    }
    if (!context->tui) return;
    snprintf(line, sizeof line, "mouse = %s", context->tui->terminal.mouse ? "on" : "off");
    context->say(context->ctx, line);
}

static int set_mouse(struct slash_context *context, const char *value, struct error *error)
{
    const bool is_on = !strcmp(value, "on");
    if (!context->tui) return error_set(error, ERROR_USAGE, "There is no mouse in the line mode.");
    if (!is_on && strcmp(value, "off")) return error_set(error, ERROR_USAGE, "mouse is on or off.");
    term_mouse(&context->tui->terminal, is_on);
    context->say(context->ctx, is_on ? "The mouse scrolls and clicks." : "The mouse is the terminal's again.");
    return 0;
}

static int set_one(struct slash_context *context, const struct setting *setting, const char *value, struct error *error)
{
    struct sample_params sample = context->desk->sample;
    char *end, line[160];
    const double number = strtod(value, &end);
    if (end == value || *end || !(number >= setting->least && number <= setting->most))
        return error_set(error, ERROR_USAGE, "%s is a number from %g to %g.", setting->name, setting->least,
                         setting->most);
    char *at = (char *)&sample + setting->offset;
    const float real = (float)number;
    const uint64_t seed = (uint64_t)number;
    if (setting->kind == SETTING_REAL) {
        memcpy(at, &real, sizeof real);
    } else if (setting->kind == SETTING_COUNT) {
        const uint32_t count = (uint32_t)seed;
        memcpy(at, &count, sizeof count);
    } else {
        memcpy(at, &seed, sizeof seed);
    }
    const int rc = desk_sampling(context->desk, &sample, error);
    if (rc) return rc;
    describe(setting, &sample, line, sizeof line);
    context->say(context->ctx, line);
    return 0;
}

int settings_run(struct slash_context *context, const char *argument, struct error *error)
{
    if (!*argument) {
        show(context);
        return 0;
    }
    const size_t len = strcspn(argument, " =");
    const char *value = argument + len + strspn(argument + len, " =");
    if (!*value) return error_set(error, ERROR_USAGE, "Set it to what? /set alone shows all settings.");
    if (len == 5 && !strncmp(argument, "mouse", len)) return set_mouse(context, value, error);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (strlen(settings[i].name) == len && !strncmp(argument, settings[i].name, len))
            return set_one(context, &settings[i], value, error);
    return error_set(error, ERROR_USAGE, "There is no setting %.*s; /set alone shows them all.",
                     (int)(len < 40 ? len : 40), argument);
}
