#!/bin/sh
# SPDX-License-Identifier: MIT
#
# lectern pull against a server that misbehaves (tests/faults/server.py). After every fault there is either the whole
# right file, or a part that the next run goes on with, and one clear sentence.
. tests/kit
need python3
server=
clean_up() {
    [ -z "$server" ] || kill "$server" 2>/dev/null
    umount "$dir/small" "$dir/filling" 2>/dev/null
}
python3 -c "import random; random.seed(7); open('$dir/file','wb').write(random.randbytes(1000003))"
hash=$(sha256sum "$dir/file" | cut -d' ' -f1)
size=1000003
python3 tests/faults/server.py "$dir/file" "$dir/log" "$dir/ports" &
server=$!
tries=0
until [ -s "$dir/ports" ] || [ $tries = 100 ]; do tries=$((tries + 1)); sleep 0.1; done
read -r port other <"$dir/ports" || { echo 'skipped: no server can listen on 127.0.0.1'; exit 77; }
at="http://127.0.0.1:$port"
folder="$dir/data/lectern/models"

# get EXPECTED PATH OPTIONS...: pulls at/PATH
get() {
    expected=$1 path=$2
    shift 2
    : >"$dir/log"
    case $path in *:*) ;; */*) path="$at/$path" ;; esac
    "$LECTERN" pull "$path" --chunk 64K --retries 0 --stall 1 "$@" >"$dir/out" 2>"$dir/err" </dev/null
    code=$?
    [ $code = "$expected" ] || fail "exit $code, not $expected: pull $path $*"
    [ "$expected" = 0 ] && return
    [ "$(grep -c '^lectern: ' "$dir/err")" = 1 ] || fail "not one sentence: pull $path $*"
    [ ! -s "$dir/out" ] || fail "stdout is not empty: pull $path $*"
}
sent() { awk '{ n += $5 } END { print n + 0 }' "$dir/log"; } # bytes of bodies since the last get began
set_value() { python3 -c "import urllib.request as u; u.urlopen('$at/set/$1/$2').read()"; }
# whole NAME: the file is right, no part is left; then it is removed
whole() {
    cmp -s "$dir/file" "$folder/$1" || fail "$1 is not the file"
    [ "$(cat "$dir/out")" = "$folder/$1" ] || fail "stdout is not the path of $1"
    for left in "$folder/$1.part" "$folder/$1.part.manifest" "$folder/$1.lock"; do
        [ ! -e "$left" ] || fail "$left is left"
    done
    "$LECTERN" models rm "$1" 2>/dev/null || fail "rm $1"
}
# part NAME: no file under its name; a part with a manifest
part() {
    [ ! -e "$folder/$1" ] || fail "$1 is installed"
    [ -s "$folder/$1.part.manifest" ] && [ -s "$folder/$1.part" ] || fail "no part of $1"
}
none() { # NAME: nothing at all
    [ -z "$(ls "$folder" | grep "^$1")" ] || fail "something of $1 is left: $(ls "$folder")"
}
at_most() { [ "$(sent)" -le "$1" ] || fail "$(sent) bytes were sent, more than $1 ($2)"; }

# ---- what is right
get 0 plain/x.gguf; whole x.gguf; at_most $((size + 1)) plain
says 'Nobody says what SHA-256'
says "SHA-256 $hash (noted)"
get 0 plain/x.gguf --sha256 "$hash"; says '(user)'; whole x.gguf
get 0 choppy/x.gguf --connections 2; whole x.gguf; at_most $((size + 1)) 'cut connections go on inside a chunk'
get 0 hops/5/x.gguf; whole x.gguf
get 0 busy/once/2/x.gguf --retries 3; whole x.gguf
if awk '$7 != "-" && $7 != "identity"' "$dir/log" | grep -q .; then fail 'compression was asked for'; fi

# ---- cut at every 10 %, then again
for percent in 0 10 20 30 40 50 60 70 80 90; do
    get 1 cut/$percent/key$percent/x.gguf; says 'what has arrived is kept'; part x.gguf
    here=$("$LECTERN" models --json | python3 -c 'import json,sys; print(json.load(sys.stdin)[0]["bytes_here"])')
    [ "$here" -ge $((size * percent / 100 - 4 * 65536)) ] || fail "at $percent % only $here bytes were kept"
    set_value key$percent well
    get 0 cut/$percent/key$percent/x.gguf; whole x.gguf; at_most $((size - here + 1)) "after a cut at $percent %"
done
get 1 cut-stream/50/stream/x.gguf; says 'what has arrived is kept'; part x.gguf
set_value stream well
get 0 cut-stream/50/stream/x.gguf; says 'are here already'; whole x.gguf

# ---- 200 for 206, no ranges at all, 416
get 0 whole/x.gguf; whole x.gguf
get 0 stream/x.gguf; whole x.gguf
get 1 unsatisfied/x.gguf; says '(416)'; part x.gguf
"$LECTERN" models rm x.gguf 2>/dev/null

# ---- ETags that change
get 1 cut/50/etag/x.gguf
cp -r "$folder" "$dir/kept"
sed -i "s|/cut/50/etag/|/changing/other/|" "$folder/x.gguf.part.manifest"
get 0 plain/x.gguf; says 'is damaged'; whole x.gguf # an edited manifest counts for nothing
rm -rf "$dir/kept"
get 1 cut/50/etag2/x.gguf
set_value etag2 well
get 0 changing/b/x.gguf; says 'another version'; whole x.gguf # an ETag of another address proves nothing
get 0 change-midway/m1/x.gguf --connections 1; says 'another version'
python3 -c "print(end=''); d=open('$dir/file','rb').read(); import sys; sys.exit(open('$folder/x.gguf','rb').read() != d[::-1])" ||
    fail 'the changed file is a mixture'
"$LECTERN" models rm x.gguf 2>/dev/null
get 1 flapping/f/x.gguf; says 'changed on the server'
"$LECTERN" models rm x.gguf 2>/dev/null

# ---- lengths
get 1 short/x.gguf; says 'less than was asked'; part x.gguf
get 1 long/x.gguf; says 'more than was asked'; part x.gguf
get 1 elsewhere/x.gguf; says 'another range'; part x.gguf
"$LECTERN" models rm x.gguf 2>/dev/null
get 1 endless/x.gguf; says 'how long the file is'; none x.gguf
get 1 zipped/x.gguf; says 'compressed'; none x.gguf

# ---- bytes that are wrong
get 0 corrupt/flip/x.gguf; says 'fetched again and compared'; whole x.gguf
set_value ever always
get 1 corrupt/ever/x.gguf; says 'it is not installed'; none x.gguf
get 1 plain/x.gguf --sha256 "$(echo "$hash" | tr 0-9a-f 1-9a-f0)"; says 'it is not installed'; none x.gguf
get 1 cut/60/disk/x.gguf; part x.gguf # a chunk that the disk lost is fetched again, alone
set_value disk well
here=$("$LECTERN" models --json | python3 -c 'import json,sys; print(json.load(sys.stdin)[0]["bytes_here"])')
first=$(sed -n 's/^have \([0-9]*\) .*/\1/p' "$folder/x.gguf.part.manifest" | head -1)
printf 'broken' | dd of="$folder/x.gguf.part" bs=1 seek=$((first * 65536 + 100)) conv=notrunc 2>/dev/null
get 0 cut/60/disk/x.gguf; says '1 of the chunks that are here is damaged'; whole x.gguf
at_most $((size - here + 65536 + 1)) 'one chunk again'

