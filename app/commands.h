/* SPDX-License-Identifier: MIT
 *
 * The subcommands. Each is one file, app/cmd_NAME.c, and one row of the table in main.c. argv[0] is the subcommand's
 * name, the rest its options and arguments, global options included; the result is the program's exit code
 * (quant/error.h). A command begins with command_begin (app/options.h).
 */
#ifndef LECTERN_APP_COMMANDS_H
#define LECTERN_APP_COMMANDS_H

int cmd_ask(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_desk(int argc, char **argv); /* no subcommand: the TUI */
int cmd_devices(int argc, char **argv);
int cmd_ingest(int argc, char **argv);
int cmd_logits(int argc, char **argv);
int cmd_quantize(int argc, char **argv);
int cmd_sessions(int argc, char **argv);

#endif
