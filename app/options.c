/* SPDX-License-Identifier: MIT
 *
 * The table of global options, the parser, and --help made from the same rows.
 */
#include "app/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/commands.h"
#include "app/console.h"
#include "app/paths.h"

static const struct option_choice state_dtypes[] = {{"f32", ENGINE_F32}, {"f16", ENGINE_F16}, {NULL, 0}};
static const struct option_choice rows_dtypes[] = {
    {"f32", ENGINE_F32}, {"f16", ENGINE_F16}, {"q8_0", ENGINE_Q8_0}, {NULL, 0}};
static const struct option_choice activations[] = {
    {"f32", ENGINE_F32},
    {"q8_0", ENGINE_Q8_0},
    {NULL, 0},
};
static const struct option_choice colors[] = {
    {"auto", COLOR_AUTO}, {"always", COLOR_ALWAYS}, {"never", COLOR_NEVER}, {NULL, 0}};

#define AT(field) .offset = offsetof(struct settings, field)
const struct option global_options[] = {
    {"model", 'm', OPTION_TEXT, "FILE", NULL, "model: a GGUF file, or the name of a pulled one; default: built in", AT(model)},
    {"device", 0, OPTION_TEXT, "NAME", "auto", "auto, cpu, vulkan or vulkan:N", AT(device)},
    {"ctx", 0, OPTION_UINT, "N", "0", "most tokens in a session; 0: the model's, or what fits", AT(context),
     .most = 1u << 24},
    {"batch", 0, OPTION_UINT, "N", "0", "tokens read at once; 0: 2048 on a GPU with room, else down to 512", AT(batch),
     .most = 1u << 16},
    {"threads", 0, OPTION_UINT, "N", "0", "CPU threads; 0: all cores", AT(threads), .most = 1024},
    {"state-dtype", 0, OPTION_CHOICE, "TYPE", "f32", "KDA state: f32 or f16", AT(state_dtype), state_dtypes},
    {"kv-dtype", 0, OPTION_CHOICE, "TYPE", "f16", "MLA rows: f32, f16 or q8_0", AT(rows_dtype), rows_dtypes},
    {"activations", 0, OPTION_CHOICE, "TYPE", "f32", "on the cpu: f32, or q8_0 (rounded, quicker)", AT(activations),
     activations},
    {"temp", 0, OPTION_FLOAT, "X", "0", "sampling temperature; 0: always the likeliest token", AT(temperature)},
    {"top-k", 0, OPTION_UINT, "N", "0", "sample among the N likeliest; 0: all", AT(top_k)},
    {"top-p", 0, OPTION_FLOAT, "X", "1", "sample within probability mass X; 1: all", AT(top_p)},
    {"min-p", 0, OPTION_FLOAT, "X", "0", "leave out tokens under X times the best; 0: none", AT(min_p)},
    {"seed", 0, OPTION_U64, "N", "0", "seed of the sampling", AT(seed)},
    {"max-tokens", 0, OPTION_UINT, "N", "1024", "longest answer", AT(most_tokens)},
    {"system", 0, OPTION_TEXT, "TEXT", NULL, "instruction before the documents; default: a reading assistant's",
     AT(system_text)},
    {"data-dir", 0, OPTION_TEXT, "DIR", NULL, "sessions and states; default: $XDG_DATA_HOME/lectern", AT(data_dir)},
    {"ephemeral", 0, OPTION_FLAG, NULL, NULL, "keep nothing on disk", AT(ephemeral)},
    {"store-max", 0, OPTION_SIZE, "SIZE", "20G", "most disk for states, the oldest go first; 0: no limit",
     AT(store_max)},
    {"plain", 0, OPTION_FLAG, NULL, NULL, "no full screen, no colour", AT(plain)},
    {"color", 0, OPTION_CHOICE, "WHEN", "auto", "auto, always or never", AT(color), colors},
    {"quiet", 0, OPTION_FLAG, NULL, NULL, "no progress, no remarks", AT(quiet)},
    {"verbose", 'v', OPTION_COUNT, NULL, NULL, "say more", AT(verbose)},
    {"validate", 0, OPTION_FLAG, NULL, NULL, "run under the Vulkan validation layers", AT(validate)},
    {"help", 'h', OPTION_FLAG, NULL, NULL, "this text", AT(help)},
    {"version", 0, OPTION_FLAG, NULL, NULL, "the version", AT(version)},
    {NULL},
};
#undef AT

static bool text_to_u64(const char *text, uint64_t *out, const char **end)
{
    if (*text < '0' || *text > '9') return false;
    char *stop;
    errno = 0;
    unsigned long long value = strtoull(text, &stop, 10);
    *out = value;
    *end = stop;
    return errno == 0;
}

static bool text_to_size(const char *text, uint64_t *out)
{
    const char *end;
    if (!text_to_u64(text, out, &end)) return false;
    static const char units[] = "KMGT";
    const char *unit = *end ? strchr(units, *end >= 'a' ? *end - 32 : *end) : NULL;
    unsigned shift = unit ? 10u * (unsigned)(unit - units + 1) : 0;
    if (unit) end++;
    if (unit && end[0] == 'i' && end[1] == 'B') end += 2;
    if (*end || (shift && *out >> (64 - shift))) return false;
    *out <<= shift;
    return true;
}

