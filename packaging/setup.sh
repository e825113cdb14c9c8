#!/bin/sh
# setup.sh [build|test]: installs from apt what lectern needs to be built (and tested), when it is missing.
# Debian 12/13 and Ubuntu 24.04 or newer. Quick when everything is there already.
set -eu

common="cmake ninja-build gcc libc6-dev pkg-config glslc spirv-tools libvulkan-dev mesa-vulkan-drivers libsqlite3-dev
libcurl4-openssl-dev libncurses-dev libssl-dev libutf8proc-dev"
testing="libcmocka-dev vulkan-validationlayers tmux sqlite3 strace git python3 procps nginx-light openssl"

packages=$common
[ "${1:-build}" = test ] && packages="$common $testing"

missing=
for p in $packages; do
    case $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null) in installed) ;; *) missing="$missing $p" ;; esac
done
[ -z "$missing" ] && exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "setup: these packages are missing and need root to install:$missing" >&2; exit 1; }
    as_root=sudo
fi
echo "setup: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq >&2
# Word splitting is what turns the list into arguments.
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
