#!/bin/sh
# SPDX-License-Identifier: MIT
#
# An answer as it streams: it is followed at the end, and never moves the view when scrolled up; Ctrl-C keeps the part.
. tests/screen/driver
begin
open load
open read
start 24 80 "$fake" moby.txt
wait_for "  read"
type "a long answer, please"
keys Enter
wait_for "line 20 of"
check streaming-1-followed
keys PPage
wait_for "more below"
check streaming-2-scrolled
open answer
wait_for "Enter sends"
check streaming-3-still-there
keys C-End
wait_for "line 40 of"
check streaming-4-end
rm gate/answer

# The first Ctrl-C stops the answer, the next clears the input, the last two quit.
type "another long one"
keys Enter
wait_for "answering"
wait_for "line 20 of"
keys C-c
wait_for "Stopped. 90 tokens"
check streaming-5-stopped
type "half a thought"
wait_for "half a thought"
keys C-c
wait_gone "half a thought"
keys C-c
wait_for "Press Ctrl-C again to quit."
keys C-c
wait_for "status 0"
