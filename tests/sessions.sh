#!/bin/sh
# SPDX-License-Identifier: MIT
#
# lectern sessions: what each action does to sizes and sharing, held against the database itself; the disk budget.
. tests/kit
export LECTERN_DATA_DIR="$dir/data"
ask() { run 0 ask "$@" -m "$dir/tiny.gguf" --device cpu --max-tokens 8; }
# check EXPRESSION: over s, the sessions by number, and bytes, what all states take in the database
check() {
    run 0 sessions --json
    python3 -c "
import json, sqlite3
s = {x['id']: x for x in json.load(open('$dir/out'))}
bytes = sqlite3.connect('$dir/data/lectern.db').execute('SELECT total(size) FROM blob').fetchone()[0]
own = lambda *ids: sum(s[i]['bytes_own'] for i in ids)
shared = lambda i: s[i]['bytes_shared']
assert $1, (s, bytes)" 2>"$dir/err" || fail "$1"
}

"$MAKE_MODEL" "$dir/tiny.gguf" --preset tiny || exit 1
i=0
while [ $i -lt 40 ]; do
    i=$((i + 1))
    echo "$i: the $((i * 7919 % 1000)) ships of harbour $((i * 104729 % 977)) lie at anchor."
done >"$dir/a.txt"
echo 'Another text.' >"$dir/b.txt"

run 0 sessions
says '0 sessions'
ask "$dir/a.txt" -c -q 'One?'
check 'own(1) == bytes and shared(1) == 0 and s[1]["turns"] == 2 and s[1]["documents"] == 1'

# A fork takes nothing; what both reach counts once.
run 0 sessions fork 1
[ "$(cat "$dir/out")" = 2 ] || fail 'the number of a fork'
check 'own(1, 2) == 0 and shared(1) == shared(2) == bytes and s[2]["parent"] == 1 and "(fork)" in s[2]["name"]'
run 0 sessions fork 1 --turns 0 --name whole
check 's[3]["turns"] == 2 and s[3]["name"] == "whole"'
run 0 sessions rm 3
ask -s 2 -q 'Two?'
check 'own(1) == 0 < own(2) and own(2) + shared(2) == bytes and shared(1) == shared(2)'
ask "$dir/b.txt" -q 'Other?'
check 'own(3) > 0 and shared(3) == 0 and own(1, 2, 3) + shared(1) == bytes'

# Removing one leaves the other whole: its answer needs no reading.
run 0 sessions rm 1
says 'removed session 1'
check '1 not in s and shared(2) == 0 and own(2, 3) == bytes'
ask -s 2 -q 'Three?'
grep -q 'to read' "$dir/err" && fail 'a fork is read again when its origin is gone'
run 2 sessions show 1
run 2 sessions rm 2 1
says 'no session 1'
run 0 sessions list
grep -q '^ *3 ' "$dir/out" || fail 'list'
grep -q '^ *2 ' "$dir/out" && fail 'a removed session is in the list'

run 0 sessions rename 3 'the other'
run 0 sessions show 3
grep -q 'the other' "$dir/out" || fail 'rename, show'
run 0 sessions export 3 --json
python3 -c "
import json
d = json.load(open('$dir/out'))
assert d['name'] == 'the other' and d['files'][0]['bytes'] == 13 and 'text' not in d['files'][0]" || fail 'export'

# The budget: told where it is looked for, kept by gc, and what it costs is said.
run 0 sessions --help
grep -q -- '--store-max SIZE.*default 20G' "$dir/out" || fail 'the default is not in --help'
run 0 sessions gc
says 'at most 20.0 GiB (--store-max)'
check '3 in s and own(3) == bytes > 0'
run 0 sessions gc --store-max 1K
says '1 session lost the last state and will be read again'
check '3 in s and bytes <= 1024'
ask "$dir/b.txt" -q 'Other?'
says 'tokens to read'
ask "$dir/a.txt" -q 'More?' --store-max 1K
says 'more than --store-max allows'

# What another lectern has open stays, until that one is gone, killed or not.
ask "$dir/b.txt" -c -q 'Open?'
mkfifo "$dir/input"
"$LECTERN" --plain "$dir/b.txt" -m "$dir/tiny.gguf" --device cpu <"$dir/input" >"$dir/desk" 2>&1 &
desk=$!
exec 3>"$dir/input"
tries=0
until grep -q '^Resumed' "$dir/desk" || [ $tries = 600 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
check 'own(3) > 0'
run 0 sessions gc --store-max 1K
check 'own(3) > 1024'
run 2 sessions rm 3
says 'open in another lectern'
kill -9 $desk
wait $desk 2>/dev/null
exec 3>&-
run 0 sessions gc --store-max 1K
check 'own(3) == 0'
run 0 sessions gc --store-max 0
says 'no limit (--store-max)'
run 0 sessions check
exit $bad
