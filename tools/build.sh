#!/usr/bin/env bash
# Configures (when needed) and builds one preset: tools/build.sh PRESET [ninja targets]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:?usage: tools/build.sh PRESET [targets]}
shift
start=$SECONDS
if [ ! -e "build/$preset/build.ninja" ]; then
  mkdir -p "build/$preset"
  cmake --preset "$preset" > "build/$preset/configure.log" 2>&1 || { cat "build/$preset/configure.log" >&2; exit 1; }
fi
cmake --build --preset "$preset" -- "$@"
echo "built $preset in $((SECONDS - start)) s: build/$preset/bin" >&2
