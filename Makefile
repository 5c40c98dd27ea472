# Needs Python 3.11 and make. Everything else comes from the package index.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
WORKDIR ?= demo
NAME ?=
MEMBERS ?= 200000
DELIVERIES ?= 2000
SEED ?= 0
# A test file a process, so that what a file builds once is built once. Ray takes all cores by itself.
SIDE_BY_SIDE := -n 2 --dist loadfile
QUICK := "not slow and not gpu and not ray and not long"

.PHONY: demo test test-all check lint types quick-pipeline quick-rest bench fuzz image gpu clean

$(VENV)/.demo: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.14.1 torchvision==0.29.1
	$(BIN)/pip install --quiet --editable '.[demo]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/pip install --quiet --editable '.[dev]'
	# Scorers whose pins name an older numpy and another OpenCV, and which run with ours.
	$(BIN)/pip install --quiet --no-deps rapidocr-onnxruntime==1.4.4 facenet-pytorch==2.6.0
	touch $@

demo: $(VENV)/.demo  ## the whole chain on a real licensed corpus
	$(BIN)/pardalis demo --workdir $(WORKDIR)

test: $(VENV)/.dev  ## the laws, and one path of each suite
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow and not gpu and not ray"
	$(BIN)/python -m pytest -m "ray and not slow and not gpu"

test-all: $(VENV)/.dev  ## everything that `make test` leaves out
	$(BIN)/python -m pytest -m "slow and not gpu"

check: $(VENV)/.dev  ## format, lint, types, contracts, tests without Ray
	$(MAKE) --jobs=2 --output-sync=target quick-pipeline quick-rest lint types

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy

# Two processes that collect half each: workers of xdist would each import and collect it all, 20 s a core.
quick-pipeline: $(VENV)/.dev
	HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest tests/pipeline tests/tokenizer_service --ignore=tests/pipeline/test_evaluating.py --ignore=tests/tokenizer_service/test_inception.py -m $(QUICK)

quick-rest: $(VENV)/.dev
	HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest --ignore=tests/pipeline --ignore=tests/tokenizer_service --ignore=tests/laws --ignore=tests/cluster --ignore=tests/hostile --ignore=tests/browser --ignore=tests/retrieval/test_clip.py --ignore=tests/trainer/test_chameleon.py --ignore=tests/trainer/test_export.py -m $(QUICK)

bench: $(VENV)/.dev  ## make bench NAME=ingest
	$(BIN)/python -m tests.benchmarks $(NAME)

fuzz: $(VENV)/.dev  ## mutated members and deliveries; make fuzz MEMBERS=2000 DELIVERIES=20 SEED=7
	$(BIN)/python -m tests.fuzz --members $(MEMBERS) --deliveries $(DELIVERIES) --seed $(SEED)

image: $(VENV)/.dev  ## the Dockerfile's steps on a bare Debian: as root, with debootstrap
	PARDALIS_CHROOT=1 $(BIN)/python -m pytest tests/infra/test_dockerfile.py

gpu: $(VENV)/.dev  ## the same code on a CUDA device
	$(BIN)/python -m pytest -m gpu

clean:
	rm -rf $(VENV) $(WORKDIR)
