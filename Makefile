# The commands of a contributor; CONTRIBUTING.md says more. `make test FILE=tests/renderers/test_bridge.py` runs one file.
PYTHON ?= python3
BIN := .venv/bin
FILE ?=

.PHONY: setup test slow real lint types

setup:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -e '.[dev]'

test:
	PATH="$(CURDIR)/$(BIN):$$PATH" pytest $(FILE) $(if $(FILE),-n 0)

slow:
	PATH="$(CURDIR)/$(BIN):$$PATH" pytest -m 'slow and not real'

real:
	for engine in vllm sglang; do .ci/install-engine $$engine || exit; done
	PATH="$(CURDIR)/$(BIN):$$PATH" pytest -m 'real and not slow' -n 0

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	.ci/types
