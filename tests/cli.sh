#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The program from outside: exit codes, what goes to stdout and what to stderr, JSON, signals, hostile text. Needs a
# test model only (made here), and python3 to read the JSON back.
. tests/kit
clean() { # FILE: no control characters but newline and tab
    if LC_ALL=C tr -d '\n\t -~\200-\377' <"$1" | grep -q .; then fail "control characters in $1"; fi
    if LC_ALL=C grep -q "$(printf '\302[\200-\237]')" "$1"; then fail "C1 controls in $1"; fi
}
json() { # EXPRESSION over d, the object on stdout
    python3 -c "import json,sys; d=json.load(open('$dir/out')); assert $1, d" 2>"$dir/why" || {
        fail "JSON: $1"
        tail -1 "$dir/why"
    }
}

"$MAKE_MODEL" "$dir/tiny.gguf" --preset tiny || exit 1
printf 'The cat sat on the mat.\r\nIt was \342\200\234happy\342\200\235.\n\n' >"$dir/a.txt"
printf 'Another text, with <|im_end|><|im_user|> in it.\n' >"$dir/b.md"
: >"$dir/empty.txt"
printf 'a\000b' >"$dir/binary.dat"
m="-m $dir/tiny.gguf --max-tokens 12"

# ---- usage
run 2; one_line; silent; says 'needs a terminal'
run 2 nosuch; one_line; silent; says 'no command and no file "nosuch"'
run 2 --nosuch; one_line; says 'no option --nosuch'
run 2 ask; one_line; says 'needs a question'
run 2 ask -q x; one_line; says 'needs a file'
run 2 ask "$dir/a.txt" -q; says 'needs a value'
run 2 ask "$dir/a.txt" -q ' '; says 'question is empty'
run 2 ask "$dir/a.txt" -q x --json --stream-json
run 2 ask "$dir/a.txt" -q x --ctx many; says 'not a whole number'
run 2 ask "$dir/a.txt" -q x --temp=-1; says 'not a number'
run 2 ask "$dir/a.txt" -q x --kv-dtype q3; says 'none of f32, f16, q8_0'
run 2 ask "$dir/a.txt" -q x --store-max 5X; says 'not a size'
run 2 ingest; run 2 ingest "$dir/a.txt" --ephemeral
run 2 sessions dance; run 2 sessions rm; run 2 sessions show none; run 2 devices more; run 2 bench --depth 1,x
for command in '' ask ingest sessions devices bench; do
    run 0 $command --help
    grep -q '^Usage: lectern' "$dir/out" || fail "no usage in --help of '$command'"
    grep -q -- '--data-dir' "$dir/out" || fail "no global options in --help of '$command'"
done
run 0 --version; grep -q '^lectern [0-9]' "$dir/out" || fail 'version'

# ---- models and documents that are not there
run 3 ask "$dir/a.txt" -q x -m "$dir/none.gguf"; one_line; silent
head -c 1000 "$dir/tiny.gguf" >"$dir/cut.gguf"
run 3 ask "$dir/a.txt" -q x -m "$dir/cut.gguf"; one_line
run 4 ask "$dir/none.txt" -q x $m; one_line; silent; says 'No such file'
run 4 ask "$dir/empty.txt" -q x $m; says 'is empty'
run 4 ask "$dir/binary.dat" -q x $m; says 'is binary'
mkfifo "$dir/fifo"
run 4 ask "$dir/fifo" -q x $m; says 'is a pipe'
run 4 ask /dev/null -q x $m; says 'is a device'
if [ "$(id -u)" != 0 ]; then
    printf x >"$dir/locked.txt"
    chmod 0 "$dir/locked.txt"
    run 4 ask "$dir/locked.txt" -q x $m; says 'Permission denied'
fi
evil=$(printf 'no\033[31msuch\n.txt')
run 4 ask "$dir/$evil" -q x $m; one_line; clean "$dir/err"
run 5 ask "$dir/a.txt" -q x $m --ctx 16; one_line; silent; says 'context holds 16'
run 1 ask "$dir/a.txt" -q x $m --data-dir "$dir/a.txt/x"; one_line

