# Every target sets up the virtual environment in the checkout, once and again after pyproject.toml has changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := $(VENV)/.bench
SPHINX := $(VENV)/.docs
TRAINERS := .accuracy-peers
PACKAGE ?= demo/model
MODELS ?= edge_runtime/models
PERSON_RECIPE := --batch-size 16 --no-class-weights --loss cross_entropy+0.5*dice \
	--learning-rate 3e-4 --epochs 3
SEED ?= 0

.PHONY: help demo test test-slow lint docs bench bench-person accuracy methods soak fuzz weights person clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       draw data, train, export, run and report, in about 5 minutes"
	@echo "make test       run all tests except the slow ones"
	@echo "make test-slow  run the slow tests"
	@echo "make lint       run ruff and mypy"
	@echo "make docs       build the documentation site in build/docs"
	@echo "make bench      compare the latency of seed and edge with TensorFlow, OpenVINO, LiteRT and OpenCV"
	@echo "make accuracy   compare the accuracy of several trainers on many tasks, in a day (ARGS=--help: one task, fewer minutes)"
	@echo "make methods    compare the networks of all presets on CamVid, in a day (ARGS=--help: some of them, fewer minutes)"
	@echo "make soak       check 50,000 frames for growth of memory, files and threads (PACKAGE=DIR; default: the demo's)"
	@echo "make fuzz       send 100,000 odd inputs to each parser of foreign files, in hours (ARGS=--help: fewer, or one parser)"
	@echo "make person     train the person models that the runtime brings, in about an hour (DATA=folder of the photographs)"
	@echo "make bench-person  compare them with MediaPipe's (DATA=the same folder)"
	@echo "make weights    fetch the public weights for --preset selfie --start-from, and compare them with our network"
	@echo "make clean      remove everything that make created"

demo: $(READY)
	rm -rf demo
	$(BIN)/edge-unet demo --out demo

test: $(READY)
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist loadfile

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Old pages are removed first, because the page of a removed name must not stay.
docs: $(SPHINX)
	rm -rf docs/api/generated build/docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

bench: $(PEERS)
	$(BIN)/python tests/benchmarks/bench_engines.py $(ARGS)

accuracy: $(READY) $(TRAINERS)/.ready
	$(BIN)/python tests/benchmarks/bench_accuracy.py --peers $(TRAINERS) $(ARGS)

methods: $(READY)
	$(BIN)/python tests/benchmarks/bench_methods.py $(ARGS)

soak: $(READY)
	test -d $(PACKAGE) || $(MAKE) demo
	$(BIN)/python tests/benchmarks/bench_soak.py $(PACKAGE) $(ARGS)

weights: $(READY)
	$(BIN)/python examples/person/fetch_weights.py build/person $(ARGS)

# A second call goes on where the first one was stopped. docs/models/person.md names the photographs. TensorFlow would
# print dozens of lines about the processor.
person weights: export TF_CPP_MIN_LOG_LEVEL = 3
person: $(READY) build/person/selfie_segmentation.tflite
	test -d "$(DATA)" || { echo "name the folder of the photographs: make person DATA=…" >&2; exit 2; }
	$(BIN)/python examples/person/make_dataset.py build/person $(DATA)
	$(call fit_person,person,240x320)
	$(call fit_person,person-small,192x256)

# Name of the model, size of its input.
define fit_person
	$(BIN)/edge-unet train build/person/dataset --out build/person/runs/$(1) --preset selfie --input-size $(2) \
		--start-from mediapipe:build/person/selfie_segmentation.tflite $(PERSON_RECIPE) --seed $(SEED) \
		$$(test ! -f build/person/runs/$(1)/run.json || echo --resume)
	$(BIN)/python examples/person/make_package.py build/person/runs/$(1) build/person/LICENSE $(DATA) $(MODELS)/$(1)
endef

bench-person: $(PEERS) build/person/selfie_segmentation.tflite
	$(BIN)/python tests/benchmarks/bench_person.py --data $(DATA) --peers build/person $(ARGS)

build/person/selfie_segmentation.tflite: | $(READY)
	$(BIN)/python examples/person/fetch_weights.py build/person

fuzz: $(READY)
	$(BIN)/python -m pip install --quiet --group fuzz
	$(BIN)/python tests/fuzz/fuzz.py $(ARGS)

clean:
	rm -rf $(VENV) $(TRAINERS) demo build docs/api/generated *.egg-info

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edge-unet needs Python 3.11 or newer; name one with make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[train]" --group dev
	@$(BIN)/python -c 'import cv2' || { echo "OpenCV lacks a system library: apt-get install libgl1 libglib2.0-0" >&2; exit 1; }
	touch $@

# Engines that only the benchmark needs.
$(PEERS): $(READY)
	$(BIN)/python -m pip install --quiet --group bench
	touch $@

# Trainers of other projects, in an environment of their own, because their packages disagree with ours. PyTorch brings
# CUDA's libraries (6 GB installed), which nothing here uses; pip takes a build without them where it is told of an index
# that has one, by PIP_EXTRA_INDEX_URL.
$(TRAINERS)/.ready: pyproject.toml | $(READY)
	test -x $(TRAINERS)/bin/python || $(BIN)/python -m venv $(TRAINERS)
	$(TRAINERS)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(TRAINERS)/bin/python -m pip install --quiet --group accuracy-peers
	touch $@

# Packages that only the documentation needs.
$(SPHINX): $(READY)
	$(BIN)/python -m pip install --quiet --group docs
	touch $@
