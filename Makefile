# Everything sets itself up: a fresh clone needs Python 3.11 to 3.13, Node and make.
PYTHON ?= python3
VENV   ?= .venv
CLUSTERS ?= stand-in
BIN     = $(VENV)/bin
AZURITE = local/azurite/node_modules/.package-lock.json
JUDGES  = .venv-judges

.PHONY: demo up test check bench start setup judges lock clean
.DEFAULT_GOAL := help

help: ## What there is to make
	@grep -hE '^[a-z]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.ready $(AZURITE) ## Install what the rest needs (the rest does it by itself)

demo: setup ## A fleet on this machine: refreshed, broken, mended, proved, and gone again
	$(BIN)/python -m local.demo --clusters $(CLUSTERS)

up: setup ## The same, left running until Ctrl-C
	$(BIN)/python -m local.demo --clusters $(CLUSTERS) --keep

test: setup ## All tests
	$(BIN)/pytest -n 4 $(TESTS)

check: $(VENV)/.ready ## Format, lint, types, import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

bench: setup ## Cold start and cost of a refresh, as ratios
	$(BIN)/python -m tests.bench

start: setup ## Azure Functions Core Tools, with local.settings.json and Azurite's default ports
	test -f local.settings.json || cp local.settings.sample.json local.settings.json
	func start

judges: $(JUDGES)/.ready ## The Azure CLI (0.7 GB) and others that tests/docs ask about the documentation; needs Go

lock: $(VENV)/.ready ## Pin the newest versions, with hashes
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade --group dev \
	  --custom-compile-command "make lock" pyproject.toml -c requirements.txt -o requirements-dev.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade \
	  --custom-compile-command "make lock" tests/docs/judges/requirements.in -o tests/docs/judges/requirements.txt

clean: ## Remove what setup made
	rm -rf .venv* local/azurite/node_modules

$(VENV)/.ready: requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	touch $@

# Bytecode is compiled here: where Python may write none, every call of az would do it anew.
$(JUDGES)/.ready: tests/docs/judges/requirements.txt tests/docs/judges/go.sum | $(VENV)/.ready
	$(BIN)/uv venv -q --clear --no-python-downloads --python $(PYTHON) $(JUDGES)
	$(BIN)/uv pip install -q --python $(JUDGES) --require-hashes --compile-bytecode -r $<
	GOBIN=$(CURDIR)/$(JUDGES)/bin CGO_ENABLED=0 GOWORK=off go -C tests/docs/judges install -trimpath tool
	touch $@

$(AZURITE): local/azurite/package-lock.json
	npm ci --prefix local/azurite --silent --no-fund --no-audit
	touch $@
