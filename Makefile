# Two commands matter: `make run` (the main job, end to end, on this machine) and `make test`.
# Needs Python >= 3.11 with venv, and make. Everything else is set up below.

ifndef PYTHON
PYTHON := $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
endif
VENV ?= .venv
BIN := $(VENV)/bin
# PyTorch's own index of small CPU builds, if you want one: make run TORCH_INDEX=URL
TORCH_INDEX ?=
SEED ?= 1

.PHONY: help run test lint lab lab-down lab-smoke forecast-lab torture demonstration bench templates wheel clean
# The kernels
.PHONY: accuracy kernels-aot kernels-kit bench-gpu

help:
	@echo "make run       set up, then submit the reference training job with --where auto on this machine"
	@echo "make test      set up, then run every test this machine can run; says what it skipped and why"
	@echo "make lint      ruff, mypy --strict, import-linter"
	@echo "make lab       start four real Slurm clusters on this machine (root on Debian or Ubuntu)"
	@echo "make lab-smoke submit to each of them and to auto, and look at what came of it"
	@echo "make lab-down  stop exactly what make lab started"
	@echo "make forecast-lab  submit 60 jobs behind made-up load on the lab, and print forecasts against outcomes"
	@echo "make torture   kill everything at random for up to 20 minutes (SEED=n), and count what became of the jobs"
	@echo "make demonstration  200 jobs while clients, agents, nodes and a controller are killed at random for ten minutes"
	@echo "make bench     measure the budgets against sbatch and submitit"
	@echo "make templates translate templates/ to Python again, after a change there"
	@echo "make accuracy  print how accurate the two ways to FP64 on tensor cores are (NumPy, no GPU)"
	@echo "make kernels-aot compile every GPU kernel for five architectures and check the machine code (no GPU; 1.6 GB)"
	@echo "make kernels-kit pack cuTile and its compiler for a GPU machine without a network (dist/cutile.tar.xz, 55 MB)"
	@echo "make bench-gpu measure on the GPU of this machine and write docs/benchmarks/"
	@echo "make wheel     build the wheel into dist/"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "hybridhpc needs Python 3.11 or newer; on Debian or Ubuntu: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# hpc itself: all that the lab and what is tried on it need.
$(VENV)/hpc.done: $(BIN)/python pyproject.toml
	$(BIN)/pip install -q -e '.[ssh]'
	@touch $@

# ... and what the training job runs on.
$(VENV)/torch.done: $(BIN)/python pyproject.toml
	@if [ -n "$(TORCH_INDEX)" ]; then $(BIN)/pip install -q --index-url "$(TORCH_INDEX)" torch==2.13.0; fi
	@echo "setting up the training job (PyTorch is large: this takes a few minutes the first time)"
	$(BIN)/pip install -q -e '.[train]'
	@touch $@

# ... and what checks and measures all of it.
$(VENV)/dev.done: $(VENV)/torch.done tests/constraints.txt
	$(BIN)/pip install -q -c tests/constraints.txt -e '.[train,dev,bench,ssh]'
	@touch $@

run: $(VENV)/torch.done
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/hpc submit configs/jobs/train.yaml --where auto --follow --again

test: $(VENV)/dev.done
	@$(BIN)/python -m tests.lab install & lab=$$!; \
		$(MAKE) --no-print-directory lint; lint=$$?; \
		wait $$lab || echo "the lab is not installed: its tests are skipped"; exit $$lint
	$(BIN)/python -m pytest --cov=hybridhpc --cov-report=term:skip-covered -rs

lint: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lab: $(VENV)/hpc.done
	$(BIN)/python -m tests.lab up

lab-down: $(VENV)/hpc.done
	$(BIN)/python -m tests.lab down

lab-smoke: $(VENV)/hpc.done
	$(BIN)/python -m tests.lab smoke

forecast-lab: $(VENV)/hpc.done
	$(BIN)/python -m tests.lab.forecast_outcomes

torture: $(VENV)/hpc.done
	$(BIN)/python -m tests.torture --seed $(SEED)

demonstration: $(VENV)/hpc.done
	$(BIN)/python -m tests.torture --seed $(SEED) --demonstration --jobs 200 --kills 100000 --minutes 13

bench: $(VENV)/dev.done
	$(BIN)/python -m tests.bench

templates: $(VENV)/hpc.done
	$(BIN)/python -m hybridhpc.script.jinja >$(VENV)/template_code.py
	mv $(VENV)/template_code.py hybridhpc/script/template_code.py

accuracy: $(VENV)/torch.done
	$(BIN)/python -m hybridhpc.refjobs.kernels.accuracy --plot docs/images/fp64-accuracy.png

# An environment of its own: the compilers want newer CUDA packages than PyTorch pins.
$(VENV)/kernels.done: $(BIN)/python pyproject.toml
	$(BIN)/python -m venv $(VENV)/kernels
	@echo "setting up the compilers of the GPU kernels (1.6 GB on disk: a few minutes the first time)"
	$(VENV)/kernels/bin/pip install -q -e '.[kernels]'
	@touch $@

kernels-aot: $(VENV)/kernels.done
	$(VENV)/kernels/bin/python -m hybridhpc.refjobs.kernels.aot

# For a GPU machine without a network; KIT_PYTHON is the version of its Python.
KIT_PYTHON ?= 3.12
kernels-kit: $(VENV)/kernels.done
	$(VENV)/kernels/bin/python -m hybridhpc.refjobs.kernels.kit dist/cutile.tar.xz --python $(KIT_PYTHON)

# Runs with the Python of the GPU machine, which has its own torch: make bench-gpu PYTHON=python3
bench-gpu:
	$(PYTHON) -m hybridhpc.refjobs.kernels.bench

wheel: $(VENV)/hpc.done
	$(BIN)/pip wheel -q --no-deps -w dist .

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
