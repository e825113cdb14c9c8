/* SPDX-License-Identifier: MIT
 *
 * The subcommands. Each is one file, app/cmd_NAME.c, and one row of the table in commands.c. argv[0] is the
 * subcommand's name, the rest its options and arguments, global options included; the result is the program's exit code
 * (quant/error.h). A command begins with command_begin (app/options.h).
 */
#ifndef LECTERN_APP_COMMANDS_H
#define LECTERN_APP_COMMANDS_H

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary; /* its line in lectern --help */
};
extern const struct command commands[];               /* ended by a name of NULL */
const struct command *command_find(const char *name); /* NULL when there is none */

int cmd_ask(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_desk(int argc, char **argv); /* no subcommand: the TUI */
int cmd_devices(int argc, char **argv);
int cmd_imatrix(int argc, char **argv);
int cmd_ingest(int argc, char **argv);
int cmd_logits(int argc, char **argv);
int cmd_models(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_quantize(int argc, char **argv);
int cmd_sessions(int argc, char **argv);

#endif
