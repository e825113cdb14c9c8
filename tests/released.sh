#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Stores as released versions wrote them (tests/stores, each with the model and the text it was read with): this version
# opens each, finds nothing wrong, goes on from its states instead of reading again, and answers as if it had read
# everything itself.
. tests/kit
ask() { # DATA FILE QUESTION...
    data=$1
    file=$2
    shift 2
    "$LECTERN" ask "$file" -q "$@" -m "$model" --device cpu --ctx 2048 --state-dtype f16 --system Read. \
        --max-tokens 6 --data-dir "$dir/$data"
}
for dump in tests/stores/v*.sql; do
    version=$(basename "$dump" .sql)
    text=${dump%.sql}.txt
    model=${dump%.sql}.gguf
    rm -rf "$dir/old" "$dir/new"
    mkdir -m 700 "$dir/old"
    python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[2]).executescript(open(sys.argv[1]).read())' \
        "$dump" "$dir/old/lectern.db" || exit 1
    : >"$dir/err"
    "$LECTERN" sessions check --data-dir "$dir/old" >"$dir/out" 2>"$dir/err" || fail "$version:" 'it is damaged'
    ask old "$text" 'What?' >"$dir/a" 2>"$dir/err" || fail "$version:" 'ask'
    grep -q '^resumed 539 of 539 tokens' "$dir/err" || fail "$version:" 'its state was not used'
    ask new "$text" 'What?' >"$dir/b" 2>"$dir/err" || fail "$version:" 'ask anew'
    cmp -s "$dir/a" "$dir/b" || fail "$version:" 'other answers than without it'
    ask new "$text" 'Where?' --continue >"$dir/b" 2>"$dir/err" || fail "$version:" 'the first question anew'
    ask new "$text" 'When?' --continue >"$dir/b" 2>"$dir/err" || fail "$version:" 'the second question anew'
    ask old "$text" 'When?' --continue >"$dir/a" 2>"$dir/err" || fail "$version:" 'the second question'
    grep -q '^resumed 559 of 559 tokens' "$dir/err" || fail "$version:" 'its conversation was not gone on with'
    cmp -s "$dir/a" "$dir/b" || fail "$version:" 'the conversation goes on differently'
    "$LECTERN" sessions check --data-dir "$dir/old" >"$dir/out" 2>"$dir/err" || fail "$version:" 'it is damaged at the end'
    python3 tests/state_reader.py "$dir/old" >"$dir/out" 2>"$dir/err" || fail "$version:" 'the other reader refuses it'
    [ "$version" != v1 ] || { grep -q ' version 1 ' "$dir/out" && grep -q ' version 2 ' "$dir/out"; } ||
        fail "$version:" 'not both formats of pieces'
done
exit $bad
