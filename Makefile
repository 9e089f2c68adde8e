# What a person does with a checkout. `make` alone explains.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ONLY ?=
# Half of the time tests wait: four of them beside each other fill two cores.
PROCESSES ?= 4

.PHONY: help demo up test test-bench test-kubernetes lint audit format bench docs dashboards picture clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## a whole deployment on this machine, and what it does under load
	$(BIN)/python -m demo

up: $(INSTALLED) ## engines, Celery workers, beat and Flower, until Ctrl-C
	$(BIN)/stoker up

# Hundreds of Pythons are started, and each would compile anew what nobody may keep.
test test-bench test-kubernetes: export PYTHONDONTWRITEBYTECODE :=

test: $(INSTALLED) ## the tests, against real engines; all but those of the next two
	$(BIN)/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder --ignore tests/kubernetes --ignore tests/bench

test-bench: $(INSTALLED) ## that each bench works, quickly; what it measures is no test
	$(BIN)/pytest tests/bench

test-kubernetes: $(INSTALLED) ## the launcher of pods on a real API server; KUBECONFIG=file for a cluster of yours
	$(if $(KUBECONFIG),STOKER_TEST_KUBECONFIG=$(abspath $(KUBECONFIG))) STOKER_REQUIRE=kubernetes $(BIN)/pytest tests/kubernetes

lint: $(INSTALLED) ## style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(INSTALLED) ## known faults of the locked dependencies, where they can be looked up
	$(BIN)/python -m tests.support.audit

format: $(INSTALLED) ## put the style right
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(INSTALLED) ## measure; ONLY=claim for one of them
	$(BIN)/python -m bench $(ONLY)

docs: $(INSTALLED) ## draw docs/states.md from the tables of transitions
	$(BIN)/python -m tests.support.states_page

dashboards: $(INSTALLED) ## write deploy/grafana/dashboards from deploy/grafana/panels.py
	$(BIN)/python deploy/grafana/write.py

picture: $(INSTALLED) ## take docs/pictures/report.png of the last demo, or ONLY=flower of what `make up` runs; needs Chromium
	$(BIN)/python docs/pictures/$(if $(ONLY),$(ONLY).py,take.py demo-report.html) docs/pictures/$(or $(ONLY),report).png

clean: ## remove the environment and the caches; the state in .stoker stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# One resolution, by hash; then this project, without asking anybody for anything more.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "stoker needs Python >= 3.11, got $$($(PYTHON) -V 2>&1); name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
		echo "this Python has no venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
