# Saeloom. `make help` lists the targets; everything builds below build/, everything fetched is in third_party/.
SHELL := /bin/bash
JOBS ?= $(shell nproc)
SECONDS_EACH ?= 60
FUZZ_SEED ?= 0
.DEFAULT_GOAL := help

.PHONY: help setup build demo test large simulate asan tsan fuzz clang cuda bench check-layers fresh-machine clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing: packages, LibTorch, the language model
	@tools/setup.sh

build: setup ## build everything (preset release) into build/release/bin
	@tools/build.sh release

demo: build ## the main job on this machine: harvest, sweep, telemetry, table, exported SAE (about 8 minutes)
	@tools/demo.sh

test: build ## set-up, build and every test; ends with CTest's summary
	@ctest --preset release -j $(JOBS)

large: build ## sixteen million latents on four processes (10 GB of memory, 22 GB of disk below TMPDIR, 5-15 minutes)
	@ctest --test-dir build/release -L large --output-on-failure --no-tests=error

simulate: build ## 10,000 seeded histories of the coordinator under faults; a failing seed prints itself
	@seq 0 9 | xargs -P $(JOBS) -I{} sh -c 'build/release/bin/saeloom-simulate --first $$(({} * 1000 + 1)) --count 1000'

asan: ; @tools/setup.sh --no-torch && tools/build.sh asan all_tests && ctest --preset asan -j $(JOBS) ## everything without LibTorch under AddressSanitizer and UBSan
tsan: ; @tools/setup.sh --no-torch && tools/build.sh tsan all_tests && ctest --preset tsan -j $(JOBS) ## the same under ThreadSanitizer
fuzz: ; @tools/setup.sh --no-torch && tools/fuzz.sh $(SECONDS_EACH) $(FUZZ_SEED) ## each parser's fuzz target for a minute (SECONDS_EACH=60, FUZZ_SEED=0: of the time)
clang: ; @tools/setup.sh --no-torch && tools/build.sh clang ## clang with -Wthread-safety
cuda: setup ## compile and link the CUDA code (needs nvcc)
	@tools/build.sh cuda

bench: build ## list the benchmark programs
	@ls build/release/bin/*_bench && echo "see bench/README.md"

check-layers: ## includes point down only
	@python3 tools/check_layers.py

fresh-machine: ## prove `make demo` and `make test` in a bare Debian 12 chroot (root, about 60 minutes)
	@tools/fresh_machine.sh

clean: ## remove build/
	@rm -rf build

distclean: clean ## remove build/, third_party/ and runs/
	@rm -rf third_party runs
