# `make help` lists the targets. Everything a change must pass is `make test`; CONTRIBUTING.md tells more.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL: # the targets share two cores, and their output is read in order
MAKEFLAGS += --no-print-directory

# Every module of this repository, found by its go.mod; those that only pin a tool hold no code of ours.
MODULES := $(patsubst %/,%,$(dir $(wildcard go.mod */go.mod */*/go.mod)))
TOOLS := golangci-lint gofumpt govulncheck benchstat
CODE := $(filter-out $(TOOLS:%=tools/%),$(MODULES))

# Folders of npm packages that tests start: the real clients and servers.
NODE := $(patsubst %/package-lock.json,%,$(wildcard */package-lock.json */*/package-lock.json))

# -shuffle finds tests that lean on one another, -count=1 those that pass only from the cache.
TESTFLAGS := -race -shuffle=on -count=1 -timeout 20m

# With -race a program waits a second when it ends, for other threads that are about to report a race. The tests start
# hundreds of programs, for which a tenth of it must do.
export GORACE ?= atexit_sleep_ms=100

FUZZTIME ?= 30s

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## daily work

.PHONY: run
run: ## start the quick start of examples/
	@go -C examples build -o ../bin/quickstart ./quickstart
	@exec bin/quickstart

.PHONY: build
build: ## build bin/caddy, Caddy with this plugin
	go build -trimpath -o bin/caddy ./cmd/caddy

.PHONY: unit
unit: ## the quick inner loop: unit tests without -race and without the xcaddy-like build
	go test -skip '^TestXcaddyBuild$$' ./...

.PHONY: bench
bench: ## compare with plain Caddy, half an hour on a quiet machine; writes bench/RESULTS.md
	go -C bench run . -out RESULTS.md

# Before and after a change: make microbench OUT=old.txt; make microbench OUT=new.txt; .tools/benchstat bin/old.txt bin/new.txt
OUT ?= microbench.txt
BENCH ?= .
.PHONY: microbench
microbench: .tools/benchstat ## Go benchmarks that match BENCH (all), into bin/OUT, summed up by benchstat
	@mkdir -p bin
	scripts/each.sh . bench -- go test -run '^$$' -bench '$(BENCH)' -benchmem -count 6 ./... | tee bin/$(OUT)
	.tools/benchstat bin/$(OUT)

.PHONY: fmt
fmt: .tools/gofumpt ## format all Go files
	.tools/gofumpt -w .

## the gate

# The tests come last: their closing line, `N passed, N failed, N skipped`, is the last one printed.
.PHONY: test
test: tidy-check fmt-check lint vuln fuzz race ## everything a change must pass

.PHONY: tidy-check
tidy-check: ## go.mod and go.sum of every module are tidy
	scripts/each.sh $(MODULES) -- go mod tidy -diff

.PHONY: fmt-check
fmt-check: .tools/gofumpt ## gofumpt has nothing to change
	@unformatted=$$(.tools/gofumpt -l .); if [[ $$unformatted ]]; then echo "run 'make fmt' for:"; echo "$$unformatted"; exit 1; fi

.PHONY: lint
lint: .tools/golangci-lint ## golangci-lint in every module
	scripts/each.sh $(CODE) -- $(CURDIR)/.tools/golangci-lint run --allow-serial-runners --config $(CURDIR)/.golangci.yml ./...

.PHONY: vuln
vuln: .tools/govulncheck ## govulncheck in every module
	scripts/vuln.sh $(CODE)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (30s)
	FUZZTIME=$(FUZZTIME) scripts/fuzz.sh $(CODE)

.PHONY: race
race: .tools/noskip $(NODE:%=%/node_modules/.package-lock.json) ## all tests with -race; a skipped test is a failure
	.tools/noskip $(CODE) -- $(TESTFLAGS) ./...

.PHONY: e2e
e2e: .tools/noskip $(NODE:%=%/node_modules/.package-lock.json) ## only the end-to-end tests
	.tools/noskip test/e2e -- $(TESTFLAGS) ./...

## tools and dependencies

# Each tool has a module of its own, so that it is built from the versions its authors chose.
$(TOOLS:%=.tools/%): .tools/%: tools/%/go.mod tools/%/go.sum
	GOBIN=$(CURDIR)/.tools CGO_ENABLED=0 go -C tools/$* install tool
	@touch $@

.tools/noskip: tools/noskip/go.mod $(filter-out %_test.go,$(wildcard tools/noskip/*.go))
	go -C tools/noskip build -o ../../.tools/noskip .
	@touch $@

# npm writes this file last, so it is there only after a complete installation.
%/node_modules/.package-lock.json: %/package.json %/package-lock.json
	cd $* && npm ci --no-audit --no-fund
	@touch $@

.PHONY: clean
clean: ## remove what was built or installed here
	rm -rf bin .tools $(NODE:%=%/node_modules)
