# Everything that is built goes outside the work tree, so that a second run is fast.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dkim-operator
export CARGO_TARGET_DIR ?= $(CACHE)/target
IMAGE ?= dkim-operator/dkim-operator:dev
CHART := charts/dkim-operator

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: servers ## Run the whole story on a real API server with real DNS; KEEP=1 leaves it running
	cargo build --package dkim-operator --package dkim-testbed --bins
	@$(CARGO_TARGET_DIR)/debug/demo

.PHONY: test
test: servers ## Run all tests
	tests/run.sh

.PHONY: chaos
chaos: servers ## Kill and stall everything while keys are rolled and mail flows; SEED=S replays the faults of a run
	cargo build --workspace --bins
	cargo test --workspace --test chaos -- --long $(if $(SEED),--seed $(SEED))

.PHONY: model
model: ## Check rotation with any two faults together: long; MODEL_KINDS chooses some
	MODEL_FAULTS=$${MODEL_FAULTS:-2} MODEL_KINDS=$${MODEL_KINDS:-65535} cargo test --package dkim-proof --test model no_history

.PHONY: bench
bench: servers ## Measure speed and memory; one line for each figure
	cargo bench --bench operator --bench dns --bench looking --bench milter --bench acknowledgement

.PHONY: fuzz
fuzz: ## Fuzz what reads the packets of strangers, FUZZ_SECONDS (600) for each target
	fuzz/run.sh

.PHONY: lint
lint: packages ## Check format, lints, scripts, licences and the chart
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	shellcheck $$(git ls-files '*.sh' .ci/run)
	.ci/deny.sh

.PHONY: crds
crds: ## Write the CustomResourceDefinitions from the Rust types
	cargo build --bin dkim-operator
	rm -f crds/*.yaml $(CHART)/files/crds/*.yaml
	$(CARGO_TARGET_DIR)/debug/dkim-operator crds --dir crds
	cp crds/*.yaml $(CHART)/files/crds/

.PHONY: image
image: ## Build the container image; IMAGE names it
	docker build --tag $(IMAGE) .

.PHONY: packages
packages:
	testbed/packages.sh

.PHONY: servers
servers: packages
	testbed/build.sh
