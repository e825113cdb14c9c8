#!/bin/sh
# test.sh: sets up, builds (warnings are errors) and runs all tests; then the hostile-input tests again under
# AddressSanitizer and UndefinedBehaviorSanitizer. Exit code 0 means that all passed; skipped ones are listed.
set -eu
cd "$(dirname "$0")/.."
sh packaging/setup.sh test
sh packaging/build.sh ci
sh packaging/build.sh asan
ctest --preset ci
LECTERN_TEST_DEVICES=cpu ctest --preset asan -L hostile
