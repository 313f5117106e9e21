# Two commands matter: `make demo` and `make test`. Each creates the environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out/demo
STAMP := $(VENV)/.installed

FACTS ?= counterfact.json
TEXT ?= plain.txt

.PHONY: demo real test test-slow lint format clean

demo: $(STAMP)
	$(BIN)/seqedit demo --out $(OUT)

# Real weights and real facts; docs/real.md. make real FACTS=counterfact.json TEXT=wikitext.txt
real: $(STAMP)
	$(BIN)/python -m benchmarks.real --facts $(FACTS) --text $(TEXT) --out out/real

test: lint
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Constraints keep every machine on the versions that were tested; the package itself only declares lower bounds.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "seqedit needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) out .mypy_cache .ruff_cache .pytest_cache
