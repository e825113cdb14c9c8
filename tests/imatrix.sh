#!/bin/sh
# SPDX-License-Identifier: MIT
#
# lectern imatrix: which matrices it tells of and how many inputs each had, against what the model's shape says; sums
# that can be computed here (those of the embeddings, normalised, and what follows from counts); the same file from
# batches of another size; quantize --imatrix; and what is refused.
: "${LECTERN:?path of the program}" "${MAKE_MODEL:?path of make_model}"
command -v python3 >/dev/null || { echo "python3 is not installed"; exit 77; }

dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
export HOME="$dir" XDG_CONFIG_HOME="$dir" XDG_DATA_HOME="$dir"
failed=0

expect() { # expect STATUS WORDS COMMAND ARGUMENTS...: the exit code, and words of the one sentence on stderr
    status=$1 words=$2
    shift 2
    "$LECTERN" "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    if [ $got -ne "$status" ] || ! grep -q -- "$words" "$dir/err" || [ "$(wc -l <"$dir/err")" -ne 1 ]; then
        echo "$*: exit $got instead of $status, or not one line with \"$words\":"
        cat "$dir/err"
        failed=1
    fi
}

"$MAKE_MODEL" "$dir/model.gguf" --preset tiny || exit 1
# Letters that no merge of the test model has: a token is a byte, 100 of them in chunks of 40, each with [BOS].
python3 -c '
import random
random.seed(7)
print("".join(random.choice("zqxjkvbwgm") for _ in range(100)), end="")' >"$dir/text"

expect 0 "100 tokens" imatrix "$dir/model.gguf" "$dir/text" -o "$dir/im.gguf" --chunk 40
expect 0 "100 tokens" imatrix "$dir/model.gguf" "$dir/text" -o "$dir/im7.gguf" --chunk 40 --batch 7
"$MAKE_MODEL" "$dir/odd.gguf" --preset odd || exit 1
expect 0 "100 tokens" imatrix "$dir/odd.gguf" "$dir/text" -o "$dir/odd-im.gguf" --chunk 40