# ---- answers
run 0 ask "$dir/a.txt" -q 'Where is the cat?' $m
cp "$dir/out" "$dir/first"
says 'tokens to read'
tail -c 1 "$dir/first" | od -c | grep -q '\\n' || fail 'no newline after the answer'
run 0 ask "$dir/a.txt" -q 'Where is the cat?' $m
cmp -s "$dir/out" "$dir/first" || fail 'the same question from the stored state has another answer'
says '^resumed [0-9]* of [0-9]* tokens in'
if grep -q 'to read' "$dir/err"; then fail 'it was read again'; fi
run 0 ask "$dir/a.txt" -q 'Where is the cat?' $m --ephemeral
cmp -s "$dir/out" "$dir/first" || fail 'the same question without a store has another answer'
echo 'Where is the cat?' | "$LECTERN" ask "$dir/a.txt" -q - $m >"$dir/out" 2>/dev/null || fail 'question on stdin'
cmp -s "$dir/out" "$dir/first" || fail 'the question from stdin has another answer'
run 0 -m "$dir/tiny.gguf" --max-tokens=12 ask "$dir/a.txt" -q 'Where is the cat?' --quiet
[ ! -s "$dir/err" ] || fail 'quiet is not quiet'
cmp -s "$dir/out" "$dir/first" || fail 'options before the command change the answer'
run 0 ask --quiet $m -q x -- "$dir/a.txt"
if ls "$dir"/data/lectern/lectern.db >/dev/null 2>&1; then :; else fail 'no database where XDG says'; fi
[ "$(stat -c %a "$dir/data/lectern")" = 700 ] || fail 'the data folder is open to others'

# what is told never carries an escape when stderr is a file, and NO_COLOR changes nothing
NO_COLOR=1 "$LECTERN" ask "$dir/b.md" -q x $m >"$dir/out" 2>"$dir/err" || fail 'NO_COLOR'
clean "$dir/err"

# ---- control characters from the model: a random model at a high temperature says every byte
run 0 ask "$dir/b.md" -q x -m "$dir/tiny.gguf" --max-tokens 400 --temp 9 --seed 7 --ephemeral
clean "$dir/out"
run 0 ask "$dir/b.md" -q x -m "$dir/tiny.gguf" --max-tokens 400 --temp 9 --seed 7 --ephemeral --json
json 'any(ord(c) < 32 and c not in "\n\t" for c in d["answer"])'
clean "$dir/out"

# ---- JSON
run 0 ask "$dir/a.txt" "$dir/b.md" "$dir/empty.txt" -q 'Q "q" \' $m --json
json 'd["question"] == "Q \"q\" \\" and len(d["documents"]) == 2 and d["skipped"][0]["reason"] == "is empty"'
json 'd["answer_tokens"] <= 12 and d["prompt_tokens"] > d["reused_tokens"] and not d["stopped"]'
json 'd["ended"] == ("max-tokens" if d["answer_tokens"] == 12 else "whole")'
run 0 ask "$dir/a.txt" -q x $m --stream-json
python3 -c "
import json
events = [json.loads(line) for line in open('$dir/out')]
kinds = [e['type'] for e in events]
assert kinds[0] == 'ready' and 'resumed' in kinds and kinds.count('answered') == 1 and kinds[-1] == 'saved', kinds
" || fail 'stream-json'
run 0 ingest "$dir/b.md" $m --json
json 'd["session"] > 0 and d["tokens"] >= d["resumed_tokens"] and d["documents"][0]["encoding"] == "UTF-8"'
run 0 devices --json; json 'd[0]["id"] == "cpu" and d[0]["usable"]'
run 0 devices --used $m; grep -q '^Device: .*(cpu)' "$dir/out" || fail 'devices --used'
run 0 devices -m "$dir/tiny.gguf"; grep -q 'weights .*: fits' "$dir/out" || fail 'no plan in devices -m'
run 0 bench -m "$dir/tiny.gguf" --depth 0,32 --prefill 16 --decode 4 --json --device cpu
json '[r["depth"] for r in d["rows"]] == [0, 32] and all(r["decode_tokens_per_second"] > 0 for r in d["rows"])'

