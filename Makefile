# Two commands matter: `make demo` and `make test`. Each creates the environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out/demo
STAMP := $(VENV)/.installed
USED := $(VENV)/.installed-to-use
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

DATA ?= ../shared/data

.PHONY: demo real test test-slow coverage lint format docs clean

demo: $(USED)
	$(BIN)/seqedit demo --out $(OUT)

# Real weights and, from the folder DATA, real facts; docs/guide/real.md.
real: $(STAMP)
	$(BIN)/python -m benchmarks.real --data $(DATA) --out out/real $(REAL)

# Two processes of one thread each: small models leave a second thread idle most of the time.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile $(PYTEST)

# The same tests, and how many of the packages' lines they run (out/coverage/index.html says which they do not).
coverage:
	$(MAKE) test PYTEST="--cov --cov-report= --cov-report=html"
	@echo "coverage: $$($(BIN)/python -m coverage report --format=total) % of lines"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Strict: a broken link, a page outside the navigation or a public name without a docstring ends it.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean

# Constraints keep every machine on the versions that were tested; the package itself only declares lower bounds.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "seqedit needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# What using it needs, as README says; what working on it needs holds all of that.
$(USED): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) ".[report,lm-eval]"
	touch $@

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) ".[dev,docs]"
	touch $@ $(USED)

clean:
	rm -rf $(VENV) out .coverage .import_linter_cache .mypy_cache .ruff_cache .pytest_cache
