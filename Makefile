# make demo: data, training, adversarial training, attacked tests and pictures, on synthetic street scenes
# make search: architecture search, the found network drawn, retrained and attacked, on the same scenes
# make aat: attack bank, meta-initialisation, adversarial training, attacked tests, on the same scenes
# make test: the tests that need neither a GPU nor real data
# All first build .venv from wheels. Another torch: make demo TORCH="torch==2.6.0 torchvision==0.21.0"

PYTHON ?= python3
TORCH ?= torch==2.14.1 torchvision==0.29.1
VENV := .venv
PY := $(VENV)/bin/python
JOBS ?= 2
# a file of tests to each process, with one thread
PYTEST = OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist loadfile
REQUIREMENTS := setup.py $(wildcard requirements/*.txt)

.PHONY: demo search aat test test_all lint docs clean

demo: $(VENV)/installed
	$(PY) tools/demo.py

search: $(VENV)/installed
	$(PY) tools/demo_search.py

aat: $(VENV)/installed
	$(PY) tools/demo_aat.py

test: $(VENV)/installed
	$(PYTEST)

test_all: $(VENV)/installed
	$(PYTEST) -m ""

lint: $(VENV)/installed
	$(PY) -m ruff check . && $(PY) -m ruff format --check .

docs: $(VENV)/installed
	$(PY) -m pip install --quiet -r requirements/docs.txt && $(PY) -m mkdocs build --strict

$(VENV)/installed: $(REQUIREMENTS)
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet $(TORCH)
	$(PY) -m pip install --quiet -r requirements/mminstall.txt -e ".[openmmlab,tests]"
	touch $@

clean:
	rm -rf $(VENV) work_dirs
