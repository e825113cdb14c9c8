#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Every size: wrapped anew from the logical lines, one, two and three panes, and a notice where it is too small.
. tests/screen/driver
begin
open load
open read
start 24 80 "$fake" moby.txt note.md
wait_for "  read"
type "Is the whale, which swims in every ocean of the world from pole to pole, a fish or a mammal?"
keys Enter
wait_for "90 tokens"
check resize-1-80x24
resize 20 60
check resize-2-60x20
resize 40 120
check resize-3-120x40
resize 30 150
check resize-4-150x30
resize 9 38
wait_for "Too small"
check resize-5-too-small
resize 24 80
check resize-1-80x24
