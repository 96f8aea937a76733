# Everything a person or a CI system runs. Needs Python 3.11, make, git and a package registry that pip can reach.
.DEFAULT_GOAL := help
.PHONY: help run up down status logs bad-data more-data install sample test lint docs lock clean
SHELL := /bin/bash

PYTHON ?= python3.11
PIPELINE ?= sentiment
RATCHET_HOME ?= $(CURDIR)/.ratchet
TEST_PROCESSES ?= 2
export RATCHET_HOME SAMPLE_ROWS PIPELINE NOTE OVERRIDE SOURCE

# One interpreter for each environment; .ready appears when an installation is complete
AIRFLOW_READY := .venv/.ready
TRAINING_READY := .venv-training/.ready
RATCHET := .venv/bin/ratchet
BESIDE := -n $(TEST_PROCESSES) --dist loadfile  # the tests of a file share their servers
OPTIONS = $(if $(FORCE),--force) $(if $(NOTE),--note "$$NOTE")
# From make's own command line alone: a variable that happens to be in the environment forces no promotion
FORCED = $(if $(findstring command,$(origin OVERRIDE)),--override "$$OVERRIDE")
SUBMAKE := $(MAKE) --silent --no-print-directory

help:  ## this list
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## /  make \1|/' | \
	  while IFS='|' read -r target text; do printf '%-18s %s\n' "$$target" "$$text"; done
	@echo
	@echo '  PIPELINE=name  run dags/name.yaml       FORCE=1      do every step again      NOTE="text"  a note on the run ($$$$ for $$)'
	@echo '  SOURCE=uri     other data for this run  SAMPLE_ROWS  rows of the sample       FOLLOW=1     logs as they come'
	@echo '  OVERRIDE="why" promote whatever the gate says'
	@echo '  AIRFLOW_PORT, MLFLOW_PORT, ENDPOINTS_PORT   RATCHET_HOME (default .ratchet)   PYTEST_ARGS="-k gate -x"'

run:  ## start everything, run a pipeline, show the verdict; the stack stays up
	@$(SUBMAKE) -j3 $(RATCHET) $(TRAINING_READY) $(if $(filter sentiment,$(PIPELINE)),sample)
	@$(RATCHET) validate "$$PIPELINE"
	@$(RATCHET) up
	@$(RATCHET) run "$$PIPELINE" $(OPTIONS) $(FORCED) $(if $(SOURCE),--source "$$SOURCE"); status=$$?; \
	  case $$status in 3|4) exit 0;; *) exit $$status;; esac  # held, or a person is asked: the pipeline did its work

up: install  ## start the stack: Airflow, MLflow, the endpoint host
	@$(RATCHET) up

down:  ## stop the stack: no process, no open port
	@if [ -x $(RATCHET) ]; then $(RATCHET) down; else echo 'The stack is down.'; fi

status: $(RATCHET)  ## each program: state, uptime, address
	@$(RATCHET) status

logs: $(RATCHET)  ## the last lines of all logs, or of PROGRAM=name
	@$(RATCHET) logs $(if $(FOLLOW),--follow) $(PROGRAM)

bad-data:  ## retrain the sample on partly shuffled labels: the candidate is held, the endpoint stays
	@$(SUBMAKE) -j3 $(RATCHET) $(TRAINING_READY) sample
	@# without a champion the shuffled labels would only meet the minimum, and might pass
	@[ -f "$$RATCHET_HOME/endpoints/endpoints/sentiment.json" ] || $(SUBMAKE) run PIPELINE=sentiment
	@$(RATCHET) sample spoil
	@$(RATCHET) up
	@$(RATCHET) run sentiment $(OPTIONS) --source "$$RATCHET_HOME/sample/bad-data/*.csv"; status=$$?; \
	  if [ $$status -eq 3 ]; then echo 'Held, as it should be: the run changed neither endpoint nor champion.'; \
	  elif [ $$status -eq 0 ]; then echo 'The gate let shuffled labels through.' >&2; exit 1; \
	  else exit $$status; fi

