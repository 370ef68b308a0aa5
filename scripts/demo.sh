#!/usr/bin/env bash
# The whole method on the sample corpus: import, index, train, evaluate, tag.
set -euo pipefail
source scripts/env.sh
.venv/bin/retrieveall --workspace "${RETRIEVEALL_WORKSPACE:-workspace}" quickstart "$@"
