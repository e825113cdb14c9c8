#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Checks the kernels on this machine's GPU: each operation against the C twin, then whole models against golden logits,
# one line for each. Cooperative matrices run here and not in CI, which has a software device only.
#
#   tools/gpu/check.sh [BUILD]        BUILD: the build folder, default build; with the tests built
#
# LECTERN_TYPES: the weight formats of products (default Q4_K,Q6_K,Q8_0,F32: a driver compiles each anew).
# LECTERN_TEST_DEVICES: the devices of the golden test (default vulkan). Exit code 1 if anything failed.
build=${1:-build}
: "${LECTERN_TYPES:=Q4_K,Q6_K,Q8_0,F32}" "${LECTERN_TEST_DEVICES:=vulkan}"
export LECTERN_TYPES LECTERN_TEST_DEVICES
failed=0

now() { date +%s; }

# NAME COMMAND..: runs it and says in one line how it ended.
check() {
    name=$1
    shift
    start=$(now)
    text=$("$@" 2>&1)
    code=$?
    case $code in
    0) result=ok ;;
    77) result=skipped ;;
    *) result=FAILED failed=1 ;;
    esac
    printf '%-14s %-8s %3d s  %s\n' "$name" "$result" $(($(now) - start)) \
        "$(printf '%s\n' "$text" | grep -E 'ERROR:|skipped|NMSE|best ids|: on ' | tail -n 1)"
}

"$build/lectern" devices
for op in dense decode moe kda mla rope route; do
    [ -x "$build/tests/op_$op" ] && check "op_$op" "$build/tests/op_$op"
done
check test_golden "$build/tests/test_golden"
exit $failed
