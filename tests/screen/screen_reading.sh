#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Loading and reading: what is on the desk, how far, how fast, how long still; stopping and going on.
. tests/screen/driver
begin
start 24 80 "$fake" moby.txt note.md
wait_for "Loading the model"
check reading-1-loading
open load
wait_for "60 %"
check reading-2-half

# A question asked now waits; Ctrl-C stops, keeps what was read, and gives the question back.
type "who is it?"
keys Enter
wait_for "Waits for the reading: who is it?"
keys C-c
wait_for "Stopped reading"
check reading-3-stopped
open read
keys C-u
type "/read"
keys Enter
wait_gone "not read"
wait_for "read"
keys C-l
wait_gone "Stopped"
check reading-4-done
