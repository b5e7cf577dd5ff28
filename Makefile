# make train: install into .venv and train on the embedded survey. make test: linter, type checker, import rules, tests.
PYTHON ?= python3
VENV ?= .venv
CONFIG ?= fused.yaml
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: install train test lint clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	touch $@

train: install
	$(RUN) scripts/train.py --config $(CONFIG)

lint: $(VENV)/.installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

test: lint
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
