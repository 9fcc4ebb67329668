PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: test test-all check demo tables kernels gpu-files gpu-check fix clean

PYTEST := $(BIN)/pytest -n logical --dist worksteal

test: $(VENV)/.ready  ## ARGS="…" for pytest
	$(PYTEST) -m "not slow and not gpu" $(ARGS)

test-all: $(VENV)/.ready  ## with what is slow; larger clips and checkpoints where they are at hand
	$(PYTEST) -m "$(if $(REST),slow and )not gpu" $(ARGS)

check: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m benchmarks.run.pages --check

demo: $(VENV)/.ready
	$(BIN)/python -m benchmarks.run.demo

tables: $(VENV)/.ready  ## every generated file
	$(BIN)/python -m benchmarks.run.networks
	$(BIN)/python -m benchmarks.run.pages
	$(BIN)/python -m benchmarks.run.readme

kernels: $(VENV)/.ready  ## compiled for every GPU: registers and spills; needs nvcc
	$(BIN)/python -m benchmarks.run.kernels

gpu-files: $(VENV)/.ready  ## FP16 and INT8 of networks that ship, to carry to a box without torch
	$(BIN)/python -m benchmarks.run.gpu_files --to gpu-files

gpu-check:  ## on a box with a GPU: its own Python, which has its TensorRT; PYTHON=… for another
	PYTHONPATH=. $(PYTHON) -m benchmarks.run.gpu_check --save gpu-check $(ARGS)

fix: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
