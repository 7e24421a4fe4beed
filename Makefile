# Commands for developers. `make` alone lists them; nothing is written outside the checkout, and only the hosts-
# targets need root.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROTOCOL := $(wildcard zkp/protocol/v1/*.proto)
CODE := coordinator gateway pki worker zkp
ROUNDS ?= 20
JOBS ?= 3
HOSTS ?= 3
MINUTES ?= 30
EVENTS ?= 0
CHECKED := fleet site logs umask verification preflight
YAML := ansible configs monitoring .yamllint.yml

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.PHONY: help setup demo up monitor status logs down test test-unit soak hosts-up hosts-down hosts-test hosts-check bench check monitoring-check protocol protocol-check lock
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

help: ## List what can be made
	@echo "Usage: make TARGET"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make the virtual environment .venv with the locked dependencies
	@echo "$(VENV) is ready"

demo: $(READY) ## Run the main job once, start to end: 3 coordinators, 2 workers, gateway, a killed leader
	$(BIN)/zkp local demo

up: $(READY) ## Start the cluster on this machine and keep it running
	$(BIN)/zkp local up

monitor: $(READY) ## Watch that cluster with Prometheus (apt install prometheus), over mutual TLS
	$(BIN)/zkp local monitor

status: $(READY) ## Show the processes, nodes, workers and tasks of that cluster
	$(BIN)/zkp local status

logs: $(READY) ## Show what its daemons logged last
	$(BIN)/zkp local logs

down: $(READY) ## Stop that cluster; its data stay
	$(BIN)/zkp local down

test: $(READY) ## Run every test: unit and simulation first, then integration, JOBS=3 side by side
	$(BIN)/pytest -q -n 2 tests/unit tests/simulation
	$(BIN)/pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder tests/integration

test-unit: $(READY) ## Run the tests without sockets and processes (a minute)
	$(BIN)/pytest -q -n 2 tests/unit

soak: $(READY) ## Simulate clusters under random faults for MINUTES=30 and until EVENTS=0 faults, and sum up
	$(BIN)/python -m tests.simulation --minutes $(MINUTES) --events $(EVENTS)

hosts-up: $(READY) ## Boot HOSTS=3 real Debian hosts on this machine to play with, and print how to reach them (root)
	$(BIN)/python -m tests.hosts up --hosts $(HOSTS)

hosts-down: $(READY) ## Take those hosts away again
	$(BIN)/python -m tests.hosts down

hosts-test: $(READY) ## Deploy on real hosts, and lose the power of all coordinators ROUNDS=20 times (root)
	ZKP_TEST_POWER_LOSS_ROUNDS=$(ROUNDS) $(BIN)/pytest -q -rPs tests/hosts

hosts-check: $(READY) ## Deploy on real hosts and look at them, in about 15 minutes; says so where none can be booted (root)
	@$(BIN)/python -m tests.hosts probe || { [ $$? -eq 3 ]; exit; }; \
	    $(BIN)/pytest -q -rPs -m "not slow" $(CHECKED:%=tests/hosts/test_%.py)

bench: $(READY) ## Measure beside etcd and write docs/benchmarks/raft.md (PARTS="comparison latency failover growth steady")
	$(BIN)/python -m tests.bench.raft $(PARTS)

check: $(READY) protocol-check monitoring-check ## Run every linter and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/pytest -q tests/unit/project/test_language.py
	$(BIN)/yamllint --strict $(YAML)
	cd ansible && PATH="$(CURDIR)/$(BIN):$$PATH" ../$(BIN)/ansible-lint --offline --profile production -q

monitoring-check:
	@monitoring/check

protocol: $(READY) ## Generate the Python code of zkp/protocol/v1/*.proto
	$(call generate,.)

protocol-check: $(READY)
	@echo "Checking that zkp/protocol/v1 is what its .proto files generate"
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call generate,$$fresh) && \
	for file in $$( { ls zkp/protocol/v1/*_pb2*; cd "$$fresh" && ls zkp/protocol/v1/*_pb2*; } | sort -u); do \
	    cmp -s "$$file" "$$fresh/$$file" || { echo "error: $$file is out of date: run \`make protocol\`" >&2; exit 1; }; \
	done

lock: $(READY) ## Resolve pyproject.toml again into requirements.lock
	$(BIN)/uv pip compile pyproject.toml --all-extras --python-version 3.11 \
	    --python-platform x86_64-manylinux_2_28 --generate-hashes --no-header --no-annotate -q -o requirements.lock

# The stamp comes last: an interrupted set-up is done again from where pip left off.
$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
	    echo "error: $(PYTHON) is not installed: apt install python3.11 python3.11-venv, or make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	    echo "error: $(PYTHON) is not Python 3.11: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "error: $(PYTHON) cannot make virtual environments: apt install python3.11-venv" >&2; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { echo "Making the virtual environment $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing the locked dependencies (some minutes the first time)"
	@$(BIN)/pip install --quiet --quiet --require-hashes --requirement requirements.lock
	@echo "Installing the project itself"
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c 'from coordinator.rpc.http2 import *; check_library()' 2>/dev/null || { \
	    echo "error: coordinators need libnghttp2 1.52 or later: apt install libnghttp2-14" >&2; exit 1; }
	@touch $@

# raft.proto and replicated.proto declare no services, so their gRPC files are empty and are not kept.
define generate
$(BIN)/python -m grpc_tools.protoc -I. --python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) \
    --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
    $(PROTOCOL) && rm -f $(foreach name,raft replicated,$(1)/zkp/protocol/v1/$(name)_pb2_grpc.py $(1)/zkp/protocol/v1/$(name)_pb2_grpc.pyi)
endef
