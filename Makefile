# Everything runs inside .venv, which `make setup` fills from requirements.lock.
# Paths may contain spaces: nothing here uses the checkout's absolute path.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh
PYTHON ?= python3
PY := .venv/bin/python
POSTGRES_15 ?= /usr/lib/postgresql/15/bin

PAGE := src/chat_api/page/index.html
PAGE_SOURCES := $(shell find web -name node_modules -prune -o -name tests -prune -o -type f -print)

.PHONY: help setup run page test test-oldest chaos fuzz soak audit check format lock pictures bench bench-quick bench-growth bench-log bench-migrations clean

help: ## Show what can be done here
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: .venv/ready ## Make .venv from requirements.lock (the other targets do this by themselves)

.venv/ready: requirements.lock requirements-setup.lock pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" sh tools/setup.sh

run: .venv/ready ## Start the whole thing here: PostgreSQL, a real model, auth, the chat API and its page
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

test: .venv/ready $(PAGE) tests/browser/node_modules/.ready ## Run all tests: a real PostgreSQL, real sockets, a real browser
	@$(PY) -m pytest -n 2 --dist loadgroup
	@$(MAKE) --no-print-directory test-oldest

test-oldest: .venv/ready ## Run the tests of the database on the oldest PostgreSQL (POSTGRES_15=its programs)
	@test -x "$(POSTGRES_15)/postgres" || { echo "test-oldest: there is no PostgreSQL 15 in $(POSTGRES_15): apt-get install postgresql-15, or set POSTGRES_15"; exit 1; }
	@POSTGRES_BIN="$(POSTGRES_15)" $(PY) -m pytest -q -n 2 $(addprefix tests/unit/,test_database.py \
		test_generations_db.py test_migrations.py test_queries.py test_quotas.py test_takeover.py)

chaos: .venv/ready ## Cut, kill and restart at random for half an hour (CHAOS_SECONDS, CHAOS_SEED)
	@CHAOS_SECONDS="$${CHAOS_SECONDS:-1800}" $(PY) -m pytest tests/chaos/test_anything_goes.py -s --timeout 0

fuzz: .venv/ready .venv-tools/ready ## Fuzz the parser and the API, half of FUZZ_SECONDS (300) each
	@mkdir -p .fuzz
	@.venv-tools/bin/python tests/fuzz/parser.py -max_total_time=$$(( $${FUZZ_SECONDS:-300} / 2 )) \
		-artifact_prefix=.fuzz/ .fuzz/parser
	@FUZZ_SECONDS=$$(( $${FUZZ_SECONDS:-300} / 2 )) $(PY) -m pytest tests/fuzz --timeout 0

soak: .venv/ready ## 300 users for half an hour; memory, handles and rows must stay flat (SOAK_SECONDS)
	@SOAK_SECONDS="$${SOAK_SECONDS:-1800}" $(PY) -m bench.soak

audit: .venv-tools/ready ## Ask for known weaknesses of the locked packages (needs the network)
	@.venv-tools/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.lock
	@cd web && npm audit
	@cd tests/browser && npm audit

.venv-tools/ready: .venv/ready requirements-tools.lock
	@echo "setup: making .venv-tools for audit and fuzz"
	@$(PY) -m venv --clear .venv-tools
	@$(PY) -m uv pip install --quiet --python .venv-tools --require-hashes --no-deps \
		--only-binary :all: -r requirements-tools.lock
	@touch .venv-tools/ready

check: .venv/ready web/node_modules/.ready ## Check format, lint, types and the direction of imports
	@$(PY) -m ruff format --check --diff .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-logo
	@cd web && npm run --silent check

format: .venv/ready ## Put the code into the project's format
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

lock: .venv/ready ## Resolve the dependencies anew into the lock files
	@sh tools/lock.sh

pictures: .venv/ready $(PAGE) tests/browser/node_modules/.ready ## Take the README's pictures of the page anew
	@$(PY) -m pytest -q tests/browser/test_pictures.py
	@for name in desktop phone; do cp tests/browser/pictures/readme-$$name.png docs/pictures/$$name.png; done

bench: .venv/ready ## Measure what a token, a page and a stream cost, beside nginx (docs/performance.md)
	@$(PY) -m bench.run

bench-quick: .venv/ready ## The same in a minute, written nowhere
	@$(PY) -m bench.run --quick

bench-growth: .venv/ready ## The pages again, with ten million messages of others in the database
	@$(PY) -m bench.growth

bench-log: .venv/ready ## Measure what the log of running answers costs (docs/scaling.md)
	@$(PY) bench/log_cost.py

bench-migrations: .venv/ready ## Measure how long migrations take with a million messages, and whom they hold up
	@$(PY) -m bench.migrations

clean: ## Remove .venv and caches; the local stack's data stays
	rm -rf .venv .venv-tools .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf web/node_modules tests/browser/node_modules src/chat_api/page
