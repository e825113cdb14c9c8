/* SPDX-License-Identifier: MIT
 *
 * The table of subcommands. A new command is a file, a prototype in commands.h and a row here.
 */
#include "app/commands.h"

#include <stddef.h>
#include <string.h>

const struct command commands[] = {
    {"ask", cmd_ask, "answer questions over documents on stdout"},
    {"ingest", cmd_ingest, "read documents now, ask later"},
    {"sessions", cmd_sessions, "list, show, rename, fork, remove, export what is kept; check and repair it"},
    {"pull", cmd_pull, "download a model once"},
    {"models", cmd_models, "list, remove, verify, import models"},
    {"devices", cmd_devices, "what there is to compute on"},
    {"bench", cmd_bench, "tokens a second, reading and answering"},
    {"convert", cmd_convert, "a Hugging Face folder into a model file"},
    {"quantize", cmd_quantize, "a model file into a smaller type"},
    {"imatrix", cmd_imatrix, "which weights of a model matter for a text, for quantize"},
    {"perplexity", cmd_perplexity, "how well a model predicts a text, and how far it is from a reference"},
    {"logits", cmd_logits, "what a model computes for given tokens, for checking us"},
    {NULL, NULL, NULL},
};

const struct command *command_find(const char *name)
{
    for (const struct command *c = commands; c->name; c++)
        if (!strcmp(c->name, name)) return c;
    return NULL;
}
