#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Everything but a download works without a network, and asks for none: each command runs in a network namespace of its
# own with nothing in it, and under strace without a single socket.
. tests/kit
need python3
unset DISPLAY WAYLAND_DISPLAY
alone= traced=
for form in 'unshare -n' 'unshare -rn'; do [ -n "$alone" ] || ! $form true 2>/dev/null || alone=$form; done
strace -f -o "$dir/trace" true 2>/dev/null && traced=yes
[ -n "$alone$traced" ] || { echo 'skipped: neither unshare -n nor strace can be used here'; exit 77; }
[ -n "$alone" ] || echo 'not tested: unshare -n cannot be used here'
[ -n "$traced" ] || echo 'not tested: strace cannot be used here'

tried= # every command that ran
calls=socket,socketpair,connect,bind,listen,accept,accept4,sendto,sendmsg,sendmmsg,recvfrom,recvmsg
# Each with what stands in $before in front of the program, and $input for it to read.
before= input=/dev/null
run_alone() { # ARGUMENTS...
    [ -n "$alone" ] || return 0
    $before $alone "$LECTERN" "$@" >"$dir/out" 2>"$dir/err" <$input || fail "without a network: lectern $*"
}
run_traced() { # ARGUMENTS...
    [ -n "$traced" ] || return 0
    $before strace -f -qq -e trace=$calls -o "$dir/trace" "$LECTERN" "$@" >"$dir/out" 2>"$dir/err" <$input ||
        fail "under strace: lectern $*"
    if grep -E "($(echo $calls | tr , '|'))\\(" "$dir/trace"; then fail "sockets: lectern $*"; fi
}
run() { # ARGUMENTS...: both ways
    tried="$tried $1"
    run_alone "$@"
    run_traced "$@"
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
run devices --used -m "$dir/tiny.gguf" --device cpu
run ingest "$dir/a.txt" $m
run ask "$dir/a.txt" -q 'Where?' $m
run ask "$dir/a.txt" -q 'Where?' $m --device cpu --ephemeral
run bench -m "$dir/tiny.gguf" --depth 0 --prefill 16 --decode 4 --device cpu
run bench -m "$dir/tiny.gguf" --resume --tokens 64 --device cpu
for action in list 'show 1' 'rename 1 cats' 'export 1' check gc repair; do run sessions $action; done
run sessions fork 1
one=$("$LECTERN" sessions fork 1) other=$("$LECTERN" sessions fork 1)
run_alone sessions rm "$one"
run_traced sessions rm "$other"
run logits "$dir/tiny.gguf" --device cpu --tokens "$dir/ids" --out "$dir/logits.bin"
run quantize "$dir/tiny.gguf" "$dir/small.gguf" Q8_0
run imatrix "$dir/tiny.gguf" "$dir/a.txt" -o "$dir/imatrix.gguf"
run perplexity "$dir/tiny.gguf" "$dir/a.txt" --chunk 8 --device cpu --save "$dir/ref"
run perplexity "$dir/tiny.gguf" "$dir/a.txt" --chunk 8 --device cpu --kl "$dir/ref"
python3 tests/hf_folder.py make "$dir/tiny.gguf" "$dir/hf" 1 && run convert "$dir/hf" "$dir/converted.gguf"
run pull
run models
run_alone models import "$dir/mine.gguf"
"$LECTERN" models rm mine 2>/dev/null
run_traced models import "$dir/mine.gguf"
[ -n "$traced" ] || "$LECTERN" models import "$dir/mine.gguf" >"$dir/out" 2>"$dir/err" || fail import
run models verify
run ask "$dir/a.txt" -q 'Where?' -m mine --max-tokens 4 --device cpu
run pull http://127.0.0.1:9/mine.gguf # is here already: nothing is asked
cp "$dir/mine.gguf" "$dir/data/lectern/models/yours.gguf"
run_alone models rm mine
run_traced models rm yours

# The desk: on a plain terminal, and the whole screen; a question and its answer each.
printf 'Where?\n/quit\n' >"$dir/typed"
input="$dir/typed"
run --plain "$dir/a.txt" $m --device cpu
input=/dev/null
before='python3 tests/faults/terminal.py sends Where?\r saved /quit\r --'
run "$dir/a.txt" $m --device cpu
before=
for command in $("$LECTERN" --help | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
    case " $tried " in *" $command "*) ;; *) fail "not tried: $command" ;; esac
done

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
