#!/usr/bin/env bash
# Style and format, without changing anything; `ruff check --fix . && ruff format .` mends.
set -euo pipefail
.venv/bin/ruff check .
.venv/bin/ruff format --check .
