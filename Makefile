# `make demo` and `make test` need nothing but Python 3.11+ and make; a second run starts at once.

PYTHON ?= python3
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)
PY := $(BIN)/python
UV := $(shell command -v uv 2>/dev/null)
INSTALL = $(if $(UV),$(UV) pip install -q --python $(PY),$(PY) -m pip install -q --disable-pip-version-check)
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test test-all check format bench docs clean

demo: .venv/.core
	$(PY) -m sightline demo

test: .venv/.dev
	$(ONE_THREAD) $(PY) -m pytest -q -n 2

test-all: .venv/.oracle
	$(ONE_THREAD) $(PY) -m pytest -q -m ""

check: .venv/.dev
	$(BIN)/ruff format --check src tests bench examples docs
	$(BIN)/ruff check src tests bench examples docs
	$(BIN)/lint-imports
	$(BIN)/pyright

format: .venv/.dev
	$(BIN)/ruff format src tests bench examples docs
	$(BIN)/ruff check --fix src tests bench examples docs

bench: .venv/.oracle
	$(PY) -m bench

docs: .venv/.dev
	$(PY) docs/make.py

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sightline needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(if $(UV),$(UV) venv -q --allow-existing --python $(PYTHON) .venv,$(PYTHON) -m venv .venv)
	@touch $@

.venv/.core: .venv/.made pyproject.toml
	$(INSTALL) -e .
	@touch $@

.venv/.dev: .venv/.made pyproject.toml
	$(INSTALL) -e ".[dev]"
	@touch $@ .venv/.core

.venv/.oracle: .venv/.made pyproject.toml
	$(INSTALL) -e ".[dev,oracle]"
	@touch $@ .venv/.core .venv/.dev

clean:
	rm -rf .venv build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis
