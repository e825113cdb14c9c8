#!/bin/sh
# SPDX-License-Identifier: MIT
#
# lectern quantize reads as it goes: a file far larger than what it keeps. 640 MiB of zeros, most of them no disk at all
# (a sparse file), become Q4_0; the most memory it ever held, mapped pages of the input included, stays under a fifth.
: "${LECTERN:?path of the program}"
command -v python3 >/dev/null || { echo "python3 is not installed"; exit 77; }

dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
export HOME="$dir" XDG_CONFIG_HOME="$dir" XDG_DATA_HOME="$dir"

python3 - "$dir" <<'PY'
import os, resource, struct, subprocess, sys
dir, lectern = sys.argv[1], os.environ["LECTERN"]
text = lambda b: struct.pack("<Q", len(b)) + b
size = 320 << 20
with open(dir + "/in.gguf", "wb") as f:
    f.write(b"GGUF" + struct.pack("<IQQ", 3, 2, 1))
    f.write(text(b"general.architecture") + struct.pack("<I", 8) + text(b"kimi-linear"))
    for i in range(2):
        f.write(text(b"blk.%d.ffn_up_exps.weight" % i) + struct.pack("<IQQQIQ", 3, 4096, 4096, 10, 1, i * size))
    f.write(bytes(-f.tell() % 32))
    f.truncate(f.tell() + 2 * size)
done = subprocess.run([lectern, "quantize", dir + "/in.gguf", dir + "/out.gguf", "Q4_0", "--quiet"])
most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
wrote = os.path.getsize(dir + "/out.gguf") if not done.returncode else 0
print("at most %d MiB held for %d MiB read, %d MiB written" % (most, 2 * size >> 20, wrote >> 20))
sys.exit(done.returncode or most >= 128 or not wrote >= 2 * size * 9 // 32)
PY
