# `make run` and `make test` need Python 3.11 or newer, make, and the package index once.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOB    ?= jobs/quickstart.yaml
STORE  ?= build/store
# Of the test suite. On two cores four: much of it waits for clusters to start.
PROCESSES ?= 4

export RAY_USAGE_STATS_ENABLED = 0

.PHONY: run test browser check lint types faults bench store schema clean help

help:            ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,search,store]'
	touch $@

run: $(BIN)/.installed    ## run $(JOB), by default the quick start, on this machine
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pipeline run $(JOB)

test: $(BIN)/.installed browser  ## lint, types and the whole test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests \
	  -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

browser:         ## chromium and its driver, and Prometheus, which the tests use
	@if command -v chromium >/dev/null && command -v chromedriver >/dev/null \
	  && command -v promtool >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium chromium-driver prometheus; \
	else echo "tests need chromium, chromedriver, promtool: sudo apt-get install chromium chromium-driver prometheus"; \
	  exit 1; fi

faults: $(BIN)/.installed ## kill workers, drivers and clusters at random; end with the same weights
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.faults.kill_loop

bench: $(BIN)/.installed  ## benchmarks, as ratios within one run
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.benchmarks

store: $(BIN)/.installed  ## a real S3 server on loopback, kept in $(STORE)
	$(BIN)/python -m infra.store --dir $(STORE)

schema: $(BIN)/.installed ## write jobs/job.schema.json from the types
	$(BIN)/python -m pipeline schema > jobs/job.schema.json

clean:           ## remove what was built here (never the storage)
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache *.egg-info
