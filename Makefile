# The README's two commands (demo, test), the linter, and the branch coverage of gates and modes. PYTHON:
# interpreter, 3.11 or newer. VENV: where packages go. DEMO: arguments for `robotrl demo`, for example
# DEMO=--quick.
PYTHON ?= python3
VENV ?= .venv
DEMO ?=

.PHONY: demo test lint coverage

demo: $(VENV)/installed-train
	$(VENV)/bin/robotrl demo $(DEMO)

test: $(VENV)/installed-train,gpu,dev
	$(VENV)/bin/python -m pytest -n logical

lint: $(VENV)/installed-train,gpu,dev
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy

# Fails below 100 % of the branches of what pyproject.toml names. Its mutants: python -m tests.mutation.
coverage: $(VENV)/installed-train,gpu,dev
	$(VENV)/bin/python -m pytest -n logical tests/laws tests/runtime/test_modes.py --cov

# One stamp for each set of extras, so that a second call installs nothing.
$(VENV)/installed-%: pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e ".[$*]"
	touch $@
