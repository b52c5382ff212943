# Every target sets up what it needs; all that is needed beforehand is Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_ENV := OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0 HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false

# MATH comes from the hub by name. Where a local copy exists, the quickstart reads that one.
MATH_TEST ?= $(shell $(PYTHON) tests/local_data.py math/test.jsonl)
QUICKSTART_OVERRIDES ?= $(if $(MATH_TEST),stages.math.config.path=$(MATH_TEST))

.PHONY: install system-packages quickstart ablation notebooks test test-slow lint audit bench docs clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,embed,dev]'
	@touch $@

# Optional: what runs PoT programs (bubblewrap) and what the report's tests open (a browser). Debian and Ubuntu, as root.
system-packages:
	@command -v bwrap >/dev/null && command -v chromium >/dev/null || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends bubblewrap chromium fonts-dejavu-core >/dev/null; }

quickstart: install
	$(BIN)/personahub run configs/quickstart.yaml $(QUICKSTART_OVERRIDES)

ablation: install
	$(BIN)/personahub run configs/ablation_persona.yaml

# The notebooks on the quickstart's run, with what they print and draw, in build/notebooks.
notebooks: quickstart
	mkdir -p build/notebooks
	PERSONAHUB_RUN=$(CURDIR)/runs/quickstart $(BIN)/jupyter execute --kernel_name=python3 \
		--output='../build/notebooks/{notebook_name}.ipynb' notebooks/*.ipynb

# Without --max-worker-restart=0, a test that ends its process leaves pytest-xdist waiting for ever.
test: lint
	$(TEST_ENV) $(BIN)/python -m pytest -m 'not slow and not gpu and not network' -n 2 --dist loadfile --max-worker-restart=0

test-slow: install
	$(TEST_ENV) $(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# Known vulnerabilities in what is installed; needs the network, and says so where there is none.
audit: install
	$(PYTHON) .ci/audit

# All benchmarks with their defaults, or some: make bench BENCH="dedup answer_checker"
bench: install
	$(BIN)/python -m benchmarks $(BENCH)

# The documentation as a site, in build/site.
docs: install
	$(BIN)/python docs/make_configuration.py
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) runs build *.egg-info .pytest_cache .ruff_cache .hypothesis
