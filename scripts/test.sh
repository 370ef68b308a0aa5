#!/usr/bin/env bash
# The quick tests, one process per core and a file at a time in their order (the longest must not come last), or
# whatever pytest arguments are given.
set -euo pipefail
source scripts/env.sh
export HF_HUB_OFFLINE=1
[ $# -gt 0 ] || set -- -m "not slow" -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder
.venv/bin/python -m pytest --durations=10 "$@"
