#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What the program says, and what its exit code is, when the store is hurt: a flipped bit, lost rows, a lost page, a newer
# version, a read-only folder, a full disk. It answers as ever where it can, and says in one sentence what it lost;
# `sessions check` finds it, `sessions repair` mends it. (kill -9 and two at once: tests/resume.sh.)
. tests/kit
clean_up() { chmod -R u+rwX "$dir"; }
chmod 755 "$dir"
"$MAKE_MODEL" "$dir/m.gguf" --preset narrow || exit 1
i=0
while [ $i -lt 40 ]; do
    i=$((i + 1))
    echo "$i: the $((i * 7919 % 1000)) ships of harbour $((i * 104729 % 977)) lie at anchor until the tide."
done >"$dir/text.txt"
set -- "$dir/text.txt" -q 'Where?' -m "$dir/m.gguf" --device cpu --ctx 4096 --max-tokens 8
run() { # CODE COMMAND...
    code=$1
    shift
    timeout 120 "$@" >"$dir/out" 2>"$dir/err"
    rc=$?
    [ $rc = "$code" ] || fail "$* ended with $rc, not $code"
}
says() { grep -q "^lectern: $1\$" "$dir/err" || grep -q "^$1\$" "$dir/err" || fail "it does not say \"$1\""; }
once() { [ "$(grep -c "$1" "$dir/err")" = 1 ] || fail "\"$1\" is not said once"; }
same() { cmp -s "$dir/out" "$dir/answer" || fail "$1: another answer"; }
hurt() { # SQL: a copy of the good store, hurt
    rm -rf "$dir/hurt"
    cp -r "$dir/good" "$dir/hurt"
    python3 -c 'import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.executescript(sys.argv[2]); db.close()' \
        "$dir/hurt/lectern.db" "$1" || exit 1
}
is_found_and_mended() { # SENTENCE, what to ask
    sentence=$1
    shift
    run 7 "$LECTERN" sessions check --data-dir "$dir/hurt"
    grep -q "$sentence" "$dir/out" || fail "check does not say \"$sentence\""
    says '[0-9]* faults\{0,1\} found; `lectern sessions repair` drops what is bad.'
    cp -r "$dir/hurt" "$dir/mended"
    run 0 "$LECTERN" sessions repair --data-dir "$dir/mended"
    run 0 "$LECTERN" sessions check --data-dir "$dir/mended"
    run 0 "$LECTERN" ask "$@" --data-dir "$dir/mended"
    rm -rf "$dir/mended"
}

run 0 "$LECTERN" ask "$@" --data-dir "$dir/good"
cp "$dir/out" "$dir/answer"
run 0 "$LECTERN" ask "$@" --data-dir "$dir/good"
same 'resumed'
grep -q '^resumed ' "$dir/err" || fail 'nothing was resumed'
position=$(sed -n 's/^resumed \([0-9,]*\) of.*/\1/p' "$dir/err" | tr -d ,)

# A flipped bit in the first segment: everything stands on it.
hurt "CREATE TABLE t AS SELECT id, CAST(substr(bytes, 1, 999) || (CASE WHEN substr(bytes, 1000, 1) = X'00' THEN X'01'
      ELSE X'00' END) || substr(bytes, 1001) AS BLOB) AS b FROM part WHERE id = (SELECT blob FROM segment LIMIT 1) * 1024;
      UPDATE part SET bytes = (SELECT b FROM t) WHERE id = (SELECT id FROM t); DROP TABLE t"
is_found_and_mended 'Segment 1: A stored state is damaged: part 0 has the wrong checksum; its tokens must be read again.' "$@"
run 0 "$LECTERN" ask "$@" --data-dir "$dir/hurt"
same 'a flipped bit'
once 'A stored state is damaged'
says "The stored state at token $position cannot be used, from 0 on it is read again: A stored state is damaged: part 0 has the wrong checksum; its tokens must be read again."
run 0 "$LECTERN" ask "$@" --data-dir "$dir/hurt"
same 'read again'
grep -q "^resumed " "$dir/err" || fail 'what was read again was not kept'

# The last snapshot is lost: the one before it serves.
hurt 'DELETE FROM part WHERE id / 1024 = (SELECT blob FROM snapshot ORDER BY position DESC LIMIT 1)'
is_found_and_mended 'Snapshot [0-9]*: 0 of its [0-9]* bytes are there' "$@"
run 0 "$LECTERN" ask "$@" --data-dir "$dir/hurt"
same 'a lost snapshot'
says "The stored state at token $position cannot be used, from [1-9][0-9]* on it is read again: A stored state is damaged: part 0 is missing; its tokens must be read again."

# A page: nothing can be found any more, and that is said; the repair brings back what can be read.
hurt ''
python3 -c 'f = open(__import__("sys").argv[1], "r+b"); f.seek(3 * 32768); f.write(b"\377" * 32768)' "$dir/hurt/lectern.db"
run 7 "$LECTERN" ask "$@" --data-dir "$dir/hurt"
says 'The store is damaged (database disk image is malformed): `lectern sessions repair` keeps what is good.'
is_found_and_mended 'The database file is damaged' "$@"
same 'a lost page'

hurt 'PRAGMA user_version = 99'
run 1 "$LECTERN" ask "$@" --data-dir "$dir/hurt"
says 'The store .*/lectern.db was written by a newer lectern (version 99; this one knows [0-9]*): upgrade lectern.'

as_nobody='import os, sys
if os.getuid() == 0: os.setgid(65534); os.setuid(65534)
os.execv(sys.argv[1], sys.argv[1:])'
hurt ''
chmod -R a+rX "$dir"
chmod 555 "$dir/hurt"
run 6 python3 -c "$as_nobody" "$LECTERN" ask "$@" --data-dir "$dir/hurt"
says "The store's folder .*/hurt cannot be written: Permission denied."
chmod 755 "$dir/hurt"

# A disk that is full from some point on: the answer comes, one sentence says that it was not kept, the store is sound.
small='import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (450000, 450000))
os.execv(sys.argv[1], sys.argv[1:])'
run 0 "$LECTERN" sessions --data-dir "$dir/full"
run 6 python3 -c "$small" "$LECTERN" ask "$@" --data-dir "$dir/full"
same 'a full disk'
says 'What was read could not be kept: The disk failed while the store was written: .*'
run 0 "$LECTERN" sessions check --data-dir "$dir/full"
run 0 "$LECTERN" ask "$@" --data-dir "$dir/full"
same 'after a full disk'
exit $bad
