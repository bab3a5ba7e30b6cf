# Needs Python 3.11 or newer and nothing else. Everything is installed into .venv, nothing globally.

# the first of these that is new enough; `make PYTHON=/path/to/python` chooses another
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$name >/dev/null 2>&1 && $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$name && break; \
	done)
BIN := .venv/bin
ENV := .venv/.installed
# one more than cores: most tests wait for processes most of the time
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 1)

# the browser of the pages' tests: AGNT5_CHROMIUM, or a Chromium in the PATH
CHROMIUM = $${AGNT5_CHROMIUM:-$$(command -v chromium || command -v chromium-browser || command -v google-chrome \
	|| command -v google-chrome-stable)}

# what checks the alert rules: AGNT5_PROMTOOL, one in the PATH, or that of Debian's package prometheus, unpacked here
PROMTOOL := .venv/promtool/promtool

.PHONY: help demo test browser promtool check format bench chaos lock image-check clean

help:
	@echo "make demo    see a workflow survive the SIGKILL of its worker (about 20 s)"
	@echo "make test    all tests, on real servers and real Celery processes"
	@echo "make browser a Chromium for the tests of the pages, if there is none"
	@echo "make promtool what checks the alert rules, if there is none"
	@echo "make check   format, lint, types, layers, unit tests"
	@echo "make format  let ruff format and mend what it can"
	@echo "make bench   figures against plain Celery on this machine"
	@echo "make chaos   minutes of injected faults"
	@echo "make lock    newest versions into what the Dockerfile installs"
	@echo "make image-check  what the Dockerfile does, without Docker: install with hashes, build, start"
	@echo "make clean   remove what tools left behind (not .venv)"

$(ENV): pyproject.toml
	@test -n "$(PYTHON)" || { echo "agnt5 needs Python 3.11 or newer, and found: $$(python3 --version 2>&1 || echo no python3)." \
		"Install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "$(PYTHON) cannot make a virtual environment;" \
		"on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(ENV)
	@$(BIN)/agnt5 demo

# a file's tests stay together: most files have servers and workers of their own
test: $(ENV) browser promtool
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not chaos"

browser:
	@if [ -x "$(CHROMIUM)" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "installing chromium for the tests of the pages"; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium \
		|| { echo "apt-get could not install chromium; install it by hand, or set AGNT5_CHROMIUM to a Chromium" >&2; exit 1; }; \
	else echo "the tests of the pages need a Chromium and there is none: install it" \
		"(Debian and Ubuntu: apt-get install chromium), or set AGNT5_CHROMIUM to its path" >&2; exit 1; fi

promtool: $(ENV)
	@if [ -x "$${AGNT5_PROMTOOL:-$$(command -v promtool)}" ] || [ -x $(PROMTOOL) ]; then :; \
	elif command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1; then \
		echo "unpacking promtool of Debian's package prometheus into $(dir $(PROMTOOL))"; \
		folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && chmod 755 "$$folder" \
		&& { [ "$$(id -u)" != 0 ] || apt-get update -qq; } \
		&& (cd "$$folder" && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb .) \
		&& mkdir -p $(dir $(PROMTOOL)) && cp "$$folder/usr/bin/promtool" $(PROMTOOL) && $(PROMTOOL) --version >/dev/null \
		|| { echo "apt-get could not bring promtool; put it into the PATH, or set AGNT5_PROMTOOL to its path" >&2; exit 1; }; \
	else echo "the tests of the alert rules need promtool and there is none: put the one of a Prometheus release" \
		"(https://prometheus.io/download) into the PATH, or set AGNT5_PROMTOOL to its path" >&2; exit 1; fi

check: $(ENV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(JOBS) tests/unit

format: $(ENV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(ENV)
	$(BIN)/python bench/noop.py
	$(BIN)/python bench/replay.py
	$(BIN)/python bench/durable.py
	$(BIN)/python bench/streaming.py
	$(BIN)/python bench/llm.py

chaos: $(ENV)
	$(BIN)/python -m pytest -m chaos tests/chaos tests/integration

# no addresses of package indexes: the lock must be good for any
LOCK = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header --no-annotate

lock: $(ENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK) pyproject.toml --extra image -o requirements.lock
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(LOCK) - -o requirements-build.lock

image-check: $(ENV)
	$(BIN)/python -m pytest -m chaos tests/deploy

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis .pytest_cache .agnt5
	find . -path ./.venv -prune -o -name __pycache__ -type d -print | xargs rm -rf
