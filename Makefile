# Everything runs inside .venv (VENV names another), which `make setup` fills from requirements.lock.
# Paths may contain spaces: nothing here uses the checkout's absolute path.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
PYTHONS ?= 3.11 3.12 3.13
POSTGRES_15 ?= /usr/lib/postgresql/15/bin

PAGE := src/chat_api/page/index.html
PAGE_SOURCES := $(shell find web -name node_modules -prune -o -type f ! -name '*.test.ts*' -print)

.PHONY: help setup run page test test-oldest test-lowest unit test-matrix chaos fuzz soak audit check check-deploy dist format lock pictures bench bench-quick bench-growth bench-log bench-migrations ha cells clean

help: ## Show what can be done here
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/ready ## Make .venv from requirements.lock (the other targets do this by themselves)

$(VENV)/ready: requirements.lock requirements-setup.lock pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh tools/setup.sh

run: $(VENV)/ready ## Start the whole thing here: PostgreSQL, a real model, auth, the chat API and its page
	@if command -v npm >/dev/null 2>&1; then $(MAKE) --no-print-directory --silent page || \
		echo "run: the chat page could not be built; going on without that"; \
	else echo "run: npm was not found, so the chat page is not built. Install Node.js 20 or newer for it."; fi
	@exec $(PY) -m chat_api.cli up

page: $(PAGE) ## Build the chat page (run and test do this by themselves)

$(PAGE): web/node_modules/.ready $(PAGE_SOURCES)
	@echo "page: building"
	@cd web && npm run --silent build -- --logLevel warn

web/node_modules/.ready: web/package.json web/package-lock.json
	@sh tools/npm.sh web "what builds the chat page"

tests/browser/node_modules/.ready: $(addprefix tests/browser/,package.json package-lock.json unpack.mjs)
	@sh tools/npm.sh tests/browser "a browser for the tests (66 MB)"
	@cd tests/browser && npm run --silent unpack

tests/dialects/node_modules/.ready: tests/dialects/package.json tests/dialects/package-lock.json
	@sh tools/npm.sh tests/dialects "the clients of other dialects, for the tests (90 MB)"

tests/openid/node_modules/.ready: tests/openid/package.json tests/openid/package-lock.json
	@sh tools/npm.sh tests/openid "an OpenID provider for the tests (4 MB)"

test: $(VENV)/ready .venv-clients/ready $(PAGE) $(patsubst %,tests/%/node_modules/.ready,browser dialects openid) ## Run all tests: a real PostgreSQL, real sockets, a real browser
	@cd web && npm run --silent test
	@$(PY) -m pytest -n 3 --dist loadgroup --no-loadscope-reorder
	@$(MAKE) --no-print-directory test-oldest

test-oldest: $(VENV)/ready ## Run the tests of the database on the oldest PostgreSQL (POSTGRES_15=its programs)
	@if ! [ -x "$(POSTGRES_15)/postgres" ]; then \
		echo "test-oldest: NOT RUN: there is no PostgreSQL 15 in $(POSTGRES_15) (apt-get install postgresql-15, or set POSTGRES_15)"; \
		[ -z "$$CI" ]; exit; \
	fi; \
	POSTGRES_BIN="$(POSTGRES_15)" $(PY) -m pytest -q -n 2 $(addprefix tests/unit/,test_database.py \
		test_generations_db.py test_migrations.py test_queries.py test_quotas.py test_takeover.py)

test-lowest: $(VENV)/ready ## Run the unit tests on the oldest packages that pyproject.toml takes (minutes; no part of test)
	@echo "test-lowest: making .venv-lowest"
	@$(PY) -m venv --clear --without-pip .venv-lowest
	@$(PY) -m uv pip install --quiet --python .venv-lowest --resolution lowest-direct \
		--only-binary :all: -e ".[dev]"
	@.venv-lowest/bin/python -m pytest -q -n 2 --dist loadgroup tests/unit

unit: $(VENV)/ready ## Run the unit tests
	@$(PY) -m pytest -q -n 2 --dist loadgroup tests/unit

test-matrix: ## Run TARGET (test) on each Python of PYTHONS, with a .venv-<version> for each
	@MAKE="$(MAKE)" sh tools/matrix.sh "$(PYTHONS)" $(or $(TARGET),test)

chaos: $(VENV)/ready ## Cut, kill and restart at random for half an hour (CHAOS_SECONDS, CHAOS_SEED)
	@CHAOS_SECONDS="$${CHAOS_SECONDS:-1800}" $(PY) -m pytest tests/chaos/test_anything_goes.py -s --timeout 0

