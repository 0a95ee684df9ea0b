# make swarm [ARGS="--nodes 4"]   train on the embedded digits with real processes on this machine
# make test [WORKERS=2]            the whole suite, in so many processes; make test-long: what takes longer
# make check                      style, types, import contracts; make docs: write the generated documents
# Each makes its own environment in .venv first. Needed beforehand: python3 >= 3.11 with venv, and make.

PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := mdgan_edge broker nodes sim

.PHONY: swarm test test-long check docs clean
.DELETE_ON_ERROR:

swarm: $(STAMP)
	$(BIN)/mdgan-sim swarm $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -q -m "not long" -n $(WORKERS) --dist loadgroup $(ARGS)

test-long: $(STAMP)
	$(BIN)/python -m pytest -q -m long $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy $(PACKAGES)
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_tidy.py tests/test_docs.py

docs: $(STAMP)
	$(BIN)/python -m scripts.write_docs

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .grimp_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last. Without it the last installation did not finish, so the environment is made afresh; with it
# an older one is brought up to date in place. An environment whose interpreter no longer starts counts as having none.
ifneq ($(shell $(BIN)/python -c 'print("starts")' 2>/dev/null),starts)
.PHONY: $(STAMP)
endif

$(STAMP): setup.py constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mdgan-edge needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	@$(BIN)/python -c 'pass' 2>/dev/null && test -e $@ || \
		{ echo "making $(VENV)"; rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	@echo "installing mdgan-edge and what it needs into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dask,dev,report]' -c constraints.txt
	@touch $@
