# make train: install into .venv and train on the embedded survey. make test: linter, type checker, import rules, tests.
# make docs: the documentation, its notebooks executed, warnings as errors.
# make lowest: the tests with the lowest versions that pyproject.toml allows. make lock: renew constraints.txt.
PYTHON ?= python3
VENV ?= .venv
CONFIG ?= fused.yaml
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TESTS := -m pytest -n 2 --dist loadfile

.PHONY: install train test docs lint lowest lock clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml setup.py constraints.txt
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
	OMP_NUM_THREADS=1 $(RUN) $(TESTS)

docs: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(RUN) -m sphinx -W --keep-going -q -b html docs docs/_build

lowest:
	$(PYTHON) -m venv --clear .venv.lowest
	.venv.lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv.lowest/bin/uv pip install --quiet --python .venv.lowest/bin/python --resolution lowest-direct --editable '.[dev]'
	OMP_NUM_THREADS=1 .venv.lowest/bin/python $(TESTS)

lock:
	$(PYTHON) -m venv --clear .venv.lock
	.venv.lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv.lock/bin/uv pip compile --quiet --upgrade --python .venv.lock/bin/python --extra dev \
		--no-header --no-annotate --no-emit-index-url --output-file constraints.txt pyproject.toml
	rm -rf .venv.lock

clean:
	rm -rf $(VENV) docs/_build docs/.jupyter_cache docs/jupyter_execute .venv.lowest .venv.lock *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
