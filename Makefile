# What a person or CI does with this tree. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo build test test-core test-store verify deny fix geo bench chaos sim sim-faults sim-broken setup

STORE ?= embedded

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: ## Show a cluster with real media on loopback: one scheduler, three nodes (STORE=redis: two schedulers)
	@.ci/setup media browser room $(if $(filter redis,$(STORE)),redis)
	cargo build --release -p roost-scheduler -p roost-agent -p roost-mediasoup -p roost-tests --bin roost-scheduler --bin roost-agent --bin roost-mediasoup --bin roost-demo
	@target/release/roost-demo --store $(STORE)

test: ## Run every test; installs what is missing (asks before sudo)
	@.ci/setup media browser room redis faults postgres prometheus aiortc geo
	$(MAKE) build
	RUST_TEST_THREADS=8 cargo test
	cargo test -p roost-mediasoup
	cargo clippy -p roost-mediasoup --all-targets -- -D warnings
	npm --prefix dashboards/room test
	cargo test -p roost-tests --test browser -- --test-threads 1

test-core: ## Test the two pure cores only: seconds
	cargo test -p roost-scheduler-core -p roost-agent-core

test-store: ## Test the shared state against a real Redis
	@.ci/setup redis
	cargo test -p roost-store

verify: ## Check format, lints, layout and docs; changes nothing, compiles no C++
	cargo fmt --all --check
	cargo clippy --all-targets -- -D warnings
	cargo test -q -p roost-tests --test tidy
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps -q
	@if command -v cargo-deny >/dev/null; then cargo deny check licenses bans sources; else echo "cargo-deny is not installed: make deny installs it, and checks licences and advisories"; fi

deny: ## Check licences, bans, sources and advisories with cargo-deny; installs it (minutes)
	@command -v cargo-deny >/dev/null || cargo install cargo-deny --locked
	cargo deny check

fix: ## Format, apply lints' suggestions, accept golden files
	cargo fmt --all
	cargo clippy --all-targets --fix --allow-dirty --allow-staged
	ROOST_ACCEPT=1 cargo test -q -p roost-proto --test golden

geo: ## Make GeoIP databases of free data in target/geo: about a minute; once a month is enough
	@.ci/setup geo npm
	@target/geo-venv/bin/python3 docker/geo/fetch.py target/geo

bench: ## Print rates, latencies and CPU per request as ratios against bare handlers, and what a view costs
	@.ci/setup redis geo
	cargo build --release -p roost-scheduler -p roost-agent -p roost-tests --bin roost-scheduler --bin roost-agent --bin roost-bench
	target/release/roost-bench

chaos: ## Break real processes, and hold what is seen to goals: 40 minutes (ROW=race or another file of tests/chaos)
	@.ci/setup redis faults
	cargo build --release -p roost-scheduler -p roost-agent --bin roost-scheduler --bin roost-agent
	@rm -f target/chaos.txt; \
	ROOST_CHAOS=full ROOST_CHAOS_TABLE=$(CURDIR)/target/chaos.txt CI=1 \
	cargo test --release -p roost-tests --test chaos -- --test-threads 1 --nocapture $(if $(ROW),$(ROW)::); \
	status=$$?; echo; cat target/chaos.txt; exit $$status

sim: ## Run the scenarios in simulated time, and hold the figures to their goals (SCENARIO=file, ARGS="--plot DIR")
	cargo run --release -q -p roost-scheduler --bin roost-scheduler -- simulate $(or $(SCENARIO),tests/scenarios/*.toml) $(ARGS)

sim-faults: ## Run ownership under faults in simulated time: many seeds, and a day of churn (SEEDS=100000, HOURS=24)
	ROOST_SEEDS=$(or $(SEEDS),100000) ROOST_HOURS=$(or $(HOURS),24) cargo test --release -p roost-tests --test sim -- --nocapture

sim-broken: ## Break one rule of ownership at a time in a copy, and expect the simulator to find it (NAMES="no-grace …")
	tests/sim/broken/run.sh $(NAMES)

build: ## Build all binaries, the media worker too (debug)
	cargo build
	cargo build -p roost-mediasoup

setup: ## Install what demo and test need, without running them
	@.ci/setup media browser room redis faults postgres prometheus aiortc geo
