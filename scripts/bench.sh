#!/usr/bin/env bash
# Runs every benchmark, or those named, on the workspace's corpora; results and pictures go to benchmarks/results/.
# BENCH_CORPUS names the corpus; without it the sample corpus that `make demo` imported.
set -euo pipefail
source scripts/env.sh
[ $# -gt 0 ] || set -- benchmarks/[a-z]*.py
for script in "$@"; do .venv/bin/python "$script" --corpus "${BENCH_CORPUS:-sample}"; done
