#!/bin/sh
# SPDX-License-Identifier: MIT
#
# lectern pull and lectern models against a real web server: nginx on a loopback port, with a folder of its own. The
# file is a random test model, so that what was pulled can be run.
PATH=$PATH:/usr/sbin
. tests/kit
need nginx
chmod 755 "$dir" # the workers of a root nginx are another user
folder="$dir/data/lectern/models"
clean_up() { stop; }
stop() {
    [ -s "$dir/nginx.pid" ] || return 0
    kill "$(cat "$dir/nginx.pid")" 2>/dev/null
    tries=0
    while [ -e "$dir/nginx.pid" ] && [ $tries -lt 50 ]; do tries=$((tries + 1)); sleep 0.1; done
}
# start RATE: nginx with at most that many bytes a second a connection (0: no limit), on the port once found
start() {
    cat >"$dir/nginx.conf" <<CONF
pid $dir/nginx.pid;
error_log $dir/error.log;
worker_processes 1;
events { worker_connections 64; }
http {
    log_format bytes '\$status \$body_bytes_sent \$http_range';
    access_log $dir/access.log bytes;
    client_body_temp_path $dir/t1; proxy_temp_path $dir/t2; fastcgi_temp_path $dir/t3;
    uwsgi_temp_path $dir/t4; scgi_temp_path $dir/t5;
    gzip on; gzip_types *;
    server { listen 127.0.0.1:$port; root $dir/www; limit_rate $1; }
}
CONF
    nginx -p "$dir/" -e "$dir/error.log" -c "$dir/nginx.conf" 2>"$dir/nginx.err"
}
# get EXPECTED OPTIONS...
get() {
    expected=$1
    shift
    : >"$dir/access.log"
    "$LECTERN" pull "http://127.0.0.1:$port/m.gguf" --chunk 64K "$@" >"$dir/out" 2>"$dir/err" </dev/null
    code=$?
    [ $code = "$expected" ] || fail "exit $code, not $expected: pull $*"
}
sent() { awk '{ n += $2 } END { print n + 0 }' "$dir/access.log"; }
here() { "$LECTERN" models --json | sed 's/.*"bytes_here": *\([0-9]*\).*/\1/'; }

mkdir "$dir/www"
"$MAKE_MODEL" "$dir/www/m.gguf" --preset tiny || exit 1
size=$(wc -c <"$dir/www/m.gguf")
[ "$size" -gt 400000 ] || { echo "the test model is too small: $size"; exit 1; }
hash=$(sha256sum "$dir/www/m.gguf" | cut -d' ' -f1)
port=$((20000 + $$ % 20000))
tries=0
until start 0; do
    tries=$((tries + 1))
    port=$((port + 17))
    [ $tries -lt 20 ] || { echo 'skipped: nginx cannot listen here:'; cat "$dir/nginx.err"; exit 77; }
done

# ---- the whole of it, in ranges, and nothing twice
get 0 --connections 4
cmp -s "$dir/www/m.gguf" "$folder/m.gguf" || fail 'another file'
says "SHA-256 $hash"
[ "$(cat "$dir/out")" = "$folder/m.gguf" ] || fail 'stdout is not the path'
[ "$(sent)" -le $((size + 1)) ] || fail "$(sent) bytes for a file of $size"
if awk '$1 != 206' "$dir/access.log" | grep -q .; then fail 'a reply that is not 206'; fi
[ "$(wc -l <"$dir/access.log")" -gt 5 ] || fail 'it did not come in ranges'
get 0
says 'is here already'; [ ! -s "$dir/access.log" ] || fail 'a model that is here was asked for'
echo 'The cat sat.' >"$dir/a.txt"
"$LECTERN" ask "$dir/a.txt" -q 'Where?' -m "$(cat "$dir/out")" --device cpu --max-tokens 4 --ephemeral >/dev/null \
    2>"$dir/err" || fail 'the pulled model does not run'

# ---- models: list, verify, damage, repair
"$LECTERN" models >"$dir/out" 2>"$dir/err" || fail 'models'
grep -q 'whole .*computed .*m\.gguf' "$dir/out" || fail 'the list lacks it'
"$LECTERN" models verify >"$dir/out" 2>"$dir/err" || fail 'verify of a right model'
grep -q "m.gguf: right, SHA-256 $hash" "$dir/out" || fail 'verify does not say right'
printf 'broken' | dd of="$folder/m.gguf" bs=1 seek=200000 conv=notrunc 2>/dev/null
"$LECTERN" models verify m.gguf >"$dir/out" 2>"$dir/err"
code=$?
[ $code = 3 ] || fail "verify of a damaged model: exit $code"
grep -q 'damaged, 1 of' "$dir/out" || fail 'verify does not count the damage'
get 0 --repair
cmp -s "$dir/www/m.gguf" "$folder/m.gguf" || fail 'not repaired'
[ "$(sent)" -le 65537 ] || fail "$(sent) bytes to repair one chunk"
printf 'broken' | dd of="$folder/m.gguf" bs=1 seek=200000 conv=notrunc 2>/dev/null
cp "$folder/m.gguf" "$dir/before"
mv "$dir/www/m.gguf" "$dir/m.gguf"
head -c 300000 "$dir/m.gguf" >"$dir/www/m.gguf"
get 1 --repair; says 'another file now'
cmp -s "$dir/before" "$folder/m.gguf" || fail 'a repair that could not be took the model away'
mv "$dir/m.gguf" "$dir/www/m.gguf"
"$LECTERN" models rm m.gguf 2>"$dir/err" || fail rm
[ -z "$(ls "$folder")" ] || fail "rm leaves $(ls "$folder")"
"$LECTERN" models rm m.gguf 2>"$dir/err" && fail 'rm of nothing'

