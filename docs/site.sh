#!/bin/sh
# The site's side without a portal: from a folder of photographs to signed weights and their privacy report.
#
#   sh docs/site.sh PHOTOGRAPHS WORK [STEPS]
#
# Run again after an interruption, it goes on: what is done in WORK is not done twice.
# PREPARE holds more options of `prepare`, for instance PREPARE=--no-patients where nobody knows the patients.
# CONSORTIUM names the command where it is not on the path, for instance ".venv/bin/python -m jobs.kit".
set -eu
photographs=$1
work=$2
steps=${3:-200}
kit=${CONSORTIUM:-consortium}
export CONSORTIUM_KEY="$work/signing-key.pem"
weights=$work/fit/weights.safetensors
card=$work/fit/training_card.json
report=$work/fit/privacy_report.json
began=$(date +%s)

timed() {
    from=$(date +%s)
    $kit "$@"
    echo "== $1: $(($(date +%s) - from)) s" >&2
}

mkdir -p "$work"
test -e "$CONSORTIUM_KEY" || $kit keys new
test -e "$work/prepared/labels.csv" || timed prepare "$photographs" --out "$work/prepared" ${PREPARE:-}
test -e "$weights" || timed fit "$work/prepared" --out "$work/fit" --steps "$steps" --resume
test "$report" -nt "$weights" || timed privacy "$work/prepared" --weights "$weights" --card "$card"
timed sign "$weights"
# What the folder cannot tell is the site's to answer before it sends the card.
grep -q '"demographics"' "$card" || { sed -i.bak '1s/{/{ "demographics": "unknown",/' "$card" && rm "$card.bak"; }
timed check "$weights" --card "$card" --signature "$weights.signed.json" --privacy "$report"
echo "== all: $(($(date +%s) - began)) s" >&2
