#!/bin/sh
# SPDX-License-Identifier: MIT
#
# CJK, emoji and combining marks keep the columns; what would steer the terminal is shown, not obeyed.
. tests/screen/driver
begin
open load
open read
start 24 80 "$fake" moby.txt
wait_for "  read"
type "wide"
keys Enter
wait_for "90 tokens"
check wide-1-80
resize 24 47
check wide-2-47
type "鯨は🐳"
wait_for "鯨は🐳"
keys BSpace Left
type "x"
wait_for "鯨xは"
# The hardware cursor stands where the next character goes: after "> 鯨x".
test "$(tm display-message -p '#{cursor_x}')" = 6 || fail "the cursor is not at the edit point"
keys C-c
resize 24 80
type "evil"
keys Enter
wait_for "bidi"
check wide-3-evil
test "$(tm display-message -p '#{pane_title}')" != owned || fail "the answer changed the terminal's title"
