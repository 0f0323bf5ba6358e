# Rookery's front door. Each target is one line into scripts/.
.DEFAULT_GOAL := help
.PHONY: help root setup build cluster cluster-stop cluster-status cluster-logs cluster-clean test sim test-clients faults faults-gaps faults-latency faults-rolling faults-calm faults-campaign faults-table faults-check verify fix bench soak clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

setup: ## Install system packages, build RocksDB once, point cargo at it
	@scripts/setup
build: setup ## Build the release binary
	@cargo build --release --locked
cluster: build ## Start three nodes on loopback, show that they work, leave them running (KAFKA_PORT= HTTP_PORT= CLUSTER_DIR=)
	@scripts/cluster start
cluster-stop: ## Shut the three nodes down; their data stays
	@scripts/cluster stop
cluster-status: ## Show node, pid, state and addresses
	@scripts/cluster status
cluster-logs: ## Follow the logs of all nodes
	@scripts/cluster logs
cluster-clean: ## Stop the cluster and delete its data
	@scripts/cluster clean
test: setup ## Run all tests
	@cargo test --workspace --locked
sim: ## Run the simulations, optimised, with many seeds (SEEDS=)
	@ROOKERY_SIM_SEEDS="$(or $(SEEDS),1000)" scripts/sim
test-clients: build ## Drive a real cluster with real Kafka clients
	@scripts/setup clients && tests/clients/run
root:
	@[ "$$(id -u)" = 0 ] || { echo "The fault tests need root, for network namespaces: sudo make $(MAKECMDGOALS)" >&2; exit 1; }
faults: root build ## Break a real cluster in every way that there is, look for anomalies; needs root (SECONDS= SEED= FAULTS= CLIENTS=)
	@scripts/setup clients faults && FAULTS_SECONDS="$(or $(SECONDS),300)" tests/faults/run run
faults-gaps: root build ## Measure how long nothing is acknowledged when a node is killed, stopped or cut off; needs root (TIMES= ACTIONS= VICTIMS= BROKERS=rookery,kafka)
	@scripts/setup clients faults && tests/faults/run gaps
faults-latency: root build ## Measure whether clients notice a hand-over of the controller, or its death; needs root (TIMES= CASES= WINDOW=)
	@scripts/setup clients faults && tests/faults/run latency
faults-rolling: root build ## Measure what a rolling restart costs clients and brokers; needs root (TIMES= CLIENTS=)
	@scripts/setup clients faults && tests/faults/run rolling
faults-calm: root build ## Keep cores, network or disk busy, break nothing, count who is fenced or elected for it; needs root (SECONDS= CONDITIONS=cpu,jitter,disk,cpu+disk)
	@scripts/setup clients faults && FAULTS_SECONDS="$(or $(SECONDS),3600)" tests/faults/run calm
faults-campaign: root build ## Every group of faults with many seeds, some clusters beside each other, and a table; goes on where it was interrupted; needs root (SECONDS= SEEDS= JOBS= OUT=)
	@scripts/setup clients faults && FAULTS_SECONDS="$(or $(SECONDS),300)" tests/faults/campaign
faults-table: ## Show the figures of measurements that are kept, again (RUN=, several with spaces)
	@tests/faults/run table $(RUN)
faults-check: ## Look for anomalies in a run that is kept (RUN=)
	@tests/faults/run check "$(RUN)"
verify: setup ## Check format, lints, layers and licences; changes nothing
	@scripts/verify
fix: setup ## Format, and apply what clippy can mend
	@cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged && cargo fmt --all
bench: build ## Measure, beside Apache Kafka where there is one, and write a report (PEER_CLUSTER= RUNS= SUITES=)
	@scripts/bench
soak: build ## A steady load at half of the maximum for an hour, and whether memory, disk and latency stay flat (SECONDS= RETENTION=)
	@SECONDS="$(or $(SECONDS),3600)" scripts/soak
clean: ## Delete build results; the cached RocksDB stays
	@cargo clean
