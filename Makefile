# Every target installs what it needs. You only need Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_ENV := OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0 HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false

# MATH comes from the hub by name. The quickstart prefers a local copy if one exists.
MATH_TEST ?= $(shell $(PYTHON) tests/local_data.py math/test.jsonl)
QUICKSTART_OVERRIDES ?= $(if $(MATH_TEST),stages.math.config.path=$(MATH_TEST))

.PHONY: install system-packages quickstart ablation notebooks test test-slow lint audit bench docs clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is required; choose one with: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,embed,dev]'
	@touch $@

# Optional: bubblewrap, which runs PoT programs, and a browser for the report's tests. Debian and Ubuntu, as root.
system-packages:
	@command -v bwrap >/dev/null && command -v chromium >/dev/null || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends bubblewrap chromium fonts-dejavu-core >/dev/null; }

quickstart: install
	$(BIN)/personahub run configs/quickstart.yaml $(QUICKSTART_OVERRIDES)

ablation: install
	$(BIN)/personahub run configs/ablation_persona.yaml

# Runs the notebooks on the quickstart's run and saves them with their output in build/notebooks.
notebooks: quickstart
	mkdir -p build/notebooks
	PERSONAHUB_RUN=$(CURDIR)/runs/quickstart $(BIN)/jupyter execute --kernel_name=python3 \
		--output='../build/notebooks/{notebook_name}.ipynb' notebooks/*.ipynb

# Without --max-worker-restart=0, pytest-xdist waits forever after a test that ends its process.
test: lint
	$(TEST_ENV) $(BIN)/python -m pytest -m 'not slow and not gpu and not network' -n 2 --dist loadfile --max-worker-restart=0

test-slow: install
	$(TEST_ENV) $(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# Lists known vulnerabilities of installed packages. Needs the network, and says so without one.
audit: install
	$(PYTHON) .ci/audit

# Runs all benchmarks with their defaults, or some of them: make bench BENCH="dedup answer_checker"
bench: install
	$(BIN)/python -m benchmarks $(BENCH)

# Builds the documentation site in build/site.
docs: install
	$(BIN)/python docs/make_configuration.py
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) runs build *.egg-info .pytest_cache .ruff_cache .hypothesis
