#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The real program with a small random model: read, ask, stop, leave, come back; then the same after kill -9.
. tests/screen/driver
lectern=${LECTERN:-$root/build/dev/lectern}
maker=${MAKE_MODEL:-$root/build/dev/tests/make_model}
begin
[ -x "$lectern" ] && [ -x "$maker" ] || { echo "skipped: lectern is not built"; exit 77; }
head -n 20 moby.txt >short.txt
"$maker" model.gguf --preset tiny || fail "no model"
lectern="$lectern -m model.gguf --device cpu --data-dir $folder/data"

start 24 80 "$lectern --max-tokens 12 short.txt note.md"
wait_for "note.md "
wait_for "29 B  read"
type "who is it?"
keys Enter
wait_for "first token after"
wait_for "12 tokens in"
wait_for " saved"
keys C-d
wait_for "status 0"

start 24 80 "$lectern --max-tokens 100000 short.txt note.md"
wait_for "Resumed"
wait_for "> who is it?"
type "and who else?"
keys Enter
wait_for "answering"
keys C-c
wait_gone "answering"
wait_for " saved"
pid=$(pgrep -f "^$lectern --max-tokens 100000")
kill -9 "$pid"
wait_for "status 137"

start 24 80 "$lectern short.txt note.md"
wait_for "Resumed"
wait_for "> who is it?"
keys C-d
wait_for "status 0"
