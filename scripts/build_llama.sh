#!/usr/bin/env bash
# Builds llama.cpp, as static libraries, from the source distribution of llama-cpp-python.
#
#   scripts/build_llama.sh llama_cpp_python-0.3.36.tar.gz
#
# Installs to $FOREBAY_CACHE/llama-<version> (default cache: ~/.cache/forebay) and prints that
# path as its last line. A second run with the same version and flags does nothing. The prefix
# appears in one step when it is complete, so a run that was stopped leaves nothing to clean up.
#
# FOREBAY_LLAMA_FLAGS adds CMake flags, for example -DGGML_NATIVE=ON.
set -euo pipefail

die() { echo "build_llama: $*" >&2; exit 1; }

[ $# -eq 1 ] || die "usage: scripts/build_llama.sh <llama_cpp_python-VERSION.tar.gz>"
tarball=$1
[ -f "$tarball" ] || die "$tarball: no such file"

name=$(basename "$tarball" .tar.gz)
version=${name#llama_cpp_python-}
[ "$version" != "$name" ] || die "$tarball: expected a name like llama_cpp_python-0.3.36.tar.gz"

cache=${FOREBAY_CACHE:-$HOME/.cache/forebay}
prefix=$cache/llama-$version

# Position-independent code: our own libraries may be shared. No OpenMP: its threads would
# outlive the engine and spin. No native code: the cache may travel to another machine.
flags=(
  -DCMAKE_BUILD_TYPE=Release
  -DBUILD_SHARED_LIBS=OFF
  -DCMAKE_POSITION_INDEPENDENT_CODE=ON
  -DCMAKE_INSTALL_LIBDIR=lib
  -DGGML_NATIVE=OFF
  -DGGML_OPENMP=OFF
  -DGGML_CCACHE=OFF
  -DLLAMA_BUILD_COMMON=OFF
  -DLLAMA_BUILD_TOOLS=OFF
  -DLLAMA_BUILD_EXAMPLES=OFF
  -DLLAMA_BUILD_TESTS=OFF
  -DLLAMA_BUILD_SERVER=OFF
  -DLLAMA_BUILD_APP=OFF
  -DLLAMA_CURL=OFF
)
# Words of FOREBAY_LLAMA_FLAGS are flags, split on purpose.
# shellcheck disable=SC2206
flags+=(${FOREBAY_LLAMA_FLAGS:-})

stamp="forebay llama.cpp build 1
$name
${flags[*]}"

if [ -f "$prefix/forebay.stamp" ] && [ "$(cat "$prefix/forebay.stamp")" = "$stamp" ]; then
  echo "llama.cpp ($name) is already there" >&2
  echo "$prefix"
  exit 0
fi

for tool in cmake ninja tar c++; do
  command -v "$tool" > /dev/null || die "$tool is not installed"
done

mkdir -p "$cache"
work=$(mktemp -d "$cache/tmp.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

echo "llama.cpp: extracting $name" >&2
tar -xzf "$tarball" -C "$work" "$name/vendor/llama.cpp" ||
  die "$tarball: not a source distribution with vendor/llama.cpp inside"
source=$work/$name/vendor/llama.cpp

echo "llama.cpp: building with $(nproc) jobs, 2 to 4 minutes on 2 cores" >&2
log=$work/build.log
{
  cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_INSTALL_PREFIX="$work/prefix" "${flags[@]}" &&
    cmake --build "$work/build" --parallel "$(nproc)" &&
    cmake --install "$work/build"
} > "$log" 2>&1 || { tail -n 40 "$log" >&2; die "the build failed; its last lines are above"; }

# The two headers that llama.cpp keeps to itself: the layout of a buffer, and the report of
# memory. Both must match the libraries exactly, so they live in the same prefix.
private=$work/prefix/include/forebay-llama-private
mkdir -p "$private"
cp "$source/ggml/src/ggml-backend-impl.h" "$source/src/llama-ext.h" "$private/"
cp "$source/LICENSE" "$work/prefix/LICENSE.llama.cpp"
echo "$stamp" > "$work/prefix/forebay.stamp"

# The exported CMake files name no build folder, so the prefix may be moved. What it replaces
# is an older build or one with other flags.
if [ -e "$prefix" ]; then
  mv "$prefix" "$work/replaced"
fi
mv "$work/prefix" "$prefix"
echo "llama.cpp: installed" >&2
echo "$prefix"
