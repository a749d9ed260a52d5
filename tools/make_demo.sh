#!/usr/bin/env bash
# Trains the demo model of models/demo: TEXT_DIRECTORY holds the .txt.xz and .csv.xz files of natural text, WORK_DIRECTORY
# gets everything else and is where an interrupted run goes on. The last 5 % of each file, from a line start on, is held
# out: neither the tokenizer nor the model sees it; heldout.txt and heldout.shard hold the same text for every measure.
#   tools/make_demo.sh TEXT_DIRECTORY WORK_DIRECTORY [OPTIONS OF fathom train]
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
fathom=${FATHOM:-$root/build/src/apps/fathom}
text=$(cd "$1" && pwd)
mkdir -p "$2"
cd "$2"
shift 2

# split FILE NAME: its first 95 % and the rest of that line to train/NAME, what follows to heldout/NAME.
split() {
  local size cut line
  size=$(stat -c %s "$1")
  cut=$((size * 95 / 100))
  line=$(head -n 1 < <(tail -c "+$((cut + 1))" "$1") | wc -c)
  head -c "$((cut + line))" "$1" > "train/$2"
  tail -c "+$((cut + line + 1))" "$1" > "heldout/$2"
}

if [ ! -e heldout.shard ]; then
  mkdir -p train heldout
  for file in "$text"/*.txt.xz "$text"/*.csv.xz; do
    name=$(basename "$file" .xz)
    xz -dc "$file" > whole
    split whole "${name%.*}.txt"
  done
  rm whole
  for file in heldout/*.txt; do
    cat "$file"
    printf '\n<|endoftext|>\n'
  done > heldout.txt
  "$fathom" data synth -o synth.jsonl --bytes 32000000 --seed 1
  # The tokenizer sees a quarter of the synthetic text, so that natural words get their share.
  head -n 25000 synth.jsonl > synth-sample.jsonl
  "$fathom" tokenizer train train/*.txt synth-sample.jsonl -o tokenizer --vocab-size 4096
  "$fathom" data pack synth.jsonl --tokenizer tokenizer -o synth.shard --validation-fraction 0
  "$fathom" data pack train/*.txt --tokenizer tokenizer -o natural.shard --validation-fraction 0
  "$fathom" data pack heldout.txt --tokenizer tokenizer -o heldout.shard --validation-fraction 0
fi
"$fathom" train "$root/examples/demo.toml" "$@"
# What `fathom chat` takes unless told otherwise: a small model wanders at a higher temperature.
cat > export/generation_config.json <<'JSON'
{
  "bos_token_id": 0,
  "eos_token_id": 1,
  "do_sample": true,
  "temperature": 0.5,
  "top_p": 0.95
}
JSON
