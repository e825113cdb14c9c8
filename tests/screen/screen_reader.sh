#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The reader: scrolling, searching, going to a place.
. tests/screen/driver
begin
open load
open read
start 24 80 "$fake" moby.txt note.md
wait_for "  read"
keys F3
wait_for "Line 1:"
keys NPage
check reader-1-page
type "/"
type "LINE 77"
keys Enter
wait_for "Line 77:"
check reader-2-found
type "/"
type "whale"
keys Enter
wait_for "is a whale"
wait_for "note.md"
type "/"
type "line 1:"
keys Enter
wait_for "moby.txt line 1 "
type "n"
type "N"
wait_for "moby.txt line 1 "
type "/"
type "unicorn"
keys Enter
wait_for '"unicorn" is not in the documents.'
type "G"
wait_for "Line 120:"
type "]"
wait_for "A short note."
keys F4
type "/goto moby"
keys Enter
wait_for "moby.txt line 1 "
keys F4
type "/goto 60"
keys Enter
wait_for "Line 60:"
keys F4
type "/search some YEARS"
keys Enter
check reader-3-search
