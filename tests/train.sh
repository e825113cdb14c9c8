#!/bin/sh
# tools/train, tiny and on the cpu: its network computes what lectern does, a few steps make held-out text likelier, what
# it writes is a model that lectern reads and quantises, and processes that train together agree. Needs python3-torch; CI
# need not have it.
set -u
python=/usr/bin/python3
"$python" -c "import torch, numpy" 2>/dev/null || { echo "skipped: no python3-torch here"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
fail() { echo "$1"; exit 1; }

same() { # MODEL: both compute the same logits
    "$LECTERN" logits "$1" --tokens "$dir/ids" --out "$dir/logits" --device cpu || fail "lectern cannot read $1"
    "$python" tools/train/check.py "$1" "$dir/logits" "$dir/ids" || fail "$1: the two differ"
}

"$MAKE_MODEL" "$dir/first.gguf" --preset narrow --type Q8_0 || fail "no model"
awk 'BEGIN { for (i = 0; i < 60; i++) printf "%d ", (i * i * 7 + 3 * i) % 400 }' >"$dir/ids"
same "$dir/first.gguf"
"$LECTERN" quantize "$dir/first.gguf" "$dir/like.gguf" Q3_K_M >"$dir/err" 2>&1 || fail "$(cat "$dir/err")"
"$LECTERN" quantize "$dir/first.gguf" "$dir/shipped.gguf" Q5_K_M >"$dir/err" 2>&1 || fail "$(cat "$dir/err")"
same "$dir/shipped.gguf" # the types that training starts from

cat >"$dir/ranks.py" <<'E'
import sys
sys.path.insert(0, "tools/train")
import ranks, torch
us = ranks.Ranks()
if us.n == 1: sys.exit(ranks.launch(2))
us.begin()
m = torch.nn.Linear(3, 2)
m.register_buffer("load", torch.full((4,), float(us.rank)))
with torch.no_grad(): m.weight.fill_(5. + us.rank), m.bias.fill_(us.rank)
m.weight.grad, m.bias.grad = torch.full((2, 3), 1. + 2 * us.rank), torch.full((2,), 4. * us.rank)
average = ranks.Average(us, m)
average.gradients()
assert (m.weight.grad == 2).all() and (m.bias.grad == 2).all() and (m.load == .5).all(), m.weight.grad
assert (m.weight == 5 + us.rank).all()
average.weights()
assert (m.weight == 5).all() and (m.bias == 0).all(), m.weight
for i in range(3): assert us.decide((us.rank + .1) / 3, us.rank == i) == (.1 / 3, i == 0)
if sys.argv[1:] and us.rank: raise SystemExit(3)
us.end()
E
"$python" "$dir/ranks.py" || fail "two processes do not agree"
"$python" "$dir/ranks.py" one-fails && fail "a process failed and nobody said so"

"$python" - "$dir" <<'E' || fail "no text"
import glob, lzma, sys
pages = [open(p, encoding="utf-8").read() for p in sorted(glob.glob("docs/*.md"))]
for name, some in ("text", pages[1:]), ("held", pages[:1]):
    with lzma.open(f"{sys.argv[1]}/{name}.xz", "wt", encoding="utf-8", preset=0) as f: f.write("\n<|doc|>\n".join(some))
E
"$python" tools/train/train.py --init "$dir/first.gguf" --like "$dir/like.gguf" --corpus "$dir/text.xz" \
    --held "$dir/held.xz" --out "$dir/out" --steps 5 --rows 320 --batch 320 --held-batches 1 --workers 1 --log-every 1 \
    --round-from .6 --lr 2e-2 >"$dir/log" 2>&1 || fail "$(cat "$dir/log")"
grep -q "step 5 .* rounded" "$dir/log" || fail "the last steps did not round: $(cat "$dir/log")"
grep -q "kept: " "$dir/log" || fail "it got no better: $(cat "$dir/log")"
loss() { sed -n "s/.*held $1 rows of 320: text \([0-9.]*\).*/\1/p" "$dir/log"; }
[ "$(awk "BEGIN { print ($(loss last) < $(loss first) - .01) }")" = 1 ] ||
    fail "held-out loss went from $(loss first) to $(loss last)"
cat "$dir"/out/model.gguf.?? >"$dir/next.gguf"
same "$dir/next.gguf"
"$LECTERN" quantize "$dir/next.gguf" "$dir/small.gguf" Q3_K_M >"$dir/err" 2>&1 || fail "$(cat "$dir/err")"
echo "held-out loss from $(loss first) to $(loss last)"
