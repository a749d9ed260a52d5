#!/usr/bin/env bash
# Trains the demo model of models/demo: TEXT_DIRECTORY holds the .txt.xz and .csv.xz files of natural text, WORK_DIRECTORY
# gets everything else and is where an interrupted run goes on. An estimate: 90 minutes on two idle cores.
#   tools/make_demo.sh TEXT_DIRECTORY WORK_DIRECTORY
set -euo pipefail
[ $# -eq 2 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
fathom=${FATHOM:-$root/build/src/apps/fathom}
text=$(cd "$1" && pwd)
mkdir -p "$2"
cd "$2"

if [ ! -e natural.shard ]; then
  mkdir -p text
  for file in "$text"/*.txt.xz "$text"/*.csv.xz; do
    name=$(basename "$file" .xz)
    xz -dc "$file" > "text/${name%.*}.txt"
  done
  "$fathom" data synth -o synth.jsonl --bytes 32000000 --seed 1
  # The tokenizer sees a quarter of the synthetic text, so that natural words get their share.
  head -n 25000 synth.jsonl > synth-sample.jsonl
  "$fathom" tokenizer train text/*.txt synth-sample.jsonl -o tokenizer --vocab-size 4096
  "$fathom" data pack synth.jsonl --tokenizer tokenizer -o synth.shard --validation synth-val.shard --validation-fraction 0.01
  "$fathom" data pack text/*.txt --tokenizer tokenizer -o natural.shard --validation natural-val.shard
fi
"$fathom" train "$root/examples/demo.toml"
