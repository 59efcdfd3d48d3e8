# Every target works in a fresh clone with only python3 and make: the environment is built on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# what runs need, and what tests and checks need besides
STAMP := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
PIP = $(BIN)/pip install --quiet --quiet --disable-pip-version-check --root-user-action ignore --no-compile --constraint constraints.txt --editable

.PHONY: demo gpu test check format lint types layers docs install clean

install: $(DEV)

$(STAMP): pyproject.toml constraints.txt
	@echo "installing the package and what it needs (torch among them) into $(VENV): one or two minutes, once"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) .
	@touch $(STAMP)

$(DEV): $(STAMP)
	@echo "installing what tests and checks need besides into $(VENV)"
	@$(PIP) ".[test,dev]"
	@touch $(DEV)

demo: $(STAMP)
	@$(BIN)/python run_example/demo.py

gpu: $(DEV)
	$(BIN)/python benchmarks/first_gpu_run.py

test: $(DEV)
	$(BIN)/python -m pytest -n 2

check: format lint types layers test

format: $(DEV)
	$(BIN)/ruff format --check .

lint: $(DEV)
	$(BIN)/ruff check .

types: $(DEV)
	$(BIN)/mypy

layers: $(DEV)
	$(BIN)/lint-imports --no-logo --cache-dir .mypy_cache/imports

docs: $(DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
