# One command each. `make setup` is called by the others and does nothing when nothing changed.
PYTHON ?= python3.11
RUN := .venv/bin/python
.PHONY: setup quickstart test checks evidence drill accept bench clean

setup:
	@$(or $(shell command -v $(PYTHON) 2>/dev/null),$(shell command -v python3 2>/dev/null),python3) scripts/setup_environment.py

quickstart: setup
	@.venv/bin/msvl quickstart

test: setup
	@$(RUN) -m pytest -m "not slow" tests

checks: setup
	@.venv/bin/ruff check msvl launch tests benchmarks scripts setup.py
	@.venv/bin/ruff format --check msvl launch tests benchmarks scripts setup.py
	@.venv/bin/mypy msvl launch
	@.venv/bin/lint-imports

evidence: setup
	@$(RUN) -m tests.evidence

drill: setup
	@$(RUN) -m pytest -m slow tests

accept: setup
	@$(RUN) -m launch.accept --local $(ACCEPT)

bench: setup
	@$(RUN) benchmarks/local_loss.py --shape 32,196,768 --shape 16,1369,768
	@$(RUN) benchmarks/global_loss.py --pairs 4096
	@echo "All benchmarks with their commands and results: benchmarks/README.md"

clean:
	rm -rf .venv build msvl.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
