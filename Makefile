# The two commands of the README, and their parts. `make run` and `make test` need nothing but Python 3.10 or 3.11.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
COVERAGE ?=

.PHONY: run quick test docs install install-test lint types format clean

run: install
	$(BIN)/python run_recbole.py --model=RPORec --dataset=ml-100k

# Before a commit: lint, types, the tests of single files and of the rooms; no run, no service.
quick: install-test lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses=2 --dist=loadfile tests/unit tests/test_layers.py

# Two processes with a thread each: models as small as those of the tests gain nothing from a second thread.
test: install-test lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile $(COVERAGE)

# The site, in build/site; a link to nothing is an error.
docs: install-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

install: $(VENV)/.installed

install-test: $(VENV)/.installed-test

# torch first: pip then takes a build that is at hand instead of the newest one.
$(VENV)/.installed: pyproject.toml setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install-test
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
