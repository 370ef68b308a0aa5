#!/usr/bin/env bash
# The quick tests, or whatever pytest arguments are given.
set -euo pipefail
source scripts/env.sh
export HF_HUB_OFFLINE=1
[ $# -gt 0 ] || set -- -m "not slow"
.venv/bin/python -m pytest --durations=10 "$@"
