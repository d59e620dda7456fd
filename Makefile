# make demo       see it work: from nothing in ten minutes, then in one
# make test       everything: checks, suites here, suites in a virtual machine
# make help       the finer targets

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.DELETE_ON_ERROR:

PREFIX ?= /usr/local
DESTDIR ?=

# One set of flags for every build here, so that a check, a test and a release share
# what they compile. Static: what is shipped needs nothing of the host it runs on; at a fixed
# place in memory: docs/adr/0021.
export CARGO_BUILD_TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS ?= -C target-feature=+crt-static -C relocation-model=static
export RSRUN_SOURCE := $(CURDIR)
export RSRUN_TARGET := $(CARGO_BUILD_TARGET)

ENV := . hack/env.sh;
BIN := $(or $(CARGO_TARGET_DIR),target)/$(CARGO_BUILD_TARGET)/release
PROGRAMS := containerd-shim-rsrun-v2 rsrun

.PHONY: help setup setup-build build check fmt clippy deny tidy unit docs check-config suites demo demo-vm demo-prepared \
	test test-native test-vm test-attacks test-faults soak soak-restarts fuzz report bench bench-cli bench-scale bench-output vm install uninstall clean

help: ## show this
	@sed -n 's/^\([a-z -]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 32

setup: ## install and fetch everything that a test needs
	hack/setup.sh all

# The compiler's own needs, for everything below; no time once they are there.
setup-build:
	@hack/setup/packages.sh build

build: setup-build ## both programs as users get them: release, static, in target/TRIPLE/release
	RSRUN_REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) \
		cargo build --release --locked -p containerd-shim-rsrun-v2 -p rsrun
	@hack/is-static.sh $(addprefix $(BIN)/,$(PROGRAMS))

check: setup-build ## format, lints, dependencies, rules of the tree, unit tests, docs
	hack/check.sh

fmt clippy deny tidy unit docs: setup-build ## one step of check
	hack/check.sh $@

check-config: ## have each containerd load its file of config/
	hack/setup.sh containerd
	hack/check-config.sh

suites: setup-build ## build the test suites into target/suites
	hack/build-suites.sh

test-native: build suites ## the suites on this machine; SUITE=name FILTER=text for less
	hack/setup.sh image containerd runtimes
	hack/run-suites.sh native $(SUITE)

test-vm: build suites ## the suites in the virtual machine; SUITE=name FILTER=text for less
	hack/setup.sh image containerd runtimes vm
	hack/run-suites.sh vm $(SUITE)

test-attacks: build suites ## the suites that attack, each in a virtual machine of its own; FILTER=text for less
	hack/setup.sh image containerd runtimes vm
	hack/run-suites.sh alone

test: ## everything; the last line is the result
	hack/test.sh

test-faults: build suites ## killed, and told an errno, at every system call (make test: at some); FAULT="Create 0 17" for one
	hack/setup.sh image
	RSRUN_FAULTS=1 $(if $(FAULT),RSRUN_FAULT="$(FAULT)") RSRUN_SUITE_LIMIT=0 hack/run-suites.sh native faults

fuzz: setup-build ## fuzz every target for FUZZ_SECONDS (60); TARGET=name for one
	hack/fuzz.sh $(TARGET)

report: ## add up the logs of the last runs
	hack/test-report.py target/results/*.log

demo: ## install what is missing, build, run containers through a private containerd
	hack/demo.sh

demo-vm: demo-prepared ## the demo with limits, in the virtual machine
	hack/setup.sh vm containerd runtimes
	hack/vm/run env RSRUN_PREPARED=1 hack/demo.sh

demo-prepared: build
	hack/setup.sh demo

soak: build suites ## EXECS=1000000 execs in one shim: a line for each 10,000, and what has grown
	hack/setup.sh image
	RSRUN_SOAK=$(or $(EXECS),1000000) RSRUN_SUITE_LIMIT=0 FILTER=ten_thousand_execs hack/run-suites.sh native e2e_ttrpc

soak-restarts: build suites ## CONTAINERS=1000 alive while containerd is killed and started RESTARTS=20 times; POD=1 in a shim
	hack/setup.sh image containerd
	RSRUN_RESTARTS="$(or $(CONTAINERS),1000) $(or $(RESTARTS),20) $(or $(POD),1)" RSRUN_SUITE_LIMIT=0 \
		FILTER=containerd_2_4::no_exit_is_lost hack/run-suites.sh native e2e_containerd

bench: build ## every step of a life, beside the Go shim with runc and crun and a C floor
	hack/setup.sh image containerd runtimes
	hack/bench.sh lives

bench-cli bench-scale bench-output: build ## command lines by hyperfine; 1 to 1,000 containers; streams and idleness
	hack/setup.sh packages image containerd runtimes
	hack/bench.sh $(@:bench-%=%)

vm: ## a shell's worth of a command in the virtual machine: make vm COMMAND='uname -a'
	hack/vm/run bash -c $(if $(COMMAND),'$(COMMAND)','uname -a')

install: ## both programs into DESTDIR/PREFIX/bin
	@test -x $(BIN)/rsrun || { echo "nothing is built: run make build first" >&2; exit 1; }
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(addprefix $(BIN)/,$(PROGRAMS)) $(DESTDIR)$(PREFIX)/bin/

uninstall: ## take them away again
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(PROGRAMS))

clean: ## remove what was built; what was fetched stays in the cache
	cargo clean
