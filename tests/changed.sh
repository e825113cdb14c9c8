#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Documents that changed since they were read: what changed and what reading them again costs is said before it is done,
# and what did not change is not read again.
. tests/kit
export LECTERN_DATA_DIR="$dir/data"
ask() { # stderr in err, stdout in out
    "$LECTERN" ask "$@" -q 'What?' -m "$dir/tiny.gguf" --device cpu --max-tokens 4 >"$dir/out" 2>"$dir/err" </dev/null ||
        fail "ask $*"
}
before() { # A B: the line matching A comes before the one matching B
    a=$(grep -n -m 1 -- "$1" "$dir/err" | cut -d: -f1)
    b=$(grep -n -m 1 -- "$2" "$dir/err" | cut -d: -f1)
    [ -n "$a" ] && [ -n "$b" ] && [ "$a" -lt "$b" ] || fail "\"$1\" does not stand before \"$2\""
}
number() { sed -n "s/^$1 \([0-9,]*\) .*/\1/p" "$dir/err" | tr -d ,; }

"$MAKE_MODEL" "$dir/tiny.gguf" --preset tiny || exit 1
cd "$dir" || exit 1
lines() { # FROM TO
    i=$1
    while [ "$i" -le "$2" ]; do
        echo "$i: the $((i * 7919 % 1000)) ships of harbour $((i * 104729 % 977)) lie at anchor."
        i=$((i + 1))
    done
}
lines 1 60 >a.txt
echo 'Another text.' >b.txt
cp a.txt a.first

ask a.txt
says 'tokens to read'
never_says 'about'
ask a.txt
never_says 'to read'
touch -d '2001-01-01' a.txt # the same text: nothing to tell
ask a.txt
never_says 'edited'

# In the middle: where, what is kept, what it costs, in this order.
sed '45s/ships/boats/' a.first >a.txt
ask a.txt
says '^a.txt was edited, from about line 45 of 60\.$'
says 'tokens to read, about [0-9]'
before 'was edited' '^resumed'
before '^resumed' 'tokens to read'
kept=$(number resumed)
[ "$kept" -ge 1024 ] || fail "only $kept tokens were kept"
ask a.txt
never_says 'edited'
sleep 1 # times of use are whole seconds
cp a.first a.txt # as it was at first: nothing is read, nothing to tell
ask a.txt
never_says 'to read'
never_says 'edited'

lines 1 80 >a.txt
ask a.txt --json
says '^a.txt has grown at the end, after line 60\.$'
python3 -c "
import json
d = json.load(open('out'))
assert any('grown at the end' in n for n in d['notes']), d" || fail 'the JSON notes'
first=$(number resumed)
[ "$first" -gt "$kept" ] || fail "what grew at the end kept $first tokens only"
lines 1 30 >a.txt
ask a.txt
says '^a.txt was cut at the end, after line 30 of 80\.$'

# Lists: one more costs itself; another order, one gone.
ask a.txt b.txt
says '^b.txt is new\.$'
more=$(sed -n 's/^\([0-9,]*\) tokens to read.*/\1/p' "$dir/err" | tr -d ,)
[ "$more" -lt 100 ] || fail "a short text more made $more tokens to read"
ask b.txt a.txt
says '^The documents come in another order, from a.txt on\.$'
ask b.txt
says '^a.txt is gone\.$'

# A conversation is about the text that was read.
ask b.txt -c
echo 'More text.' >>b.txt
ask b.txt -c
says '^b.txt has grown at the end'
says '^The conversation over what was read before stays as session [0-9]*\.$'
id=$(sed -n 's/.*stays as session \([0-9]*\)\.$/\1/p' "$dir/err")
ask -s "$id"
says '^b.txt has grown at the end, after line 1\.$'
says '^The session goes on with the text it has read\.$'
never_says 'to read'

# The desk says the same, in its line mode as on the screen.
desk() { # INPUT ARGUMENTS...
    input=$1
    shift
    printf "$input" | "$LECTERN" --plain "$@" -m "$dir/tiny.gguf" --device cpu --max-tokens 4 >"$dir/out" 2>"$dir/err" ||
        fail "lectern --plain $*"
}
lines 1 60 >a.txt
desk '/quit\n' a.txt --data-dir "$dir/desk"
never_says 'edited'
sed -i '50s/ships/boats/' a.txt
desk '/quit\n' -s 1 --data-dir "$dir/desk"
says '^a.txt was edited, from about line 50 of 60\.$'
says '/reread reads it as it is now'
desk '/reread\n/reread\n/quit\n' -s 1 --data-dir "$dir/desk"
says '^The documents are as they were read\.$'
says '^[0-9,]* of [0-9,]* tokens are kept, [0-9,]* are to be read: about [0-9].*\.$'
before '/reread reads it' 'tokens are kept'
sed -i '55s/ships/boats/' a.txt
desk '/quit\n' a.txt --data-dir "$dir/desk"
before '^a.txt was edited, from about line 55 of 60' 'tokens are kept'
exit $bad
