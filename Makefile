# `make` alone lists the targets. Everything is installed into .venv, from the lock file, by the first target that needs it.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO ?= demo
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null && echo $$p && break; done)

.PHONY: help setup demo test test-fast test-cluster lint types bench docs pictures report-images lock clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## install soct and its tools into .venv

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "soct needs Python 3.11 to 3.14; none was found (set PYTHON=/path/to/python)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); } || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment (on Debian and Ubuntu: install python3-venv)" >&2; exit 1; }
	@echo "Installing soct and its tools into $(VENV), which takes a minute or two the first time."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## simulate a brain, reconstruct it, write the report (into demo/)
	$(BIN)/soct demo $(DEMO)

# Bytecode is kept whatever the environment says: the tests start hundreds of processes.
test: lint types $(STAMP) ## lint, types, import contracts and every test
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: $(STAMP) ## the tests that take seconds
	$(BIN)/python -m pytest -m "not slow"

test-cluster: $(STAMP) ## the tests that build images or need a Slurm (minutes each; skipped where it is absent)
	$(BIN)/python -m pytest -m cluster -o faulthandler_timeout=0 tests/cluster

lint: $(STAMP) ## style and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

bench: $(STAMP) ## side-by-side measurements (tables; JSON in benchmarks/results)
	@set -e; for b in benchmarks/*.py; do echo "== $$b"; $(BIN)/python $$b; done

docs: $(STAMP) ## write the pages of the steps from their declarations
	$(BIN)/python docs/step_pages.py

pictures: $(STAMP) ## draw what every step does, from a simulated run (minutes)
	$(BIN)/python docs/step_pictures.py build/pictures
	$(BIN)/python docs/step_pages.py

report-images: $(STAMP) ## draw pieces of the report for README and docs/report.md (a minute; needs Chromium)
	$(BIN)/python docs/report_images.py

UV_LOCK := uv pip compile --quiet --generate-hashes --no-annotate --no-header --no-emit-index-url
# What images install (containers/locks): without the tools of development, for Debian's Python, in the same versions.
IMAGE_LOCK := $(UV_LOCK) --python-version 3.11 --python-platform x86_64-manylinux_2_36

lock: ## resolve the lock files again (needs uv)
	$(UV_LOCK) --universal --group dev pyproject.toml -o requirements.lock
	$(IMAGE_LOCK) -c requirements.lock --extra dask pyproject.toml -o containers/locks/cpu.lock
	$(IMAGE_LOCK) -c requirements.lock --group pyproject.toml:image-build -o containers/locks/build.lock
	for v in cuda12 cuda13; do $(IMAGE_LOCK) -c containers/locks/cpu.lock --no-emit-package numpy \
		--group pyproject.toml:image-$$v -o containers/locks/$$v.lock || exit 1; done

clean: ## remove the demo, caches and build results (not .venv)
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
