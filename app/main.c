/* SPDX-License-Identifier: MIT
 *
 * lectern: finds the subcommand and runs it. The first argument that is neither an option nor an option's value names
 * one; anything else is a document for the reading desk.
 */
#include <locale.h>
#include <stdbool.h>
#include <string.h>

#include "app/commands.h"
#include "app/options.h"

/* Does this global option take the next argument as its value? */
static bool takes_next(const char *argument)
{
    for (const struct option *o = global_options; o->name; o++) {
        if (o->kind == OPTION_FLAG || o->kind == OPTION_COUNT) continue;
        if (argument[1] == '-' ? !strcmp(argument + 2, o->name) : o->letter == argument[1] && !argument[2]) return true;
    }
    return false;
}

/* Index of the first word, 0 when there is none. */
static int find_first_word(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-' || !argv[i][1]) return i;
        if (!strcmp(argv[i], "--")) return 0;
        if (takes_next(argv[i])) i++;
    }
    return 0;
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "");
    if (argc < 1) return 2;
    int at = find_first_word(argc, argv);
    const struct command *command = at ? command_find(argv[at]) : NULL;
    if (!command) return cmd_desk(argc, argv);
    /* Options before the name stay in order behind it: argv[0] becomes the name. */
    argv[0] = argv[at];
    memmove(argv + at, argv + at + 1, (size_t)(argc - at) * sizeof *argv);
    return command->run(argc - 1, argv);
}
