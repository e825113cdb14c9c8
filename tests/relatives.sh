#!/bin/sh
# SPDX-License-Identifier: MIT
#
# deepseek2 through the program: the plan of a model without states, an answer, coming back to it on another device, the
# tokens of DeepSeek's chat template, a file without a template, quantised files, and who is refused. Needs test models
# only (made here).
. tests/kit

for preset in moonlight lite v2 v3; do "$MAKE_MODEL" "$dir/$preset.gguf" --preset $preset || exit 1; done
printf 'The sea is wide.\n\nShips cross it.\n' >"$dir/sea.txt"
devices=cpu
"$LECTERN" devices | grep -q '^vulkan:0' && devices="cpu vulkan:0"

# ---- the plan: no state, rows in all 27 layers for the context it was made for (24 wide, f16, 163,840 tokens)
run 0 devices -m "$dir/lite.gguf"
prints 'rows 202 MiB for 163,840 tokens, state 0 B'

# ---- every model on every device; what one device read, another resumes
for preset in moonlight lite v2 v3; do
    for device in $devices; do
        run 0 ask --device "$device" -m "$dir/$preset.gguf" --max-tokens 3 -q 'What crosses it?' "$dir/sea.txt"
        [ "$device" = cpu ] || says 'resumed'
    done
done

# ---- which chat template: told by the file, or a guess that is said
run 0 ask --device cpu -m "$dir/lite.gguf" --max-tokens 1 -q Why? "$dir/sea.txt"
grep -q 'chat template' "$dir/err" && fail "a note although the file tells its template"
LC_ALL=C sed 's/tokenizer.chat_template/tokenizer.chat_tempLate/' "$dir/lite.gguf" >"$dir/changed.gguf"
run 0 ask --device cpu -m "$dir/changed.gguf" --max-tokens 1 -q Why? "$dir/sea.txt"
says 'no chat template: that of DeepSeek-V2 is used'
LC_ALL=C sed "s/User: /Usxr: /" "$dir/lite.gguf" >"$dir/changed.gguf"
run 0 ask --device cpu -m "$dir/changed.gguf" --max-tokens 1 -q Why? "$dir/sea.txt"
says 'of no known shape: that of DeepSeek-V2 is used in its place'

# ---- smaller types load and run
for type in Q8_0 Q4_K_M Q2_K; do
    run 0 quantize "$dir/v3.gguf" "$dir/small.gguf" $type
    for device in $devices; do
        run 0 ask --device "$device" -m "$dir/small.gguf" --max-tokens 2 -q Why? "$dir/sea.txt"
    done
done

# ---- other architectures are refused by name
LC_ALL=C sed 's/deepseek2/deepseek3/g' "$dir/v3.gguf" >"$dir/changed.gguf"
run 3 ask --device cpu -m "$dir/changed.gguf" -q Why? "$dir/sea.txt"
says 'Architecture deepseek3 is not supported: lectern runs kimi-linear and deepseek2'

exit $bad
