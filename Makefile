# Thin on purpose: tools/setup.sh prepares the machine, tools/run_stages.py runs the tests stage by stage.
.PHONY: help setup demo demo-npu test test-ray-matrix test-full bench format stubs clean
help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup:  ## install what is missing and build the package into .venv
	@tools/setup.sh

demo: setup  ## real Ray actors hand tensors to each other
	.venv/bin/ray-hixl demo

demo-npu:  ## npu tensors between Ray actors, over the FAKE CANN of the tests: needs no NPU, and proves none
	@tools/setup.sh npu
	@FAKE_CANN_SOC=Ascend910B3 tools/fake_cann.sh .venv-npu/bin/python examples/two_actors_npu.py
	@FAKE_CANN_SOC=Ascend950PR_9599 tools/fake_cann.sh .venv-npu/bin/python examples/two_actors_npu.py

test:  ## everything that CI runs
	@tools/setup.sh tests
	@.venv/bin/python tools/run_stages.py test

test-ray-matrix:  ## the Ray tests on every supported Ray
	@tools/setup.sh rays
	@.venv/bin/python tools/run_stages.py rays

test-full:  ## what `make test` runs, then the other Rays, the long runs and the mutants
	@tools/setup.sh tests
	@tools/setup.sh rays
	@.venv/bin/python tools/run_stages.py full

bench: setup  ## measure against the peers; writes bench-results/
	.venv/bin/ray-hixl bench --out bench-results

format:  ## rewrite sources the way `make test` wants them
	.venv/bin/clang-format -i $$(git ls-files -co --exclude-standard '*.cc' '*.h')
	.venv/bin/ruff check -q --fix . ; .venv/bin/ruff format -q .

stubs: setup  ## regenerate what is made out of the built module: _core.pyi, _option_table.py, docs/options.md
	.venv/bin/python tools/stubs.py --write

clean:  ## remove build products (keeps the environments)
	rm -rf build dist bench-results
