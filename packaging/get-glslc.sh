#!/bin/sh
# get-glslc.sh DIR: prints the path of a glslc that knows GL_KHR_cooperative_matrix, or nothing when none can be had.
# The system's own is taken when it does; otherwise Debian 13's is unpacked under DIR, with its own libc and loader, out
# of the way of the system (own apt lists, nothing installed). Without one the build leaves those shader variants out.
set -eu
dir=$1
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
probe=$dir/probe.comp
cat >"$probe" <<'EOF'
#version 460
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
void main() {}
EOF
knows_matrices() { "$1" --target-env=vulkan1.2 -o /dev/null "$probe" >/dev/null 2>&1; }

if command -v glslc >/dev/null && knows_matrices glslc; then command -v glslc; exit 0; fi
if [ -x "$dir/glslc" ]; then echo "$dir/glslc"; exit 0; fi
[ -e "$dir/none" ] && exit 0

fetch() {
    . /etc/os-release
    [ "$ID" = debian ] || return 1
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -1)
    [ -n "$mirror" ] || return 1
    rm -rf "$dir/apt" "$dir/debs" "$dir/root"
    mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$dir/root" "$dir/debs"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$dir/apt/sources.list"
    o="-o Dir::State::lists=$dir/apt/lists -o Dir::Etc::sourcelist=$dir/apt/sources.list
       -o Dir::Etc::sourceparts=/dev/null -o Dir::Cache=$dir/apt/cache -o APT::Sandbox::User=$(id -un)"
    # shellcheck disable=SC2086
    apt-get $o update -qq || return 1
    # shellcheck disable=SC2086
    (cd "$dir/debs" && apt-get $o -qq download glslc libshaderc1 libc6 libstdc++6 libgcc-s1) || return 1
    for d in "$dir"/debs/*.deb; do dpkg-deb -x "$d" "$dir/root" || return 1; done
    lib=$dir/root/usr/lib/$(gcc -dumpmachine)
    printf '#!/bin/sh\nexec "%s"/ld-linux-*.so.* --library-path "%s" "%s" "$@"\n' \
        "$lib" "$lib" "$dir/root/usr/bin/glslc" >"$dir/glslc.new"
    chmod +x "$dir/glslc.new"
    knows_matrices "$dir/glslc.new" || return 1
    mv "$dir/glslc.new" "$dir/glslc"
    rm -rf "$dir/debs" "$dir/apt"
}

if fetch >"$dir/log" 2>&1; then
    echo "$dir/glslc"
else
    echo "get-glslc: no glslc with cooperative matrices here (see $dir/log); those shaders are left out" >&2
    : >"$dir/none"
fi
