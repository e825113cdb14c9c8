#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The input: new lines, completion, history, the editor, a paste, a file with @.
. tests/screen/driver
begin
open load
open read
printf '#!/bin/sh\nprintf "from the editor" >"$1"\n' >editor
chmod +x editor
EDITOR=$folder/editor
export EDITOR
start 24 80 "$fake" moby.txt
wait_for "  read"

type "one"
keys M-Enter
type "two"
keys C-j
type 'three\'
keys Enter
type "four"
check input-1-lines
keys Up Up
type "X"
wait_for "twoX"
keys C-c
wait_gone "twoX"

type "/s"
wait_for "/search"
check input-2-commands
type "ta"
keys Tab
wait_for "> /stats"
keys C-c
type "first question"
keys Enter
wait_for "You asked: first question"
type "second question"
keys Enter
wait_for "You asked: second question"
keys Up Up
wait_for "> first question"
keys Down Down
keys C-r
type "FIRST"
wait_for "search: FIRST"
check input-3-history
keys Enter
keys C-a
type "My "
wait_for "> My first question"
keys C-c

keys C-g
wait_for "> from the editor"
keys C-c
wait_gone "> from the editor"

tm set-buffer "pasted
lines"
tm paste-buffer -p
wait_for "lines"
check input-4-paste
keys C-c

type "/add no"
wait_for "note.md"
keys Tab
wait_for "/add note.md"
keys Enter
wait_for "are to be read" # and "Added 1 document." before it, on the page of messages
wait_for "2 documents"

echo "A third text." >third.txt
type "what says @thi"
wait_for "@third.txt"
keys Tab
keys Enter
wait_for "You asked: what says third.txt"
keys C-Home
wait_for "3 documents"
type "a lone @ and @nothing"
keys Enter
wait_for "You asked: a lone @ and @nothing"
test "$(stat -c %a state/history)" = 600 || fail "the history can be read by others"
grep -q '^first question$' state/history || fail "the history lacks a question"

# The mouse wheel scrolls (as the terminal sends it: button 64, column and row 10).
keys C-End
keys -l "$(printf '\033[M`**')"
wait_for "more below"

# Text from a program that is not on the desk twice.
type "/add note.md"
keys Enter
wait_for "note.md is on the desk already."