# ---- the server goes away in the middle and comes back
stop
start 150k || fail "nginx: $(cat "$dir/nginx.err")"
"$LECTERN" pull "http://127.0.0.1:$port/m.gguf" --chunk 64K --connections 2 --retries 0 >"$dir/out" 2>"$dir/err" &
pid=$!
sleep 1.2
master=$(cat "$dir/nginx.pid")
kill -STOP "$master" # or it would replace the workers before it is killed itself
kill -9 $(ps -o pid= --ppid "$master") "$master" 2>/dev/null
rm -f "$dir/nginx.pid"
wait $pid
code=$?
[ $code = 1 ] || fail "a server that dies: exit $code"
says 'what has arrived is kept'
kept=$(here)
[ "$kept" -gt 0 ] && [ "$kept" -lt "$size" ] || fail "$kept bytes were kept of $size"
start 0 || fail "nginx: $(cat "$dir/nginx.err")"
get 0
says 'are here already'
cmp -s "$dir/www/m.gguf" "$folder/m.gguf" || fail 'another file after a resume'
[ "$(sent)" -le $((size - kept + 1)) ] || fail "$(sent) bytes for the missing $((size - kept))"
"$LECTERN" models rm m.gguf 2>/dev/null

# ---- the file is replaced between two runs: its ETag changes
stop
start 150k || fail "nginx: $(cat "$dir/nginx.err")"
timeout 1.5 "$LECTERN" pull "http://127.0.0.1:$port/m.gguf" --chunk 64K --connections 2 >"$dir/out" 2>"$dir/err"
[ -s "$folder/m.gguf.part.manifest" ] || fail 'no part after a stop'
stop
start 0 || fail "nginx: $(cat "$dir/nginx.err")"
"$MAKE_MODEL" "$dir/www/other.gguf" --preset tiny --seed 99 2>/dev/null || tr 'a-z' 'b-za' <"$dir/www/m.gguf" >"$dir/www/other.gguf"
touch -d '2001-01-01' "$dir/www/other.gguf"
mv "$dir/www/other.gguf" "$dir/www/m.gguf"
get 0; says 'another version'
cmp -s "$dir/www/m.gguf" "$folder/m.gguf" || fail 'a mixture of two files'
"$LECTERN" models rm m.gguf 2>/dev/null

# ---- import
"$MAKE_MODEL" "$dir/mine.gguf" --preset tiny
"$LECTERN" models import "$dir/mine.gguf" >"$dir/out" 2>"$dir/err" || fail import
[ "$(cat "$dir/out")" = "$folder/mine.gguf" ] && cmp -s "$dir/mine.gguf" "$folder/mine.gguf" || fail 'import copies'
"$LECTERN" models verify mine.gguf >"$dir/out" 2>"$dir/err" || fail 'verify of an import'
"$LECTERN" models import "$dir/mine.gguf" 2>"$dir/err" && fail 'import twice'
says 'is here already'
echo 'no model' >"$dir/text.gguf"
"$LECTERN" models import "$dir/text.gguf" 2>"$dir/err"
code=$?
[ $code = 3 ] || fail "import of a text: exit $code"
cp "$dir/mine.gguf" "$dir/moonshotai_Kimi-Linear-48B-A3B-Instruct-Q4_K_M.gguf"
"$LECTERN" models import "$dir/moonshotai_Kimi-Linear-48B-A3B-Instruct-Q4_K_M.gguf" 2>"$dir/err" && fail 'a false name'
says 'another SHA-256 than the catalogue'
[ "$(ls "$folder")" = "$(printf 'mine.gguf\nmine.gguf.manifest')" ] || fail "left: $(ls "$folder")"

# ---- the list and its plan
"$LECTERN" pull >"$dir/out" 2>"$dir/err" || fail 'pull alone'
grep -q '^q4_k_m  *28.0 GiB' "$dir/out" || fail 'the catalogue lacks q4_k_m'
grep -q '131,072 tokens need: rows 1008 MiB, state 42.8 MiB' "$dir/out" || fail 'the plan'
"$LECTERN" pull --ctx 65536 --kv-dtype q8_0 >"$dir/out" 2>"$dir/err" || fail 'pull --ctx'
grep -q '65,536 tokens need: rows 268 MiB' "$dir/out" || fail 'the plan at another context'
"$LECTERN" pull --json >"$dir/out" 2>"$dir/err" || fail 'pull --json'
grep -q '"sha256": *"a1a7d865370652221f937163f7e94c99e1f114861335ba4f8666606843f1620f"' "$dir/out" || fail 'the hash'
for arguments in 'pull nosuch' 'pull a b' 'pull q4_k_m --sha256 12' 'pull q4_k_m --chunk 1' 'models dance' 'models rm' \
    'models rm ../x.gguf' 'models import' 'models verify nosuch'; do
    "$LECTERN" $arguments >"$dir/out" 2>"$dir/err"
    code=$?
    [ $code = 2 ] && [ "$(wc -l <"$dir/err")" = 1 ] || fail "exit $code: $arguments"
done
exit $bad
