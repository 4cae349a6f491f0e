# Every daily action. `make help` lists them.
PYTHON ?= python3
export Q
BOOTSTRAP = $(PYTHON) native/bootstrap.py
DEV = $(BOOTSTRAP) python

.DEFAULT_GOAL := help
.PHONY: help run ask smoke test bench-gateway bench-overload lint format types openapi clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## set everything up, start the stack, answer a sample question (SOURCE=dir: your own documents)
	@$(BOOTSTRAP) run

ask: ## ask the running stack: make ask Q="How do I create a VPC?"
	@$(BOOTSTRAP) ask "$$Q"

smoke: ## start a stack on free ports, ask three questions, check citations, print figures as JSON
	@$(BOOTSTRAP) smoke

test: lint types ## everything: linters, types, import rules, unit and end-to-end tests
	@$(DEV) -m pytest

bench-gateway: ## the gateway against its peers, one core each (QUICK=1: 90 s; PEERS=all: LiteLLM and Portkey too)
	@$(BOOTSTRAP) bench-gateway $(ARGS)

bench-overload: ## the gateway with too much to do: overload, fairness, prefix affinity (QUICK=1: 2 minutes)
	@$(BOOTSTRAP) bench-overload

lint: ## ruff and the import rules
	@$(DEV) -m ruff check .
	@$(DEV) -m ruff format --check .
	@$(DEV) -c "from importlinter.cli import lint_imports_command as c; c()"

PACKAGES = common gateway retriever reranker generator worker jobs.corpus native
types: ## mypy, strict
	@$(DEV) -m mypy $(addprefix -p capstan.,$(PACKAGES))

format: ## let ruff format and fix what it can
	@$(DEV) -m ruff format .
	@$(DEV) -m ruff check --fix .

openapi: ## write each service's openapi.json anew
	@$(DEV) tests/openapi.py

clean: ## remove this checkout's state (index, keys, logs); the shared cache stays
	rm -rf .capstan
