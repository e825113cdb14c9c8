#!/bin/sh
# SPDX-License-Identifier: MIT
#
# lectern perplexity, from outside: the figure against one computed here from the logits of lectern logits, a reference
# file against its own model and against the model in fewer bits, and what is refused.
: "${LECTERN:?path of the program}" "${MAKE_MODEL:?path of make_model}"
command -v python3 >/dev/null || { echo "python3 is not installed"; exit 77; }

dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
export HOME="$dir" XDG_CONFIG_HOME="$dir" XDG_DATA_HOME="$dir"
failed=0

expect() { # expect STATUS WORDS ARGUMENTS...: the exit code, and words of the one sentence on stderr
    status=$1 words=$2
    shift 2
    "$LECTERN" perplexity --device cpu "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    if [ $got -ne "$status" ] || ! grep -q -- "$words" "$dir/err" || [ "$(wc -l <"$dir/err")" -ne 1 ]; then
        echo "perplexity $*: exit $got instead of $status, or not one line with \"$words\":"
        cat "$dir/err"
        failed=1
    fi
}

score() { # score OUT ARGUMENTS...
    out=$1
    shift
    "$LECTERN" perplexity --device cpu --kv-dtype f32 --chunk 32 --json "$@" >"$dir/$out" || failed=1
}

"$MAKE_MODEL" "$dir/a.gguf" --preset tiny || exit 1
"$LECTERN" quantize "$dir/a.gguf" "$dir/b.gguf" Q3_K_S --quiet || exit 1

# A text whose tokens are its bytes: none of the test model's merges is of these letters.
python3 -c '
import random
random.seed(5)
print("".join(random.choice("zqxjkvbwgm") for _ in range(150)), end="")' >"$dir/text"

score first "$dir/a.gguf" "$dir/text" --save "$dir/ref"
score same "$dir/a.gguf" "$dir/text" --kl "$dir/ref"
score fewer "$dir/b.gguf" "$dir/text" --kl "$dir/ref"

python3 - "$dir" >"$dir/chunks" <<'PY'
import sys
text = open(sys.argv[1] + "/text", "rb").read()
for i in range(len(text) // 32):
    open("%s/ids.%d" % (sys.argv[1], i), "w").write(" ".join(map(str, [504] + list(text[32 * i + 1:32 * i + 32]))))
    print(i)
PY
while read -r i; do
    for model in a b; do
        "$LECTERN" logits "$dir/$model.gguf" --device cpu --tokens "$dir/ids.$i" --out "$dir/$model.$i" || failed=1
    done
done <"$dir/chunks"

python3 - "$dir" <<'PY' || failed=1
import json, math, struct, sys
dir = sys.argv[1]
ids = [list(map(int, open("%s/ids.%d" % (dir, i)).read().split())) for i in range(4)]

def log_probabilities(model, chunk):
    data = open("%s/%s.%d" % (dir, model, chunk), "rb").read()
    n, vocab = struct.unpack_from("<ii", data)
    for t in range(n):
        row = struct.unpack_from("<%df" % vocab, data, 8 + 4 * vocab * t)
        most = max(row)
        total = most + math.log(sum(math.exp(x - most) for x in row))
        yield [x - total for x in row]

losses, divergences, agreed = [], [], 0
for c in range(4):
    for t, (p, q) in enumerate(zip(log_probabilities("a", c), log_probabilities("b", c))):
        if 16 <= t < 31:
            losses.append(-p[ids[c][t + 1]])
            divergences.append(sum(math.exp(x) * (x - y) for x, y in zip(p, q)))
            agreed += p.index(max(p)) == q.index(max(q))

def mean_and_error(values):
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))

bad = 0
def same(what, got, want, off):
    global bad
    if abs(got - want) > off * abs(want) + 1e-7:
        print("%s is %r, computed from the logits %r" % (what, got, want))
        bad = 1

first, again, fewer = (json.load(open("%s/%s" % (dir, f))) for f in ("first", "same", "fewer"))
loss, error = mean_and_error(losses)
same("scored", first["scored"], len(losses), 0)
same("perplexity", first["perplexity"], math.exp(loss), 1e-4)
same("its error", first["perplexity_error"], math.exp(loss) * error, 1e-3)
same("perplexity, compared", again["perplexity"], first["perplexity"], 0)
same("divergence from itself", again["kl"], 0, 0)
same("same top token, itself", again["same_top"], 1, 0)
kl, error = mean_and_error(divergences)
if kl < 1e-4:
    print("the models do not differ: divergence", kl)
    bad = 1
same("divergence", fewer["kl"], kl, 2e-3)
same("its error", fewer["kl_error"], error, 2e-3)
same("same top token", fewer["same_top"], agreed / len(losses), 1e-5)
sys.exit(bad)
PY

expect 2 "a model and a text file" "$dir/a.gguf"  "$dir/text" "$dir/text"
expect 2 "at least 4 tokens" "$dir/a.gguf" "$dir/text" --chunk 3
expect 4 "No such file" "$dir/a.gguf" "$dir/none"
expect 4 "fewer than one chunk of 512" "$dir/a.gguf" "$dir/text"
expect 4 "made with --chunk 32, not 16" "$dir/a.gguf" "$dir/text" --chunk 16 --kl "$dir/ref"
expect 4 "made from another text" "$dir/a.gguf" "$dir/text" --chunk 32 --chunks 2 --kl "$dir/ref"
tr z q <"$dir/text" >"$dir/other"
expect 4 "made from another text: token" "$dir/a.gguf" "$dir/other" --chunk 32 --kl "$dir/ref"
expect 4 "not a reference file" "$dir/a.gguf" "$dir/text" --chunk 32 --kl "$dir/text"
head -c 5000 "$dir/ref" >"$dir/short"
expect 4 "is not whole" "$dir/a.gguf" "$dir/text" --chunk 32 --kl "$dir/short"
python3 - "$dir" <<'PY'
import struct, sys
data = bytearray(open(sys.argv[1] + "/ref", "rb").read())
struct.pack_into("<f", data, 24 + 4 * 128, float("nan"))
open(sys.argv[1] + "/broken", "wb").write(data)
PY
expect 4 "row 0 is no distribution" "$dir/a.gguf" "$dir/text" --chunk 32 --kl "$dir/broken"
expect 6 "cannot be written" "$dir/a.gguf" "$dir/text" --chunk 32 --save "$dir/none/ref"
test ! -e "$dir/ref.part" || { echo "a .part file is left"; failed=1; }
exit $failed
