# Two commands on a fresh clone: `make train` and `make test`. Both create .venv and install on their first run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/cartpole

# Tests start some hundred processes: each would compile every module anew where this is set, in twice the time of a start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: train test test-all quick exact test-extras check lint docs clean

# By uv in half a minute; by pip, where uv is not to be had, in two. Python compiles what is imported; pip would compile
# everything, a third of its time. The stamp is remade when the dependencies change.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
install = $(PIP) uv && $(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[$(1)]' \
	|| $(PIP) --no-compile --editable '.[$(1)]'

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("jaxrl needs Python >= 3.11; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(call install,dev)
	touch $@

train: $(VENV)/.installed
	$(BIN)/jaxrl train dqn --env CartPole-v1 --seeds 4 --out $(RUN) --overwrite

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

# Tests compile with XLA's older emitters, in half the time, but for those in which the last bits matter. Lint and the two
# sessions run beside each other: one after the other would leave a core idle.
SKIPPED := and not release
test: $(VENV)/.installed
	$(MAKE) --no-print-directory --jobs 3 lint quick exact

quick: $(VENV)/.installed
	QUICK=--xla_cpu_use_fusion_emitters=false $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		-m "not exact $(SKIPPED)" $(TESTS)

exact: $(VENV)/.installed
	$(BIN)/python -m pytest -n 1 -m "exact $(SKIPPED)"

# Before a release. First all that `make test` leaves out for its time: more cases of what it tests.
test-all:
	$(MAKE) --no-print-directory test SKIPPED=

# Libraries too large for every test run: of environments (1.5 GB), and torchvision, whose weights we read (2 GB).
EXTRAS := envpool,jumanji,xminigrid,brax,playground,torch
test-extras: $(VENV)/.installed
	$(call install,$(EXTRAS))
	NEEDS_EXTRAS=1 $(BIN)/python -m pytest -n 2 tests/envs/test_envpool.py tests/envs/test_jax_libraries.py \
		tests/networks/test_resnet.py tests/core/test_safetensors.py

# While you work: lint, types, and the tests of what differs from the main branch.
check: lint
	$(MAKE) --no-print-directory quick SKIPPED= TESTS="$$($(BIN)/python -m tests.changed)"

# Strict: a link that leads nowhere or a public name without docstring is an error.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --config-file .mkdocs.yml
	@echo "site    build/site/index.html; with its search: $(PYTHON) -m http.server --directory build/site"

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .xla_cache
