#!/usr/bin/env bash
# Checks that every C++ file is formatted as .clang-format says; --fix formats them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Releases of clang-format disagree; 14 is Debian 12's and the one that counts.
formatter=$(command -v clang-format-14 || command -v clang-format || true)
case $("${formatter:-false}" --version 2> /dev/null) in
  *' version 14.'*) ;;
  *)
    echo "check_format: needs clang-format 14 (Debian: clang-format)" >&2
    exit 2
    ;;
esac

files() { git ls-files -z --cached --others --exclude-standard '*.cpp' '*.hpp' '*.h'; }
if [ "${1:-}" = --fix ]; then
  files | xargs -0 --no-run-if-empty "$formatter" -i
  exit
fi

# One line a file is enough: --fix mends them all.
bad=$(files | xargs -0 --no-run-if-empty "$formatter" --dry-run 2>&1 | sed -n 's/^\([^ :]*\):[0-9].*clang-formatted.*/\1/p' | sort -u)
[ -n "$bad" ] || exit 0
echo "not formatted (tools/check_format.sh --fix mends them):"
echo "$bad"
exit 1
