# From a bare machine with Python 3.11 or newer: `make demo` shows it, `make test` checks it.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
WORKERS ?= 2

.PHONY: demo test setup lint types tests quick docs coverage lowest bench soak clean

demo: $(VENV)/.demo  ## run a small embedded suite and write its page
	$(BIN)/rib run digits-quick

test: setup lint types tests  ## everything that must hold

setup: $(VENV)/.installed

$(VENV)/.demo: pyproject.toml constraints.txt  # RIB without the tools of its tests
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: setup
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini

tests: setup
	$(BIN)/pytest -n $(WORKERS)

quick: setup  ## numbers, keys, names and rules: under a minute on two cores
	$(BIN)/pytest -n $(WORKERS) -m quick

docs: setup  ## the documentation site, in build/site: links and navigation are checked, nothing is loaded from the net
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

coverage: setup  ## all tests, and which lines and branches they reach; htmlcov/index.html shows them
	$(BIN)/pytest -n $(WORKERS) --cov --cov-report=term --cov-report=html

# Five gigabytes: the oldest torch that is allowed comes with CUDA. Not a part of `make test`; run it before a release,
# and whenever a bound in pyproject.toml changes. Newer libraries' warnings are not errors here.
lowest:  ## security and loading over the lowest versions that pyproject.toml allows
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt \
		-e ".[clip,figures,sql]" pytest pytest-timeout pytest-xdist hypothesis
	.venv-lowest/bin/python -m pytest -n $(WORKERS) -o filterwarnings=default -p no:cacheprovider \
		tests/test_security.py tests/test_builders.py tests/test_hostile_images.py tests/test_upkeep.py \
		tests/test_imagenet_models.py

bench: setup  ## measure every goal of speed beside its peer, and print the table; status 1 where one is missed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python -m bench

# About half an hour on two cores: 15 minutes of kills, 7 of fuzzing, 2 of clusters, 3 of intervals and of a method
# against itself. Figures of a run: docs/reliability.md, docs/analyses.md.
soak: setup  ## look for rare faults at random: drivers, workers and nodes killed, hostile input
	$(BIN)/python -m soak kills --kills 1000 --seed 6
	$(BIN)/python -m soak fuzz --cases 10000 --seed 6
	$(BIN)/python -m soak clusters
	$(BIN)/python -m soak intervals
	$(BIN)/python -m soak itself --seeds 6
	$(BIN)/python -m soak matched

clean:
	rm -rf $(VENV) .venv-lowest rib-store .pytest_cache .mypy_cache .ruff_cache .hypothesis
