# The first two minutes: `make demo`, `make test`. Both need only Python >= 3.11, make and git.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check format pins clean

help:
	@echo "make demo    optimise a small net on built-in data, print the table, name the report"
	@echo "make test    all tests and doctests"
	@echo "make check   ruff, strict mypy, import-linter"
	@echo "make format  let ruff format and fix"
	@echo "make pins    write constraints.txt from what is installed"

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Steelyard needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.engines: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing Steelyard with its engines into $(VENV); PyTorch is large, the first time takes some minutes"
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.engines
	$(BIN)/python -m pip install --quiet --editable '.[all,dev]'
	@touch $@

demo: $(VENV)/.engines
	@rm -rf runs/demo
	$(BIN)/steelyard optimize examples/digits.py --require "accuracy drop <= 3%" --require "latency <= 0.7x" --budget 110s --out runs/demo

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n logical --dist worksteal

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

pins: $(VENV)/.dev
	@(echo "# Exact versions that Steelyard is tested with; 'make pins' writes this file."; \
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '@' | sort -f) > constraints.txt

clean:
	rm -rf $(VENV) runs dist build .mypy_cache .ruff_cache .pytest_cache
