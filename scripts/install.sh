#!/usr/bin/env bash
# Creates .venv and installs the package with the extras named ($1, such as "cpu,dev"); does nothing twice.
set -euo pipefail
stamp=".venv/installed-$1"
[ "$stamp" -nt pyproject.toml ] && [ "$stamp" -nt constraints.txt ] && exit 0
for other in cpu gpu; do  # faiss-cpu and faiss-gpu own the same module
  if [[ ",$1," != *",$other,"* ]] && compgen -G ".venv/installed-$other*" > /dev/null; then
    echo "install: .venv holds the extra '$other', '$1' was asked for; make clean, or give EXTRA=$other." >&2
    exit 2
  fi
done
"${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
# Bytecode is compiled when a module is first imported: most of what comes along never is.
# shellcheck disable=SC2086  # PIP_ARGS is a list of words
.venv/bin/python -m pip install --quiet --no-compile --constraint constraints.txt ${PIP_ARGS:-} --editable ".[$1]"
touch "$stamp"
