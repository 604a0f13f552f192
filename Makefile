# Two targets for people: `make demo` and `make test`. Both make what they need, and are quick the
# second time. Nothing but Python 3.11 or later with its venv module is needed beforehand.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
WORKERS ?= 2

.PHONY: demo test lint docs wheel bench bench-full clean

demo: $(VENV)/.installed
	$(BIN)/sigma-ser demo --out runs/demo

test: $(VENV)/.installed-dev lint docs
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m build --outdir dist .

# BENCH="--features STORE --victims HEADS --compare BASE" and the like go to the command.
bench: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/bench.py --out runs/bench $(BENCH)

bench-full: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/bench.py --full --out runs/bench-full $(BENCH)

clean:
	rm -rf $(VENV) dist site

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sigma-ser needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

# torch comes first and pinned: the newest build would pull gigabytes of CUDA on a machine without it.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	$(PIP) "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.torch
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable ".[dev]"
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	$(PIP) --editable ".[dev,bench]"
	touch $@
