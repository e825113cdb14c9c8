#!/bin/sh
# run.sh [FILE|DIR]...: sets up, builds and runs lectern. On a terminal: the reading desk over these documents. Without
# one: asks the built-in model how they begin, or a sample document a sample question, and prints the answer.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
sh "$root/packaging/setup.sh" build
sh "$root/packaging/build.sh" release
lectern=$root/build/release/lectern

if [ -t 0 ] && [ -t 1 ]; then exec "$lectern" "$@"; fi
if [ $# -gt 0 ]; then
    question="How does the document begin?"
    echo "Question: $question"
    exec "$lectern" ask "$@" -q "$question"
fi
question="What is the locker code of Ada?"
echo "Document: docs/sample.txt"
echo "Question: $question"
"$lectern" devices --used
printf 'Answer: '
exec "$lectern" ask "$root/docs/sample.txt" -q "$question"
