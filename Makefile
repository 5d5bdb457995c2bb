# Everything here runs from a fresh clone: Python 3.11 or newer, make, and a network to the package registries.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Version managers leave shims that fail when they run: the first that works looks for the newest.
PYTHON ?= $(shell for python in python3 python python3.13 python3.12 python3.11 python3.14; do \
	if $$python -c "import sys; sys.exit(sys.version_info < (3, 8))" >/dev/null 2>&1; then \
	$$python scripts/pythons.py newest 2>/dev/null; break; fi; done)
# Jupyter refuses to run as root, which is who one is in most containers, unless it is told.
AS_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)

# Tools that are started as programs (jupyter, jupyter-nbconvert, papermill) come from the environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export UV_PYTHON_DOWNLOADS := never

.PHONY: help lab demo test programs soak lint format frontend bench bench-recorder bench-view bench-interrupts clean

help:  ## show these commands
	@awk -F '  ## ' '/^[a-z-]+:.*  ## / { split($$1, target, ":"); printf "  make %-17s %s\n", target[1], $$2 }' Makefile
	@echo
	@echo "  PYTHON=python3.12          the interpreter for a new $(VENV) (the newest that is found)"
	@echo "  LAB_ARGS='--port 9000'     more arguments for JupyterLab"
	@echo "  BENCH_ARGS=--quick         for bench, bench-view, bench-recorder, bench-interrupts: shorter"
	@echo "  TEST_ARGS='main -- -k x'   some steps only (main, notebooks, wheel); after -- for pytest"

lab: $(INSTALLED)  ## open the quickstart in JupyterLab
	@echo "Starting JupyterLab. Open the address that it prints; Ctrl-C here stops it."
	$(BIN)/jupyter lab $(AS_ROOT) --ServerApp.root_dir="$(CURDIR)" --log-level=WARN \
		--LabApp.default_url=/lab/tree/notebooks/quickstart.ipynb $(LAB_ARGS)

demo: $(INSTALLED)  ## run the quickstart here, leave out/quickstart.html and the metrics
	@$(BIN)/python scripts/run_quickstart.py

test: lint  ## run every test, on two Pythons and both ipykernel generations
	$(BIN)/python scripts/run_tests.py $(TEST_ARGS)

programs: $(INSTALLED)  ## ask real servers: llama.cpp, and LiteLLM before it; 15 minutes at most
	$(BIN)/python tests/real_programs/run.py

soak: $(INSTALLED)  ## 3,000 turns in five minutes, with faults and stops at random moments, and 200 interrupts
	$(BIN)/python tests/soak.py $(SOAK_ARGS)
	$(BIN)/python benchmarks/interrupts.py --no-file

lint: $(INSTALLED)  ## check style, types and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/build_frontend.py --check

format: $(INSTALLED)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

frontend: $(INSTALLED)  ## bundle what the page loads, into createagents_nb/notebook/static
	$(BIN)/python scripts/build_frontend.py

bench: $(INSTALLED)  ## measure speed, side by side with the SDKs and a raw socket
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

bench-recorder: $(INSTALLED)  ## measure the recorder with a million calls, side by side with a list
	$(BIN)/python benchmarks/recorder.py $(BENCH_ARGS)

bench-view: $(INSTALLED)  ## measure the live view in JupyterLab, side by side with update_display
	$(BIN)/python benchmarks/view.py $(BENCH_ARGS)

bench-interrupts: $(INSTALLED)  ## measure how long ■ takes, at 200 random moments of turns of all kinds
	$(BIN)/python benchmarks/interrupts.py $(BENCH_ARGS)

clean:  ## remove the environments and everything that was made
	rm -rf .venv .venv-wheel out dist build test-results *.egg-info
	rm -rf createagents_nb/notebook/frontend/node_modules
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	@python="$(PYTHON)"; if test -z "$$python"; then \
		echo "No Python from 3.11 to 3.14 that can make an environment was found. Install one (on Debian and" >&2; \
		echo "Ubuntu: python3 and python3-venv), or name one: make PYTHON=/path/to/python3" >&2; exit 1; fi; \
	"$$python" scripts/environment.py $(VENV) --python "$$python" -- -e ".[dev]"
	@touch $@
