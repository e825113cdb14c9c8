#!/bin/sh
# SPDX-License-Identifier: MIT
#
# lectern quantize, as a program: exit codes, stdout against stderr, --dry-run, --tensor-type, and that the new file is a
# model that runs.
: "${LECTERN:?path of the program}" "${MAKE_MODEL:?path of make_model}"

dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
export HOME="$dir" XDG_CONFIG_HOME="$dir" XDG_DATA_HOME="$dir"
failed=0

# expect STATUS WORDS ARGUMENTS...: the exit code, and words of the one sentence on stderr
expect() {
    status=$1 words=$2
    shift 2
    "$LECTERN" quantize "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    if [ $got -ne "$status" ] || ! grep -q -- "$words" "$dir/err" || [ "$(wc -l <"$dir/err")" -ne 1 ]; then
        echo "quantize $*: exit $got instead of $status, or not one line with \"$words\":"
        cat "$dir/err"
        failed=1
    fi
}

check() { # check WHAT COMMAND...
    what=$1
    shift
    "$@" || { echo "$what"; failed=1; }
}

"$MAKE_MODEL" "$dir/in.gguf" --preset tiny || exit 1

expect 2 "IN.gguf OUT.gguf TYPE" "$dir/in.gguf" "$dir/out.gguf"
expect 2 "Q9_Z is no type" "$dir/in.gguf" "$dir/out.gguf" Q9_Z
expect 2 "REGEX=TYPE" "$dir/in.gguf" "$dir/out.gguf" Q8_0 --tensor-type ssm
expect 2 "not a regular expression" "$dir/in.gguf" "$dir/out.gguf" Q8_0 --tensor-type '(=Q8_0'
expect 3 "cannot be opened" "$dir/none.gguf" "$dir/out.gguf" Q8_0
echo "this is no model at all" >"$dir/text.gguf"
expect 3 "not a GGUF file" "$dir/text.gguf" "$dir/out.gguf" Q8_0
expect 6 "cannot be written" "$dir/in.gguf" "$dir/none/out.gguf" Q8_0
check "a failed run left a file" test ! -e "$dir/out.gguf"

expect 0 "bits a weight" "$dir/in.gguf" "$dir/out.gguf" Q4_K_M --dry-run \
    --tensor-type '_exps=Q3_K' --tensor-type='blk\.2\..*_exps=IQ4_XS'
check "--dry-run wrote a file" test ! -e "$dir/out.gguf"
check "the list lacks a line" grep -q "^blk.1.ffn_up_exps.weight	F32	Q3_K$" "$dir/out"
check "the later --tensor-type does not win" grep -q "^blk.2.ffn_up_exps.weight	F32	IQ4_XS$" "$dir/out"
check "the router is not F32" grep -q "^blk.1.ffn_gate_inp.weight	F32	F32$" "$dir/out"
planned=$(sed -n 's/^total	[0-9]*	\([0-9]*\)	.*/\1/p' "$dir/out")
check "the bits a weight are missing" grep -q "^total	[0-9]*	[0-9]*	[0-9]*\.[0-9]*$" "$dir/out"

expect 0 "bits a weight" "$dir/in.gguf" "$dir/out.gguf" q4_k_m \
    --tensor-type '_exps=Q3_K' --tensor-type='blk\.2\..*_exps=IQ4_XS'
check "stdout is not empty" test ! -s "$dir/out"
size=$(wc -c <"$dir/out.gguf")
check "the file is not what --dry-run said ($size, $planned)" test $((size - planned)) -gt 0 -a $((size - planned)) -lt 65536
check "a .part file is left" test ! -e "$dir/out.gguf.part"

echo "1 2 3 4 5 6 7 8" >"$dir/ids"
for file in in out; do
    "$LECTERN" logits "$dir/$file.gguf" --device cpu --tokens "$dir/ids" --out "$dir/$file.bin" 2>"$dir/err" ||
        { cat "$dir/err"; failed=1; }
done
check "the new model's logits have another size" test "$(wc -c <"$dir/in.bin")" = "$(wc -c <"$dir/out.bin")"
cmp -s "$dir/in.bin" "$dir/out.bin" && { echo "the new model gives the old logits to the bit"; failed=1; }

exit $failed
