# make demo   the main job from nothing to a report      make test   all tests
# make lint   formatting, lint, types                    make clean  remove .venv, runs and caches
#
# Every target first creates .venv, and updates it when pyproject.toml has changed. Variables:
#   PYTHON       interpreter for .venv, 3.11 or later
#   EXTRA        gpu or cpu; default: gpu if an NVIDIA driver is found
#   TORCH_INDEX  URL of PyTorch's CPU wheel index, if pip finds no CPU wheel of torch
#                (error "no matching distribution found for torch==2.13.0+cpu")
#   ARGS         more arguments for the demo or for pytest

PYTHON ?= $(shell command -v python3.11 || command -v python3)
EXTRA ?= $(shell nvidia-smi -L 2>/dev/null | grep -q GPU && echo gpu || echo cpu)
TORCH_INDEX ?=
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.installed-$(EXTRA)
PACKAGES := core vlm engines environments sft pretraining rl rewards reward_models data_recipes inference evaluation launch

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

$(STAMP): pyproject.toml evaluation/lmms/requirements.txt
	@test -n "$(PYTHON)" || { echo "no python3 found: install Python 3.11 or name it, make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON): Python 3.11 or later is needed"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check \
	    $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable '.[$(EXTRA),dev]'
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r evaluation/lmms/requirements.txt
	@touch $@

install: $(STAMP)

demo: install
	$(BIN)/python -m launch.demo $(ARGS)

# Three workers with one thread each, since tests mostly wait for engines and subprocesses. All tests of a file run in
# one worker, so that its engine starts only once.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile $(ARGS)

# The package sft/ takes precedence over sft.py on import, so mypy gets that entry point as text.
lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(addprefix -p ,$(PACKAGES))
	$(BIN)/mypy grpo.py evaluate.py reward_model.py pretrain.py
	$(BIN)/mypy -c "$$(cat sft.py)"

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
