# Every target works as the first command on a fresh clone: what it needs is
# installed into .venv, pinned by constraints.txt, before it runs.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
# The environment of colab-check, one for each Python, and its torch.
COLAB := build/colab/$(notdir $(PYTHON))
TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)
SITE_INSTALLED := $(VENV)/.installed-site
BROWSER_INSTALLED := $(VENV)/.installed-browser

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help lab test lint course handout site slides test-browser colab-check \
    bench bench-inference bench-hybrid bench-pipeline bench-gpu links chromium clean

help:  ## what there is (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# With the repository as root, links from notebooks to the code open.
lab: $(INSTALLED)  ## open the course in JupyterLab
	$(RUN) -m jupyterlab --ServerApp.root_dir=. notebooks/00_start_here.ipynb

test: lint  ## lint and unit tests, then every notebook, in the smallest preset
	rm -rf build/checkpoints
	$(RUN) -m pytest -n 2
	$(RUN) -m pytest -n 2 --dist loadscope --nbval-lax notebooks

lint: $(INSTALLED)  ## ruff over code and notebooks, then the notebooks' anatomy
	$(RUN) -m ruff check
	$(RUN) notebooks/tools/lint.py

course: $(INSTALLED)  ## run every notebook in order; results in build/course
	rm -rf build/checkpoints
	$(RUN) notebooks/tools/course.py

handout: $(INSTALLED)  ## notebooks for a class, without solutions: build/handout
	$(RUN) notebooks/tools/handout.py

colab-check: $(COLAB)/.installed  ## run every notebook under Colab's versions
	$(COLAB)/bin/python notebooks/tools/colab_check.py

# With the decks: the site links to them.
site: $(SITE_INSTALLED) slides  ## the course as a web site, with its slides; in build/site
	$(RUN) notebooks/site/site_source.py
	rm -rf build/site
	$(RUN) -m sphinx -W --keep-going -q -c notebooks/site -d build/site-doctrees \
	    build/site-source build/site
	cp -R build/slides build/site/slides

slides: $(SITE_INSTALLED)  ## talks, and a handout of each notebook; in build/slides
	rm -rf build/slides
	$(RUN) notebooks/site/slides.py

chromium:
	@$(PYTHON) tests/browser/chromium.py

# Chromium is looked for before minutes go by.
test-browser: chromium $(BROWSER_INSTALLED) site slides  ## site, slides and JupyterLab in Chromium
	$(RUN) -m pytest -n 2 tests/browser

bench: $(INSTALLED)  ## time and memory of the three models
	$(RUN) -m attnres_ref.bench

bench-inference: $(INSTALLED)  ## tokens per second, by schedule of the depth reads
	$(RUN) -m attnres_ref.bench inference

bench-hybrid: $(INSTALLED)  ## KDA in chunks against its loop; Block AttnRes in the hybrid
	$(RUN) -m attnres_ref.bench hybrid

bench-pipeline: $(INSTALLED)  ## the pipeline simulator against paced processes
	$(RUN) -m attnres_ref.bench pipeline

# A Python that has torch and Triton, as on a machine with a GPU, runs it as it is. A dry
# run writes no record. Other arguments, for instance half of it: ARGS="--half A".
ifneq (,$(filter bench-gpu,$(MAKECMDGOALS)))
HAS_TRITON := $(shell $(PYTHON) -c 'import torch, triton, numpy, tqdm' 2> /dev/null && echo yes)
endif
ARGS ?= $(if $(DRY),,--json notebooks/recorded/bench_gpu.json)
bench-gpu: $(if $(HAS_TRITON),,$(INSTALLED))  ## the Triton kernels on one GPU, beside others
	PYTHONPATH=.:kernels $(if $(HAS_TRITON),$(PYTHON),$(RUN)) -m attnres_kernels.bench $(ARGS)

links:  ## REPO=owner/name: write the public address into badges and clone cells
	$(PYTHON) notebooks/tools/links.py "$$REPO"

# build/recorded stays: recording/record.py keeps hours of unfinished work there.
clean:  ## remove what the other targets made, except .venv
	rm -rf build/course build/checkpoints build/colab build/handout* build/site* \
	    build/slides build/screenshots build/jupyter_execute .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name .venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

# The site's scripts use the tools beside them, and the numbers of the records.
site slides: export PYTHONPATH = notebooks/tools:notebooks/site:notebooks/recording
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

# All that Colab has, but for torch: see the file.
$(COLAB)/.installed: notebooks/tools/colab-runtime.txt constraints.txt
	$(PYTHON) -m venv --clear $(COLAB)
	grep -v '^torch==' $< | $(COLAB)/bin/python -m pip install -r /dev/stdin torch==$(TORCH)
	touch $@

# Extras change no version: constraints.txt pins theirs too.
$(VENV)/.installed-%: $(INSTALLED)
	$(RUN) -m pip install -c constraints.txt -e ".[$*]"
	touch $@

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	    || { echo 'Python 3.11 to 3.13 is needed; name one: make PYTHON=python3.12 ...'; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
