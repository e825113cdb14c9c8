/* SPDX-License-Identifier: MIT
 *
 * lectern pull: downloads a model, or lists what there is and suggests one. stdout: the list, or the path of the model;
 * stderr: progress and remarks.
 */
#include <stdlib.h>
#include <string.h>

#include "app/commands.h"
#include "app/console.h"
#include "app/json.h"
#include "app/memory_plan.h"
#include "app/models.h"
#include "app/options.h"
#include "app/progress.h"
#include "app/pull_set.h"
#include "app/sanitize.h"
#include "app/transfer_console.h"

struct pull_options {
    const char *revision, *sha256;
    uint32_t connections, retries, stall;
    uint64_t chunk;
    bool repair, json;
};

#define AT(field) .offset = offsetof(struct pull_options, field)
static const struct option pull_table[] = {
    {"revision", 0, OPTION_TEXT, "REV", NULL, "branch, tag or commit of the repository; default: main", AT(revision)},
    {"sha256", 0, OPTION_TEXT, "HEX", NULL, "the hash that the file must have", AT(sha256)},
    {"repair", 0, OPTION_FLAG, NULL, NULL, "the model is here but damaged: fetch the damaged chunks", AT(repair)},
    {"connections", 0, OPTION_UINT, "N", "4", "ranges fetched at once, at most 16", AT(connections), .most = 16},
    {"retries", 0, OPTION_UINT, "N", "8", "failures in a row before it is given up", AT(retries), .most = 1000},
    {"stall", 0, OPTION_UINT, "SECONDS", "30", "a connection that is silent for so long is begun anew", AT(stall),
     .most = 3600},
    {"chunk", 0, OPTION_SIZE, "SIZE", "16M", "the piece that is hashed and fetched again alone", AT(chunk)},
    {"json", 0, OPTION_FLAG, NULL, NULL, "the list as JSON", AT(json)},
    {NULL},
};
#undef AT

static const struct command_usage pull_usage = {
    .name = "pull",
    .arguments = "[NAME | hf:OWNER/REPO/FILE.gguf | URL]",
    .about =
        "Downloads a model once; nothing else of lectern ever uses the network. Run it again to go on after a stop.\n"
        "One file of several (-00001-of-0000N.gguf) means them all. `lectern -m NAME` uses what was pulled.\n"
        "Without an argument: the choices, what each needs here (at --ctx, default 131,072), and a suggestion.\n"
        "In the environment: HF_TOKEN, HF_ENDPOINT, https_proxy and its like, SSL_CERT_FILE; ~/.netrc.",
    .options = pull_table,
};

/* ---------------------------------------------------------------------------------------------------- list */

#define DEVICES_MOST 32

/* Where a model would run: the real GPU with the most free memory, and the cpu. */
struct machine {
    struct engine_device gpu, cpu;
    bool has_gpu;
};

static int look_at_machine(struct machine *m, struct error *error)
{
    struct engine_device list[DEVICES_MOST];
    size_t count = 0;
    *m = (struct machine){.has_gpu = false};
    int rc = engine_devices(list, DEVICES_MOST, &count, error);
    for (size_t i = 0; !rc && i < count; i++) {
        bool is_cpu = !strcmp(list[i].id, "cpu");
        if (is_cpu) m->cpu = list[i];
        if (is_cpu || list[i].is_software || !list[i].is_usable) continue;
        if (!m->has_gpu || list[i].memory_free > m->gpu.memory_free) m->gpu = list[i];
        m->has_gpu = true;
    }
    return rc;
}

/* The best that fits the GPU, else the best that fits the cpu's memory, else NULL. */
static const struct catalogue_entry *suggest(const struct machine *m, const struct engine_params *params,
                                             const struct engine_device **where)
{
    const struct catalogue_entry *e = NULL;
    *where = &m->gpu;
    if (m->has_gpu) e = memory_plan_suggest(m->gpu.memory_free, false, UINT64_MAX, params);
    if (e) return e;
    *where = &m->cpu;
    return memory_plan_suggest(m->cpu.memory_free, true, UINT64_MAX, params);
}

static bool runs_on_gpu(const struct catalogue_entry *e)
{
    return !e->format || engine_gpu_takes(e->format);
}

/* "fits", "40,960 tokens", "-" */
static const char *say_fit(const struct engine_plan *p, char out[48])
{
    char tokens[32];
    if (p->fits) return "fits";
    if (!p->context_fits) return "-";
    snprintf(out, 48, "%s tokens", format_count(p->context_fits, tokens));
    return out;
}

