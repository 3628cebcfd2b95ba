# The front door: each target brings the environment up to date first.
PYTHON ?= python3
BIN = .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro test test-all bench lint format lock clean

repro: .venv/installed
	dvc repro
	foldwise summary

test: .venv/installed lint
	pytest

# The slow tests, and those that need a browser, another processor's emulator, or Ray, which they bring along.
test-all: .venv/installed
	tests/browser/install.sh
	tests/qemu/install.sh
	pytest -m qemu --no-cov & emulated=$$!; pytest -m 'slow or browser or ray' --no-cov --durations=10 && wait $$emulated

# The comparison with the alternatives, about an hour on two quiet cores; QUICK=1: a few minutes, writes nothing.
bench: .venv/benched
	python benchmarks/run.py $(if $(QUICK),--quick)

.venv/benched: .venv/installed benchmarks/requirements.lock
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-deps -r benchmarks/requirements.lock
	@touch $@

lint: .venv/installed
	ruff check .
	ruff format --check .
	mypy

format: .venv/installed
	ruff check --fix .
	ruff format .

# Pins and hashes for every platform, without an index's address; one that a run's numbers depend on, one of tools.
lock: .venv/installed
	uv pip compile $(LOCK) -o requirements.lock
	uv pip compile $(LOCK) --extra dev -c requirements.lock -o requirements-dev.lock \
	  $$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' requirements.lock | sort -u)
	uv pip compile $(LOCK) --extra bench -c requirements.lock -c requirements-dev.lock -o benchmarks/requirements.lock \
	  $$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' requirements.lock requirements-dev.lock | sort -u)
	uv pip compile $(LOCK) --extra ray -c requirements.lock -o requirements-ray.lock \
	  $$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' requirements.lock | sort -u)
LOCK = -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate pyproject.toml

.venv/installed: requirements.lock requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Foldwise needs Python 3.11 or later: make PYTHON=python3.11")'
	@echo "Installing into .venv (some GB, a few minutes)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock -r requirements-dev.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf .venv .scratch
