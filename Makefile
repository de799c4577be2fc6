# Each target is complete on a fresh machine that has Python, make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

ALL := numpy autograd torch tensorflow jax keras
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist worksteal
ALONE := tests/core/test_values.py tests/core/test_training_path.py

# How much of each `make fuzz` draws.
CALLS ?= 200000
FILES ?= 5000

.PHONY: demo test test-all lint lowest fuzz benchmark paper figure clean

demo: $(VENV)/.demo
	$(BIN)/isoscore-star demo --output demo_results

# Two workers, one thread each: threads of their own would only wait for each other.
test test-all: export OMP_NUM_THREADS = 1
test test-all: export ISOSCORE_REQUIRED_BACKENDS = $(ALL)
test test-all: export KERAS_BACKEND = tensorflow
# Workers and runs take from each other what XLA has compiled.
test test-all: export JAX_COMPILATION_CACHE_DIR ?= $(abspath $(VENV))/jax
test test-all: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS = 0

# Every kind of promise, in a few minutes.
test: $(VENV)/.test
	$(PYTEST) -m "not slow"

# All of them; those of `make test` with the branches that they cover, which costs a quarter of the time: tests/conftest.py
# leaves out the slow ones. Then Keras on its two other backends, in the short form; then each framework as if it were the
# only one installed.
test-all: $(VENV)/.test
	$(PYTEST) --cov --cov-report=term:skip-covered
	KERAS_BACKEND=torch $(PYTEST) -m "not slow" tests/backends/keras
	KERAS_BACKEND=jax $(PYTEST) -m "not slow" tests/backends/keras
	for one in torch autograd tensorflow jax; do \
	  ISOSCORE_FRAMEWORKS=$$one ISOSCORE_REQUIRED_BACKENDS=$$one $(PYTEST) -k $$one $(ALONE) || exit 1; done

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	# mypy, pyright and import-linter follow no package map: they are shown the tree as installed, backends in isoscore_star.
	rm -rf $(VENV)/typed && mkdir -p $(VENV)/typed/isoscore_star
	ln -sfn $(CURDIR)/isoscore_star/* $(CURDIR)/backends $(VENV)/typed/isoscore_star/
	echo '{}' > $(VENV)/typed/pyrightconfig.json
	MYPYPATH=$(VENV)/typed $(BIN)/mypy -p isoscore_star
	MYPYPATH=$(VENV)/typed $(BIN)/mypy benchmarks scripts paper_checks tests/packaging/typed_user.py
	cd $(VENV)/typed && $(abspath $(BIN))/pyright --pythonpath $(abspath $(BIN))/python $(CURDIR)/tests/packaging/typed_user.py
	cd $(VENV)/typed && $(abspath $(BIN))/lint-imports --no-logo --no-cache $(CURDIR)/pyproject.toml

# The oldest of each direct dependency that setup.cfg declares, an environment for each framework.
lowest: $(VENV)/.dev
	.ci/lowest $(BIN)/uv $(VENV)/lowest

# An hour or so: calls of every backend against long double, and damaged files of every format.
fuzz: export OMP_NUM_THREADS = 1
fuzz: $(VENV)/.test
	$(BIN)/python tests/fuzz/calls.py --calls $(CALLS) --seed 0
	$(BIN)/python tests/fuzz/files.py --cases $(FILES) --seed 0

benchmark: $(VENV)/.test
	$(BIN)/python benchmarks/run.py --write benchmarks/LOSS.md
	$(BIN)/python benchmarks/frameworks.py --write benchmarks/FRAMEWORKS.md
	$(BIN)/python benchmarks/training_step.py --write benchmarks/TRAINING_STEP.md
	$(BIN)/python benchmarks/estimators.py --write benchmarks/ESTIMATORS.md
	$(BIN)/python benchmarks/launches.py --write benchmarks/LAUNCHES.md
	$(BIN)/python benchmarks/transforms.py --write benchmarks/TRANSFORMS.md
	$(BIN)/python benchmarks/sketch.py --write benchmarks/SKETCH.md
	$(BIN)/python benchmarks/any_size.py --write benchmarks/ANY_SIZE.md
	$(BIN)/python benchmarks/killed.py --write benchmarks/KILLED.md
	$(BIN)/python benchmarks/clusters.py --write benchmarks/CLUSTERS.md
	$(BIN)/python benchmarks/groups.py --write benchmarks/GROUPS.md
	$(BIN)/python benchmarks/vectors.py --write benchmarks/VECTORS.md

# Every claim of the paper, with a verdict; QUICK=--quick takes minutes instead of hours.
paper: $(VENV)/.test
	$(BIN)/python -m paper_checks --output paper_checks $(QUICK)

figure: $(VENV)/.test
	$(BIN)/python scripts/make_figure.py

# Editable: backends/ at the top level is isoscore_star.backends only where the package map of setup.cfg is at work.
$(VENV)/.%: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e ".[$*]"
	touch $@

# The demo needs no test tools.
$(VENV)/.demo: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e ".[torch,cli,plot]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
