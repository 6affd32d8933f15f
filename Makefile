# Everything runs in a virtual environment of its own; nothing else on the machine is touched.
PYTHON ?= python3.11
VENV ?= .venv
DEMO_OUT ?= demo-out
EXTRAS ?= dev,docs,rlds
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
# uv reads many times quicker than pip what the index has, but not pip's settings: wheels that lie on this machine, its certificates
WHEELS = $(shell echo $(or $(PIP_FIND_LINKS),$$($(PYTHON) -m pip config get global.find-links 2>/dev/null)) | tr -s ' ' ,)
UV = UV_SYSTEM_CERTS=1 $(if $(WHEELS),UV_FIND_LINKS='$(WHEELS)') \
     $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt

# Bytecode is written when a module is first imported: not of all of Ray and PyTorch at once, nor by each process again
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test lint types contract docs unit-jobs unit-rest slow lowest cuda cuda-multi fuzz bench image-check clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) uv
	$(UV) --editable '.[$(EXTRAS)]' || $(PIP) --editable '.[$(EXTRAS)]'
	touch $@

$(VENV)/installed-slow: $(VENV)/installed
	$(UV) --editable '.[$(EXTRAS),slow]' || $(PIP) --editable '.[$(EXTRAS),slow]'
	touch $@

# Sample data -> plan -> preprocess -> audit -> train -> report
demo: install
	rm -rf $(DEMO_OUT)
	$(BIN)/vlajepa demo out=$(DEMO_OUT)

# On two processors: the commands take as long as everything else. The second pytest begins when mypy ends, and then
# finds the bytecode that the first has written
test: install
	$(MAKE) --jobs=2 --no-print-directory lint types unit-rest unit-jobs contract docs

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

contract: install
	$(BIN)/lint-imports

# A broken link is an error
docs: install
	$(BIN)/python -m sphinx -W -n --keep-going -q docs docs/_build

# Freed memory stays with its process (glibc) and comes in huge pages: on a virtual machine a page costs most when it is
# touched for the first time
types unit-jobs unit-rest: export MALLOC_MMAP_MAX_ = 0
types unit-jobs unit-rest: export MALLOC_TRIM_THRESHOLD_ = 4000000000
types unit-jobs unit-rest: export MALLOC_TOP_PAD_ = 67108864
types unit-jobs unit-rest: export GLIBC_TUNABLES = glibc.malloc.hugetlb=1
types unit-jobs unit-rest: export PYTHONMALLOC = malloc

unit-jobs: install
	$(BIN)/python -m pytest tests/jobs

unit-rest: install
	$(BIN)/python -m pytest --ignore=tests/jobs

slow: $(VENV)/installed-slow
	$(BIN)/python -m pytest -m slow

# The lowest versions that pyproject.toml allows, in an environment of their own: what reads raw data and builds
lowest: install
	$(PYTHON) -m venv $(VENV)-lowest
	UV_SYSTEM_CERTS=1 $(if $(WHEELS),UV_FIND_LINKS='$(WHEELS)') $(BIN)/uv pip install --quiet --resolution lowest-direct \
	    --python $(VENV)-lowest/bin/python --editable '.[dev,rlds]'
	$(VENV)-lowest/bin/python -m pytest tests/pipeline tests/model

# On a CUDA device, eight minutes at most: results lie in cuda-out
cuda: install
	$(BIN)/python -m tests.cuda.session

# On a machine with two GPUs or more: what there is not is skipped with its reason
cuda-multi: install
	$(BIN)/python -m pytest -m cuda -rs tests/cuda/multi

# Ten thousand spoiled files to everything that reads one
fuzz: install
	$(BIN)/python -m tests.fuzz --seed $(or $(SEED),$(shell date +%j)0000)

bench: $(VENV)/installed-slow
	$(BIN)/python -m tests.benchmarks

# The image of the Dockerfile, without Docker (root, debootstrap and buildah; 15 GB in TMPDIR), and a build made in it
image-check: install
	$(BIN)/python -m tests.image

clean:
	rm -rf $(VENV) $(VENV)-lowest $(DEMO_OUT) build docs/_build docs/_generated docs/jupyter_execute *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