# ---- slowness
get 1 drip/d/x.gguf --connections 2; says 'silent or too slow'; part x.gguf
set_value d well
get 0 drip/d/x.gguf; whole x.gguf

: >"$dir/log"
"$LECTERN" pull "$at/drip/e/x.gguf" --chunk 64K --retries 9 --stall 1 >"$dir/out" 2>"$dir/err" &
pid=$!
sleep 2.5 # stalled, and begun again, once or twice
set_value e well
wait $pid || fail 'a stall that passes'
grep -q '/drip/e/.* bytes=[1-9]-65535 ' "$dir/log" || fail 'a stalled range was not gone on with'
whole x.gguf

# ---- redirects
get 1 loop/x.gguf; says 'more than 5 times'; none x.gguf
get 1 hops/6/x.gguf; says 'more than 5 times'; none x.gguf
get 1 insecure/x.gguf; says 'where we do not go: Only https'; none x.gguf
get 1 local/x.gguf; says 'where we do not go'; none x.gguf
get 1 missing/x.gguf; says '(404)'; none x.gguf
get 1 token/x.gguf; says '(401)'; none x.gguf
get 2 http://192.0.2.1/x.gguf; says 'Only https'
get 2 file:///etc/passwd.gguf; says "not an address"
get 2 http://me:secret@127.0.0.1:$port/plain/x.gguf; says 'netrc'
get 2 plain/.x.gguf; get 2 plain/..%2fx.gguf; get 2 plain/x.txt; get 2 'hf:owner/repo/../x.gguf'; get 2 hf:owner/x.gguf
get 2 nosuch://x/x.gguf

