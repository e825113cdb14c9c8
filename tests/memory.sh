#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The memory plan on machines of many sizes: a mount namespace of its own with another /proc/meminfo. What is told, what
# is refused and with which remedies, and what pull suggests. Needs root, or user namespaces.
. tests/kit
apart=
printf 'MemTotal: 1 kB\n' >"$dir/meminfo"
for form in 'unshare -m' 'unshare -rm'; do
    [ -n "$apart" ] || ! $form mount --bind "$dir/meminfo" /proc/meminfo 2>/dev/null || apart=$form
done
[ -n "$apart" ] || { echo 'skipped: no file can be mounted over /proc/meminfo'; exit 77; }

# on KIB EXPECTED ARGUMENTS...: with that much memory available
on() {
    printf 'MemTotal: %s kB\nMemFree: %s kB\nMemAvailable: %s kB\n' "$1" "$1" "$1" >"$dir/meminfo"
    expected=$2
    shift 2
    $apart sh -c 'mount --bind "$0" /proc/meminfo && exec "$@"' "$dir/meminfo" "$LECTERN" "$@" >"$dir/out" 2>"$dir/err" \
        </dev/null
    code=$?
    [ $code = "$expected" ] || fail "exit $code, not $expected: lectern $*"
    [ "$expected" = 0 ] || [ "$(wc -l <"$dir/err")" = 1 ] || fail "not one sentence: lectern $*"
}
gib() { echo $(($1 * 1048576)); }

"$MAKE_MODEL" "$dir/tiny.gguf" --preset tiny || exit 1
echo 'The cat sat on the mat.' >"$dir/a.txt"
m="-m $dir/tiny.gguf --device cpu --batch 16 --threads 1"
ask="ask $dir/a.txt -q Where? $m --ephemeral --max-tokens 2"

# ---- told
on "$(gib 8)" 0 $ask -v
says 'Memory on cpu: weights .* read in place, rows .* for 4,096 tokens, state .*, buffers .* of 8.0 GiB free: fits'
on "$(gib 8)" 0 $ask --ctx 2000000 --kv-dtype f32
says 'Memory on cpu: ' # a gibibyte and more is told without being asked
says 'made for at most 4,096 tokens and the context is 2,000,000'
on "$(gib 8)" 0 $ask --quiet; [ ! -s "$dir/err" ] || fail 'quiet is not quiet'
on "$(gib 8)" 0 devices $m --ctx 1024; prints 'cpu: weights .* for 1,024 tokens.* of 8.0 GiB free: fits'
on "$(gib 8)" 0 devices $m --json; prints '"context_own": *4096'; prints '"host_available"'
on 20000 0 $ask --ctx 256; says 'weights (.*) are more than the memory that is free (.*): they are read from the disk again'

# ---- refused, with all that would fit
on "$(gib 1)" 5 $ask --ctx 4000000
says '1.0 GiB free and .* are needed (weights .*, rows 1.2 GiB for 4,000,000 tokens, state .*, buffers .*)'
says 'what would fit: --ctx [0-9]* or --kv-dtype q8_0\.'
fits=$(sed 's/.*--ctx \([0-9]*\).*/\1/' "$dir/err")
on "$(gib 1)" 0 $ask --ctx "$fits"
on "$(gib 1)" 5 $ask --ctx $((fits + 512))
on "$(gib 1)" 0 $ask --ctx 4000000 --kv-dtype q8_0
on "$(gib 1)" 5 $ask --ctx 16000000; says 'or --kv-dtype q8_0 with --ctx [0-9]*\.'
on "$(gib 1)" 5 $ask --ctx 16000000 --kv-dtype q8_0; says 'what would fit: --ctx [0-9]*\.'
# A little less than one segment of rows takes as f16, and far less than anything takes.
on 100 5 bench $m --depth 0 --prefill 4 --decode 2; says ' KiB are needed'
least=$(sed 's/.* free and \([0-9]*\) KiB are needed.*/\1/' "$dir/err")
on $((least - 20)) 5 $ask; says 'what would fit: --kv-dtype q8_0 with --ctx 512\.'
on $((least / 3)) 5 $ask; says 'what would fit: a smaller --batch\.'
on $((least - 20)) 5 perplexity $m "$dir/a.txt" --chunk 8; says 'are needed'
on $((least + 20)) 0 bench $m --depth 0 --prefill 4 --decode 2
on "$(gib 1)" 0 devices $m --ctx 4000000; prints 'does not fit; .* tokens would'; prints 'what would fit: --ctx'
on "$(gib 1)" 0 devices $m --ctx 4000000 --json; prints '"advice": *".*what would fit'

# ---- what pull suggests, for this memory and none more
suggests() { # GIB NAME OPTIONS...
    memory=$(gib "$1") name=$2
    shift 2
    on "$memory" 0 pull --json "$@"
    prints "\"suggested\": *\"$name\""
}
suggests 128 bf16; suggests 64 q8_0; suggests 48 q6_k_l; suggests 40 q6_k_l; suggests 36 q5_k_l; suggests 32 q4_k_l; suggests 24 q3_k_m
suggests 16 iq2_s; suggests 12 iq1_s
suggests 24 q3_k_m --ctx 4096; suggests 16 iq2_m --ctx 4096
on "$(gib 4)" 0 pull; prints 'None of these fits here'
on "$(gib 32)" 0 pull; prints 'Suggested: lectern pull q4_k_l (on the CPU)'
prints '^q8_0 .* -  '; prints '^iq1_s .* fits'
exit $bad
