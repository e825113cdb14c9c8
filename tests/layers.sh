#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The layers of docs/architecture.md: a lower folder never includes an upper one, engine and store never meet, and from
# outside a folder only its public header is included.
set -u
bad=0
refuse() { # FOLDER PATTERN WHY
    found=$(grep -rnE "^#include \"($2)" "$1" --include='*.c' --include='*.h') || return 0
    echo "$found"
    echo "layers: $1 must not include these: $3"
    bad=1
}
refuse quant '(app|engine|store|shaders|tests)/' 'quant is the lowest layer'
refuse store '(app|engine|shaders|tests)/|quant/(quant|gguf)' 'store knows sqlite3 and quant/error.h only'
refuse engine '(app|store|tests)/' 'engine knows quant and shaders only'
refuse app 'engine/([^e]|e[^n]|engine_|cpu|gpu)|store/([^s]|s[^t]|sto[^r])|shaders/|tests/' \
    'app sees the public headers engine/engine.h, store/store.h and quant/*.h'
exit $bad
