# From a clone to a forecast: `make demo`. To check everything: `make test`.
#
# PYTHON is the interpreter the virtual environment is made with (>= 3.11); without it, the first
# that fits is taken. pip's own settings (PIP_INDEX_URL, ...) apply: on Linux without a GPU,
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu spares the download of CUDA.

SHELL := /bin/sh
FITS := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	if "$$p" -c '$(FITS)' 2>/dev/null; then echo "$$p"; break; fi; done)
VENV ?= .venv
CLIMATE ?= .venv-climate
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet -c constraints.txt
WORKERS ?= 2
SPHINX := $(BIN)/sphinx-build --fail-on-warning --keep-going --quiet

export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-climate lint format docs clean distclean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 12

demo: $(VENV)/.demo  ## Install, forecast a week of ERA5, print scores, leave forecast.zarr and .png
	$(BIN)/python tutorials/demo.py

test: lint docs  ## Everything that must hold: lint, docs, tests, benchmarks
	$(BIN)/python -m pytest -n $(WORKERS) --ignore=tests/benchmarks
	$(BIN)/python -m pytest -p no:xdist --benchmark-enable tests/benchmarks

test-climate: $(CLIMATE)/.climate  ## Three simulated days of the climate model, in its own environment
	$(CLIMATE)/bin/python -m pytest -o addopts="-ra --import-mode=importlib" tests/climate

lint: $(VENV)/.test  ## Style, types, and the walls between the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test  ## Rewrite the files in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.test  ## Build docs/_build/html, warnings are errors
	$(SPHINX) -b html docs docs/_build/html

clean:  ## Remove what was built, keep the virtual environment
	rm -rf build dist docs/_build docs/jupyter_execute forecast.zarr forecast.png
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -not -path './$(CLIMATE)/*' -prune -exec rm -rf {} +

distclean: clean  ## Remove the virtual environment too
	rm -rf $(VENV) $(CLIMATE)

# A Python without ensurepip (Debian's, without python3-venv) lends the environment its own pip.
$(BIN)/python:
	@python='$(PYTHON)'; \
	if [ -z "$$python" ]; then \
		echo "xwx needs Python >= 3.11, and none was found: make PYTHON=/path/to/python3 ..." >&2; \
		exit 1; \
	fi; \
	if ! "$$python" -c '$(FITS)' 2>/dev/null; then \
		echo "xwx needs Python >= 3.11, and $$python is not that: $$("$$python" --version 2>&1)" >&2; \
		exit 1; \
	fi; \
	"$$python" -m venv $(VENV) >/dev/null 2>&1 || { \
		"$$python" -m venv --clear --without-pip $(VENV) && \
		"$$python" -m pip --python $(BIN)/python install --quiet pip; \
	}

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): a minute or more, torch is the large one"
	@$(INSTALL) -e '.[plot]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV) with what the tests need: some minutes"
	@$(INSTALL) -e '.[test]'
	@touch $@ $(VENV)/.demo

# The climate model brings a hundred packages: they stay out of the environment of the tests.
$(CLIMATE)/.climate: pyproject.toml constraints.txt
	@echo "Installing into $(CLIMATE) with the climate model: some minutes"
	@$(MAKE) --no-print-directory VENV=$(CLIMATE) $(CLIMATE)/bin/python
	@echo '*' >$(CLIMATE)/.gitignore
	@$(CLIMATE)/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt \
		-e '.[climate]' pytest
	@touch $@
