#!/bin/sh
# tools/measure: what counts as right, and a whole measurement of a random model: every kind of question is asked, the
# figures say what the answers are, an interrupted run goes on, and the same seed asks the same.
set -u
python=/usr/bin/python3
"$python" -c 0 2>/dev/null || { echo "skipped: no python3 here"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export PYTHONDONTWRITEBYTECODE=1
fail() { echo "$1"; exit 1; }

"$python" - <<'E' || fail "the judge is wrong"
import sys
sys.path.insert(0, "tools/measure")
from sets import flat, is_denial, is_loop, is_right
fact, absent = {"kind": "fact", "value": "4821"}, {"kind": "absent"}
assert is_right(fact, "The mailbox number of Anton is 4821.", {}) and not is_right(fact, "It is 48213.", {})
assert is_right(absent, "The document does not mention ships.", {}) and not is_right(absent, '"Ships came."', {})
quote = {"kind": "quote", "sentence": flat('"The sea\n was  green."')}
assert is_right(quote, '"The sea was green."', {}) and is_right(quote, 'It says "The sea\nwas green." there.', {})
assert not is_right(quote, '"The sea was green and wide."', {}) and not is_right(quote, '"The sea was"', {})
files = {"a/one.c": "int x;\n\nint find(int a) {\n", "b/two.c": "int find(int a) {\n}\n"}
code = {"kind": "code", "path": "a/one.c", "line": "int find(int a) {", "number": 3}
assert is_right(code, 'a/one.c: "int find(int a) {"', files) and is_right(code, "See one.c:3.", files)
assert not is_right(code, '"int find(int a) {"', files)  # two places
assert not is_right(code, 'b/two.c: "int find(int a) {"', files) and not is_right(code, "one.c:2", files)
import plain
said, text = {"kind": "plain", "short": "The door", "sentence": "Ann shut the door."}, {"document.txt": 'Then Ann shut the\n door.'}
assert plain.is_right(said, "the door.", text) and plain.is_right(said, 'Look: "Ann shut the door."', text)
assert not plain.is_right(said, "The document does not mention the door.", text) and not plain.is_right(said, "Ann.", text)
who = {"kind": "person", "name": "Mrs. Ann"}
assert plain.is_right(who, 'On Ann: "Then Ann shut the door."', text) and not plain.is_right(who, '"Ann opened the door."', text)
assert plain.is_right({"kind": "stranger"}, "It does not mention Bob.", text) and not plain.is_right({"kind": "stranger"}, "Bob.", text)
assert is_loop("so it was and " * 20) and is_loop("a" * 40) and not is_loop("He came, he saw, he went home.")
assert is_denial("That is not mentioned.") and not is_denial("He could not sleep.")
E

"$MAKE_MODEL" "$dir/model.gguf" --preset tiny --type Q8_0 || fail "no model"
"$python" - "$dir/held.txt" <<'E'
import glob, sys
sys.path.insert(0, "tools/measure")
from sets import passage
pages = [open(p, encoding="utf-8").read() for p in sorted(glob.glob("docs/*.md"))]
for path in sorted(glob.glob("app/*.c")):
    text = open(path, encoding="utf-8").read()
    some = [text[at:at + 1000] for at in range(0, len(text), 500) if passage.functions(text[at:at + 1000])]
    if some: pages.append(f"File: {path}\n\n{some[0]}")
people = list(zip(passage.NAMES, passage.WORDS))
pages.append(" ".join(f"{a} opened the {w.lower()} door. It was late when {a} saw it." for a, w in people))
pages.append(" ".join(f"In the end {a} sold the {w.lower()} house, and {a} was glad." for a, w in people[::-1]))
open(sys.argv[1], "w", encoding="utf-8").write("\n<|doc|>\n".join(pages))
E
measure() {
    "$python" tools/measure/measure.py "$dir/model.gguf" --held "$dir/held.txt" --out "$dir/$1" --documents 1 \
        --lengths 400 --plain 300 --files 2 --most-tokens 12 --lectern "$LECTERN" --jobs 2 --threads 1 >"$dir/$1.out" 2>"$dir/err" || fail "$(cat "$dir/err")"
}
measure one
for kind in '"plain question, by rule"' '"who is: quoted"' '"not in the novel: denied"' '"fact 400"' '"quote 400"' '"absent said' '"function found"' '"asked as a follow-up"' '"loss, nats a byte"'; do
    grep -q "$kind" "$dir/one.json" || fail "no $kind in the figures: $(cat "$dir/one.json")"
done
"$python" -c "import sys, xml.dom.minidom as x; x.parse(sys.argv[1])" "$dir/one.svg" || fail "the plot is no XML"
head -n 5 "$dir/one.jsonl" >"$dir/two.jsonl"
printf '{"document": "rea' >>"$dir/two.jsonl"
measure two
kept=$(head -n 5 "$dir/two.jsonl" | cmp - "$dir/two.jsonl" 2>&1 | grep -c EOF)
[ "$kept" = 1 ] || fail "an interrupted run began again"
cmp -s "$dir/one.json" "$dir/two.json" || fail "the same seed gave other figures"
sed -i 's/"bytes": [0-9]*/"bytes": 1/' "$dir/two.jsonl"
"$python" tools/measure/measure.py "$dir/model.gguf" --held "$dir/held.txt" --out "$dir/two" --lectern "$LECTERN" \
    2>"$dir/err" && fail "another model's answers were taken"
grep -q "another model" "$dir/err" || fail "$(cat "$dir/err")"
