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

found=0
for program in "$folder"/*_bench; do
  [ -x "$program" ] || continue
  found=1
  echo "== $(basename "$program")"
  "$program" "${flags[@]}"
done
[ "$found" = 1 ] || {
  echo "run_bench: no benchmark programs in $folder; build the release preset first" >&2
  exit 2
}
