# Every target sets itself up: a virtual environment in the checkout, made once and again when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := $(VENV)/.bench
SPHINX := $(VENV)/.docs
PACKAGE ?= demo/model

.PHONY: help demo test test-slow lint docs bench soak clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       the whole chain on built-in data: draw, train, export, run, report (about 5 minutes)"
	@echo "make test       all tests"
	@echo "make test-slow  the tests that take too long for every day"
	@echo "make lint       ruff and mypy"
	@echo "make docs       this project's site with search, into build/docs"
	@echo "make bench      latency of the seed and edge networks, ours beside TensorFlow, OpenVINO, LiteRT and OpenCV"
	@echo "make soak       50,000 frames through the runtime, watched for memory, files and threads (PACKAGE=… or the demo's)"
	@echo "make clean      remove what make made"

demo: $(READY)
	rm -rf demo
	$(BIN)/edge-unet demo --out demo

test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Pages are made anew: that of a name or file that is gone must not stay.
docs: $(SPHINX)
	rm -rf docs/api/generated build/docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

bench: $(PEERS)
	$(BIN)/python tests/benchmarks/bench_engines.py $(ARGS)

soak: $(READY)
	test -d $(PACKAGE) || $(MAKE) demo
	$(BIN)/python tests/benchmarks/bench_soak.py $(PACKAGE) $(ARGS)

clean:
	rm -rf $(VENV) demo build docs/api/generated *.egg-info

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edge-unet needs Python 3.11 or newer; name one with make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[train]" --group dev
	@$(BIN)/python -c 'import cv2' || { echo "OpenCV lacks a system library: apt-get install libgl1 libglib2.0-0" >&2; exit 1; }
	touch $@

# The engines that only the benchmark needs.
$(PEERS): $(READY)
	$(BIN)/python -m pip install --quiet --group bench
	touch $@

# The documentation's generator, likewise.
$(SPHINX): $(READY)
	$(BIN)/python -m pip install --quiet --group docs
	touch $@
