#!/usr/bin/env bash
# Runs every benchmark program of a build.
#
#   tools/run_bench.sh [--smoke] [FOLDER]     FOLDER defaults to build/release/bench
#
# --smoke runs each benchmark for an instant: it proves that they work, not what they take.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

flags=()
if [ "${1:-}" = --smoke ]; then
  flags=(--smoke)
  shift
fi
folder=${1:-build/release/bench}

model=${FOREBAY_CACHE:-${HOME:-}/.cache/forebay}/models/SmolLM2-135M-Instruct.Q4_1.gguf
found=0
for program in "$folder"/*_bench; do
  [ -x "$program" ] || continue
  found=1
  arguments=("${flags[@]}")
  if [ "$(basename "$program")" = llama_bench ]; then
    if [ ! -f "$model" ]; then
      echo "== llama_bench: not run, no model; scripts/setup.sh fetches it"
      continue
    fi
    arguments+=(--model "$model")
  fi
  echo "== $(basename "$program")"
  "$program" "${arguments[@]}"
done
[ "$found" = 1 ] || {
  echo "run_bench: no benchmark programs in $folder; build the release preset first" >&2
  exit 2
}
