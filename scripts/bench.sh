#!/usr/bin/env bash
# Runs every benchmark (or those named); results and pictures go to benchmarks/results/.
set -euo pipefail
source scripts/env.sh
[ $# -gt 0 ] || set -- benchmarks/[a-z]*.py
for script in "$@"; do .venv/bin/python "$script"; done
