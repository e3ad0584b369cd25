# Everything a newcomer types. The first command sets the virtual environment up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One thread a process: two threads on two busy cores can be ten times slower than one.
export OMP_NUM_THREADS := 1

.PHONY: demo fleet-demo live-demo test test-all fuzz check format proof install clean

install: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --no-compile -q -c constraints.txt "torch==2.13.0"
	$(BIN)/pip install --disable-pip-version-check --no-compile -q -c constraints.txt -e ".[dev]"
	touch $@

demo: install          ## the main job with nothing to download
	$(BIN)/vedette run demo --out runs/demo
	@echo "open runs/demo/report.html"

fleet-demo: install    ## a coordinator and five nodes, then five peers: real processes, mutual TLS
	$(BIN)/python tools/fleet_demo.py

live-demo: install     ## a sentry at work: Mosquitto, pumps with faults, a federation beside it, incidents in the terminal
	$(BIN)/python tools/live_demo.py

# Three at a time, also on two cores: federations wait more than they compute. Each begins with a third of the tests, file after file, so
# that what a file's tests share is made once; who is done first takes half of what another has left. Hundreds of processes are begun:
# where Python was told to keep no bytecode, each of them would compile all of Vedette.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest
# What fails there, where hundreds of processes come and go beside it on a busy machine, is tried once more by itself; what fails twice fails.
test: install          ## all tests but a few that take long; those on real data need VEDETTE_DATA
	$(PYTEST) -n 3 --dist worksteal -m "not slow" || $(PYTEST) --last-failed --last-failed-no-failures none -m "not slow"

test-all: install      ## those too
	$(PYTEST) -n 3 --dist worksteal

fuzz: install          ## all tests by examples, with others each time; 1,000 broken variants of small files a loader
	HYPOTHESIS_PROFILE=thorough $(PYTEST) -n 2 -m hypothesis

check: install         ## lint, types, floors, public API
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/api.py --check

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proof: install         ## the figures of docs/proof.md, all seeds, on the real data
	$(BIN)/python tools/proof.py

clean:
	rm -rf $(VENV) build runs
