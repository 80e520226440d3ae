# Everything sets itself up: a fresh clone needs Python 3.11 to 3.13, Node and make.
PYTHON ?= python3
VENV   ?= .venv
CLUSTERS ?= stand-in
# HOST=func: Azure Functions Core Tools instead of local/host; FUNC names its program.
HOST    = local
FUNC   ?= func
BIN     = $(VENV)/bin
UV     := $(or $(shell uv --version >/dev/null 2>&1 && command -v uv),$(BIN)/uv)
AZURITE = local/azurite/node_modules/.package-lock.json
AXE     = tests/dashboard/axe/node_modules/.package-lock.json
KUSTO   = tests/monitoring/kusto/node_modules/.package-lock.json
JUDGES  = .venv-judges
WITH_HOST = $(if $(filter func,$(HOST)),CORE_TOOLS=$(FUNC))

# Each process of the tests, and each host that they start, imports the same modules: without bytecode it compiles them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo up test test-e2e check bench bench-quick start setup judges infra package release lock clean
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.ready $(AZURITE) $(KUSTO) ## Install what the other targets need (they do so themselves)

demo: setup ## Run a fleet on this machine: onboard, refresh, break, repair, offboard
	$(WITH_HOST) $(BIN)/python -m local.demo --clusters $(CLUSTERS)

up: setup ## Keep such a fleet running until Ctrl-C, to break and repair it by hand
	$(WITH_HOST) $(BIN)/python -m local.demo --clusters $(CLUSTERS) --keep

test: setup $(AXE) ## Run all tests (TESTS=tests/refresh: a part)
	@$(WITH_INDEX) $(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder $(TESTS)

test-e2e: setup ## Run tests/end_to_end (HOST=func: on Core Tools, as for demo and up)
	$(WITH_HOST) $(BIN)/pytest -n 2 tests/end_to_end

check: $(VENV)/.ready ## Check format, lint, types and import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

bench: setup ## Measure what a refresh costs: build/bench.json and build/bench.png
	@$(WITH_INDEX) $(BIN)/python -m tests.bench

bench-quick: setup ## The part of it that does not depend on the machine
	@$(WITH_INDEX) $(BIN)/python -m tests.bench --quick

start: setup ## Run Azure Functions Core Tools, with local.settings.json and Azurite's default ports
	test -f local.settings.json || cp local.settings.sample.json local.settings.json
	PATH="$(abspath $(BIN)):$$PATH" $(FUNC) start

judges: $(JUDGES)/.ready ## Install the Azure CLI (0.7 GB) and linters that tests/docs use; needs Go

infra: $(VENV)/.ready ## Compile infra/ to the template of the Deploy to Azure button, and predict what it deploys
	$(BIN)/python -m tests.infra.compiler
	$(BIN)/python -m tests.monitoring.deployed

package: $(VENV)/.ready ## Build the zip to deploy, the same bytes each time: build/pullkeeper-VERSION.zip
	@$(WITH_INDEX) $(BIN)/python -m local.package

release: $(VENV)/.ready judges ## Write the files of a release to build/release, from a tag: TAG=v0.1.0
	@$(WITH_INDEX) $(BIN)/python -m local.release $(TAG)

lock: $(VENV)/.ready ## Pin the newest versions, with hashes
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade --group dev \
	  --custom-compile-command "make lock" pyproject.toml -c requirements.txt -o requirements-dev.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade \
	  --custom-compile-command "make lock" tests/docs/judges/requirements.in -o tests/docs/judges/requirements.txt

clean: ## Remove what setup made
	rm -rf .venv* local/azurite/node_modules tests/dashboard/axe/node_modules tests/monitoring/kusto/node_modules

# uv takes seconds where pip takes a minute. It reads no configuration of pip's, so it is given pip's index.
WITH_INDEX = index=$$({ $(BIN)/pip config list || $(PYTHON) -m pip config list; } 2>/dev/null \
  | sed -n "s/^[^=]*[.]index-url='\(.*\)'$$/\1/p" | head -n 1); \
  UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${UV_INDEX_URL:-$$index}}"

$(VENV)/.ready: requirements-dev.txt | $(UV)
	test -x $(BIN)/python || $(UV) venv --quiet --no-python-downloads --python $(PYTHON) $(VENV)
	$(WITH_INDEX) $(UV) pip sync --quiet --no-python-downloads --python $(BIN)/python --require-hashes $<
	touch $@

# Where PATH has no uv: the one that requirements-dev.txt pins, by hash, without a pip of its own if there is another.
$(BIN)/uv:
	$(PYTHON) -m venv --without-pip $(VENV)
	sed -n '/^uv==/,/[^\]$$/p' requirements-dev.txt >$(VENV)/uv.txt
	pip="$(PYTHON) -m pip --python $(BIN)/python"; \
	  $$pip --version >/dev/null 2>&1 || { $(BIN)/python -m ensurepip && pip="$(BIN)/python -m pip"; }; \
	  $$pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/uv.txt

# Compile bytecode now: where Python may not write it, every call of az would compile again.
$(JUDGES)/.ready: tests/docs/judges/requirements.txt tests/docs/judges/go.sum | $(VENV)/.ready
	$(BIN)/uv venv -q --clear --no-python-downloads --python $(PYTHON) $(JUDGES)
	$(BIN)/uv pip install -q --python $(JUDGES) --require-hashes --compile-bytecode -r $<
	GOBIN=$(CURDIR)/$(JUDGES)/bin CGO_ENABLED=0 GOWORK=off go -C tests/docs/judges install -trimpath tool
	touch $@

$(AZURITE) $(AXE) $(KUSTO): %/node_modules/.package-lock.json: %/package-lock.json
	npm ci --prefix $* --silent --no-fund --no-audit
	touch $@
