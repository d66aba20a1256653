# The two commands: `make demo` shows what Scanwarden does, `make test` proves it. Both set up everything they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
# Much of the suite waits for peers and clocks: one worker more than cores.
WORKERS ?= $(shell echo $$(($$(nproc 2>/dev/null || echo 2) + 1)))

.PHONY: demo test lint serve peers attacks viewers clean help

help:
	@echo "make demo   set up, start the gateway, send a study, show what comes back (STUDY=folder sends yours too)"
	@echo "make test   set up, install the real peers when root, run the whole test suite"
	@echo "make attacks  the red-team suite alone (docs/security.md)"
	@echo "make viewers  OHIF and Orthanc's viewers on our evidence objects, in Chromium (docs/viewers.md)"
	@echo "make lint   ruff and mypy --strict"
	@echo "make serve  run the gateway (CONFIG=file.yaml, else the defaults)"

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Scanwarden needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	@echo "Setting up $(VENV): PyTorch with its GPU libraries is a download of about 3 GB, so this is most of the wait"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(PIP) install -q -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/scanwarden demo $(if $(STUDY),--study "$(STUDY)")

peers:
	@sh tests/peers.sh

test: $(VENV)/.developing peers
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS) || { [ $$? -eq 1 ] && \
	    echo "Those that failed beside the others are tried once more, alone (docs/decisions/0020):" && \
	    $(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(PYTEST_ARGS); }

attacks: $(VENV)/.developing peers
	$(BIN)/python -m pytest tests/security -v

$(VENV)/.viewing: $(VENV)/.developing
	$(PIP) install -q -c constraints.txt -e ".[viewers]"
	@touch $@

# PICTURES=docs/images renews the documentation's screenshots.
viewers: $(VENV)/.viewing peers
	@sh tests/viewers/programs.sh
	$(if $(PICTURES),SCANWARDEN_PICTURES=$(PICTURES)) $(BIN)/python -m pytest -v --timeout 1200 \
	    -o 'python_files=seen_in_*.py' --basetemp .viewers/run tests/viewers $(PYTEST_ARGS)

lint: $(VENV)/.developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

serve: $(VENV)/.installed
	$(BIN)/scanwarden serve $(if $(CONFIG),--config "$(CONFIG)")

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-output
