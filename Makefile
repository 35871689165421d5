# Clickmill. `make run` in a fresh clone sets everything up and runs the pipeline on simulated logs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The newer stack's wheels need glibc 2.39 (Ubuntu 24.04, Debian 13): where it is older, or unknown, the older one.
STACKS := py310-tfx116 py313-tfx121
NEEDS := 2.39
GLIBC := $(shell getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)
STACK ?= $(if $(filter $(NEEDS),$(shell printf '%s\n' $(NEEDS) "$(GLIBC)" | sort -V | head -n 1)),py313-tfx121,py310-tfx116)
$(if $(filter $(STACKS),$(STACK)),,$(error STACK is one of $(STACKS). Received: $(STACK)))
PYTHON_OF = $(if $(filter py313-%,$(1)),3.13,3.10)
PYTHON_VERSION := $(call PYTHON_OF,$(STACK))
LOCK := requirements/$(STACK).lock

UV_VERSION := 0.13.9
UV := .tools/bin/uv
PYTHON := .venv/bin/python
STAMP := .venv/.clickmill-$(STACK)
CONFIG ?= tfx_config/simulated.yaml

.PHONY: help setup stack run test test-fast lint format bench lock clean

help: ## what this file can do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## create .venv from the lock of this machine's stack and install clickmill in it (STACK=… the other one)

stack: ## which of the two stacks this machine takes
	@echo $(STACK)

run: $(STAMP) ## run the pipeline end to end on simulated logs (CONFIG=… another profile, MODELS=a,b only these)
	@.venv/bin/clickmill run --config $(CONFIG) $(if $(MODELS),--models $(MODELS))

SERVING ?= serving_models
.PHONY: serve
serve: $(STAMP) ## serve the newest release: gateway (8080), model server's gRPC (8500) and REST (8501), until Ctrl-C (SERVING=…)
	@.venv/bin/clickmill gateway --root $(SERVING) --label latest --with-server

AIRFLOW ?= 3
.PHONY: airflow
airflow: $(STAMP) ## a real Airflow (AIRFLOW=2 or 3) runs a day of a small pipeline, then serves its page until Ctrl-C
	$(PYTHON) -m tests.drills.scheduled.standalone --airflow $(AIRFLOW) --stay

# Each part of the tests is a process of its own (tests/house/parts.py says why), and this many run at a time.
WORKERS ?= 2
TESTS := $(PYTHON) -m tests.house.parts --lanes $(WORKERS)

test: $(STAMP) ## every test (WORKERS=1: one after another)
	$(TESTS)

test-fast: $(STAMP) ## the tests that take seconds
	$(TESTS) -m "not slow and not e2e"

.PHONY: test-stack
test-stack: $(STAMP) ## of the fast tests those whose outcome may differ between the stacks (.ci/modern)
	$(TESTS) --stack -m "not slow and not e2e"

.PHONY: browser
browser: $(STAMP) ## Chromium and Playwright, with which the tests look at the pages; they skip that without
	@.ci/browser

lint: $(STAMP) ## formatting and static checks
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy clickmill features evaluation

format: $(STAMP) ## apply the formatter and the safe fixes
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

.PHONY: map docs
map: ## the structure of the code: rooms, folders, entries, import arrows, circles
	@python3 tests/house/structure.py

docs: $(STAMP) ## write the generated pages: configuration, command line, results
	$(PYTHON) -m tests.house.config_reference
	$(PYTHON) -m tests.house.cli_reference
	$(PYTHON) -m benchmarks results

bench: $(STAMP) ## measure data preparation and training (python -m benchmarks lists the others, some of which run for hours)
	$(PYTHON) -m benchmarks data_prep
	$(PYTHON) -m benchmarks training

