# The two commands of the README, and their parts. `make run` and `make test` need nothing but Python 3.11, 3.12 or 3.13; without
# PYTHON=... they take that of the environment that is there, or the first one that is found.
VENV ?= .venv
BIN = $(VENV)/bin
ASK = import sys; print("%d.%d" % sys.version_info[:2])
TRIED = python3.11 python3.12 python3.13 python3
ifndef PYTHON
PYTHON := $(shell for one in $(BIN)/python $(TRIED); do case "$$($$one -c '$(ASK)' 2> /dev/null)" in (3.11|3.12|3.13) echo $$one; break;; esac; done)
endif
VERSION := $(if $(PYTHON),$(shell $(PYTHON) -c '$(ASK)' 2> /dev/null))
FOUND = $(if $(VERSION),$(PYTHON) is Python $(VERSION),$(if $(PYTHON),$(PYTHON) does not run,none was found))
INSTALLED = $(VENV)/.installed-$(VERSION)
COVERAGE ?=

.PHONY: run quick test docs notebooks install install-test dist lint types format clean

run: install
	$(BIN)/python run_recbole.py --model=RPORec --dataset=ml-100k

# Before a commit: lint, types, the tests of single files and of the rooms; no run, no service.
quick: install-test lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses=2 --dist=loadfile tests/unit tests/test_layers.py

# Two processes with a thread each: models as small as those of the tests gain nothing from a second thread. Types are one of the tests.
test: install-test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder $(COVERAGE)

# The site, in build/site; a link to nothing is an error.
docs: install-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# The notebooks, run from their first cell to their last; what they print lands in build/notebooks.
notebooks: install-test
	OMP_NUM_THREADS=1 $(BIN)/python -m nbconvert --to notebook --execute --output-dir build/notebooks notebooks/*.ipynb

install: $(INSTALLED)

install-test: $(INSTALLED)-test

# The version is looked at before anything is downloaded, and an environment of another version is made anew.
$(INSTALLED): pyproject.toml setup.py constraints.txt requirements.txt packaging/ray/pyproject.toml
	@case "$(VERSION)" in (3.11|3.12|3.13) ;; (*) echo "This needs Python 3.11, 3.12 or 3.13; $(FOUND). Name one that you have:" \
	"make $(firstword $(MAKECMDGOALS) run) PYTHON=python3.12" >&2; exit 2;; esac
	@echo "Making $(VENV) with Python $(VERSION) and what requirements.txt names; this takes some minutes."
	@test "$$($(BIN)/python -c '$(ASK)' 2> /dev/null)" = $(VERSION) || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $@

$(INSTALLED)-test: $(INSTALLED)
	@echo "Adding what the tests need to $(VENV)."
	@$(BIN)/python -m pip install --quiet --requirement requirements.txt --editable ".[test]"
	@touch $@

# What can be given to others: the wheel, the source, and what the wheel needs on Python 3.12 and later (docs/dependencies.md).
# What an earlier build has left would go into the wheel, also where its source is gone.
dist: install
	$(BIN)/python -m pip install --quiet --requirement requirements.txt --editable ".[dist]"
	rm -rf build dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m build --wheel --outdir dist packaging/ray
	$(BIN)/python -m twine check --strict dist/*

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install-test
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info packaging/ray/build packaging/ray/*.egg-info .pytest_cache .mypy_cache .ruff_cache
