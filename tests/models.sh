#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Models by name, and models in several files: pulled, gone on with, listed, verified, mended, removed, imported and run
# as one. The server is tests/faults/server.py.
. tests/kit
need python3
server=
clean_up() {
    [ -z "$server" ] || kill "$server" 2>/dev/null
    umount "$dir/small" 2>/dev/null
}
sent() { awk '{ n += $5 } END { print n + 0 }' "$dir/log"; }
set_value() { python3 -c "import urllib.request as u; u.urlopen('$at/set/$1/$2').read()"; }

folder="$dir/data/lectern/models"
"$MAKE_MODEL" "$dir/whole.gguf" --preset narrow --type Q8_0 || exit 1
python3 tests/faults/split_gguf.py "$dir/whole.gguf" "$dir/m" 3 || exit 1
first="$dir/m-00001-of-00003.gguf"
echo 'The cat sat on the mat.' >"$dir/a.txt"
ask() { # MODEL: the answer of the model of that name
    "$LECTERN" ask "$dir/a.txt" -q 'Where?' --max-tokens 8 --device cpu --ephemeral -m "$1" 2>"$dir/err"
}
answer=$(ask "$dir/whole.gguf") || fail 'the test model does not run'
[ -n "$answer" ] && [ "$(ask "$first")" = "$answer" ] || fail 'the parts are not the model'
python3 tests/faults/server.py "$dir/m-00001-of-00003.gguf" "$dir/log" "$dir/ports" &
server=$!
tries=0
until [ -s "$dir/ports" ] || [ $tries = 100 ]; do tries=$((tries + 1)); sleep 0.1; done
read -r port _ <"$dir/ports" || { echo 'skipped: no server can listen on 127.0.0.1'; exit 77; }
at="http://127.0.0.1:$port"
bytes=$(cat "$dir"/m-0000?-of-00003.gguf | wc -c)
pull() { # EXPECTED PATH OPTIONS...
    expected=$1 path=$2
    shift 2
    : >"$dir/log"
    run "$expected" pull "$at/$path" --chunk 16K --retries 0 "$@"
}
whole() { # all three are right, and nothing else is there
    for i in 1 2 3; do cmp -s "$dir/m-0000$i-of-00003.gguf" "$folder/m-0000$i-of-00003.gguf" || fail "file $i"; done
    [ "$(ls "$folder" | wc -l)" = 6 ] || fail "beside the files and their manifests: $(ls "$folder")"
}

# ---- pulled as one, by any of its names
pull 0 parts/m-00001-of-00003.gguf
whole
[ "$(cat "$dir/out")" = "$folder/m-00001-of-00003.gguf" ] || fail 'stdout is not the first path'
[ "$(sent)" -le $((bytes + 6)) ] || fail "$(sent) bytes were sent for $bytes"
says 'File 3 of 3: m-00003-of-00003.gguf: .*SHA-256'; says 'Use it with -m m-00001-of-00003.gguf'
pull 0 parts/m-00001-of-00003.gguf; says 'is here already'; [ ! -s "$dir/log" ] || fail 'asked though it is here'
pull 0 parts/m-00002-of-00003.gguf; says 'is here already'
run 0 models
[ "$(wc -l <"$dir/out")" = 1 ] || fail 'not one line for one model'
prints 'whole .* m-00001-of-00003.gguf (3 files)'; says '1 model in'
run 0 models --json; prints '"files": *3'; prints "\"bytes_here\": *$bytes"
run 0 models verify m; [ "$(grep -c ': right, SHA-256' "$dir/out")" = 3 ] || fail 'not all files are verified'
printf 'broken' | dd of="$folder/m-00002-of-00003.gguf" bs=1 seek=20000 conv=notrunc 2>/dev/null
run 3 models verify; prints 'm-00002-of-00003.gguf: damaged, 1 of'
pull 0 parts/m-00001-of-00003.gguf --repair
whole
[ "$(sent)" -le 16400 ] || fail "$(sent) bytes to mend one chunk"

run 0 models rm m
python3 tests/faults/terminal.py 'of 1.1 MiB (' '' -- "$LECTERN" pull "$at/parts/m-00001-of-00003.gguf" >"$dir/err" 2>&1 ||
    fail 'no one progress for all files'
whole

# ---- used by name
for name in m m.gguf m-00001-of-00003.gguf m-00003-of-00003.gguf M-0000; do
    [ "$(ask $name)" = "$answer" ] || fail "-m $name"
done
run 0 models import "$dir/whole.gguf"
[ "$(ask whole)" = "$answer" ] && [ "$(ask WHOL)" = "$answer" ] || fail '-m by a piece of the name'
(cd "$dir" && cp whole.gguf here && mkdir whole && [ "$(ask here)$(ask whole)" = "$answer$answer" ]) ||
    fail 'a file of that name is here'