.PHONY: drills
drills: $(STAMP) ## hours: 20,000 random tables against the naive ingest, 200,000 inputs to the server, 100,000 bodies to the gateway, 20 runs that are killed and run again, a million explored lists, a server overloaded and switched, days by a real Airflow, 1,000 requests by every signature, 90 mistakes
	$(PYTHON) -m tests.drills.ingest.random_tables --tables 20000
	$(PYTHON) -m tests.drills.fuzz.fuzz_server --inputs 200000
	$(PYTHON) -m tests.drills.gateway.fuzz_gateway --bodies 80000 --schemathesis 5000
	$(PYTHON) -m tests.drills.gateway.overload --seconds 60
	$(PYTHON) -m tests.drills.gateway.release_switch --switches 20
	$(PYTHON) -m tests.drills.gateway.stage_faults
	$(PYTHON) -m tests.drills.append_behaviors
	$(PYTHON) -m tests.drills.kill_run --kills 20
	$(PYTHON) -m tests.drills.kill_promote --kills 20
	$(PYTHON) -m tests.drills.explored_traffic
	$(PYTHON) -m tests.drills.scheduled.two_runs
	$(PYTHON) -m tests.drills.scheduled.standalone --airflow 2 --days 2
	$(PYTHON) -m tests.drills.scheduled.standalone --airflow 3 --server postgresql
	CLICKMILL_AIRFLOW=2,3 $(PYTHON) -m pytest -q tests/pipeline/schedule
	$(PYTHON) -m tests.drills.under_load.overload --seconds 60
	$(PYTHON) -m tests.drills.under_load.switch --moves 10
	$(PYTHON) -m tests.drills.parity.parity --requests 1000
	$(PYTHON) -m pytest -q tests/features/ingest/suite tests/pipeline/cli/test_mistakes.py tests/pipeline/cli/test_bad_arguments.py

# What .ci/airflow installs is apart from the environment.
.PHONY: lock-airflow
lock-airflow: $(UV) ## pin both Airflows of `make airflow` again
	$(call pin_airflow,2,2.11.2,3.11)
	$(call pin_airflow,3,3.3.2,3.12)

define pin_airflow
	printf 'apache-airflow==%s\napache-airflow-providers-cncf-kubernetes\n' $(2) | UV_PYTHON_DOWNLOADS=never $(UV) pip compile - --quiet \
		-o requirements/airflow-$(1).lock --python-version $(3) --python-platform x86_64-manylinux_2_28 \
		--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock-airflow"
endef

lock: $(UV) ## pin every dependency of setup.py again, for both stacks
	$(call pin,py310-tfx116,x86_64-manylinux_2_28)
	$(call pin,py313-tfx121,x86_64-manylinux_2_39)

define pin
UV_PYTHON_DOWNLOADS=never $(UV) pip compile setup.py --extra dev --quiet -o requirements/$(1).lock \
		--python-version $(call PYTHON_OF,$(1)) --python-platform $(2) \
		--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock"
endef

clean: ## remove environments, runs and pushed models (data/ stays)
	rm -rf .venv .tools .pytest_cache .ruff_cache .hypothesis build dist *.egg-info runs serving_models

# A venv may lack pip, or be half made after an interrupt: build it anew whenever uv is not there in this version.
$(UV): Makefile
	@command -v python3 >/dev/null || { echo "clickmill: python3 was not found on PATH. Install Python $(PYTHON_VERSION)." >&2; exit 1; }
	@if [ "$$($(UV) --version 2>/dev/null | cut -d' ' -f2)" != "$(UV_VERSION)" ]; then \
		echo "clickmill: installing uv $(UV_VERSION) in .tools"; \
		rm -rf .tools; \
		python3 -m venv .tools || { echo "clickmill: python3 -m venv failed. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
		.tools/bin/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"; \
	fi
	@touch $@

# Where pyenv finds several versions, its shims answer for the one that PYENV_VERSION names.
$(STAMP): $(LOCK) setup.py pyproject.toml | $(UV)
	@echo "clickmill: $(STACK) (Python $(PYTHON_VERSION)): $(if $(filter file,$(origin STACK)),glibc is $(or $(GLIBC),unknown) and the newer stack needs $(NEEDS),as asked for by STACK=)"
	@if pyenv latest $(PYTHON_VERSION) >/dev/null 2>&1; then export PYENV_VERSION="$$(pyenv latest $(PYTHON_VERSION))"; fi; \
	$(UV) python find --no-project --quiet $(PYTHON_VERSION) >/dev/null 2>&1 \
		|| $(UV) python install $(PYTHON_VERSION) \
		|| { echo "clickmill: no Python $(PYTHON_VERSION) was found and none could be downloaded." >&2; \
		     echo "  Install it (pyenv install $(PYTHON_VERSION), or your distribution's python$(PYTHON_VERSION) and python$(PYTHON_VERSION)-venv)" >&2; \
		     echo "  so that python$(PYTHON_VERSION) is on PATH, then run make again." >&2; exit 1; }; \
	[ "$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$(PYTHON_VERSION)" ] \
		|| $(UV) venv --quiet --clear --python $(PYTHON_VERSION) .venv
	@echo "clickmill: installing $$(grep -c '==' $(LOCK)) pinned packages in .venv"
	@$(UV) pip install --quiet --python $(PYTHON) -r $(LOCK)
	@$(UV) pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation -e .
	@rm -f .venv/.clickmill-* && touch $@
