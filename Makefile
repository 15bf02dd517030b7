# Every verb of the project. `make` alone lists them.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
CLAMD ?= $(shell PATH="$$PATH:/usr/sbin:/sbin" command -v clamd)
ARGS ?=
export DATA_DIR SAMPLE CHROMIUM

# Settings of a site that checks without services: nothing listens on port 1.
OFFLINE := env EMBEDDED=True SECRET_KEY=offline DATABASE_URL=postgres://nobody@127.0.0.1:1/none CACHE_URL=redis://127.0.0.1:1/0 \
	CELERY_BROKER_URL=redis://127.0.0.1:1/1 CHANNELS_URL=redis://127.0.0.1:1/2 \
	S3_ENDPOINT_URL=http://127.0.0.1:1 S3_ACCESS_KEY_ID=none S3_SECRET_ACCESS_KEY=none LOG_LEVEL=ERROR

.DEFAULT_GOAL := help
.PHONY: help setup run services test check fuzz fix kit bench drills freeze programs

help: ## list these verbs
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: $(INSTALLED) ## create .venv and install the exact versions of constraints.txt

$(INSTALLED): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		echo "Python 3.11 or newer is needed and was not found (tried: $(or $(PYTHON),python3.11, python3)). Install it, or say where it is: make setup PYTHON=/path/to/python3.11"; exit 1; fi
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV) > /dev/null || "$(PYTHON)" -m venv --clear --without-pip $(VENV)
	@if [ -f $@ ]; then echo "Bringing $(VENV) up to date ..."; else \
		echo "Installing about 140 packages into $(VENV) (2.2 GB with the CPU build of torch, 2 to 6 minutes) ..."; fi
	@$(BIN)/python portal/embedded/requirements.py pyproject.toml > $(VENV)/requirements.txt
	@if $(BIN)/python -m pip --version > /dev/null 2>&1; then pip="$(BIN)/python -m pip"; \
	else pip="$(PYTHON) -m pip --python $(BIN)/python"; fi; : "Debian's python3 without python3-venv makes no pip inside"; \
	$$pip install $$(test -f $@ && echo --quiet) --disable-pip-version-check --no-input -r $(VENV)/requirements.txt -c constraints.txt
	@touch $@
	@echo "Installed."

run: $(INSTALLED) ## the whole portal; SAMPLE=/folder/of/photographs DATA_DIR=/where/to/keep/data
	@$(BIN)/python -m portal.embedded run

services: $(INSTALLED) ## only PostgreSQL, Valkey and SeaweedFS, for development
	@$(BIN)/python -m portal.embedded services

test: $(INSTALLED) programs ## the whole suite on real services, workers and Chromium; ARGS="-k name"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS)

programs:
	@missing="$(if $(CHROMIUM),,chromium) $(if $(CLAMD),,clamav-daemon)"; \
	if [ "$$missing" = " " ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "Installing from Debian, for the tests (about 1 minute):$$missing ..."; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing > /dev/null; \
	else \
		echo "The tests need more programs, and only root may install them: run \`sudo apt-get install$$missing\`. A Chromium elsewhere: make test CHROMIUM=/path/to/chromium"; exit 1; \
	fi

check: $(INSTALLED) ## format, lint, types, import direction, migrations, templates, fast unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(OFFLINE) $(BIN)/mypy
	$(BIN)/lint-imports
	$(OFFLINE) $(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(BIN)/djhtml --check templates
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadgroup tests/unit -m "not slow and not services"

fuzz: $(INSTALLED) ## a minute of fuzzing the header check; ARGS="--seconds 600"
	@$(BIN)/python -m tests.fuzz.fuzz_container $(ARGS)

fix: $(INSTALLED) ## format and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/djhtml templates

kit: $(INSTALLED) ## build the sites' wheel, consortium-kit, into dist/
	$(BIN)/python -m build --wheel --no-isolation --outdir dist jobs/kit

bench: $(INSTALLED) ## the benchmark table, ours against the yardsticks
	$(BIN)/python -m tests.benchmarks $(ARGS)

drills: $(INSTALLED) ## the whole site, killed and starved in every way; ARGS="--short" or "--only kills"
	@$(BIN)/python -m tests.drills $(ARGS)

freeze: $(INSTALLED) ## write the installed versions to constraints.txt
	@{ grep '^#' constraints.txt; { grep ' ; ' constraints.txt; $(BIN)/python -m pip freeze --disable-pip-version-check --exclude pip --exclude setuptools | sed -E 's/\+[a-z0-9.]+$$//'; } | sort -f; } > $(VENV)/constraints.txt
	@mv $(VENV)/constraints.txt constraints.txt