/* "; here", "; 62 % here", "" */
static const char *say_here(const struct catalogue_entry *e, const struct model_list *models, char out[48])
{
    const struct model_file *f = models_named(models, e->name);
    *out = 0;
    if (f && f->is_part)
        snprintf(out, 48, "; %.0f %% here", 100.0 * (double)f->here / (double)(f->size + !f->size));
    else if (f)
        snprintf(out, 48, "; here");
    return out;
}

static void print_entry(const struct catalogue_entry *e, const struct machine *m, const struct model_list *models,
                        const struct engine_params *params)
{
    struct engine_plan cpu = catalogue_plan(e, m->cpu.memory_free, params, true);
    struct engine_plan gpu = catalogue_plan(e, m->gpu.memory_free, params, false);
    char size[32], need[32], on_cpu[48], on_gpu[48], here[48];
    printf("%-16s %s%-9s  %-9s  %-16s %-16s %s%s\n", e->name, e->bytes_are_known ? " " : "~",
           format_bytes(e->bytes, size), format_bytes(cpu.weights + cpu.rows + cpu.state + cpu.workspace, need),
           !m->has_gpu       ? "-"
           : !runs_on_gpu(e) ? "cpu only"
                             : say_fit(&gpu, on_gpu),
           say_fit(&cpu, on_cpu), e->remark, say_here(e, models, here));
}

static void print_device(const char *what, const struct engine_device *d)
{
    char safe[SANITIZE_ROOM(256)], left[32];
    sanitize_line(d->name, safe, sizeof safe);
    printf("%s: %s, %s free\n", what, safe, format_bytes(d->memory_free, left));
}

static void print_catalogue(const struct machine *m, const struct model_list *models,
                            const struct engine_params *params)
{
    const struct engine_device *where = NULL;
    const struct catalogue_entry *best = suggest(m, params, &where);
    struct engine_plan plan = catalogue_plan(catalogue, 0, params, true);
    char context[32], rows[32], state[32], work[32];
    printf("Kimi-Linear-48B-A3B-Instruct. Beside the weights, %s tokens need: rows %s, state %s, buffers %s.\n",
           format_count(plan.context, context), format_bytes(plan.rows, rows), format_bytes(plan.state, state),
           format_bytes(plan.workspace, work));
    if (m->has_gpu) print_device("GPU", &m->gpu);
    print_device("CPU", &m->cpu);
    printf("\n%-16s  %-9s  %-9s  %-16s %-16s %s\n", "name", "size", "memory", "GPU", "CPU", "quality");
    for (const struct catalogue_entry *e = catalogue; e->name; e++) print_entry(e, m, models, params);
    printf("\n~ a size that is estimated; the server tells the true one.\n");
    if (best)
        printf("Suggested: lectern pull %s (on the %s)\n", best->name, where == &m->gpu ? "GPU" : "CPU");
    else
        printf("None of these fits here at that context; less --ctx or --kv-dtype q8_0 need less, and the built-in "
               "model runs everywhere.\n");
}

static void describe_entry(const struct catalogue_entry *e, const struct machine *m, const struct engine_params *params,
                           struct json *j)
{
    struct engine_plan cpu = catalogue_plan(e, m->cpu.memory_free, params, true);
    struct engine_plan gpu = catalogue_plan(e, m->has_gpu ? m->gpu.memory_free : 0, params, false);
    json_open(j, NULL, '{');
    json_text(j, "name", e->name);
    json_text(j, "repository", e->repository);
    json_text(j, "file", e->file);
    json_uint(j, "bytes", e->bytes);
    json_bool(j, "bytes_are_known", e->bytes_are_known);
    json_text(j, "sha256", e->sha256);
    json_text(j, "remark", e->remark);
    json_uint(j, "context", cpu.context);
    json_uint(j, "memory", cpu.weights + cpu.rows + cpu.state + cpu.workspace);
    json_bool(j, "fits_gpu", gpu.fits && runs_on_gpu(e));
    json_uint(j, "context_fits_gpu", runs_on_gpu(e) ? gpu.context_fits : 0);
    json_bool(j, "fits_cpu", cpu.fits);
    json_uint(j, "context_fits_cpu", cpu.context_fits);
    json_close(j, '}');
}

static int list_as_table(const struct settings *s, const struct machine *m, const struct engine_params *params,
                         struct error *error)
{
    struct model_list models = {0};
    char *folder = NULL;
    int rc = models_folder(s->data_dir, &folder, error);
    if (!rc) rc = models_list(folder, &models, error);
    if (!rc) print_catalogue(m, &models, params);
    model_list_free(&models);
    free(folder);
    return rc;
}

