#!/bin/sh
# SPDX-License-Identifier: MIT
#
# kill -9 while a long text is read: what was committed is there and is used, and the answer is the one of a reading that
# nobody interrupted. Then a changed text: what stands before the change is not read again.
. tests/kit
"$MAKE_MODEL" "$dir/tiny.gguf" --preset tiny || exit 1
i=0
while [ $i -lt 190 ]; do
    i=$((i + 1))
    echo "$i: the $((i * 7919 % 1000)) ships of harbour $((i * 104729 % 977)) lie at anchor until the tide."
done >"$dir/text.txt"
lectern() {
    action=$1
    data=$2
    shift 2
    "$LECTERN" "$action" "$@" -m "$dir/tiny.gguf" --device cpu --ctx 40000 --data-dir "$dir/$data" --max-tokens 24
}
number() { # "resumed N of M tokens": N
    sed -n 's/^resumed \([0-9,]*\) of.*/\1/p' "$dir/err" | tr -d ,
}

# Killed as soon as the first checkpoint is committed.
"$LECTERN" ingest "$dir/text.txt" -m "$dir/tiny.gguf" --device cpu --ctx 40000 --data-dir "$dir/killed" 2>"$dir/err" &
pid=$!
tries=0
stored=0
until [ "${stored:-0}" -ge 8192 ] || [ $tries = 600 ]; do
    tries=$((tries + 1))
    sleep 0.1
    stored=$("$LECTERN" sessions --json --data-dir "$dir/killed" 2>/dev/null |
        python3 -c 'import json,sys; print(max([s["tokens"] for s in json.load(sys.stdin)] + [0]))' 2>/dev/null)
done
kill -9 "$pid" 2>/dev/null || fail 'it had finished before it could be killed'
wait 2>/dev/null
[ "${stored:-0}" -ge 8192 ] || fail "no checkpoint in $tries tenths of a second"

"$LECTERN" sessions check --data-dir "$dir/killed" >"$dir/out" 2>"$dir/err" || fail 'the store is damaged'
lectern ask killed "$dir/text.txt" -q 'Where are the ships?' >"$dir/resumed" 2>"$dir/err" || fail 'ask after the kill'
[ "$(number)" -ge 8192 ] || fail 'nothing was resumed'
grep -q 'tokens to read' "$dir/err" || fail 'it had been read to the end'

lectern ask whole "$dir/text.txt" -q 'Where are the ships?' >"$dir/answer" 2>"$dir/err" || fail 'ask without a kill'
[ -z "$(number)" ] || fail 'an empty store cannot resume'
[ -s "$dir/answer" ] || fail 'no answer'
cmp -s "$dir/resumed" "$dir/answer" || fail 'interrupted and uninterrupted reading answer differently'

# The last line changes: everything up to the last checkpoint before it is reused.
sed '$s/anchor/rest/' "$dir/text.txt" >"$dir/changed.txt"
lectern ask killed "$dir/changed.txt" -q 'Where are the ships?' >"$dir/out" 2>"$dir/err" || fail 'ask after a change'
[ "$(number)" -ge 8192 ] || fail 'a changed text was read from the start'
lectern ask fresh "$dir/changed.txt" -q 'Where are the ships?' --ephemeral >"$dir/answer" 2>"$dir/err" || fail 'ephemeral'
cmp -s "$dir/out" "$dir/answer" || fail 'a changed text, partly reused, answers differently'

# Two at once on one store: both answer.
lectern ask killed "$dir/text.txt" -q 'One?' >"$dir/one" 2>"$dir/err-one" &
first=$!
lectern ask killed "$dir/text.txt" -q 'One?' >"$dir/two" 2>"$dir/err" || fail 'the second of two'
wait $first || fail 'the first of two'
cmp -s "$dir/one" "$dir/two" || fail 'two at once answer differently'
"$LECTERN" sessions check --data-dir "$dir/killed" >"$dir/out" 2>"$dir/err" || fail 'the store is damaged at the end'
exit $bad
