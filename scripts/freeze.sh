#!/usr/bin/env bash
# Rewrites constraints.txt from .venv; pins of extras that are not installed there are kept.
set -euo pipefail
fresh=$(.venv/bin/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$//')
kept=$(grep -v '^#' constraints.txt | grep -E '^(faiss-gpu-cu12|sentence-transformers)==')
{ sed -n 1p constraints.txt; printf '%s\n%s\n' "$fresh" "$kept" | sort -fu; } > constraints.new
mv constraints.new constraints.txt
