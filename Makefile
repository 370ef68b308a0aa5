# Everything here calls a script of scripts/, which continuous integration and people call too.
#   make demo PIP_ARGS="--extra-index-url URL"   passes words to pip, such as an index of CPU-only torch wheels
#   make test EXTRA=gpu                          faiss-gpu instead of faiss-cpu
#   make test PYTHON=python3.12                  the interpreter of .venv
EXTRA ?= cpu
PYTHON ?= python3
export PIP_ARGS PYTHON

.PHONY: help demo test lint types test-slow bench clean

help:
	@echo "make demo       install, then corpus → index → adapters → report → tags on the sample corpus"
	@echo "make test       install, then lint, types and quick tests"
	@echo "make test-slow  faults, cluster, browser, soak"
	@echo "make bench      benchmarks, or those of ONLY=\"passes tagging\"; results in benchmarks/results/"

demo:
	scripts/install.sh $(EXTRA)
	scripts/demo.sh $(DEMO_ARGS)

test: lint types
	scripts/test.sh

.venv-dev:
	scripts/install.sh $(EXTRA),dev

lint: .venv-dev
	scripts/lint.sh

types: .venv-dev
	scripts/types.sh

test-slow: .venv-dev
	scripts/test.sh -m slow --timeout 900

bench: .venv-dev
	scripts/bench.sh $(ONLY)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: .venv-dev