# ---- the hub: commit, hash and length from the first host; the file from another; the token stays with the first
export HF_ENDPOINT="$at" HF_TOKEN=secret
get 0 hf:owner/repo/x.gguf; says "the server says SHA-256 $hash, which is pinned"; says '(server)'
grep -q "GET $port .*Bearer_secret" "$dir/log" || fail 'the hub did not get the token'
grep -q "GET $other " "$dir/log" || fail 'the file did not come from the other host'
if grep "GET $other " "$dir/log" | grep -q secret; then fail 'the token went to another host'; fi
whole x.gguf
get 0 hf:owner/expiring/x.gguf --connections 1; whole x.gguf
[ "$(grep -c "/0123456789abcdef0123456789abcdef01234567/" "$dir/log")" -ge 1 ] || fail 'the commit was not pinned'
get 1 hf:owner/wrong-length/x.gguf; says '12345'; none x.gguf
get 1 hf:owner/repo/x.gguf --revision other; says '(404)'; none x.gguf
get 1 hf:owner/repo/x.gguf --sha256 "$(echo "$hash" | tr 0-9a-f 1-9a-f0)"; says 'it was not downloaded'; none x.gguf
[ "$(sent)" -le 1 ] || fail 'a file with a wrong hash was fetched'
get 1 q4_k_m; says 'catalogue says 30061058720'; none moonshotai
get 0 "http://localhost:$other/plain/x.gguf"; whole x.gguf
if grep -q secret "$dir/log"; then fail 'the token went to an address that is not the hub'; fi
unset HF_TOKEN HF_ENDPOINT
echo 'machine 127.0.0.1 login me password pass' >"$dir/.netrc"
get 0 token/x.gguf; grep -q Basic_ "$dir/log" || fail '.netrc was not used'; whole x.gguf
rm "$dir/.netrc"

# ---- names from the server
get 0 evil/x.gguf; whole x.gguf
[ -z "$(find "$dir" -name '*evil*')" ] || fail 'a name of the server became a file'

# ---- two at once, kill -9, Ctrl-C
"$LECTERN" pull "$at/slow/x.gguf" --chunk 64K --connections 1 >"$dir/out1" 2>"$dir/err1" &
pid=$!
tries=0
until [ -s "$folder/x.gguf.part.manifest" ] || [ $tries = 100 ]; do tries=$((tries + 1)); sleep 0.05; done
get 1 slow/x.gguf; says 'Another lectern is busy'
"$LECTERN" models rm x.gguf 2>/dev/null && fail 'rm took away what is being fetched'
tries=0
until grep -qs '^have 3' "$folder/x.gguf.part.manifest" || [ $tries = 100 ]; do tries=$((tries + 1)); sleep 0.05; done
kill -9 $pid
wait $pid 2>/dev/null
part x.gguf
get 0 slow/x.gguf; says 'are here already'; whole x.gguf; at_most $((size - 3 * 65536 + 1)) 'after kill -9' # a chunk on its way counts twice
: >"$dir/err1"
env --default-signal=INT "$LECTERN" pull "$at/slow/x.gguf" --chunk 64K --connections 1 >"$dir/out1" 2>"$dir/err" &
pid=$!
tries=0
until grep -qs '^have' "$folder/x.gguf.part.manifest" || [ $tries = 100 ]; do tries=$((tries + 1)); sleep 0.05; done
kill -INT $pid
wait $pid
code=$?
[ $code = 130 ] || fail "Ctrl-C: exit $code"
says 'run it again to go on'; part x.gguf
get 0 slow/x.gguf; says 'are here already'; whole x.gguf

# ---- what a terminal shows meanwhile
python3 tests/faults/terminal.py 'Fetching' '' ' s left' '' -- "$LECTERN" pull "$at/slow/x.gguf" --chunk 64K \
    --connections 1 >"$dir/err" 2>&1 ||
    fail 'no progress with the time that is left'
"$LECTERN" models rm x.gguf 2>/dev/null

