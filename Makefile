# Every daily action. `make help` lists them.
PYTHON ?= python3
export Q PUBLISH
SPLIT ?= dev
BOOTSTRAP = $(PYTHON) native/bootstrap.py
DEV = $(BOOTSTRAP) python

.DEFAULT_GOAL := help
.PHONY: help build run ask smoke test test-helm test-compose images wheelhouse dashboards chart eval eval-rag eval-assistant-rag ab labels pictures bench-rag bench-gateway bench-overload loadtest bench-llm bench-llm-report quantize soak pretrain assistant \
	audit sbom lint format types openapi clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## install environments, models and documents; the other targets do it when they need it
	@$(BOOTSTRAP) build

run: ## set everything up, start the stack, answer a sample question (SOURCE=dir: your own documents)
	@$(BOOTSTRAP) run

ask: ## ask the running stack: make ask Q="How do I create a VPC?"
	@$(BOOTSTRAP) ask "$$Q"

smoke: ## start a stack on free ports, ask three questions, check citations, print figures as JSON
	@$(BOOTSTRAP) smoke

test: lint types ## everything: linters, types, import rules, unit and end-to-end tests
	@$(DEV) -m pytest -n2 --durations=30 --durations-min=5

test-helm: ## the chart: render, validate against Kubernetes and the services' settings (part of make test)
	@$(DEV) -m pytest tests/helm

test-compose: ## the Compose stack under a real Docker engine, with faults (part of make test; PUBLISH=1: docs/reliability.md)
	@$(DEV) -m pytest tests/compose

images: ## build every image (ARGS: see python3 compose/images.py build --help)
	@$(PYTHON) compose/images.py build $(ARGS)

wheelhouse: ## download what images are made of, to build them without a network: make images ARGS="--wheelhouse DIR"
	@$(PYTHON) compose/images.py wheelhouse $(ARGS)

dashboards: ## write Grafana's dashboards anew from grafana/boards (then 'make chart')
	@$(DEV) grafana/build.py

chart: ## bring the chart's rules, dashboards and table of values up to date
	@$(DEV) charts/generate.py

eval: ## the shipped retrieval beside its parts, on the test questions (minutes; writes nothing)
	@$(BOOTSTRAP) evaluate run --arms default,hybrid,bm25,dense

eval-rag: ## evaluate retrieval and answers on the test questions; writes docs/rag.md and docs/results/rag.json
	@$(BOOTSTRAP) eval-rag

ab: ## compare two arms on the same questions: make ab A=default B=mode=bm25,rerank=null (SPLIT=dev|test)
	@$(BOOTSTRAP) evaluate ab --a "$(A)" --b "$(B)" --split $(SPLIT) $(ARGS)

eval-assistant-rag: ## the assistant's adapter and its base model as writers of cited answers; writes docs/results/assistant-rag.json
	@$(BOOTSTRAP) eval-assistant-rag

labels: ## build the evaluation's questions anew
	@$(BOOTSTRAP) labels

pictures: ## the README's screenshots and screencast, of the running stack
	@$(DEV) docs/make_pictures.py $(ARGS)

bench-rag: ## retrieval beside LlamaIndex's, and reranking; writes docs/results/bench-rag.json
	@$(BOOTSTRAP) bench-rag $(ARGS)

pretrain: RECIPE ?= 4m-cpu
pretrain: ## a language model from nothing to its card: make pretrain RECIPE=4m-cpu (55m-cpu, 60m-gpu, smoke)
	@$(BOOTSTRAP) pretrain run --recipe training-jobs/recipes/pretrain-$(RECIPE).yaml $(ARGS)

assistant: RECIPE ?= smoke
assistant: ## the domain assistant, from documents to an evaluated adapter: make assistant RECIPE=smoke (135m-cpu, 135m-cpu-qlora, 8b-gpu)
	@$(BOOTSTRAP) assistant run --recipe training-jobs/recipes/assistant-$(RECIPE).yaml $(ARGS)

bench-gateway: ## the gateway against its peers, one core each (QUICK=1: 90 s; PEERS=all: LiteLLM and Portkey too)
	@$(BOOTSTRAP) bench-gateway $(ARGS)

bench-overload: ## the gateway with too much to do: overload, fairness, prefix affinity (QUICK=1: 2 minutes)
	@$(BOOTSTRAP) bench-overload

loadtest: ## Locust with its page on port 8089 (ARGS="--headless -u 20 -t 60s --host URL --csv out"; see loadtest/README.md)
	@$(BOOTSTRAP) loadtest $(ARGS)

bench-llm: ## naive serving, vLLM, our gateway, LiteLLM, features on and off (QUICK=1: minutes; ARGS="--url URL --model M": one server)
	@case "$(ARGS)" in *--url*) ;; *) $(BOOTSTRAP) quantize ;; esac
	@$(BOOTSTRAP) bench-llm $(ARGS)

bench-llm-report: ## write docs/benchmarks.md's tables and plots from the committed results
	@$(BOOTSTRAP) bench-llm-report

quantize: ## the model as an AWQ INT4 checkpoint, once (ARGS="--model file:DIR/merged --items DIR/data/train.jsonl --to DIR/awq": an assistant)
	@$(BOOTSTRAP) quantize $(ARGS)

soak: ## 30 minutes at 80 % load with faults (MINUTES=…; VLLM=1: real workers); writes loadtest/results/soak.json
	@$(BOOTSTRAP) soak $(ARGS)

audit: ## known vulnerabilities in every pinned package (ARGS="--service osv", "--ignore ID", or environments)
	@$(BOOTSTRAP) audit $(ARGS)

sbom: ## what is served, as CycloneDX bills of materials in sbom/
	@$(BOOTSTRAP) sbom $(ARGS)

lint: ## ruff and the import rules
	@$(DEV) -m ruff check .
	@$(DEV) -m ruff format --check .
	@$(DEV) -c "from importlinter.cli import lint_imports_command as c; c()"

PACKAGES = common extract gateway retriever reranker generator worker native
PACKAGES += jobs.assistant jobs.corpus jobs.labels jobs.command jobs.compiling jobs.evaluate jobs.hub jobs.metrics jobs.pretrain jobs.quantize jobs.recipes
PACKAGES += jobs.reranker
types: ## mypy, strict
	@$(DEV) -m mypy $(addprefix -p capstan.,$(PACKAGES))
	@cd grafana && $(PYTHON) ../native/bootstrap.py python -m mypy --config-file ../pyproject.toml build.py

format: ## let ruff format and fix what it can
	@$(DEV) -m ruff format .
	@$(DEV) -m ruff check --fix .

openapi: ## write each service's openapi.json anew
	@$(DEV) tests/openapi.py

clean: ## remove this checkout's state (index, keys, logs); the shared cache stays
	rm -rf .capstan
