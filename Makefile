# Clickmill. `make run` in a fresh clone sets everything up and runs the pipeline on simulated logs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

UV_VERSION := 0.13.9
PYTHON_VERSION := 3.10
UV := .tools/bin/uv
PYTHON := .venv/bin/python
STAMP := .venv/.clickmill-installed
CONFIG ?= tfx_config/simulated.yaml

.PHONY: help setup run test test-fast lint format bench lock clean

help: ## what this file can do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## create .venv from requirements.lock and install clickmill in it

run: $(STAMP) ## run the pipeline end to end on simulated logs (CONFIG=… another profile, MODELS=a,b only these)
	@.venv/bin/clickmill run --config $(CONFIG) $(if $(MODELS),--models $(MODELS))

test: $(STAMP) ## every test
	$(PYTHON) -m pytest -q

test-fast: $(STAMP) ## the tests that take seconds
	$(PYTHON) -m pytest -q -m "not slow and not e2e"

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

lock: $(UV) ## pin every dependency of setup.py again
	$(UV) pip compile setup.py --extra dev --python-version $(PYTHON_VERSION) -o requirements.lock \
		--no-emit-index-url --no-annotate --custom-compile-command "make lock"

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

$(STAMP): requirements.lock setup.py pyproject.toml | $(UV)
	@$(UV) python find --no-project --quiet $(PYTHON_VERSION) >/dev/null 2>&1 \
		|| $(UV) python install $(PYTHON_VERSION) \
		|| { echo "clickmill: no Python $(PYTHON_VERSION) was found and none could be downloaded." >&2; \
		     echo "  TFX 1.16 has wheels for Python 3.9 and 3.10. Install 3.10 (pyenv install 3.10, apt install python3.10-venv" >&2; \
		     echo "  or your distribution's package) so that python3.10 is on PATH, then run make again." >&2; exit 1; }
	@[ -x $(PYTHON) ] || $(UV) venv --quiet --python $(PYTHON_VERSION) .venv
	@echo "clickmill: installing $$(grep -c '==' requirements.lock) pinned packages in .venv"
	@$(UV) pip install --quiet --python $(PYTHON) -r requirements.lock
	@$(UV) pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation -e .
	@touch $@