# ---- disks that are full
(ulimit -f 512 && "$LECTERN" pull "$at/plain/x.gguf" >"$dir/out" 2>"$dir/err")
code=$?
[ $code = 6 ] || fail "a limit on files: exit $code"
says 'more than this disk or a limit'
"$LECTERN" models rm x.gguf 2>/dev/null
mkdir "$dir/small"
if mount -t tmpfs -o size=600k tmpfs "$dir/small" 2>/dev/null; then
    get 6 plain/x.gguf --data-dir "$dir/small"; says 'has no room: .* are missing'
    [ ! -e "$dir/small/models/x.gguf" ] || fail 'a file on a full disk'
    umount "$dir/small"
else
    echo 'not tested: a full disk, for want of a mount'
fi

# A disk that fills while it is written: real, where a disk can be mounted, and by calls that are made to fail.
mkdir "$dir/filling"
if strace -f -qq -e trace=none -o "$dir/trace" true 2>/dev/null; then
    failing() { # EXPECTED CALL:FAULT ...: pulls with those calls failing; -P PATH: only those on PATH
        expected=$1
        shift
        strace -f -qq -e trace=fallocate,pwrite64,write,fsync,rename,renameat -e inject=fallocate:error=EOPNOTSUPP "$@" \
            -o "$dir/trace" "$LECTERN" pull "$at/plain/x.gguf" --chunk 64K --connections 2 --data-dir "$dir/filling" \
            >"$dir/out" 2>"$dir/err" </dev/null
        code=$?
        [ $code = "$expected" ] || fail "exit $code, not $expected, with $*"
        [ "$(grep -c '^lectern: ' "$dir/err")" = 1 ] || fail "not one sentence with $*"
        [ ! -e "$dir/filling/models/x.gguf" ] || fail "installed with $*"
        [ -s "$dir/filling/models/x.gguf.part" ] || fail "no part with $*"
    }
    part="$dir/filling/models/x.gguf.part"
    failing 6 -e inject=pwrite64:error=ENOSPC:when=20+; says 'has no room: .* more are needed'
    failing 6 -e inject=pwrite64:error=EIO:when=5+; says 'cannot be written: Input/output error'
    failing 6 -P "$part.manifest.new" -e inject=write:error=ENOSPC; says 'manifest cannot be written: No space left'
    failing 6 -P "$part.manifest.new" -e inject=fsync:error=EIO; says 'manifest cannot be written: Input/output'
    failing 6 -P "$part" -e inject=fsync:error=EIO; says 'x.gguf cannot be put in place: Input/output error'
    get 0 plain/x.gguf --data-dir "$dir/filling"; says 'are here already'
    cmp -s "$dir/file" "$dir/filling/models/x.gguf" || fail 'another file after a disk that failed'
    at_most $((size + 1)) 'after a disk that failed'
    rm -r "$dir/filling/models"
else
    echo 'not tested: calls that fail, for want of strace'
fi
if strace -qq -e trace=none -o "$dir/trace" true 2>/dev/null &&
    mount -t tmpfs -o size=1400k tmpfs "$dir/filling" 2>/dev/null; then
    strace -f -qq -e trace=fallocate -e inject=fallocate:error=EOPNOTSUPP -o "$dir/trace" "$LECTERN" pull \
        "$at/slow/x.gguf" --chunk 64K --connections 1 --data-dir "$dir/filling" >"$dir/out" 2>"$dir/err" &
    pid=$!
    tries=0
    until grep -qs '^have 2' "$dir/filling/models/x.gguf.part.manifest" || [ $tries = 100 ]; do
        tries=$((tries + 1))
        sleep 0.05
    done
    dd if=/dev/zero of="$dir/filling/other" bs=64k 2>/dev/null # another program takes what was free
    wait $pid
    code=$?
    [ $code = 6 ] || fail "a disk that fills: exit $code"
    says 'has no room: .* are missing'
    [ ! -e "$dir/filling/models/x.gguf" ] || fail 'installed on a full disk'
    rm "$dir/filling/other"
    get 0 slow/x.gguf --data-dir "$dir/filling"; says 'are here already'
    cmp -s "$dir/file" "$dir/filling/models/x.gguf" || fail 'another file after a full disk'
    umount "$dir/filling"
else
    echo 'not tested: a disk that fills, for want of a mount'
fi

# ---- nobody there
kill "$server"
wait "$server" 2>/dev/null
server=
get 1 plain/x.gguf; says 'cannot be reached'; none x.gguf
exit $bad