fuzz: $(VENV)/ready .venv-tools/ready ## Fuzz the parser and the API, half of FUZZ_SECONDS (300) each
	@mkdir -p .fuzz
	@.venv-tools/bin/python tests/fuzz/parser.py -max_total_time=$$(( $${FUZZ_SECONDS:-300} / 2 )) \
		-artifact_prefix=.fuzz/ .fuzz/parser
	@FUZZ_SECONDS=$$(( $${FUZZ_SECONDS:-300} / 2 )) $(PY) -m pytest tests/fuzz --timeout 0

soak: $(VENV)/ready ## 300 users for half an hour; memory, handles and rows must stay flat (SOAK_SECONDS)
	@SOAK_SECONDS="$${SOAK_SECONDS:-1800}" $(PY) -m bench.soak

audit: .venv-tools/ready ## Ask for known weaknesses of the locked packages (needs the network)
	@.venv-tools/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.lock
	@.venv-tools/bin/pip-audit --strict --require-hashes --disable-pip -r requirements-clients.lock
	@cd web && npm audit
	@cd tests/browser && npm audit
	@cd tests/dialects && npm audit
	@cd tests/openid && npm audit

.venv-tools/ready: $(VENV)/ready requirements-tools.lock
	@echo "setup: making .venv-tools for audit, fuzz, dist and check-deploy"
	@$(PY) -m venv --clear .venv-tools
	@$(PY) -m uv pip install --quiet --python .venv-tools --require-hashes --no-deps \
		--only-binary :all: -r requirements-tools.lock
	@touch .venv-tools/ready

.venv-clients/ready: $(VENV)/ready requirements-clients.lock
	@echo "setup: making .venv-clients (the Agents SDK and LangChain, for the tests)"
	@$(PY) -m venv --clear .venv-clients
	@$(PY) -m uv pip install --quiet --python .venv-clients --require-hashes --no-deps \
		--only-binary :all: -r requirements-clients.lock
	@touch .venv-clients/ready

check: $(VENV)/ready web/node_modules/.ready ## Check format, lint, types, the direction of imports, the style, and deploy/
	@$(PY) -m ruff format --check --diff .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --no-logo
	@$(PY) tools/style.py
	@cd web && npm run --silent check
	@$(MAKE) --no-print-directory check-deploy

check-deploy: .venv-tools/ready ## Render and check deploy/: Kubernetes files, alert rules and their tests, the dashboard
	@.venv-tools/bin/python tools/deploy.py

dist: $(VENV)/ready .venv-tools/ready $(PAGE) ## Write a release into dist/: wheel, source distribution, CycloneDX
	@sh tools/dist.sh

format: $(VENV)/ready ## Put the code into the project's format
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

lock: $(VENV)/ready ## Resolve the dependencies and write the lock files
	@sh tools/lock.sh

pictures: $(VENV)/ready $(PAGE) tests/browser/node_modules/.ready ## Update the README's pictures of the page
	@$(PY) -m pytest -q tests/browser/test_pictures.py
	@for name in desktop phone; do cp tests/browser/pictures/readme-$$name.png docs/pictures/$$name.png; done

bench: $(VENV)/ready ## Measure what a token, a page and a stream cost, beside nginx (docs/performance.md)
	@$(PY) -m bench.run

bench-quick: $(VENV)/ready ## The same in a minute, written nowhere
	@$(PY) -m bench.run --quick

bench-growth: $(VENV)/ready ## The pages again, with ten million messages of others in the database
	@$(PY) -m bench.growth

bench-log: $(VENV)/ready ## Measure what the log of running answers costs (docs/scaling.md)
	@$(PY) bench/log_cost.py

bench-migrations: $(VENV)/ready ## Measure how long migrations take with a million messages, and whom they hold up
	@$(PY) -m bench.migrations

ha: $(VENV)/ready ## Switch over and kill the primary of three PostgreSQL nodes under load (docs/high-availability.md)
	@$(PY) -m bench.high_availability

cells: $(VENV)/ready ## Run two cells behind HAProxy, and move users between them under load (docs/scaling.md)
	@$(PY) -m bench.cells

clean: ## Remove .venv and caches; the local stack's data stays
	rm -rf .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf web/node_modules tests/browser/node_modules tests/dialects/node_modules tests/openid/node_modules \
		src/chat_api/page
