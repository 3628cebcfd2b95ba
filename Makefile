# The front door: each target brings the environment up to date first.
PYTHON ?= python3
BIN = .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro test test-all bench honesty page ray lint format lock clean

repro: .venv/installed
	dvc repro
	foldwise summary

test: .venv/installed lint
	pytest -n 2

# The slow tests, and those that need a browser, another processor's emulator, or Ray, which they bring along.
test-all: .venv/installed
	tests/browser/install.sh
	tests/qemu/install.sh
	pytest -m qemu --no-cov & emulated=$$!; pytest -n 3 --dist loadfile -m 'slow or browser or ray' --no-cov --durations=10 && wait $$emulated

# The comparison with the alternatives, about an hour on two quiet cores, then the recipes on data of many kinds, about
# half of one; QUICK=1: a few minutes, writes nothing.
bench: .venv/installed
	python benchmarks/run.py $(if $(QUICK),--quick)
	python benchmarks/robustness.py $(if $(QUICK),--only digits,--write)

# The finished model as a page that any static server serves.
MODEL = model
ORT = page/node_modules/onnxruntime-web/dist
page: $(MODEL)/model.onnx page/node_modules/.package-lock.json
	@rm -rf $(MODEL)/.page.part && mkdir $(MODEL)/.page.part
	@cp page/index.html page/app.js $(MODEL)/model.onnx $(MODEL)/card.json $(ORT)/ort-wasm-simd-threaded.wasm $(MODEL)/.page.part
	@cp $(ORT)/ort.wasm.bundle.min.mjs $(MODEL)/.page.part/onnxruntime.js  # not every server knows what an .mjs is
	@rm -rf $(MODEL)/page && mv $(MODEL)/.page.part $(MODEL)/page
	@echo "$(MODEL)/page is made; to look at it: python3 -m http.server -d $(MODEL)/page"
$(MODEL)/model.onnx:
	@echo "There is no $@, which this makes: dvc exp run -S final.model=refit" >&2; exit 1
page/node_modules/.package-lock.json: page/package-lock.json
	@command -v npm >/dev/null || { echo "make page needs npm, which comes with Node.js" >&2; exit 1; }
	cd page && npm ci --no-audit --no-fund --ignore-scripts && touch node_modules/.package-lock.json

# What the intervals and tests are worth, on real cross-validations whose truth is known: an hour on two cores. It goes on
# where it was interrupted.
honesty: .venv/installed
	python benchmarks/honesty.py --write

lint: .venv/installed
	ruff check .
	ruff format --check .
	mypy

format: .venv/installed
	ruff check --fix .
	ruff format .

# Pins and hashes for every platform, without an index's address; one that a run's numbers depend on, one of tools.
# A pin stays while the index has it: UPGRADE=--upgrade, or UPGRADE='-P NAME', takes the newest of all, or of one.
lock: $(BIN)/uv
	uv pip compile $(LOCK) -o requirements.lock
	uv pip compile $(LOCK) --extra dev $(call beside,requirements.lock) -o requirements-dev.lock
	uv pip compile $(LOCK) --extra ray -c requirements-dev.lock $(call beside,requirements.lock) -o requirements-ray.lock
LOCK = -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate $(UPGRADE) pyproject.toml
beside = -c $(1) $$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' $(1) | sort -u)

.venv/installed: requirements.lock requirements-dev.lock pyproject.toml
	@echo "Installing into .venv (some GB, a few minutes)"
	$(VENV)
	$(INSTALL) --require-hashes -r requirements.lock
	$(INSTALL) --require-hashes -r requirements-dev.lock
	$(INSTALL) -e .
	$(CHECK)

# Ray, for compute.backend: ray.
ray: .venv/with-ray
.venv/with-ray: .venv/installed requirements-ray.lock
	$(INSTALL) --require-hashes -r requirements-ray.lock
	$(CHECK)

# By itself, as a lock is made anew where it can no longer be installed.
$(BIN)/uv:
	$(VENV)
	sed -n '/^uv==/,/[^\]$$/p' requirements-dev.lock >.venv/uv.lock
	$(INSTALL) --require-hashes -r .venv/uv.lock

# Whatever the version of pip, the index is asked for what a lock names and for nothing else: not for what a package
# wishes to have beside it, nor for what builds one that is no wheel (setuptools, of requirements.lock, does).
# An option in pip's own variable, as a pip that no longer knows it passes over it.
INSTALL = PIP_USE_PEP517=1 $(PIP) install -q --disable-pip-version-check --no-deps --no-build-isolation
PIP = $(BIN)/python -I -m pip
VENV = @$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14) and \
  "Foldwise needs Python 3.11 to 3.14, for which its locks have wheels: make PYTHON=python3.14")' && $(PYTHON) -m venv .venv
CHECK = @$(PIP) check && touch $@ || { echo "What is in .venv does not fit together: make clean, then the same again"; exit 1; }

clean:
	rm -rf .venv
