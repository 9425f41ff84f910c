# What a contributor does, by name; `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
RESULTS := benchmarks/results.md
ARGS ?=
ENGINE ?= local
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test test-engine test-api test-faults test-service check audit format run worker migrate bench bench-smoke bench-service bench-load parity chaos lock clean

help:  ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/service  ## train on handwritten digits through the API, look inside, keep serving (ARGS=--exit ends)
	@$(BIN)/chainrule demo $(ARGS)

test: check  ## check everything: format, lint, types, imports, tests on SQLite and PostgreSQL (ENGINE=dask: on Dask)
	@$(MAKE) --no-print-directory -j4 --output-sync=target $(PARTS)
	@echo "format, lint, types, import contracts and tests: all passed"

# Side by side: some compute while others wait. Status 5 is that ARGS chose nothing of a part.
PARTS := test-engine test-api test-faults test-service
pytest = CHAINRULE_ENGINE=$(ENGINE) $(BIN)/python -m pytest -o cache_dir=.pytest_cache/$@ $(1) $(ARGS) || test $$? = 5
FAULTS := tests/app/execution tests/chaos tests/test_outages.py tests/test_disks.py

test-engine: $(VENV)/dev
	@$(call pytest,tests/engine chainrule/engine)

test-api: $(VENV)/dev
	@$(call pytest,tests/app/api)

test-faults: $(VENV)/dev
	@$(call pytest,$(FAULTS))

test-service: $(VENV)/dev
	@$(call pytest,$(addprefix --ignore=,tests/engine chainrule/engine tests/app/api $(FAULTS)))

check: $(VENV)/dev audit  ## the quick half of `test`: format, lint, types, import contracts, audited dependencies
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

audit:  ## look every pinned package up among the known vulnerabilities; without a network say that none was
	@$(PYTHON) .ci/audit

format: $(VENV)/dev  ## format the code and mend what the linter can
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format .

run: $(VENV)/service  ## serve on http://127.0.0.1:8000 with SQLite
	@$(BIN)/chainrule serve $(ARGS)

worker: $(VENV)/service  ## train waiting runs without the API (CHAINRULE_DATABASE_URL says whose)
	@$(BIN)/chainrule worker $(ARGS)

migrate: $(VENV)/service  ## bring the database's schema up to date
	@$(BIN)/chainrule migrate $(ARGS)

bench: $(BENCH)/peers  ## the engine against PyTorch, JAX, scikit-learn, Keras and bare products; both cores; memory
	@$(BENCH)/bin/python -m benchmarks.engine --output $(RESULTS) $(ARGS)
	@$(BENCH)/bin/python -m benchmarks.cores --output $(RESULTS)
	@$(BENCH)/bin/python -m benchmarks.memory --output $(RESULTS)

bench-smoke: $(VENV)/dev  ## does the benchmark still run? few samples, and the peers that are installed
	@$(BIN)/python -m benchmarks.engine --smoke $(ARGS)

bench-service: $(VENV)/dev  ## measure what the service adds to the bare engine
	@$(BIN)/python -m benchmarks.service $(ARGS)

bench-load: $(VENV)/dev  ## 10,000 queued runs, 1,000 pollers, 200 event streams that nobody reads
	@$(BIN)/python -m benchmarks.load $(ARGS)

# What `make test` has to skip, for want of PyTorch, scikit-learn and SciPy.
AGAINST_PEERS := tests/engine/test_against_torch.py tests/engine/test_against_sklearn.py tests/engine/test_lbfgs.py \
	tests/app/services/test_torch_weights.py

parity: $(BENCH)/peers  ## the same weights as PyTorch after 200 steps, no larger test errors than scikit-learn
	@$(BENCH)/bin/python -m benchmarks.parity --output $(RESULTS)
	@$(BENCH)/bin/python -m benchmarks.accuracy --output $(RESULTS)
	@$(BENCH)/bin/python -m benchmarks.exports --output $(RESULTS)
	@$(BENCH)/bin/python -m pytest -o cache_dir=.pytest_cache/$@ $(AGAINST_PEERS)

chaos: $(VENV)/dev  ## 1,000 kills, 200 zombies, 50 restarts of PostgreSQL, 20 partitions, clocks, full disks (ARGS="--kills 20 --database sqlite --seed 1")
	@$(BIN)/python -m tests.chaos $(ARGS)

lock:  ## pin the newest versions that fit (needs uv)
	uv pip compile $(LOCK) --group build -o requirements.lock
	uv pip compile $(LOCK) --group dev -c requirements.lock -o requirements-dev.lock

LOCK := --quiet --upgrade --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate --extra service --extra onnx pyproject.toml

clean:  ## remove the environment, caches and the demo's data
	rm -rf $(VENV) $(BENCH) .venv-audit .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build chainrule-demo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Chainrule needs Python 3.11 or newer; name one: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) has no venv; on Debian: apt install python3-venv"; exit 1; }

$(VENV)/service: requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing what the service needs into $(VENV) …"
	@$(PIP_INSTALL) --require-hashes -r requirements.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo "installing what the checks need into $(VENV) …"
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/service

$(BENCH)/peers: requirements-dev.lock benchmarks/requirements-peers.txt pyproject.toml
	@echo "installing what the engine is measured against into $(BENCH) (2 GB) …"
	@$(PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements-peers.txt
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
