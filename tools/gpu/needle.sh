#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Needles in a long text: plants nine facts at depths 0.1 to 0.9 of 60,000 tokens of made-up prose, has it read once for
# each type of state, asks for every fact, and says in one line a type which were found, and at last whether every type
# found the same. What a model finds at all is its own matter; that devices and types differ is the engine's.
#
#   tools/gpu/needle.sh [LECTERN [DEVICE [ROWS [STATES]]]]
#
# LECTERN: the program (default build/release/lectern). DEVICE: cpu, vulkan:0 ... (default auto). ROWS, STATES: lists of
# types (default "f32 f16 q8_0" and "f32 f16"). The model is the built-in one, or the one $LECTERN_MODEL names. The text
# is the same everywhere: it needs awk and nothing from outside. NEEDLE_BYTES: its length (default 211000; 3.5 a token of
# the built-in model). NEEDLE_SEED: another text with other facts. Exit code 1 if a fact was not found.
lectern=${1:-build/release/lectern}
device=${2:-auto}
rows=${3:-f32 f16 q8_0}
states=${4:-f32 f16}
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM

# Writes the text, and to `facts` a line each: depth, value, question.
awk -v bytes="${NEEDLE_BYTES:-211000}" -v seed="${NEEDLE_SEED:-1}" -v facts="$folder/facts" '
function below(n) { seed = (seed * 16807) % 2147483647; return int(seed / 2147483647 * n) }
function one(list, parts) { return parts[1 + below(split(list, parts, "|"))] }
function capital(s) { return toupper(substr(s, 1, 1)) substr(s, 2) }
function person() { return one(people) }
function thing() { return "the " one(adjectives) " " one(nouns) }
function sentence(k) {
    k = below(10)
    if (k == 0) return capital(one(times)) " " person() " " one(verbs) " " thing() " " one(places) "."
    if (k == 1) return capital(thing()) " " one(places) " was " one(adjectives) ", and nobody knew why."
    if (k == 2) return capital(person()) " said that " thing() " had been left " one(places) " by " person() "."
    if (k == 3) return "It rained " one(times) ", and " thing() " was carried " one(places) " before it was dark."
    if (k == 4) return "When " person() " asked about " thing() ", " person() " " one(verbs) " " thing() " and went away."
    if (k == 5) return "There were " 2 + below(90) " of them " one(places) ", each more " one(adjectives) " than the last."
    if (k == 6) return "\"Have you seen " thing() "?\" asked " person() ". \"Not " one(times) ",\" said " person() "."
    if (k == 7) return capital(person()) " wrote to " person() " about " thing() " and received " thing() " in return."
    if (k == 8) return capital(one(times)) " the door " one(places) " was shut, for " thing() " was not to be touched."
    return "Some held that " thing() " was worth " 3 + below(900) " crowns; " person() " gave it to " person() "."
}
BEGIN {
    people = "the captain|the miller|old Harriet|the schoolmaster|the ferryman|a stranger|the doctor|Mrs Pell|the baker|" \
        "the widow|the clerk|the gardener|a boy from the mill|the magistrate|the piper|Mr Underhill|the glazier|the nurse"
    adjectives = "green|broken|silver|narrow|forgotten|heavy|painted|cold|wooden|round|empty|crooked|quiet|torn|brass|" \
        "ancient|borrowed|yellow|hollow|polished|damp|foreign|plain|rusty|tall|folded|dusty|bright|costly|useless"
    nouns = "lantern|ladder|letter|kettle|map|barrel|clock|mirror|coat|boat|chair|ledger|bell|basket|window|candle|" \
        "hammer|drum|bridge|cupboard|saddle|ribbon|parcel|chimney|violin|fence|carpet|anchor|telescope|garden"
    verbs = "found|hid|carried|mended|sold|painted|lost|described|borrowed|measured|buried|returned|counted|admired"
    places = "behind the church|under the stairs|on the quay|in the lower field|beside the well|at the inn|in the loft|" \
        "near the old wall|across the river|in the long room|by the orchard gate|on the hill|below the weir"
    times = "in the morning|on the third day|before supper|that winter|late in the evening|after the fair|one Sunday|" \
        "at low tide|in the first week of May|since the harvest|all that night|toward noon"
    n = split("Anton|Birgit|Caspar|Delia|Emeka|Frida|Gustav|Hester|Ilse|Jasper|Kerstin|Lorenz|Magda|Nils", names, "|")
    split("locker code|room number|safe combination|mailbox number|parcel number|cabin number|seat number|train number|" \
        "membership number", things, "|")
    for (i = 1; i <= 20; i++) below(2) # small seeds begin alike
    first = below(n)
    for (next_fact = 1; length_so_far < bytes; ) {
        line = sentence()
        for (i = below(5); i > 0; i--) line = line " " sentence()
        if (next_fact <= 9 && length_so_far >= bytes * next_fact / 10) {
            who = names[1 + (first + next_fact) % n]
            value = 10000 + below(90000)
            line = line " The " things[next_fact] " of " who " is " value ". " sentence()
            print "0." next_fact " " value " What is the " things[next_fact] " of " who "?" > facts
            next_fact++
        }
        print line "\n"
        length_so_far += length(line) + 2
    }
}' </dev/null >"$folder/text.txt" || exit 1
cut -d ' ' -f 3- "$folder/facts" >"$folder/questions"

# ROWS STATE: reads and asks; one line for the whole, and one for each fact that was not found.
hunt() {
    name="$1 rows, $2 states"
    set -- "$folder/text.txt" --data-dir "$folder/data" --device "$device" --kv-dtype "$1" --state-dtype "$2"
    if ! said=$("$lectern" ingest "$@" 2>&1) || ! said="$said
$("$lectern" ask "$@" --questions "$folder/questions" --max-tokens 48 --json 2>&1 >"$folder/answers")"; then
        printf '%s: %s\n' "$name" "$(printf '%s\n' "$said" | tail -n 1)"
        failed=1 differ=1
        return
    fi
    found= count=0 missed=
    while read -r depth value question <&3; do
        read -r line <&4
        answer=${line#*'"answer": "'} answer=${answer%%'", "model"'*}
        case " $answer " in
        *[!0-9]"$value"[!0-9]*) found="$found $depth" count=$((count + 1)) ;;
        *) missed="$missed
    at $depth: $question Not $value, but: $(printf %s "$answer" | cut -c 1-100)" ;;
        esac
    done 3<"$folder/facts" 4<"$folder/answers"
    printf '%s: %d of %d found, at%s; %s%s\n' "$name" "$count" "$planted" "${found:- none}" \
        "$(printf '%s\n' "$said" | sed -n '/^read/s/;.*//p')" "$missed"
    [ "$count" -eq "$planted" ] || failed=1
    [ "$found" = "${first=$found}" ] || differ=1
}

planted=$(wc -l <"$folder/facts")
"$lectern" devices --used --device "$device" 2>/dev/null
failed=0 differ=0
unset first
for row in $rows; do
    for state in $states; do hunt "$row" "$state"; done
done
[ $differ = 1 ] && echo 'Not every type found the same.' || echo 'Every type found the same.'
exit $failed
