#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Everything but a download works without a network, and asks for none: each command runs in a network namespace of its
# own with nothing in it, and under strace without a single socket.
set -u
: "${LECTERN:?path of the program}" "${MAKE_MODEL:?path of make_model}"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
unset LECTERN_MODEL LECTERN_DATA_DIR DISPLAY WAYLAND_DISPLAY
export HOME="$dir" XDG_CONFIG_HOME="$dir/config" XDG_DATA_HOME="$dir/data"
bad=0
alone= traced=
for form in 'unshare -n' 'unshare -rn'; do [ -n "$alone" ] || ! $form true 2>/dev/null || alone=$form; done
strace -f -o "$dir/trace" true 2>/dev/null && traced=yes
[ -n "$alone$traced" ] || { echo 'skipped: neither unshare -n nor strace can be used here'; exit 77; }
[ -n "$alone" ] || echo 'not tested: unshare -n cannot be used here'
[ -n "$traced" ] || echo 'not tested: strace cannot be used here'

fail() {
    echo "FAILED: $*"
    cat "$dir/err"
    bad=1
}
run() { # ARGUMENTS...
    if [ -n "$alone" ]; then
        $alone "$LECTERN" "$@" >"$dir/out" 2>"$dir/err" </dev/null || fail "without a network: lectern $*"
    fi
    [ -n "$traced" ] || return
    strace -f -qq -e trace=socket,socketpair,connect,bind,sendto,sendmsg -o "$dir/trace" "$LECTERN" "$@" \
        >"$dir/out" 2>"$dir/err" </dev/null || fail "under strace: lectern $*"
    calls=$(grep -E '(socket|socketpair|connect|bind|sendto|sendmsg)\(' "$dir/trace") || return
    echo "$calls"
    fail "sockets: lectern $*"
}

"$MAKE_MODEL" "$dir/tiny.gguf" --preset tiny || exit 1
"$MAKE_MODEL" "$dir/mine.gguf" --preset tiny || exit 1
echo 'The cat sat on the mat.' >"$dir/a.txt"
echo '1 2 3' >"$dir/ids"
m="-m $dir/tiny.gguf --max-tokens 4"
run --version
run --help
run devices
run devices -m "$dir/tiny.gguf"
run ingest "$dir/a.txt" $m
run ask "$dir/a.txt" -q 'Where?' $m
run ask "$dir/a.txt" -q 'Where?' $m --device cpu --ephemeral
run bench -m "$dir/tiny.gguf" --depth 0 --prefill 16 --decode 4 --device cpu
run sessions
run sessions check
run logits "$dir/tiny.gguf" --device cpu --tokens "$dir/ids" --out "$dir/logits.bin"
run quantize "$dir/tiny.gguf" "$dir/small.gguf" Q8_0
run pull
run models
"$LECTERN" models import "$dir/mine.gguf" >/dev/null 2>&1 || fail import
run models verify
run pull http://127.0.0.1:9/mine.gguf # is here already: nothing is asked

# The trace does see sockets where there are some, and a download without a network says so.
if [ -n "$traced" ]; then
    strace -f -qq -e trace=socket -o "$dir/trace" "$LECTERN" pull http://127.0.0.1:9/x.gguf --retries 0 >"$dir/out" \
        2>"$dir/err" </dev/null && fail 'a download from nobody'
    grep -q 'socket(' "$dir/trace" || fail 'strace does not see the sockets of pull'
fi
if [ -n "$alone" ]; then
    $alone "$LECTERN" pull q4_k_m --retries 0 >"$dir/out" 2>"$dir/err" </dev/null
    code=$?
    [ $code = 1 ] && [ "$(wc -l <"$dir/err")" = 1 ] || fail "pull without a network: exit $code"
fi
exit $bad
