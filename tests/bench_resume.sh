#!/bin/sh
# bench --resume tells what issue and documents promise: tokens, bytes, seconds of saving, loading, the first token and
# reading again, their ratio, what saving does to answering, what the disk can; --compare shows that an f16 state and q8_0
# rows halve the bytes; --made leaves out the reading.
set -u
: "${LECTERN:?path of the program}" "${MAKE_MODEL:?path of make_model}"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
unset LECTERN_MODEL LECTERN_DATA_DIR
export XDG_CONFIG_HOME="$dir/config" HOME="$dir"
"$MAKE_MODEL" "$dir/tiny.gguf" --preset tiny || exit 1
bench() {
    "$LECTERN" bench --resume --tokens 1100 --cold -m "$dir/tiny.gguf" --device cpu --data-dir "$dir/data" "$@"
}
bench >"$dir/table" 2>"$dir/err" || { echo 'FAILED: the table'; cat "$dir/err"; exit 1; }
bench --json >"$dir/whole" 2>"$dir/err" || { echo 'FAILED: as JSON'; cat "$dir/err"; exit 1; }
bench --json --compare >"$dir/both" 2>"$dir/err" || { echo 'FAILED: halves'; cat "$dir/err"; exit 1; }
bench --compare --made >"$dir/halves" 2>"$dir/err" || { echo 'FAILED: halves as a table'; cat "$dir/err"; exit 1; }
[ -z "$(ls -A "$dir/data")" ] || { echo 'FAILED: a store was left behind'; exit 1; }
python3 - "$dir" <<'EOF'
import json, sys

def need(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")

alone = json.load(open(f"{sys.argv[1]}/whole"))
whole, half = json.load(open(f"{sys.argv[1]}/both"))
need([run["state_dtype"] + run["rows_dtype"] for run in (alone, whole, half)] == ["F32F16", "F32F16", "F16Q8_0"], "types")
for run in alone, whole, half:
    need(run["tokens"] == 1100 and run["question_tokens"] > 0, "the tokens")
    for way in "warm", "cold":
        r = run[way]
        need(r["identical"] is True, f"{way}: other bits")
        parts = r["open_seconds"] + r["find_seconds"] + r["load_seconds"] + r["ask_seconds"]
        need(abs(parts - r["first_token_seconds"]) < 1e-3, f"{way}: the parts are not the whole")
        inside = sum(r[part + "_seconds"] for part in ("begin", "wait", "rows", "snapshot"))
        need(0 < inside <= r["load_seconds"], f"{way}: loading is shorter than its parts")
        need(r["threads"] > 0 and min(r["threads_read_seconds"], r["threads_verify_seconds"]) > 0, f"{way}: the threads")
        ratio = run["reread_first_token_seconds"] / r["first_token_seconds"]
        need(abs(ratio / r["ratio"] - 1) < 1e-3, f"{way}: the ratio")
    need(run["save_seconds"] > 0 and isinstance(run["cold_is_cold"], bool), "saving, or whether cold is cold")
    need(run["disk_bytes_per_second"] > 0, "the disk")
for run in (alone,):
    s = run["saving"]
    need(s["rounds"] > 1 and s["tokens"] > 0 and s["checkpoint_bytes"] > run["snapshot_bytes"], "the checkpoint")
    need(min(s["idle_tokens_per_second"], s["writing_tokens_per_second"], s["take_seconds"]) > 0, "answering")
    need(-9 < s["off"] < 1, "how far off")
    need(s["checkpoint_tokens"] == 1100 + run["question_tokens"], "the checkpoint's tokens")
    reading = run["read_seconds"] / 1100 * s["checkpoint_tokens"]
    need(abs(s["take_seconds"] / reading / s["take_share_of_reading"] - 1) < 1e-3, "the share of taking")
# Pieces have a header of 176 bytes; a row of q8_0 has 34 bytes where f16 has 64.
rows = [run["rows_bytes"] - 3 * 176 for run in (whole, half)]
need(rows[0] * 34 == rows[1] * 64, "q8_0 rows are not about half")
state = 3 * 4 * 64 * 64
need(whole["snapshot_bytes"] - half["snapshot_bytes"] == 2 * state, "an f16 state is not half")
lines = open(f"{sys.argv[1]}/table").read()
for word in "state ", "save ", "re-read", "warm", "cold", "first tok s", "ratio", "bit-identical", "saving", "off", "disk ":
    need(word in lines, f"the table lacks \"{word}\"")
lines = open(f"{sys.argv[1]}/halves").read()
need("re-read  " not in lines, "what was made was read")
shares = [line.split()[-1] for line in lines.splitlines() if line.startswith("  all, MB")]
need(len(shares) == 1 and 0.4 < float(shares[0]) < 0.65, "the comparison's bytes")
EOF
