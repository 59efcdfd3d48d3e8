# Every target works in a fresh clone with only python3 and make: the environment is built on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo gpu test check format lint types install clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test,dev]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python run_example/demo.py

gpu: $(STAMP)
	$(BIN)/python benchmarks/first_gpu_run.py

test: $(STAMP)
	$(BIN)/python -m pytest -n 2

check: format lint types test

format: $(STAMP)
	$(BIN)/ruff format --check .

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
