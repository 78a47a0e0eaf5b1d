# Verbs only. `make run` and `make test` are all a newcomer needs; both set themselves up.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
PACKAGES := protos kit launcher $(patsubst %/pyproject.toml,%,$(sort $(wildcard services/*/pyproject.toml)))
export UV_PYTHON_DOWNLOADS := never
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

.PHONY: help setup lock run test check coverage soak composed bench gen native up down

help: ## these verbs
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(VENV)/.installed ## make the private environment in .venv

$(VENV)/.installed: requirements.lock $(PACKAGES:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it with make PYTHON=…"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "venv is missing: apt-get install python3-venv"; exit 1; }
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.6
	@$(UV) pip install --quiet --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --no-deps --no-build-isolation $(PACKAGES:%=-e ./%)
	@touch $@

lock: ## compile requirements.lock from the packages' requirements
	@test -x $(UV) || { echo "first: make setup"; exit 1; }
	$(UV) pip compile $(PACKAGES:%=%/pyproject.toml) --all-extras --group pyproject.toml:dev --generate-hashes \
		--no-emit-index-url --no-emit-package tovuk-kit --no-emit-package tovuk-protos --python-version 3.11 -q -o requirements.lock

run: setup ## the whole product on this machine, until Ctrl-C
	@exec $(BIN)/tovuk

check: setup ## style, types, architecture, the wire, the repository's own rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --diff --quiet . | grep '^---'; exit 1; }
	$(BIN)/mypy $(PACKAGES:%=%/src)
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check
	$(BIN)/pytest tests/tidy

test: check ## check, and every test but the soaks
	$(BIN)/pytest -m 'not soak'

soak: setup ## every test in its long form: many seeds, many kills, power cuts
	$(BIN)/pytest --full

composed: setup ## the product in containers, broken under load; needs Docker
	$(BIN)/pytest tests/composed

coverage: setup ## which sentences of the seed documents are proved, and by which test
	@$(BIN)/python tests/coverage/report.py

bench: setup ## measure against peers and limits, side by side
	$(BIN)/python -m bench

gen: setup ## the wire's Python and its golden list, from protos/
	$(BIN)/python protos/generate.py

native: setup ## SQLite with row counters, for exact row meters; needs Rust
	$(BIN)/python native/build.py

up: .env ## the same services in containers, on Redis, NATS and PostgreSQL
	docker compose up --build --detach --wait
	@echo "ready: http://127.0.0.1:$${TOVUK_PORT:-8080}; the first account's token is TOVUK_BOOTSTRAP_TOKEN in .env"

down: .env ## end the containers; their volumes stay
	docker compose down

.env:
	@(umask 077 && deploy/compose/secrets.sh > $@.new && mv $@.new $@)
