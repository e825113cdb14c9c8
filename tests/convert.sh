#!/bin/sh
# SPDX-License-Identifier: MIT
#
# lectern convert: a random model is turned back into the Hugging Face folder it could have come from (hf_folder.py);
# converting that folder gives the model again, metadata and weights. Then what is refused.
. tests/kit
need python3

expect() { # expect STATUS WORDS ARGUMENTS...: the exit code, and words of the one sentence on stderr
    status=$1 words=$2
    shift 2
    "$LECTERN" convert "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    if [ $got -ne "$status" ] || ! grep -q -- "$words" "$dir/err" || [ "$(wc -l <"$dir/err")" -ne 1 ]; then
        echo "convert $*: exit $got instead of $status, or not one line with \"$words\":"
        cat "$dir/err"
        bad=1
    fi
}

round_trip() { # round_trip PRESET FROM TO FILES: a folder of type FROM, converted to TO, is the model made as TO
    "$MAKE_MODEL" "$dir/from.gguf" --preset "$1" --type "$2" || exit 1
    "$MAKE_MODEL" "$dir/to.gguf" --preset "$1" --type "$3" || exit 1
    rm -rf "$dir/$1"
    python3 tests/hf_folder.py make "$dir/from.gguf" "$dir/$1" "$4" || exit 1
    expect 0 "weights" "$dir/$1" "$dir/new.gguf" --type "$3"
    python3 tests/hf_folder.py same "$dir/to.gguf" "$dir/new.gguf" || {
        echo "$1, $2 -> $3, differs"
        bad=1
    }
}

round_trip tiny F32 Q8_0 2
round_trip tiny F16 F16 3
round_trip odd BF16 BF16 1
round_trip tiny F32 F32 1

# What converts runs, and gives the logits of the model it came from but for the rounding of A_log.
echo "1 2 3 300 301 302 303" >"$dir/ids"
"$LECTERN" logits "$dir/new.gguf" --device cpu --tokens "$dir/ids" --out "$dir/new.bin" || bad=1
"$LECTERN" logits "$dir/to.gguf" --device cpu --tokens "$dir/ids" --out "$dir/to.bin" || bad=1
python3 - "$dir" <<'PY' || { echo "the logits differ"; bad=1; }
import struct, sys
a, b = (open(sys.argv[1] + "/" + f, "rb").read() for f in ("to.bin", "new.bin"))
n = len(a) // 4 - 2
x, y = struct.unpack("<%df" % n, a[8:]), struct.unpack("<%df" % n, b[8:])
off = sum((p - q) ** 2 for p, q in zip(x, y)) / sum(p * p for p in x)
sys.exit(not (a[:8] == b[:8] and off < 1e-10))
PY

# ------------------------------------------------------------------------------------------------- refused
folder=$dir/tiny
change() { # change FILE PYTHON: a copy of the folder (of links) whose JSON file, as d, was changed
    rm -rf "$dir/bad"
    cp -rl "$folder" "$dir/bad"
    python3 -c '
import json, os, sys
d = json.load(open(sys.argv[1]))
exec(sys.argv[2])
os.remove(sys.argv[1])
json.dump(d, open(sys.argv[1], "w"))' "$dir/bad/$1" "$2" || bad=1
}
replace() { # replace FILE: a copy of the folder with this file from stdin
    rm -rf "$dir/bad"
    cp -rl "$folder" "$dir/bad"
    rm -f "$dir/bad/$1"
    cat >"$dir/bad/$1"
}
refuse() { # refuse WORDS: the copy is refused, with exit code 3
    expect 3 "$1" "$dir/bad" "$dir/none.gguf"
}

expect 2 "DIR OUT.gguf" "$folder"
expect 2 "--type" "$folder" "$dir/none.gguf" --type Q4_K
expect 3 "config.json cannot be opened" "$dir/nowhere" "$dir/none.gguf"
expect 6 "cannot be written" "$folder" "$dir/nowhere/none.gguf"
change config.json 'd["architectures"] = ["LlamaForCausalLM"]'; refuse "KimiLinearForCausalLM"
change config.json 'd["hidden_size"] = -1'; refuse "hidden_size is not a whole number"
change config.json 'del d["kv_lora_rank"]'; refuse "has no kv_lora_rank"
change config.json 'd["q_lora_rank"] = 64'; refuse "q_lora_rank is not supported"
change config.json 'd["hidden_size"] *= 2'; refuse "has not the shape"
change config.json 'd["linear_attn_config"]["kda_layers"].pop()'; refuse "is not in one of kda_layers"
change config.json 'd["linear_attn_config"]["kda_layers"].append(1)'; refuse "has a layer twice"
change config.json 'd["num_experts"] += 1'; refuse "gate.weight has not the shape"
change config.json 'd["num_hidden_layers"] = 5; d["linear_attn_config"]["kda_layers"].append(5)'
refuse "has no tensor model.layers.4.input_layernorm.weight"
change config.json 'd["vocab_size"] = 100'; refuse "eos_token_id is not a whole number from 0 to 99"
change config.json 'd["vocab_size"] = 600'; refuse "embed_tokens.weight has not the shape"
change tokenizer_config.json 'd["bos_token"] = "[NONE]"'; refuse "bos_token is none of the added tokens"
change tokenizer_config.json 'd["added_tokens_decoder"]["3"] = {"content": "x"}'; refuse "added token 3 is no id from 400"
echo '{"a": [1, 2' | replace config.json; refuse "no JSON: a comma is missing at byte"
sed 2d "$folder/tiktoken.model" | replace tiktoken.model; refuse "line 2 is not base64 and rank 1"
head -c 100000 "$folder/model.safetensors" | replace model.safetensors; refuse "lies outside its file"
echo '{"weight_map": {"x": "../model.safetensors"}}' | replace model.safetensors.index.json
refuse "names a file outside the folder"

# Headers with one value made hostile: none may crash, and none may pass.
python3 - "$dir" <<'PY'
import json, struct, sys
def write(i, text, data=bytes(32)):
    open("%s/hostile.%d" % (sys.argv[1], i), "wb").write(struct.pack("<Q", len(text)) + text + data)
for i, (key, value) in enumerate([
        ("data_offsets", [0, 1 << 60]), ("data_offsets", [-4, 0]), ("data_offsets", [8, 4]), ("data_offsets", [0]),
        ("data_offsets", [8, 40]), ("data_offsets", None), ("shape", [1 << 40, 1 << 40]), ("shape", [1] * 9),
        ("shape", ["8"]), ("shape", [0.5]), ("shape", 8), ("dtype", "I64"), ("dtype", 3)]):
    header = {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}
    header[key] = value
    write(i, json.dumps({"x": header}).encode())
write(20, b"[" * 200)
write(21, b'{"x": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}, "x": {"dtype": "F32", "shape": [8], '
          b'"data_offsets": [0, 32]}}')
write(22, b'{"\\u0000": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}')
write(23, b'{"\\ud800": 1}')
write(24, b"{}")
open(sys.argv[1] + "/hostile.25", "wb").write(struct.pack("<Q", 1 << 63) + bytes(32))
open(sys.argv[1] + "/hostile.26", "wb").write(b"")
PY
for file in "$dir"/hostile.*; do
    replace model.safetensors <"$file"
    refuse "Tensor x\|The header of\|not a safetensors\|has no tensors\|twice"
done
test ! -e "$dir/none.gguf" || { echo "a refused folder left a file"; bad=1; }
test ! -e "$dir/none.gguf.part" || { echo "a .part file is left"; bad=1; }
exit $bad
