# One word per chore, also used in continuous integration.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
PLUGINS := plugins/clip plugins/historic plugins/onnxruntime plugins/openvino plugins/sentence_transformers plugins/timm
# One thread per worker. SCIPY_ARRAY_API enables the array API, which a check of scikit-learn requires. New processes
# find the bytecode of this repository, also where a variable of the environment forbids to write it.
TEST_ENV := OMP_NUM_THREADS=1 SCIPY_ARRAY_API=1 PYTHONDONTWRITEBYTECODE=

.PHONY: demo test cluster fuzz lint docs docs-check bench matrix release-check clean

demo: $(VENV)/demo  ## two examples with the shipped backbones, without a network
	$(BIN)/python examples/digits.py
	$(BIN)/python examples/docstrings.py

test: $(VENV)/test  ## all tests
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal

cluster: $(VENV)/cluster  ## searches on Ray and on Spark, which needs Java
	$(TEST_ENV) $(BIN)/python -m pytest -m cluster

fuzz: $(VENV)/fuzz  ## fuzz readers with damaged files and odd texts for ten minutes
	$(TEST_ENV) $(BIN)/python -m tests.fuzz.fuzz

lint: $(VENV)/test  ## style, format, spelling and types
	$(BIN)/codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/docs  ## documentation site in build/site, without a network; GALLERY=run executes the examples
	$(BIN)/python -m sphinx -W --keep-going -b html -d build/doctrees docs build/site

docs-check: docs  ## look at the site in Chromium: links, console, contrast, widths
	$(BIN)/python docs/check_site.py build/site

bench: $(VENV)/bench  ## tables, a JSON file and a picture in results/; SIZE=full for all; needs SKTRANSFER_TEST_DATA
	$(BIN)/python -m benchmarks.run

# Environments of uv in temporary folders. ONLY names some of them, and TESTS gives arguments of pytest.
matrix: $(VENV)/release  ## tests on each Python of this machine, with the oldest dependencies, and without extras
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m release.matrix $(ONLY) $(if $(TESTS),--tests $(TESTS))

release-check: $(VENV)/release  ## build the last commit into dist/, install the wheels elsewhere, run README.md there
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m release.distributions

# fasttext needs a C++ compiler. Only the tests require it.
$(VENV)/demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[demo]"
	touch $@

$(VENV)/test: pyproject.toml $(PLUGINS:=/pyproject.toml) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[demo,test,words]" $(addprefix -e ,$(PLUGINS))
	touch $@

$(VENV)/docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[demo,docs]"
	touch $@

$(VENV)/bench: $(VENV)/test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
	touch $@

$(VENV)/cluster: $(VENV)/test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[ray,spark]"
	touch $@

$(VENV)/fuzz: $(VENV)/test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[fuzz]"
	touch $@

# Tools only. What they check is installed into environments of its own.
$(VENV)/release: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group release
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

clean:  ## remove everything that the other targets created
	rm -rf $(VENV) build dist results demo *.egg-info docs/auto_examples docs/reference