more-data: $(RATCHET)  ## put the next of the sample's texts where the running stack watches: a run starts by itself
	@$(RATCHET) sample more

sample: $(RATCHET)
	@$(RATCHET) sample fetch

install:  ## both environments, from the pinned requirements
	@$(SUBMAKE) -j2 $(RATCHET) $(TRAINING_READY)

# An installation that was interrupted has no .ready and starts from nothing; one whose pins changed is brought up to date.
# A second make waits for the first.
define install_environment
@set -e; directory=$(1); began=$$SECONDS; \
exec 9>$$directory.lock; $(PYTHON) -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' \
  || { echo 'Ratchet needs Python 3.11: install it, or name it with PYTHON=.' >&2; exit 1; }; \
if [ $$directory/.ready -nt $(3) ] && [ $$directory/.ready -nt $(4) ]; then exit 0; fi; \
if [ -f $$directory/.ready ]; then rm -f $$directory/.ready $$directory/.ready-dev; \
else $(PYTHON) -m venv --clear $$directory; fi; \
echo "Installing $(2) into $$directory: one to ten minutes, by the registry ..."; \
$$directory/bin/python -m pip install -qq --disable-pip-version-check --requirement $(3) --constraint $(4); \
touch $$directory/.ready; echo "$$directory is ready after $$((SECONDS - began)) s."
endef

$(AIRFLOW_READY): requirements.txt requirements.lock
	$(call install_environment,.venv,Airflow,requirements.txt,requirements.lock)

# The command, without an installation of the checkout; works from any directory
$(RATCHET): $(AIRFLOW_READY)
	@printf '#!/bin/sh\nPYTHONPATH="%s/plugins:%s" exec "%s/.venv/bin/python" -m ratchet.cli "$$@"\n' \
	  "$(CURDIR)" "$(CURDIR)" "$(CURDIR)" > $@.part && chmod +x $@.part && mv $@.part $@

$(TRAINING_READY): training/requirements.txt training/requirements.lock
	$(call install_environment,.venv-training,the training environment,training/requirements.txt,training/requirements.lock)

.venv/.ready-dev: $(AIRFLOW_READY) requirements-dev.txt
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -r requirements-dev.txt -c requirements.lock
	@touch $@

.venv-training/.ready-dev: $(TRAINING_READY) training/requirements-dev.txt
	@.venv-training/bin/python -m pip install -qq --disable-pip-version-check \
	  -r training/requirements-dev.txt -c training/requirements.lock
	@touch $@

test:  ## the whole suite, each test in the environment it belongs to
	@$(SUBMAKE) -j2 .venv/.ready-dev .venv-training/.ready-dev $(RATCHET)
	@status=0; \
	.venv-training/bin/python -m pytest $(BESIDE) tests/training tests/serving $(PYTEST_ARGS) || [ $$? -eq 5 ] || status=1; \
	.venv/bin/python -m pytest $(BESIDE) tests --ignore tests/training --ignore tests/serving $(PYTEST_ARGS) || [ $$? -eq 5 ] || status=1; \
	exit $$status

lint: .venv/.ready-dev  ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

docs: $(AIRFLOW_READY)  ## what the pages and the editors' schema take from the code, made anew
	@PYTHONPATH=plugins:. .venv/bin/python docs/generate.py

lock:  ## resolve both environments anew and write the lock files
	@set -e; scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	for place in . training; do \
	  $(PYTHON) -m venv "$$scratch/$$place-environment"; python="$$scratch/$$place-environment/bin/python"; \
	  "$$python" -m pip install --quiet -r $$place/requirements.txt -r $$place/requirements-dev.txt; \
	  { echo '# Every package of this environment. Written by make lock; used as constraints.'; \
	    "$$python" -m pip freeze | sed -E 's/\+cpu$$//'; } > "$$scratch/lock"; \
	  mv "$$scratch/lock" $$place/requirements.lock; \
	done

clean: down  ## remove the environments and everything the stack made
	rm -rf .venv .venv-training
	@if [ -f "$$RATCHET_HOME/ports.json" ]; then rm -rf "$$RATCHET_HOME"; fi  # and no other directory by that name
