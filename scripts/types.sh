#!/usr/bin/env bash
# Static types of the packages, strict.
set -euo pipefail
.venv/bin/mypy
