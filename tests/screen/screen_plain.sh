#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The line mode: questions in, answers on stdout, the rest on stderr; no escape sequence anywhere.
. tests/screen/driver
begin
open load
# Reading goes on once its progress was told.
: >err
for _ in $(seq "$PATIENCE"); do
    grep -q "Reading: 60 %" err && open read && break
    sleep 0.1
done 2>/dev/null &
printf 'who?\n/docs\ntwo\\\nlines\nevil\n/nonsense\n/goto 3\n' | "$fake" --plain moby.txt note.md >out 2>err ||
    { echo "the line mode failed"; cat err; exit 1; }
cat >wanted <<'END'
You asked: who?
You asked: two
lines
END
head -n 3 out | diff -u wanted - || exit 1
grep -q "note.md, " err || { echo "/docs told nothing"; exit 1; }
grep -q "^lectern: There is no /nonsense" err || { echo "the error is not told"; exit 1; }
grep -q "^lectern: /goto needs the screen" err || { echo "/goto is not refused"; exit 1; }
grep -q "Reading: 60 % of 2,210 tokens, 1000 tok/s, 8.84 s left" err || { echo "no progress is told"; exit 1; }
if LC_ALL=C grep -q "$(printf '\033')" out err; then echo "an escape sequence came through"; exit 1; fi

# On a terminal: a prompt, and Ctrl-C stops the answer.
start 24 80 "$fake" --plain moby.txt
wait_for ">"
type "long"
keys Enter
wait_for "line 20 of"
keys C-c
wait_for "(stopped)"
keys C-d
wait_for "status 0"
