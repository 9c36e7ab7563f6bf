# Needs make and Python 3.11 or newer, nothing else: everything is installed into $(VENV).

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
ROUNDS ?= 300
SEED ?= 0

BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
RUN := $(BIN)/python -m
PYRIGHT := PATH="$(abspath $(BIN)):$$PATH" pyright
UV := $(shell command -v uv 2>/dev/null)

# Stamps: the environment exists; it can run the demo; the benchmarks; the tests and all checks.
MADE := $(VENV)/.made
DEMO := $(VENV)/.demo
BENCH := $(VENV)/.bench
DEV := $(VENV)/.dev

ifdef UV
create = $(UV) venv --quiet --seed --allow-existing --python "$(PYTHON)" $(VENV)
install = $(UV) pip install --quiet --python $(BIN)/python --constraint constraints.txt
else
create = $(PYTHON) -m venv $(VENV) && $(RUN) pip install --quiet --upgrade "pip>=25.1"
install = $(RUN) pip install --quiet --constraint constraints.txt
endif

.PHONY: help demo demo-remote test lint types docs bench bench-actors bench-remote bench-durable
.PHONY: simulate chaos coverage clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(DEMO)  ## index a folder of Python files (ARGS="FOLDER --json FILE")
	@$(BIN)/python examples/index_tree.py $(ARGS)

demo-remote: $(DEMO)  ## kill one of two workers and lose nothing (ARGS="FOLDER --limit N")
	@$(BIN)/python examples/remote/run.py $(ARGS)

test: lint types docs  ## check everything; ARGS go to pytest
	$(RUN) pytest $(ARGS)

lint: $(DEV)  ## style, spelling, import floors
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports --no-logo

types: $(DEV)  ## mypy and pyright, and that every public name has a type
	$(RUN) mypy
	$(PYRIGHT)
	$(PYRIGHT) --verifytypes actorq --ignoreexternal

docs: $(DEV)  ## build the documentation into docs/_build/html
	$(RUN) sphinx -W --keep-going --quiet docs docs/_build/html

bench: $(BENCH)  ## measure the local system
	$(BIN)/python benchmarks/local.py $(ARGS)

bench-actors: $(BENCH)  ## measure actors
	$(BIN)/python benchmarks/actors.py $(ARGS)

bench-remote: $(BENCH)  ## measure across processes, beside others (needs redis-server)
	$(BIN)/python benchmarks/remote.py $(ARGS)

bench-durable: $(BENCH)  ## measure on SQLite, beside others (needs postgres)
	$(BIN)/python benchmarks/durable.py $(ARGS)

simulate: $(DEV)  ## run thousands of simulated clusters (ARGS="--seeds N --start N")
	$(BIN)/python -m actorq.testing.simulation $(or $(ARGS),--seeds 3000)

chaos: $(DEV)  ## kill real processes on one file, again and again (ROUNDS=300 SEED=0)
	$(BIN)/python -m actorq.testing.chaos --rounds $(ROUNDS) --seed $(SEED)

coverage: $(DEV)  ## which branches the tests miss
	$(RUN) coverage run -m pytest $(ARGS)
	$(RUN) coverage report

clean:  ## remove everything that was made here, the environment too
	rm -rf $(VENV) build dist docs/_build .coverage .hypothesis .*_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit("actorq needs Python 3.11 or newer: make PYTHON=..." if sys.version_info < (3, 11) else 0)'
	$(create)
	@touch $@

$(DEMO): $(MADE) pyproject.toml constraints.txt
	$(install) --editable '.[process]' --group demo
	@touch $@

$(BENCH): $(MADE) pyproject.toml constraints.txt
	$(install) --editable '.[process]' --group bench
	@touch $@

$(DEV): $(MADE) pyproject.toml constraints.txt
	$(install) --editable '.[all]' --group dev
	@touch $(DEMO) $@
