# Every target works as the first command on a fresh clone: what it needs is
# installed into .venv, pinned by constraints.txt, before it runs.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
SITE_INSTALLED := $(VENV)/.installed-site
BROWSER_INSTALLED := $(VENV)/.installed-browser

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help lab test course site slides test-browser bench bench-inference bench-gpu links clean

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

site: $(SITE_INSTALLED)  ## the course as a web site, from stored outputs; in build/site
	$(RUN) notebooks/tools/site_source.py
	rm -rf build/site
	$(RUN) -m sphinx -W --keep-going -q -c notebooks/site -d build/site-doctrees \
	    build/site-source build/site
	$(RUN) notebooks/tools/check_links.py build/site

slides: $(SITE_INSTALLED)  ## a deck of slides for each notebook; in build/slides
	rm -rf build/slides
	$(RUN) notebooks/tools/slides.py
	$(RUN) notebooks/tools/check_links.py build/slides

test-browser: $(BROWSER_INSTALLED) site slides  ## site, slides and JupyterLab in Chromium
	$(RUN) -m pytest --confcutdir tests/browser tests/browser

bench: $(INSTALLED)  ## time and memory of the three models
	$(RUN) -m attnres_ref.bench

bench-inference: $(INSTALLED)  ## tokens per second, by schedule of the depth reads
	$(RUN) -m attnres_ref.bench_inference

bench-gpu: $(INSTALLED)  ## the Triton kernels on one GPU, beside other implementations
	$(RUN) -m attnres_kernels.bench --json notebooks/recorded/bench_gpu.json

links:  ## REPO=owner/name: write the public address into badges and clone cells
	$(PYTHON) notebooks/tools/links.py $(REPO)

# build/recorded stays: tools/record.py keeps hours of unfinished work there.
clean:  ## remove what the other targets made, except .venv
	rm -rf build/course build/checkpoints build/site* build/slides build/screenshots \
	    .pytest_cache .hypothesis *.egg-info
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

# Extras change no version: constraints.txt pins theirs too.
$(VENV)/.installed-%: $(INSTALLED)
	$(RUN) -m pip install -c constraints.txt -e ".[$*]"
	touch $@

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	    || { echo 'Python 3.11 to 3.13 is needed; name one: make PYTHON=python3.12 ...'; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
