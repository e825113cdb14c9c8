#!/bin/sh
# build.sh PRESET: configures and builds one of CMakePresets.json from the repository's root; says nothing unless it fails.
set -eu
cd "$(dirname "$0")/.."
preset=$1
glslc=$(sh packaging/get-glslc.sh build/glslc)
log=build/$preset.log
mkdir -p build
{
    cmake --preset "$preset" -DLECTERN_GLSLC="$glslc" && cmake --build --preset "$preset"
} >"$log" 2>&1 || { tail -40 "$log" >&2; echo "build: $preset failed; the whole log is $log" >&2; exit 1; }
