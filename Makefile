# make demo: sets up, enhances the clip in the repository, says where the result is.
# make test: sets up, runs every test this machine can run, says what it skipped.
# make docs: builds the documentation into site/, links checked.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# The tests of train/ need torch (several GB); `make test EXTRAS=dev` leaves them out.
EXTRAS ?= dev,train

.PHONY: demo test lint docs clean system-packages
demo: $(VENV)/.runtime
	@mkdir -p demo-out
	$(BIN)/stream-enhance run tests/clips/demo.mp4 -o demo-out/demo.mp4 --overlay side_by_side --gallery demo-out/faces --report demo-out/report.json --overwrite
	@echo "Original and enhanced side by side: demo-out/demo.mp4   best shot of each face: demo-out/faces/index.html"

test: system-packages $(VENV)/.tests
	$(BIN)/python -m pytest --cov --cov-report=term

lint: $(VENV)/.tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Documentation: site/index.html"

clean:
	rm -rf $(VENV) demo-out site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage*

# What the tests use besides Python's packages: a real RTSP server and a real browser.
DEBIAN := python3-venv gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly python3-gi chromium
system-packages:
	@if dpkg -s $(DEBIAN) >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing what the tests need: $(DEBIAN)"; \
		apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(DEBIAN) >/dev/null \
		|| echo "They could not be installed; the tests with a real RTSP server and a browser are skipped."; \
	else echo "Tests with a real RTSP server and a browser are skipped unless you install: sudo apt-get install $(DEBIAN)"; fi

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "python3-venv is missing; installing it"; apt-get update -q && apt-get install -q -y python3-venv || { echo "Install it with: sudo apt-get install python3-venv"; exit 2; }; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[cpu]'
	@touch $@

$(VENV)/.tests: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[rtx,$(EXTRAS)]'
	@touch $@ $(VENV)/.runtime

$(VENV)/.docs: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[cpu,docs,web]'
	@touch $@ $(VENV)/.runtime
