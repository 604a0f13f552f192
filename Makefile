# `make demo` shows what the package does, `make check` takes under two minutes and is meant for every
# change, `make test` is everything and must pass before a change is merged. Each target installs what
# it needs and is quick the second time. Only Python 3.11 or later with its venv module is required.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
WORKERS ?= 2
# Independent targets run side by side: the documentation is built while mypy works.
MAKEFLAGS += --jobs=2

# More than one thread in each of several processes is slower than one, and changes the last bits.
# Freed memory of waveforms stays with the process, which saves half of the system time. Compiled
# modules are kept, also where PYTHONDONTWRITEBYTECODE is set: many tests start a new interpreter.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= \
	MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 \
	MALLOC_TOP_PAD_=67108864 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: demo shell check test lint docs coverage wheel bench bench-full clean

demo: $(VENV)/.installed
	@$(BIN)/sigma-ser demo --out runs/demo

# A shell in which `sigma-ser` and `python` are those of the environment.
shell: $(VENV)/.installed
	@echo "sigma-ser is ready; leave this shell with: exit"
	@PATH="$(abspath $(BIN)):$$PATH" VIRTUAL_ENV="$(abspath $(VENV))" $${SHELL:-sh}

check: $(VENV)/.installed-dev lint
	$(PYTEST) -q -m "not real and not study and not slow"

test: $(VENV)/.installed-dev lint docs
	$(PYTEST)

# Lines and branches that no test reaches are listed by module; fully covered modules are left out.
coverage: $(VENV)/.installed-dev
	$(PYTEST) -q --cov --cov-report=term-missing:skip-covered $(TESTS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev docs/tutorial/first-hour.md
	$(BIN)/python tools/draw_architecture.py docs/images/architecture.svg
	$(BIN)/typer sigma_ser.cli.root utils docs --name sigma-ser --title Commands --output docs/reference/commands.md >/dev/null
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The tutorial is executed again when it or the package has changed.
docs/tutorial/first-hour.md: docs/tutorial/first-hour.ipynb $(shell find src -name '*.py') | $(VENV)/.installed-dev
	$(BIN)/python -m nbconvert --log-level WARN --to markdown --execute --output first-hour $<

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m build --outdir dist .

# BENCH="--features STORE --victims HEADS --compare BASE" and the like go to the command.
bench: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/bench.py --out runs/bench $(BENCH)

bench-full: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/bench.py --full --out runs/bench-full $(BENCH)

clean:
	rm -rf $(VENV) dist site .coverage* docs/images/architecture.svg docs/reference/commands.md docs/tutorial/first-hour.md docs/tutorial/first-hour_files

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sigma-ser needs Python 3.11 or later; set PYTHON=")'
	@$(PYTHON) -m venv $(VENV)

# torch comes first, since its build decides on gigabytes: on Linux, that of PyPI contains CUDA. Without a
# GPU: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV); this takes a few minutes the first time."
	@$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.torch
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable ".[dev]"
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	$(PIP) --editable ".[dev,bench]"
	touch $@
