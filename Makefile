# make demo   the whole study on small data: no download, no GPU
# make look   three networks of ImageNet on twenty photographs, in two minutes, without training
# make test   all checks and tests, thirteen minutes on two cores
# make test-unit  the unit tests but for the slow ones, two minutes on two cores
# make test-timm  the feature maps of every family of timm, five minutes on one core
# make test-slurm  a small study on a SLURM of one node, which it installs and starts (Debian, Ubuntu; root)
# make bench  measure speed and memory against their bounds, on a GPU where there is one
# make lint   the checks alone
# make format write the code as the checks want it
# make docs   write docs/configuration.md from config/schema.yaml
# make lock   pin what requirements*.in ask for
# make clean  remove the environment and caches; results stay
#
# Tests run in as many processes as there are cores, those of a file in one of them, the longest files first. The small
# study that most tests of the workflow begin with, and that the reference is compared with, is made by the first process
# that asks for it.
#
# The tools live in .venv, which is made from requirements*.txt at need and brought up to date when those change.

PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := python -m pytest --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--no-annotate --no-emit-index-url --custom-compile-command "make lock"

export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo look test test-unit test-timm test-slurm bench lint lint-types lint-workflow lint-style format docs lock clean

demo: .venv/.installed
	snakemake --configfile config/demo.yaml --cores $(CORES)
	@echo
	@echo "Tables:  results/demo/tables"
	@echo "Figures: results/demo/figures"

look: .venv/.installed-look
	snakemake --configfile config/look.yaml --cores $(CORES)

# The tests on SLURM, where it is installed, in a process of their own: they share one cluster.
test: lint
	python -m pytest tests/slurm
	$(PYTEST) tests/workflow tests/reference tests/unit

test-unit: .venv/.installed-dev
	$(PYTEST) -m "not slow" tests/unit

test-timm: .venv/.installed-dev
	python -m pytest tests/timm

# The traps end the cluster whatever ends the tests; dash runs the one of EXIT only if those of signals exit.
test-slurm: .venv/.installed-dev
	python -m tests.slurm.cluster install
	@trap 'python -m tests.slurm.cluster stop' EXIT; trap 'exit 130' INT; trap 'exit 143' TERM; \
	timeout --foreground --kill-after=60 3600 python -m pytest tests/slurm

bench: .venv/.installed-dev
	python -m benchmarks

lint: .venv/.installed-dev
	@$(MAKE) --no-print-directory --jobs $(CORES) lint-types lint-workflow lint-style

lint-types:
	mypy

lint-workflow:
	snakemake --configfile config/demo.yaml --lint

lint-style:
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	lint-imports --no-cache --no-logo

format: .venv/.installed-dev
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

docs: .venv/.installed
	python docs/generate_configuration.py

lock: .venv/bin/python
	$(PIP) uv==0.13.9
	$(LOCK) --output-file requirements.txt requirements.in
	$(LOCK) --constraint requirements.txt --output-file requirements-dev.txt requirements-dev.in
	$(MAKE) .venv/.installed-dev
	$(BIN)/python envs/lock.py

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not there. perturbflow needs Python 3.11 or newer: install it, or say where it is: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "perturbflow needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version). Say where a newer one is: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make environments: its module venv or ensurepip is missing. Install it (Debian, Ubuntu: apt install python3-venv), or say where another Python is: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: requirements.txt | .venv/bin/python
	@echo "Installing requirements.txt into .venv (a few minutes the first time)"
	$(PIP) --requirement requirements.txt
	@touch $@

.venv/.installed-look: requirements-look.txt .venv/.installed
	@echo "Installing requirements-look.txt into .venv (60 MB)"
	$(PIP) --requirement requirements-look.txt
	@touch $@

.venv/.installed-dev: requirements-dev.txt requirements-dev-no-deps.txt .venv/.installed
	@echo "Installing requirements-dev.txt into .venv"
	$(PIP) --requirement requirements-dev.txt
	$(PIP) --no-deps --requirement requirements-dev-no-deps.txt
	@touch $@
