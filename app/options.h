/* SPDX-License-Identifier: MIT
 *
 * Options: one table makes the parser, the environment's names, lectern.ini's keys and --help. The global table is in
 * options.c; a command brings its own rows. A value is taken from the command line, else LECTERN_NAME in the
 * environment, else lectern.ini, else the row's fallback.
 */
#ifndef LECTERN_APP_OPTIONS_H
#define LECTERN_APP_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

enum option_kind {
    OPTION_FLAG,   /* bool; no value on the command line, 1/0/yes/no/true/false elsewhere */
    OPTION_COUNT,  /* uint32_t; each use adds one */
    OPTION_TEXT,   /* const char * */
    OPTION_UINT,   /* uint32_t */
    OPTION_U64,    /* uint64_t */
    OPTION_SIZE,   /* uint64_t bytes; K, M, G, T as powers of 1024 */
    OPTION_FLOAT,  /* float, not negative */
    OPTION_CHOICE, /* int: the chosen row's value */
};

struct option_choice {
    const char *name; /* NULL ends the list */
    int value;
};

struct option {
    const char *name; /* "kv-dtype": --kv-dtype, LECTERN_KV_DTYPE, kv-dtype = in lectern.ini; NULL ends a table */
    char letter;      /* one-letter form, 0 = none */
    enum option_kind kind;
    const char *argument; /* what --help calls the value */
    const char *fallback; /* parsed like any other value; NULL = zero */
    const char *help;
    size_t offset; /* of the value in the struct the table belongs to */
    const struct option_choice *choices;
    uint64_t most; /* largest UINT or U64 allowed, 0 = the type's */
};

/* A table with the struct its offsets refer to. */
struct option_group {
    const struct option *items;
    void *values;
};

enum color_when { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER };

/* The global options. Strings belong to argv, the environment or ini_text. */
struct settings {
    const char *model; /* a path or a name (app/model_find.h); NULL = the built-in one */
    const char *device;
    uint32_t context, batch, threads;
    int state_dtype, rows_dtype, activations; /* enum engine_dtype */
    const char *data_dir;        /* NULL = paths_data */
    bool ephemeral, plain, quiet, help, version, validate;
    uint32_t verbose;
    int color; /* enum color_when */
    uint64_t store_max;
    const char *system_text; /* NULL = the default */
    float temperature, top_p, min_p;
    uint32_t top_k, most_tokens;
    uint64_t seed;
    char *ini_text;  /* owned */
    char *cache_dir; /* owned; NULL = compiled kernels are not kept */
};
extern const struct option global_options[];

/* Fallbacks, lectern.ini, environment: fills a group's values in that order. */
int options_defaults(const struct option_group *, struct error *);
int config_file(const struct option_group *, const char *path, char **ini_text, struct error *);
int config_environment(const struct option_group *, struct error *);
/* The command line. Options are taken out of argv; *argc is left with argv[0] and the other arguments. "--" ends them;
 * a single "-" is an argument. */
int options_parse(const struct option_group *groups, size_t n_groups, int *argc, char **argv, struct error *);
/* Sets one option from text; `origin` starts the error's sentence ("--ctx", "LECTERN_CTX", "lectern.ini line 3"). */
int option_set(const struct option *, void *values, const char *text, const char *origin, struct error *);

struct command_usage {
    const char *name;             /* NULL: the program itself */
    const char *arguments;        /* "FILE... -q TEXT" */
    const char *about;            /* a few sentences for --help */
    const struct option *options; /* its own rows, or NULL */
};
/* Reads all settings for a command. true: go on, with *argc, argv holding the plain arguments. false: leave with
 * *status
 * (--help was printed, or an error's sentence). */
bool command_begin(struct settings *, const struct command_usage *, void *values, int *argc, char **argv, int *status);
void settings_free(struct settings *);

/* What the settings say to the engine. Strings stay the settings'. */
struct engine_params settings_engine(const struct settings *);
struct sample_params settings_sample(const struct settings *);

#endif
