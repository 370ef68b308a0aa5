#!/usr/bin/env bash
# Runs all benchmarks, or those named (`scripts/bench.sh mixed_batch passes`), one after the other, and writes
# the table of docs/performance.md. Long; run nothing else beside them.
# Those on sentences use RETRIEVEALL_WORKSPACE (what `make demo` made) and its corpus BENCH_CORPUS.
# Flags for a single one: .venv/bin/python benchmarks/NAME.py --help
set -euo pipefail
source scripts/env.sh
export PYTHONPATH=. HF_HUB_OFFLINE=1 RETRIEVEALL_WORKSPACE="${RETRIEVEALL_WORKSPACE:-workspace}"
corpus="--corpus ${BENCH_CORPUS:-sample}"
declare -A flags=(
  [mixed_batch]="" [peft_rivals]="" [continuous]="" [packed_training]="" [exactness]="--workspace $RETRIEVEALL_WORKSPACE $corpus"
  [passes]="$corpus" [prefix]="$corpus" [tagging]="$corpus" [routing]="$corpus --limit 500"
  [sharding]="$corpus --limit 100" [serve_load]="$corpus" [serve_hops]="$corpus" [mixed_queue]="$corpus" [scaling]="" [online]="$corpus --limit 1000"
  [faults]="$corpus" [offline]="$corpus" [offline_memory]="$corpus" [taught]="$corpus --language en" [scale_model]="" [prose]="" [substring]="$corpus"
)
[ $# -gt 0 ] || set -- exactness mixed_batch peft_rivals continuous packed_training passes prefix tagging routing sharding \
  taught serve_load serve_hops mixed_queue scaling online faults offline offline_memory scale_model
failed=()
for name in "$@"; do
  # shellcheck disable=SC2086  # flags are a list of words
  .venv/bin/python "benchmarks/$name.py" ${flags[$name]} || failed+=("$name")
done
.venv/bin/python benchmarks/table.py
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
