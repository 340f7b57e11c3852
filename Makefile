# A thin front: the work is done by CMake and by scripts/ and tools/.
PROMPT ?= Why is the sky blue?
LINE   ?= 1
ARGS   ?= --chat --selection-threshold 0.5 --max-tokens 120
JOBS   ?= $(shell nproc 2>/dev/null || echo 2)

# Through the environment, so that a prompt may hold quotes.
export PROMPT LINE

.DEFAULT_GOAL := help
.PHONY: help setup run test check bench clean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 14
	@echo 'Variables of run: PROMPT="..." LINE=<GB of memory at most> ARGS="<more flags of generate>"'

setup: ## install what is missing (packages, llama.cpp, the model)
	@scripts/setup.sh

run: ## generate text with a real model, under one memory line
	@scripts/setup.sh --no-checks
	@cmake --preset release -DFOREBAY_BUILD_TESTS=OFF -DFOREBAY_BUILD_BENCHMARKS=OFF > /dev/null
	@cmake --build --preset release -j $(JOBS) > build/release/build.log || { cat build/release/build.log; exit 1; }
	@build/release/apps/forebay/forebay generate --prompt "$$PROMPT" --max-memory-gb "$$LINE" $(ARGS)

test: ## prove everything that CI proves
	@tools/run_tests.py

check: ## formatting, layers and clang-tidy, without the tests
	@scripts/setup.sh --no-llama
	@tools/run_tests.py format layers tidy

bench: ## run the benchmarks
	@scripts/setup.sh --no-llama
	@cmake --preset release -DFOREBAY_BUILD_TESTS=OFF -DFOREBAY_BUILD_BENCHMARKS=ON > /dev/null
	@cmake --build --preset release -j $(JOBS) > build/release/build.log || { cat build/release/build.log; exit 1; }
	@tools/run_bench.sh

clean: ## delete what was built (the cache of third-party builds stays)
	@rm -rf build
