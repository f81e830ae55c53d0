# Every target builds .venv on first use, with exactly the versions in constraints.txt.
# An interpreter of your choice: make PYTHON=/path/to/python3.12 demo

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PARALLEL := -n auto --maxprocesses 4 --dist worksteal

.PHONY: help demo test test-slow test-live test-oldest wheel lint docs bench clean
.DELETE_ON_ERROR:

help:
	@echo "make demo | test | test-slow | test-live | test-oldest | wheel | lint | docs | bench | clean"

demo: .venv/stamp-plot
	$(BIN)/python -m skllmreg demo

# One thread for each of the processes that run them.
test test-slow test-live test-oldest: export OMP_NUM_THREADS = 1

# The tests for every change: under two minutes on two cores.
test: .venv/stamp-test
	$(BIN)/python -m pytest $(PARALLEL)

# Kills, crowds, fuzzing, extremes: the tests that are marked slow, and no others.
test-slow: .venv/stamp-test
	$(BIN)/python -m pytest $(PARALLEL) -m slow

# llama.cpp's real server with a real model of 98 MB, which is fetched once.
test-live: .venv/stamp-test .venv/stamp-live
	$(BIN)/python -m pytest tests/live -m live

# The oldest Python with the lower bounds of pyproject.toml. On Linux, that torch brings 5 GB of CUDA.
test-oldest:
	python3.11 -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt \
		--editable '.[test]'
	.venv-oldest/bin/python -m pytest $(PARALLEL) -m 'not live'

# What users get: the wheel in a venv of its own, tried in a folder of its own.
wheel: $(BIN)/python
	rm -rf dist .venv-wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/python -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --constraint constraints.txt \
		"$$(ls dist/*.whl)[pandas,plot,transformers]" pytest
	sh tests/try_wheel.sh .venv-wheel/bin/python

lint: .venv/stamp-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

docs: .venv/stamp-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# Those that need a language model, a sentence encoder or marks by hand are run by hand; each says how.
WITH_MODELS := attribution_live generation_curation generation_live record_rows record_teachers \
	selection_real selection_teacher text_cache text_finetuning text_helpdesk text_students

bench: .venv/stamp-benchmark
	@set -e; for script in $(filter-out $(WITH_MODELS:%=benchmarks/%.py),$(wildcard benchmarks/[!_]*.py)); do \
		echo "== $$script"; $(BIN)/python $$script $(BENCH_ARGS); done

clean:
	rm -rf .venv* build dist .*_cache docs/_build docs/auto_examples docs/generated

# The stamp is named after the extra of pyproject.toml that is installed.
.venv/stamp-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed."; exit 1; }
	$(PYTHON) -m venv .venv
