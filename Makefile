# What a fresh machine needs is Python 3.11 or later, and make.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo serve test lint soak bench clean

demo: .venv/demo  ## ask a mock dispatcher twice through the proxy, with a real client
	$(BIN)/python examples/demo.py demo-mosaic.png

serve: .venv/installed  ## keep a proxy over the mock running, to try by hand
	$(BIN)/oda-proxy serve --mock

test: .venv/test  ## run all the tests; those of real clients build their environments first
	-$(BIN)/python -m tests.support.environments
	$(BIN)/python -m pytest

lint: .venv/lint  ## style, types, and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: .venv/test  ## what takes long: many kills of writers, two programs on one store, 220 clients, pairs of questions, malformed requests
	$(BIN)/python -m tests.soak.kills --kills 1000
	$(BIN)/python -m tests.soak.sharing --seconds 60
	$(BIN)/python -m tests.soak.many_clients
	ODA_PROXY_PAIRS=100000 ODA_PROXY_MALFORMED=10000 $(BIN)/python -m pytest tests/query/test_cache_key.py tests/web/test_malformed.py

bench: .venv/test  ## measure, as ratios
	for benchmark in benchmarks/*.py; do $(BIN)/python $$benchmark || exit 1; done

clean:  ## remove all that was made here
	rm -rf .venv .envs build dist demo-mosaic.png

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"oda-proxy needs Python 3.11 or later, this is {sys.version.split()[0]}; name another with make PYTHON=...")'
	$(PYTHON) -m venv .venv
	touch $@

# One stamp for each set of packages, made anew when what they should be changes.
.venv/installed: .venv/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/demo .venv/test .venv/lint: .venv/%: .venv/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@ .venv/installed