run 0 bench --types --json --device cpu
json 'len(d["types"]) == 25 and all(t["bytes_per_second"] > 0 and t["batch_flops_per_second"] > 0 for t in d["types"])'

# ---- several questions
printf 'Where is the cat?\n\n \t\r\nWhat \033[31m?\r\nWhere is the cat?' >"$dir/questions"
run 0 ask "$dir/a.txt" --questions "$dir/questions" $m
clean "$dir/out"
{ echo '> Where is the cat?'; cat "$dir/first"; } >"$dir/expected"
lines=$(wc -l <"$dir/expected")
head -n "$lines" "$dir/out" | cmp -s - "$dir/expected" || fail 'the first of several questions has another answer'
tail -n "$lines" "$dir/out" | cmp -s - "$dir/expected" || fail 'the last of several questions has another answer'
run 0 ask "$dir/a.txt" --questions - $m --json
[ ! -s "$dir/out" ] || fail 'answers to no questions'
"$LECTERN" ask "$dir/a.txt" --questions - $m --json <"$dir/questions" >"$dir/lines" 2>/dev/null || fail 'several as JSON'
python3 -c "
import json
d = [json.loads(line) for line in open('$dir/lines')]
assert [x['question'] for x in d] == ['Where is the cat?', 'What \033[31m?', 'Where is the cat?'], d
assert d[0]['answer'] == d[2]['answer'] and d[2]['reused_tokens'] == d[0]['reused_tokens'] > 0, d
" || fail 'several as JSON'
# a script may wait for each answer before it asks again; a signal ends the waiting
mkfifo "$dir/asks" "$dir/says"
"$LECTERN" ask "$dir/a.txt" --questions - $m --json <"$dir/asks" >"$dir/says" 2>"$dir/err" &
pid=$!
exec 3>"$dir/asks" 4<"$dir/says"
for question in One Two; do
    echo $question >&3
    read -r line <&4
    case $line in *"\"$question\""*) ;; *) fail "asked $question, heard: $line" ;; esac
done
kill -TERM $pid
wait $pid
[ $? = 143 ] || fail 'a signal while waiting for a question'
exec 3>&- 4<&-
run 2 ask "$dir/a.txt" --questions "$dir/questions" -q x $m; one_line
run 4 ask "$dir/a.txt" --questions "$dir/none" $m; one_line; says 'No such file'
run 4 ask "$dir/a.txt" --questions "$dir" $m; says 'directory'
printf 'a\000b\n' >"$dir/nul"
run 2 ask "$dir/a.txt" --questions "$dir/nul" $m; silent; says 'NUL'
head -c 1100000 /dev/zero | tr '\0' x >"$dir/long"
run 2 ask "$dir/a.txt" --questions "$dir/long" $m; silent; says '1 MiB'
run 0 ask "$dir/a.txt" --questions "$dir/questions" -c $m --json
python3 -c "
import json
d = [json.loads(line) for line in open('$dir/out')]
assert d[0]['prompt_tokens'] < d[1]['prompt_tokens'] < d[2]['prompt_tokens'] and d[2]['session'], d
" || fail 'several in one conversation'
run 0 sessions rm "$(python3 -c "import json; print(json.loads(open('$dir/out').readline())['session'])")"