run 0 devices --used --device cpu -m whole; prints '(cpu)'
run 0 devices -m whole; prints 'cpu: weights'
run 0 bench -m whole --depth 0 --prefill 8 --decode 2 --device cpu
echo '1 2 3' >"$dir/ids"
run 0 logits whole --tokens "$dir/ids" --out "$dir/logits" --device cpu
run 0 perplexity whole "$dir/a.txt" --chunk 8 --device cpu
run 0 imatrix whole "$dir/a.txt" -o "$dir/imatrix.gguf"
run 0 quantize m "$dir/q8.gguf" Q8_0
LECTERN_MODEL=whole run 0 ask "$dir/a.txt" -q x --max-tokens 2 --ephemeral --device cpu
mkdir -p "$dir/config/lectern"
echo 'model = whole' >"$dir/config/lectern/lectern.ini"
run 0 ask "$dir/a.txt" -q x --max-tokens 2 --ephemeral --device cpu -v; says 'Memory on cpu: weights'
rm "$dir/config/lectern/lectern.ini"
cp "$dir/whole.gguf" "$folder/moonshotai_Kimi-Linear-48B-A3B-Instruct-Q2_K.gguf"
[ "$(ask q2_k)" = "$answer" ] && [ "$(ask Q2_K)" = "$answer" ] || fail '-m by the name in the catalogue'
run 0 pull; prints '^q2_k .* large loss; here$'; prints '^q4_k_m .* usual choice$'
run 0 models rm q2_k
run 3 ask "$dir/a.txt" -q x -m nosuch; says 'no model of that name'
run 3 ask "$dir/a.txt" -q x -m q4_k_m; says 'lectern pull q4_k_m fetches it'
run 3 ask "$dir/a.txt" -q x -m gguf; says 'more of the name is needed'
run 3 ask "$dir/a.txt" -q x -m ''; says 'no model of that name'
run 0 models rm whole
run 0 models rm m-00002-of-00003.gguf; says 'removed m-00001'
[ -z "$(ls "$folder")" ] || fail "rm leaves $(ls "$folder")"
run 2 models rm m; run 2 models rm ../x.gguf

# ---- stopped in the second file, and gone on with
pull 1 parts-cut/2/c/m-00001-of-00003.gguf; says 'what has arrived is kept'
[ -s "$folder/m-00001-of-00003.gguf" ] && [ ! -e "$folder/m-00002-of-00003.gguf" ] || fail 'it did not stop in the second'
run 0 models; [ "$(wc -l <"$dir/out")" = 1 ] || fail 'not one line for a part'
prints ' % .*m-00001-of-00003.gguf (3 files)'
run 0 models --json; prints "\"bytes\": *$bytes"; prints '"whole": *false'
here=$(sed 's/.*"bytes_here": *\([0-9]*\).*/\1/' "$dir/out")
[ "$here" -gt "$(wc -c <"$first")" ] && [ "$here" -lt "$bytes" ] || fail "$here bytes are here of $bytes"
run 3 ask "$dir/a.txt" -q x -m m; says 'is not whole yet'
run 3 models verify m; says 'is not whole'
set_value c well
pull 0 parts-cut/2/c/m-00001-of-00003.gguf
whole
[ "$(sent)" -le $((bytes - here + 4)) ] || fail "$(sent) bytes were sent for the missing $((bytes - here))"
run 0 models rm m

# ---- from the hub: all of one commit, the hash of each from its own headers
export HF_ENDPOINT="$at"
run 0 pull hf:parts-hub/repo/dir/m-00001-of-00003.gguf --chunk 16K
whole
[ "$(grep -c 'File . of 3: lectern knows no hash of this file; the server says' "$dir/err")" = 3 ] || fail 'not three hashes pinned'
grep -q '/main/dir/m-00001' "$dir/log" || fail 'main was not asked'
if grep -q '/main/dir/m-0000[23]' "$dir/log"; then fail 'another file than the first was asked of main'; fi
run 0 models; prints 'server '
run 2 pull hf:parts-hub/repo/dir/m-00001-of-00003.gguf --sha256 "$(echo x | sha256sum | cut -c1-64)"; says 'of one file'
run 0 models rm m
run 1 pull q8_0; says 'catalogue says 39761166432'; [ -z "$(ls "$folder")" ] || fail "left: $(ls "$folder")"
unset HF_ENDPOINT

# ---- one of them is not there: nothing is begun
cp "$first" "$dir/n-00001-of-00002.gguf"
pull 1 parts/n-00001-of-00002.gguf; says '(404)'
[ -z "$(ls "$folder" | grep -v manifest)" ] || fail "begun: $(ls "$folder")"
run 0 models rm n

# ---- room for all is looked for before the first
mkdir "$dir/small"
if mount -t tmpfs -o size=$((bytes * 3 / 4 / 1024))k tmpfs "$dir/small" 2>/dev/null; then
    pull 6 parts/m-00001-of-00003.gguf --data-dir "$dir/small"; says 'has no room: .* are missing'
    [ -z "$(ls "$dir/small/models" | grep -v manifest)" ] || fail 'begun without room'
    umount "$dir/small"
else
    echo 'not tested: a full disk, for want of a mount'
fi

# ---- imported as one, all or nothing
run 0 models import "$dir/m-00002-of-00003.gguf"
whole
[ "$(cat "$dir/out")" = "$folder/m-00001-of-00003.gguf" ] || fail 'import does not print the first path'
run 1 models import "$first"; says 'is here already'
rm "$folder/m-00001-of-00003.gguf"
run 1 models import "$first"; says 'm-00002-of-00003.gguf is here already'
[ ! -e "$folder/m-00001-of-00003.gguf" ] || fail 'half an import stays'
run 0 models rm m
rm "$dir/m-00003-of-00003.gguf"
run 3 models import "$first"; [ -z "$(ls "$folder")" ] || fail 'an import without its last file'
exit $bad