static bool text_to_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"1", "yes", "true", "on"}, *const no[] = {"0", "no", "false", "off", ""};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        if (!strcmp(text, yes[i])) return *out = true, true;
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        if (!strcmp(text, no[i])) return *out = false, true;
    return false;
}

static bool text_to_choice(const struct option_choice *choices, const char *text, int *out)
{
    for (; choices->name; choices++)
        if (!strcmp(choices->name, text)) return *out = choices->value, true;
    return false;
}

static int choice_error(const struct option *o, const char *text, const char *origin, struct error *error)
{
    char names[128] = "";
    for (const struct option_choice *c = o->choices; c->name; c++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", c->name);
    }
    return error_set(error, ERROR_USAGE, "%s: \"%.80s\" is none of %s.", origin, text, names);
}

int option_set(const struct option *o, void *values, const char *text, const char *origin, struct error *error)
{
    void *at = (char *)values + o->offset;
    uint64_t number = 0;
    const char *end = "";
    bool good = true;
    switch (o->kind) {
    case OPTION_FLAG:
        if (text_to_bool(text, at)) return 0;
        return error_set(error, ERROR_USAGE, "%s: \"%.80s\" is neither yes nor no.", origin, text);
    case OPTION_TEXT:
        *(const char **)at = text;
        return 0;
    case OPTION_CHOICE:
        return text_to_choice(o->choices, text, at) ? 0 : choice_error(o, text, origin, error);
    case OPTION_SIZE:
        if (text_to_size(text, at)) return 0;
        return error_set(error, ERROR_USAGE, "%s: \"%.80s\" is not a size such as 500M or 20G.", origin, text);
    case OPTION_FLOAT: {
        char *stop;
        float value = strtof(text, &stop);
        if (stop == text || *stop || !isfinite(value) || value < 0)
            return error_set(error, ERROR_USAGE, "%s: \"%.80s\" is not a number of 0 or more.", origin, text);
        *(float *)at = value;
        return 0;
    }
    case OPTION_COUNT:
    case OPTION_UINT:
        good = text_to_u64(text, &number, &end) && !*end && number <= (o->most ? o->most : UINT32_MAX);
        if (good) *(uint32_t *)at = (uint32_t)number;
        break;
    case OPTION_U64:
        good = text_to_u64(text, &number, &end) && !*end && (!o->most || number <= o->most);
        if (good) *(uint64_t *)at = number;
        break;
    }
    if (good) return 0;
    uint64_t most = o->most ? o->most : o->kind == OPTION_U64 ? UINT64_MAX : UINT32_MAX;
    return error_set(error, ERROR_USAGE, "%s: \"%.80s\" is not a whole number from 0 to %llu.", origin, text,
                     (unsigned long long)most);
}

int options_defaults(const struct option_group *group, struct error *error)
{
    for (const struct option *o = group->items; o->name; o++) {
        if (!o->fallback) continue;
        int rc = option_set(o, group->values, o->fallback, o->name, error);
        if (rc) return rc;
    }
    return 0;
}

/* ---------------------------------------------------------------------------------------- the command line */

struct parse {
    const struct option_group *groups;
    size_t n_groups;
    int argc, next; /* next argument to look at */
    char **argv;
};

static bool takes_value(const struct option *o)
{
    return o->kind != OPTION_FLAG && o->kind != OPTION_COUNT;
}

static const struct option *find_option(const struct parse *p, const char *name, size_t len, char letter, void **values)
{
    for (size_t g = 0; g < p->n_groups; g++)
        for (const struct option *o = p->groups[g].items; o && o->name; o++) {
            bool same = letter ? o->letter == letter : strlen(o->name) == len && !memcmp(o->name, name, len);
            if (!same) continue;
            *values = p->groups[g].values;
            return o;
        }
    return NULL;
}

static int use_option(struct parse *p, const struct option *o, void *values, const char *text, const char *shown,
                      struct error *error)
{
    if (o->kind == OPTION_COUNT) {
        ++*(uint32_t *)((char *)values + o->offset);
        return 0;
    }
    if (o->kind == OPTION_FLAG) return option_set(o, values, text ? text : "1", shown, error);
    if (!text && p->next >= p->argc) return error_set(error, ERROR_USAGE, "%s needs a value (%s).", shown, o->argument);
    return option_set(o, values, text ? text : p->argv[p->next++], shown, error);
}

static int parse_long(struct parse *p, const char *argument, struct error *error)
{
    const char *name = argument + 2, *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    void *values = NULL;
    const struct option *o = find_option(p, name, len, 0, &values);
    char shown[64];
    snprintf(shown, sizeof shown, "--%.*s", (int)(len < 60 ? len : 60), name);
    if (!o) return error_set(error, ERROR_USAGE, "There is no option %s; see --help.", shown);
    if (o->kind == OPTION_COUNT && equals) return error_set(error, ERROR_USAGE, "%s takes no value.", shown);
    return use_option(p, o, values, equals ? equals + 1 : NULL, shown, error);
}

