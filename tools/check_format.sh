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

mode=(--dry-run -Werror)
[ "${1:-}" != --fix ] || mode=(-i)
git ls-files -z --cached --others --exclude-standard '*.cpp' '*.hpp' '*.h' |
  xargs -0 --no-run-if-empty "$formatter" "${mode[@]}"
