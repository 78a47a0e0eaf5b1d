# Verbs only. `make run` and `make test` are all a newcomer needs; both set themselves up.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
PROJECTS := protos kit launcher services/control services/gateway services/kv services/metering
EDITABLES := protos kit launcher services/control services/gateway services/kv services/metering
export UV_PYTHON_DOWNLOADS := never
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

.PHONY: help setup lock run test check gen coverage bench up down

help: ## the verbs
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock $(PROJECTS:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it with make PYTHON=…"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "venv is missing: apt-get install python3-venv"; exit 1; }
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.6
	@$(UV) pip install --quiet --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --no-deps --no-build-isolation $(EDITABLES:%=-e ./%)
	@touch $@

lock: ## compile requirements.lock from the packages' requirements
	$(UV) pip compile $(PROJECTS:%=%/pyproject.toml) --all-extras --group pyproject.toml:dev --generate-hashes \
		--no-emit-index-url --no-emit-package tovuk-kit --no-emit-package tovuk-protos --python-version 3.11 -q -o requirements.lock

gen: setup ## generate the wire's Python from protos/
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=protos/src --pyi_out=protos/src --grpc_python_out=protos/src $$(cd protos && find tovuk -name '*.proto' | sort)
