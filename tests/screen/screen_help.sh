#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Help from the live tables, and the messages page.
. tests/screen/driver
begin
open load
open read
start 24 80 "$fake" moby.txt
wait_for "  read"
type "?"
wait_for "these keys"
check help-1-top
keys End
wait_for "/stats"
check help-2-end
keys q
wait_gone "/stats"
keys F1
wait_for "these keys"
keys Escape
wait_gone "these keys"
type "/nonsense"
keys Enter
wait_for "There is no /nonsense"
keys C-u
type "fail"
keys Enter
wait_for "The question does not fit"
check help-3-error
keys F5
wait_for "error: There is no /nonsense"
wait_for "error: The question does not fit"
keys q
wait_gone "error:"

# A narrow terminal has the help below its key.
resize 12 44
keys F1
without=message
check help-4-narrow
