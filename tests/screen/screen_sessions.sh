#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Sessions: kept, listed, come back to, edited into a branch, forked, renamed, removed.
. tests/screen/driver
begin
without=message
open load
open read
export FAKE_STORE="$folder/store"
start 24 80 "$fake" moby.txt
wait_for "  read"
type "first question"
keys Enter
wait_for "You asked: first question"
type "second question"
keys Enter
wait_for "You asked: second question"
wait_for "saved"
keys C-d
wait_for "status 0"

start 24 80 "$fake" moby.txt
wait_for "Resumed"
wait_for "You asked: second question"
keys F5
wait_for "Resumed"
keys q
check sessions-1-resumed

keys Escape Escape
wait_for "Go back to which question?"
keys Up
check sessions-2-choose
keys Enter
wait_for "> first question"
type " again"
keys Enter
wait_for "You asked: first question again"
wait_gone "You asked: second question"
keys F5
wait_for 'kept as the session "moby.txt (before edit)"'
keys q
type "/rename The whale"
keys Enter
wait_for "The whale"
type "/fork"
keys Enter
wait_for "The whale (fork)"
keys F2
wait_for "Sessions"
wait_for "● The whale (fork)"
wait_for "moby.txt (before edit)"
test "$(screen | grep -c 'question')" = 3 || fail "there should be three sessions"
keys End d
wait_for "Press again to remove the session"
keys d
for _ in $(seq "$PATIENCE"); do
    test "$(screen | grep -c 'question')" = 2 && break
    sleep 0.1
done
test "$(screen | grep -c 'question')" = 2 || fail "the session was not removed"
keys q
type "/new Fresh"
keys Enter
wait_for "Fresh"
wait_gone "You asked"
