# A fresh machine needs Python 3.11 or later, and make.

PYTHON ?= python3
BIN := .venv/bin

# Hundreds of processes of the same few programs are started: let them store their bytecode.
unexport PYTHONDONTWRITEBYTECODE

# Two workers on two cores; each starts servers of its own, and takes over tests of the other when it is done.
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal

.PHONY: demo serve check test lint environments soak bench clean

demo: .venv/demo  ## ask a mock dispatcher twice through the proxy, with a real client
	$(BIN)/python examples/demo.py demo-mosaic.png

serve: .venv/installed  ## keep a proxy over the mock running, to try by hand
	$(BIN)/oda-proxy serve --mock

check: lint  ## in a minute: style, types, imports, and the tests that need no other environment
	ODA_PROXY_EXAMPLES=0.1 $(PYTEST) -m "not real and not slow"

test: environments  ## all tests; those of real clients in the environments that are built first
	$(PYTEST)

environments: .venv/test  ## build the environments of the real clients; where one cannot be built, its tests are skipped
	-$(BIN)/python -m tests.support.environments

lint: .venv/lint .venv/test  ## style, types, and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: .venv/test  ## what takes long: many kills of writers, two programs on one store, 220 clients, three servers whose Redis and network fail, the memory of a replay, pairs of queries, malformed requests
	$(BIN)/python -m tests.soak.kills --kills 1000
	$(BIN)/python -m tests.soak.shared_kills --kills 300
	$(BIN)/python -m tests.soak.sharing --seconds 60
	$(BIN)/python -m tests.soak.many_clients
	$(BIN)/python -m tests.soak.behind_front_end
	$(BIN)/python -m tests.soak.replicas_behind_front_end --runs 3
	$(BIN)/python -m tests.soak.sentinel_failover
	$(BIN)/python -m tests.soak.capsule_memory
	ODA_PROXY_PAIRS=100000 ODA_PROXY_MALFORMED=10000 $(BIN)/python -m pytest --timeout=3600 tests/query/test_cache_key.py tests/web/test_malformed.py

bench: .venv/test  ## measure, as ratios
	for benchmark in benchmarks/*.py; do $(BIN)/python $$benchmark || exit 1; done

clean:  ## remove all that was made here
	rm -rf .venv .envs build dist demo-mosaic.png

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"oda-proxy needs Python 3.11 or later, this is {sys.version.split()[0]}; name another with make PYTHON=...")'
	$(PYTHON) -m venv .venv
	touch $@

# One stamp for each set of packages, renewed when their list changes.
.venv/installed: .venv/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/demo .venv/test .venv/lint: .venv/%: .venv/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@ .venv/installed
