#!/bin/sh
# The site's side without a portal: from a folder of photographs to signed weights and their privacy report.
#
#   sh docs/site.sh PHOTOGRAPHS WORK [STEPS]
#
# CONSORTIUM names the command where it is not on the path, for instance ".venv/bin/python -m jobs.kit".
set -eu
photographs=$1
work=$2
steps=${3:-200}
kit=${CONSORTIUM:-consortium}
export CONSORTIUM_KEY="$work/signing-key.pem"
weights=$work/fit/weights.safetensors
card=$work/fit/training_card.json
began=$(date +%s)

timed() {
    from=$(date +%s)
    $kit "$@"
    echo "== $1: $(($(date +%s) - from)) s" >&2
}

mkdir -p "$work"
test -e "$CONSORTIUM_KEY" || $kit keys new
timed prepare "$photographs" --out "$work/prepared"
timed fit "$work/prepared" --out "$work/fit" --steps "$steps"
timed privacy "$work/prepared" --weights "$weights" --card "$card"
timed sign "$weights"
# What the folder cannot tell is the site's to answer before it sends the card.
sed -i.bak '1s/{/{ "demographics": "unknown",/' "$card" && rm "$card.bak"
timed check "$weights" --card "$card" --signature "$weights.signed.json" --privacy "$work/fit/privacy_report.json"
echo "== all: $(($(date +%s) - began)) s" >&2