static int list_catalogue(const struct settings *s, bool as_json, struct error *error)
{
    struct machine machine;
    struct engine_params params = settings_engine(s);
    int rc = look_at_machine(&machine, error);
    if (rc) return rc;
    if (!as_json) return list_as_table(s, &machine, &params, error);
    const struct engine_device *where = NULL;
    const struct catalogue_entry *best = suggest(&machine, &params, &where);
    struct json j = {0};
    json_open(&j, NULL, '{');
    json_text(&j, "suggested", best ? best->name : NULL);
    json_open(&j, "models", '[');
    for (const struct catalogue_entry *e = catalogue; e->name; e++) describe_entry(e, &machine, &params, &j);
    json_close(&j, ']');
    json_close(&j, '}');
    rc = json_send(&j);
    json_free(&j);
    return rc;
}

/* ------------------------------------------------------------------------------------------------ download */

static int check_options(const struct pull_options *o, uint8_t hash[32], struct error *error)
{
    if (o->sha256 && !hash_from_hex(o->sha256, hash))
        return error_set(error, ERROR_USAGE, "--sha256 takes 64 hexadecimal digits.");
    if (!o->connections || !o->stall) return error_set(error, ERROR_USAGE, "--connections and --stall are at least 1.");
    if (o->chunk < MANIFEST_CHUNK_LEAST || o->chunk > MANIFEST_CHUNK_MOST)
        return error_set(error, ERROR_USAGE, "--chunk is from 4K to 1G.");
    return 0;
}

/* The catalogue speaks of what its repository's main holds; another revision may hold another file. */
static int set_known(struct pull_set *set, const struct pull_options *o, uint8_t hash[32], struct error *error)
{
    struct download_params *p = &set->file;
    const struct catalogue_entry *e = o->revision ? NULL : set->source->entry;
    if (o->sha256 && set->source->parts.count > 1)
        return error_set(error, ERROR_USAGE, "--sha256 is of one file; this model has %u.", set->source->parts.count);
    if (e) set->sizes = e->part_bytes;
    if (e && e->bytes_are_known && !e->part_bytes) p->size = e->bytes, p->trust = TRUST_CATALOGUE;
    if (e && e->sha256 && hash_from_hex(e->sha256, hash)) p->sha256 = hash, p->trust = TRUST_CATALOGUE;
    if (o->sha256 && hash_from_hex(o->sha256, hash)) p->sha256 = hash, p->trust = TRUST_USER;
    return 0;
}

static int fetch(struct pull_set *set, const struct pull_options *o, struct error *error)
{
    struct transfer_console console;
    const char *token = getenv("HF_TOKEN");
    struct download_params *p = &set->file;
    p->token = set->source->is_hub && token && *token ? token : NULL;
    p->chunk = o->chunk;
    p->connections = o->connections;
    p->retries = o->retries;
    p->stall_seconds = o->stall;
    p->hooks = &console.hooks;
    int rc = transfer_console_begin(&console, error);
    if (!rc) rc = pull_set_fetch(set, error);
    progress_clear();
    return rc;
}

/* How it is used, as short as it can be said. */
static void tell_use(const struct pull_source *source)
{
    const char *name = source->entry ? source->entry->name : source->name;
    console_say("Use it with -m %s, or always: a line \"model = %s\" in lectern.ini.", name, name);
}

static int pull(const struct settings *s, const struct pull_options *o, const char *typed, struct error *error)
{
    struct pull_source source;
    struct pull_set set = {.source = &source, .repair = o->repair};
    uint8_t hash[32];
    char *folder = NULL;
    int rc = check_options(o, hash, error);
    if (!rc) rc = pull_source_parse(&source, typed, o->revision, error);
    if (!rc) rc = models_folder(s->data_dir, &folder, error);
    if (!rc) rc = set_known(&set, o, hash, error);
    set.file.dir = folder;
    if (!rc && !o->repair && pull_set_is_here(&set))
        console_say("%s is here already; `lectern models verify` reads it again.", source.name);
    else if (!rc)
        rc = fetch(&set, o, error);
    if (!rc) tell_use(&source);
    if (!rc) printf("%s/%s\n", folder, source.name);
    free(folder);
    return rc;
}

int cmd_pull(int argc, char **argv)
{
    struct settings settings;
    struct pull_options options = {0};
    struct error error = {0};
    int status;
    if (!command_begin(&settings, &pull_usage, &options, &argc, argv, &status)) return status;
    int rc;
    if (argc > 2)
        rc = error_set(&error, ERROR_USAGE, "pull takes one model at a time.");
    else
        rc = argc < 2 ? list_catalogue(&settings, options.json, &error) : pull(&settings, &options, argv[1], &error);
    fflush(stdout);
    rc = transfer_console_end(rc, &error);
    settings_free(&settings);
    return rc;
}