python3 - "$dir" <<'PY' || failed=1
import math, struct, sys
sys.argv[1:1] = ["none"]
source = open("tests/hf_folder.py").read().split("\nif sys.argv[1]")[0]
exec(source)
dir = sys.argv[2]
model, im, im7 = (Gguf("%s/%s.gguf" % (dir, f)) for f in ("model", "im", "im7"))
floats = lambda data: struct.unpack("<%df" % (len(data) // 4), data)
bad = 0
def check(what, good):
    global bad
    if not good:
        print(what)
        bad = 1

check("not an imatrix", im.get("general.type") == "imatrix" and im.get("imatrix.chunk_count") == 3 and
      im.get("imatrix.chunk_size") == 40 and im.get("imatrix.datasets") == [dir + "/text"])

# Every matrix that is multiplied while reading, and no other: each with as many inputs as there were tokens, or, over
# its experts, choices.
def check_all(what, model, im, tokens, used):
    told = {n[:-len(".in_sum2")] for n in im.tensors if n.endswith(".in_sum2")}
    vectors = {n for n, t in model.tensors.items() if len(t[1]) < 2 or "ssm_conv1d" in n or n.endswith("ssm_a")}
    want = set(model.tensors) - vectors - {"token_embd.weight", "output.weight"}
    check("%s: missing %r, too many %r" % (what, sorted(want - told), sorted(told - want)), told == want)
    for layer in range(model.get("kimi-linear.block_count")):
        check("%s: too few matrices of layer %d" % (what, layer),
              sum(n.startswith("blk.%d." % layer) for n in told) >= 7)
    for name in sorted(told & want):
        n = floats(im.tensors[name + ".counts"][2])
        if "_exps" in name:
            check("%s: %s had %r inputs" % (what, name, n), sum(n) == tokens * used and max(n) <= tokens)
        else:
            check("%s: %s had %r inputs" % (what, name, n), set(n) == {tokens})
    return told & want

tokens, used = 103, 2
odd, odd_im = Gguf(dir + "/odd.gguf"), Gguf(dir + "/odd-im.gguf")
check_all("odd", odd, odd_im, tokens, odd.get("kimi-linear.expert_used_count"))
for name in sorted(check_all("tiny", model, im, tokens, used)):
    ne = model.tensors[name][1]
    n_mat = ne[2] if len(ne) > 2 else 1
    sums, counts = im.tensors[name + ".in_sum2"], im.tensors[name + ".counts"]
    check(name + " has another shape", sums[1] == [ne[0], n_mat] and counts[1] == [1, n_mat])
    n = floats(counts[2])
    check(name + " has sums of experts that had no input",
          all(n[i // ne[0]] or x == 0 for i, x in enumerate(floats(sums[2]))))
    check(name + " has no sums", sum(floats(sums[2])) > 0)
    a, b = floats(sums[2]), floats(im7.tensors[name + ".in_sum2"][2])
    check(name + " depends on the batch", all(abs(x - y) <= 1e-3 * abs(x) + 1e-4 for x, y in zip(a, b)))

# The first layer's inputs are the normalised embeddings.
text = open(dir + "/text", "rb").read()
ids = [i for at in range(0, 100, 40) for i in [504] + list(text[at:at + 40])]
table, gain = floats(model.tensors["token_embd.weight"][2]), floats(model.tensors["blk.0.attn_norm.weight"][2])
want = [0.0] * 256
for i in ids:
    row = table[256 * i:256 * i + 256]
    scale = 1 / (sum(x * x for x in row) / 256 + 1e-5)
    for j in range(256):
        want[j] += (row[j] * gain[j]) ** 2 * scale
got = floats(im.tensors["blk.0.attn_q.weight.in_sum2"][2])
check("the first layer's sums are not those of the embeddings", all(abs(x - y) < 1e-4 * y for x, y in zip(got, want)))
# What goes into the experts goes into the router, token by token.
router, experts = floats(im.tensors["blk.2.ffn_gate_inp.weight.in_sum2"][2]), [0.0] * 256
for i, x in enumerate(floats(im.tensors["blk.2.ffn_up_exps.weight.in_sum2"][2])):
    experts[i % 256] += x / used
check("the experts' sums are not the router's", all(abs(x - y) < 1e-4 * y for x, y in zip(experts, router)))
# rms norm: the mean square of (x / gain) over a row is 1.
gain = floats(model.tensors["blk.3.attn_norm.weight"][2])
mean = sum(s / g ** 2 for s, g in zip(floats(im.tensors["blk.3.attn_q.weight.in_sum2"][2]), gain)) / 256 / tokens
check("a normalised input has mean square %g" % mean, abs(mean - 1) < 1e-3)
sys.exit(bad)
PY

expect 0 "bits a weight" quantize "$dir/model.gguf" "$dir/plain.gguf" Q2_K
expect 0 "bits a weight" quantize "$dir/model.gguf" "$dir/weighed.gguf" Q2_K --imatrix "$dir/im.gguf"
cmp -s "$dir/plain.gguf" "$dir/weighed.gguf" && { echo "--imatrix changes nothing"; failed=1; }
"$LECTERN" perplexity "$dir/model.gguf" "$dir/text" --device cpu --chunk 40 --save "$dir/ref" >/dev/null || failed=1
for file in plain weighed; do
    "$LECTERN" perplexity "$dir/$file.gguf" "$dir/text" --device cpu --chunk 40 --kl "$dir/ref" --json >"$dir/$file.json" ||
        failed=1
done
python3 - "$dir" <<'PY' || failed=1
import json, sys
plain, weighed = (json.load(open("%s/%s.json" % (sys.argv[1], f)))["kl"] for f in ("plain", "weighed"))
if not weighed < plain:
    print("importance makes it worse on its own text: divergence %g, without %g" % (weighed, plain))
    sys.exit(1)
PY

expect 2 "MODEL FILE... -o OUT.gguf" imatrix "$dir/model.gguf" -o "$dir/none.gguf"
"$LECTERN" devices 2>/dev/null | grep -q vulkan:0 &&
    expect 2 "on the cpu only" imatrix "$dir/model.gguf" "$dir/text" -o "$dir/none.gguf" --device vulkan:0
expect 4 "No such file" imatrix "$dir/model.gguf" "$dir/nothing" -o "$dir/none.gguf"
expect 6 "cannot be written" imatrix "$dir/model.gguf" "$dir/text" -o "$dir/nowhere/none.gguf"
expect 3 "not an imatrix file" quantize "$dir/model.gguf" "$dir/none.gguf" Q2_K --imatrix "$dir/model.gguf"
expect 3 "another model" quantize "$dir/odd.gguf" "$dir/none.gguf" Q2_K --imatrix "$dir/im.gguf"
test ! -e "$dir/none.gguf" || { echo "a refused run left a file"; failed=1; }
exit $failed
