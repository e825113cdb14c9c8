#!/bin/sh
# SPDX-License-Identifier: MIT
#
# tools/gpu/needle.sh itself, on a short text: what the built-in model finds is counted, of a random one nothing, and
# what cannot run is said. How much a model finds is measured elsewhere.
. tests/kit
need awk
hunt() { # CODE MODEL ROWS STATES: on the cpu; a code of - is whatever fits what was found
    NEEDLE_BYTES=3000 LECTERN_MODEL=$2 sh tools/gpu/needle.sh "$LECTERN" cpu "$3" "$4" >"$dir/out" 2>"$dir/err"
    code=$?
    expected=$1
    [ "$1" != - ] || { grep -q ': \([0-9]\) of \1 found' "$dir/out" && expected=0 || expected=1; }
    [ $code = "$expected" ] || fail "exit $code, not $expected: $2"
}
hunt - models/lectern-mini.gguf q8_0 f16
prints '^q8_0 rows, f16 states: [4-9] of [6-9] found, at 0.*; read [0-9,]* tokens in'
prints '^Every type found the same'
"$MAKE_MODEL" "$dir/tiny.gguf" --preset tiny || exit 1
hunt 1 "$dir/tiny.gguf" f16 f32
prints '^f16 rows, f32 states: 0 of [6-9] found, at none; read'
prints '^    at 0.1: What is the .* of .*? Not [0-9]*, but: '
hunt 1 "$dir/none.gguf" f16 f32
prints 'cannot be opened'
prints '^Not every type'
exit $bad