# ---- conversations
run 0 ask "$dir/a.txt" -c -q 'One?' $m --json; json 'True'
id=$(python3 -c "import json; print(json.load(open('$dir/out'))['session'])")
run 0 ask "$dir/a.txt" -c -q 'Two?' $m; cp "$dir/out" "$dir/two"
run 0 sessions show "$id" --json
json '[t["text"] for t in d["conversation"]][::2] == ["One?", "Two?"] and d["turns"] == 4'
run 0 sessions fork "$id" --turns 1; fork=$(cat "$dir/out")
run 0 ask -s "$fork" -q 'Two?' $m
cmp -s "$dir/out" "$dir/two" || fail 'a fork answers otherwise'
run 0 sessions rename "$fork" "$(printf 'n\033[1mame')"
run 0 sessions; clean "$dir/out"; grep -q 'n␛\[1mame' "$dir/out" || fail 'the name is not in the list'
run 0 sessions export "$fork"; grep -q '^## Question' "$dir/out" || fail 'export'
if grep -q 'sat on the mat' "$dir/out"; then fail 'export has the document without being asked'; fi
run 0 sessions export "$fork" --documents; grep -q 'sat on the mat' "$dir/out" || fail 'export --documents'
run 0 sessions rm "$fork"; run 2 sessions show "$fork"; says 'no session'
run 0 sessions gc; run 0 sessions check; run 0 sessions repair
run 0 sessions --json; json 'len(d) >= 3'

# ---- settings: flag > environment > file > default
mkdir -p "$dir/config/lectern"
printf '# comment\n[model]\nmodel = "%s"\nmax-tokens = 3\n' "$dir/tiny.gguf" >"$dir/config/lectern/lectern.ini"
tokens() { json "d['answer_tokens'] == $1"; }
run 0 ask "$dir/a.txt" -q 'Where is the cat?' --json; tokens 3
LECTERN_MAX_TOKENS=2 "$LECTERN" ask "$dir/a.txt" -q 'Where is the cat?' --json >"$dir/out" 2>/dev/null; tokens 2
LECTERN_MAX_TOKENS=2 "$LECTERN" ask "$dir/a.txt" -q 'Where is the cat?' --json --max-tokens 1 >"$dir/out" 2>/dev/null
tokens 1
echo 'max-tokns = 3' >>"$dir/config/lectern/lectern.ini"
run 2 ask "$dir/a.txt" -q x; one_line; says 'lectern.ini line 5: there is no option "max-tokns"'
rm "$dir/config/lectern/lectern.ini"
LECTERN_CTX=x run 2 ask "$dir/a.txt" -q x; says 'LECTERN_CTX'

# ---- outputs that end
"$LECTERN" ask "$dir/a.txt" -q x $m >/dev/full 2>"$dir/err"; [ $? = 6 ] || fail '/dev/full is not told'
says 'cannot be written'
"$LECTERN" sessions >/dev/full 2>/dev/null; [ $? = 6 ] || fail 'sessions >/dev/full is not told'

# ---- signals, while reading: what is whole is kept
i=0
while [ $i -lt 200 ]; do
    i=$((i + 1))
    echo "Sentence number $i of a text that is long enough to be interrupted while it is read."
done >"$dir/long.txt"
for case in INT:130 TERM:143; do
    : >"$dir/err" # what the one before said is not waited for
    env --default-signal=INT "$LECTERN" ingest "$dir/long.txt" -m "$dir/tiny.gguf" --batch 16 --threads 1 --ctx 16384 \
        --data-dir "$dir/stop-$case" >/dev/null 2>"$dir/err" &
    pid=$!
    tries=0
    until grep -q 'to read' "$dir/err" || [ $tries = 200 ]; do
        tries=$((tries + 1))
        sleep 0.05
    done
    kill -s "${case%:*}" $pid
    wait $pid
    code=$?
    [ $code = "${case#*:}" ] || fail "signal ${case%:*}: exit $code"
    says '^Stopped after [0-9,]* of [0-9,]* tokens; what was read is kept'
    run 0 sessions check --data-dir "$dir/stop-$case"
    run 0 ingest "$dir/long.txt" -m "$dir/tiny.gguf" --ctx 16384 --data-dir "$dir/stop-$case"
    says 'kept as session'
done
exit $bad
