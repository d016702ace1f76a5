# Every target works as the first command on a fresh clone: what it needs is
# installed into .venv, pinned by constraints.txt, before it runs.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help lab test course bench bench-inference bench-hybrid bench-gpu links clean

help:  ## what there is (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

lab: $(INSTALLED)  ## open the course in JupyterLab
	$(RUN) -m jupyterlab notebooks/00_*.ipynb

test: $(INSTALLED)  ## unit tests, then every notebook, in the smallest preset
	rm -rf build/checkpoints
	$(RUN) -m pytest -n 2
	$(RUN) -m pytest -n 2 --dist loadscope --nbval-lax notebooks

course: $(INSTALLED)  ## run every notebook in order; results in build/course
	rm -rf build/checkpoints
	$(RUN) notebooks/tools/course.py

bench: $(INSTALLED)  ## time and memory of the three models
	$(RUN) -m attnres_ref.bench

bench-inference: $(INSTALLED)  ## tokens per second, by schedule of the depth reads
	$(RUN) -m attnres_ref.bench_inference

bench-hybrid: $(INSTALLED)  ## KDA in chunks against its loop; Block AttnRes in the hybrid
	$(RUN) -m attnres_ref.bench_hybrid

bench-gpu: $(INSTALLED)  ## the Triton kernels on one GPU, beside other implementations
	$(RUN) -m attnres_kernels.bench --json notebooks/recorded/bench_gpu.json

links:  ## REPO=owner/name: write the public address into badges and clone cells
	$(PYTHON) notebooks/tools/links.py $(REPO)

# build/recorded stays: tools/record.py keeps hours of unfinished work there.
clean:  ## remove what the other targets made, except .venv
	rm -rf build/course build/checkpoints .pytest_cache .hypothesis *.egg-info
	find . -name .venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

# Two test workers: one thread each, or they fight over the cores.
test: export OMP_NUM_THREADS = 1
# Resuming bit for bit is promised, and tested, on the CPU.
test: export CUDA_VISIBLE_DEVICES =
test: export ATTNRES_PRESET = ci
# Start from no checkpoints, and leave the reader's own cache alone.
test course: export ATTNRES_CACHE_DIR = $(CURDIR)/build/checkpoints

$(INSTALLED): pyproject.toml constraints.txt | $(VENV)
	$(RUN) -m pip install -c constraints.txt -e ".[test]"
	touch $@

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	    || { echo 'Python 3.11 to 3.13 is needed; name one: make PYTHON=python3.12 ...'; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
