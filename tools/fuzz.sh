#!/usr/bin/env bash
# Builds the fuzz targets (preset fuzz, clang) and runs each for SECONDS, two at a time, from the kept corpus and the
# seeds; ends with a table. A finding fails, and stays below build/fuzz/findings with the command that repeats it.
#   tools/fuzz.sh [SECONDS [SEED]]   default 60, and a seed of the time: each run looks elsewhere. With a seed of your own
#                                    the same tree meets the same inputs: CI's verdict must not depend on luck
#   tools/fuzz.sh --merge            adds to tests/fuzz/corpus what the last runs found and the corpus does not cover
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-60}" in
  -h | --help) sed -n '2,6p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
esac
targets=(sweep_yaml sweep_proto gguf safetensors manifest events event_log)
bin=build/fuzz/bin work=build/fuzz/corpus findings=build/fuzz/findings

command -v clang++ >/dev/null || { echo "fuzz: clang++ is missing: install the packages clang and libclang-rt-dev" >&2; exit 1; }
tools/build.sh fuzz fuzzers

if [ "${1:-}" = --merge ]; then
  for t in "${targets[@]}"; do
    mkdir -p "tests/fuzz/corpus/$t" "$work/$t"
    "$bin/fuzz_$t" -set_cover_merge=1 -use_counters=0 -max_len=2048 "tests/fuzz/corpus/$t" "$work/$t" 2>&1 | tail -1
  done
  exit 0
fi

seconds=${1:-60} seed=${2:-0}
rm -rf "$findings"
mkdir -p "$findings"
run() {  # TARGET
  local t=$1
  mkdir -p "$work/$t" "$findings/$t"
  "$bin/fuzz_$t" --write-seeds "$work/$t"
  local kept=()
  [ ! -d "tests/fuzz/corpus/$t" ] || kept=("tests/fuzz/corpus/$t")
  # The limits find what hangs and what allocates by a length that only the input states.
  "$bin/fuzz_$t" -seed="$seed" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=256 \
    -print_final_stats=1 -artifact_prefix="$findings/$t/" "$work/$t" ${kept[@]+"${kept[@]}"} > "$findings/$t.log" 2>&1
}
export -f run
export bin work findings seconds seed
failed=0
printf '%s\n' "${targets[@]}" | xargs -P 2 -I{} bash -c 'set -euo pipefail; run {}' || failed=1

printf '%-14s %12s %10s %8s\n' target executions coverage corpus
for t in "${targets[@]}"; do
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$findings/$t.log" 2>/dev/null || true)
  coverage=$(grep -o 'cov: [0-9]*' "$findings/$t.log" 2>/dev/null | tail -1 | cut -d' ' -f2 || true)
  printf '%-14s %12s %10s %8s\n' "$t" "${executions:--}" "${coverage:--}" "$(ls "$work/$t" | wc -l)"
done
if [ "$failed" != 0 ]; then
  for t in "${targets[@]}"; do
    for input in "$findings/$t"/*; do
      [ -e "$input" ] || continue
      grep -A1 -m1 -E 'broken promise|ERROR: |runtime error' "$findings/$t.log" >&2 || true
      tail -40 "$findings/$t.log" >&2
      echo "fuzz: the input is $(head -c 4096 "$input" | base64 -w0)" >&2
      echo "fuzz: $t fails on $input; repeat it with: $bin/fuzz_$t $input" >&2
    done
  done
  echo "fuzz: a target failed; the logs are $findings/*.log" >&2
  exit 1
fi