static int parse_letters(struct parse *p, const char *argument, struct error *error)
{
    for (const char *at = argument + 1; *at; at++) {
        void *values = NULL;
        char shown[3] = {'-', *at, 0};
        const struct option *o = find_option(p, NULL, 0, *at, &values);
        if (!o) return error_set(error, ERROR_USAGE, "There is no option %s; see --help.", shown);
        if (takes_value(o)) return use_option(p, o, values, at[1] ? at + 1 : NULL, shown, error);
        int rc = use_option(p, o, values, NULL, shown, error);
        if (rc) return rc;
    }
    return 0;
}

int options_parse(const struct option_group *groups, size_t n_groups, int *argc, char **argv, struct error *error)
{
    struct parse p = {.groups = groups, .n_groups = n_groups, .argc = *argc, .next = 1, .argv = argv};
    int kept = 1;
    bool ended = false;
    while (p.next < p.argc) {
        char *argument = argv[p.next++];
        int rc = 0;
        if (ended || argument[0] != '-' || !argument[1])
            argv[kept++] = argument;
        else if (!strcmp(argument, "--"))
            ended = true;
        else if (argument[1] == '-')
            rc = parse_long(&p, argument, error);
        else
            rc = parse_letters(&p, argument, error);
        if (rc) return rc;
    }
    *argc = kept;
    return 0;
}

/* ------------------------------------------------------------------------------------------------ --help */

static void print_option(const struct option *o)
{
    char left[48];
    snprintf(left, sizeof left, "%c%c%s --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
             o->letter ? "," : " ", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
    bool tells = o->fallback && takes_value(o) && strcmp(o->fallback, "0") != 0;
    printf("  %-24s %s%s%s%s\n", left, o->help, tells ? " (default " : "", tells ? o->fallback : "", tells ? ")" : "");
}

static void print_help(const struct command_usage *usage)
{
    printf("Usage: lectern %s%s%s\n\n%s\n", usage->name ? usage->name : "", usage->name ? " " : "", usage->arguments,
           usage->about);
    if (!usage->name) printf("\nCommands (lectern COMMAND --help tells more):\n");
    for (const struct command *c = commands; !usage->name && c->name; c++) printf("  %-24s %s\n", c->name, c->summary);
    if (usage->options) printf("\nOptions:\n");
    for (const struct option *o = usage->options; o && o->name; o++) print_option(o);
    printf("\nGlobal options (also LECTERN_NAME in the environment, name = value in lectern.ini):\n");
    for (const struct option *o = global_options; o->name; o++) print_option(o);
}

static int settings_read(struct settings *s, const struct option_group groups[2], int *argc, char **argv,
                         struct error *error)
{
    const struct option_group *global = &groups[1];
    int rc = groups[0].items ? options_defaults(&groups[0], error) : 0;
    if (!rc) rc = options_defaults(global, error);
    char *path = NULL;
    if (!rc) rc = paths_config(&path, error);
    if (!rc) rc = config_file(global, path, &s->ini_text, error);
    free(path);
    if (!rc) rc = config_environment(global, error);
    if (!rc) rc = options_parse(groups, 2, argc, argv, error);
    if (!rc && !s->ephemeral) rc = paths_cache(&s->cache_dir, error);
    return rc;
}

bool command_begin(struct settings *s, const struct command_usage *usage, void *values, int *argc, char **argv,
                   int *status)
{
    *s = (struct settings){0};
    struct option_group groups[2] = {{usage->options, values}, {global_options, s}};
    struct error error = {0};
    int rc = settings_read(s, groups, argc, argv, &error);
    if (!rc) console_begin(s);
    if (!rc && !s->help && !s->version) return true;
    if (rc)
        console_error(&error);
    else if (s->version)
        printf("lectern %s\n", LECTERN_VERSION);
    else
        print_help(usage);
    settings_free(s);
    *status = rc ? rc : console_finish(0);
    return false;
}

void settings_free(struct settings *s)
{
    free(s->ini_text);
    free(s->cache_dir);
    s->ini_text = s->cache_dir = NULL;
}

struct engine_params settings_engine(const struct settings *s)
{
    return (struct engine_params){
        .model = s->model,
        .device = s->device,
        .context = s->context,
        .batch = s->batch,
        .threads = s->threads,
        .state_dtype = (enum engine_dtype)s->state_dtype,
        .rows_dtype = (enum engine_dtype)s->rows_dtype,
        .activations = (enum engine_dtype)s->activations,
        .cache_dir = s->cache_dir,
        .validate = s->validate,
    };
}

struct sample_params settings_sample(const struct settings *s)
{
    return (struct sample_params){
        .temperature = s->temperature, .top_k = s->top_k, .top_p = s->top_p, .min_p = s->min_p, .seed = s->seed};
}
