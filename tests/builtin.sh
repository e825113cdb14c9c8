#!/bin/sh
# The built-in model over the sample document: a planted fact found, an absent thing said to be absent, and the second
# question resumes what the first one read; on the cpu and, where there is a Vulkan device, there.
set -u
[ -f models/lectern-mini.gguf ] || { echo "skipped: no built-in model in this checkout"; exit 77; }
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
bad=0

ask() { # DEVICE QUESTION EXPECTED
    got=$("$LECTERN" ask docs/sample.txt -q "$2" --device "$1" --data-dir "$data/$1" 2>"$data/err")
    [ "$got" = "$3" ] && return 0
    echo "$1: asked '$2', expected '$3', got '$got'"
    cat "$data/err"
    bad=1
}
questions() { # DEVICE
    ask "$1" "What is the locker code of Ada?" "The locker code of Ada is 48213."
    ask "$1" "What is the locker code of Boris?" "The locker code of Boris is 7750."
    grep -q "resumed 9[0-9][0-9] of" "$data/err" || { echo "$1: the second question read it all again"; cat "$data/err"; bad=1; }
    ask "$1" "What does it say about submarines?" "The document does not mention submarines."
}
questions cpu
if "$LECTERN" devices | grep -q '^vulkan:0'; then questions vulkan:0; else echo "no Vulkan device here: left out"; fi
exit $bad
