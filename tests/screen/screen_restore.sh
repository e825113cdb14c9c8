#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The terminal is given back as it was: on quitting, on SIGTERM and SIGHUP, on a crash, and while suspended. What cannot
# show the screen is refused in one sentence.
. tests/screen/driver
begin
open load
open read

given_back() { # $1: what the shell is to show
    wait_for "$1"
    cmp before after || fail "the terminal's settings are not as before ($1)"
    test "$(tm display-message -p '#{alternate_on}#{mouse_any_flag}#{cursor_flag}')" = 001 ||
        fail "the terminal is still in the program's modes ($1)"
}

# stty -g tells all settings; taken in the pane, before and after.
launch() {
    rm -f before after
    start 24 80 "stty -g >before; $fake moby.txt; set -- \$?; stty -g >after; (exit \$1)"
    wait_for "  read"
    tty=$(tm display-message -p '#{pane_tty}')
    pid=$(pgrep -t "${tty#/dev/}" -f "^$fake moby.txt") # other tests run the same, elsewhere
    test "$(stty -g -F "$tty")" != "$(cat before)" ||
        fail "the program does not own the terminal"
}

launch
keys C-d
given_back "status 0"
launch
kill -TERM "$pid"
given_back "status 143"
launch
kill -HUP "$pid"
given_back "status 129"
for signal in 11 6; do
    export FAKE_CRASH=$signal
    launch
    type "crash"
    keys Enter
    given_back "status $((128 + signal))"
done

# Suspended with Ctrl-Z under a shell with jobs, and back again.
next_socket
rows=24
tm -f /dev/null new-session -d -x 80 -y 24 "sh -i"
wait_for "#"
type "$fake moby.txt"
keys Enter
wait_for "F4 Chat"
wait_for "  read"
keys C-z
wait_for "Stopped"
test "$(tm display-message -p '#{alternate_on}')" = 0 || fail "suspended, but still on the alternate screen"
type "fg"
keys Enter
wait_for "F4 Chat"
type "still here"
wait_for "> still here"
keys C-c C-d
wait_gone "F4 Chat"

start 24 80 "env TERM=dumb $fake moby.txt"
wait_for "This terminal (TERM=dumb) cannot show the screen; use --plain."
wait_for "status 2"
