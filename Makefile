# Sidetone: build, run, test. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

ENGINE_DIR := build/engine
ENGINE     := $(ENGINE_DIR)/libchdb.so
WEB_DIST   := collector/web/dist/index.html
WEB_SRC    := $(shell find collector/web/app -type f -not -path '*/node_modules/*' -not -path '*/dev/*' 2>/dev/null)
MODULES    := shared agent collector

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
LDFLAGS := -s -w -X sidetone/shared/buildinfo.version=$(VERSION) -X sidetone/shared/buildinfo.commit=$(COMMIT)
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'
# The agent is small in file and memory: a 3CX is read by HTTP/1.1, and functions lie closer.
AGENTBUILD := CGO_ENABLED=0 go build -trimpath -tags nethttpomithttp2 -ldflags '$(LDFLAGS) -funcalign=16'

.PHONY: help
help: ## list the targets
	@echo "Sidetone: monitoring for fleets of 3CX phone systems"; echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | awk -F'|' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: run
run: build engine ## main job: collector, simulated 3CX and agent on this machine; prints URL and login
	@scripts/run.sh

.PHONY: build
build: need-go web ## build all programs into bin/
	@mkdir -p bin
	@echo "building agent, collector and the tools for tests …"
	@$(AGENTBUILD) -o bin/ ./agent/cmd/...
	@$(GOBUILD) -tags webui -o bin/ ./collector/cmd/...
	@$(GOBUILD) -o bin/ ./shared/cmd/...

.PHONY: web
web: $(WEB_DIST) ## build the web pages into collector/web/dist

$(WEB_DIST): $(WEB_SRC)
	@scripts/need.sh node npm
	@echo "building the web pages …"
	@cd collector/web/app && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build
	@touch $@

.PHONY: engine
engine: $(ENGINE) ## fetch the embedded ClickHouse engine (once, about 180 MB)

$(ENGINE): scripts/fetch-engine.sh
	@scripts/need.sh npm
	@scripts/fetch-engine.sh $(ENGINE_DIR)
	@touch $@

.PHONY: test
test: ## install what the tests need, then run everything
	@scripts/test.sh all

.PHONY: test-fast
test-fast: ## tests without real peers, engine and browser
	@scripts/test.sh fast

.PHONY: bench
bench: build engine ## benchmarks and figures of the programs: prints tables, writes build/bench.json
	@scripts/bench.sh

.PHONY: soak
soak: build engine ## the long fault tests (about an hour); prints seeds
	@scripts/soak.sh

.PHONY: check
check: need-go ## format, vet for Linux and Windows, static checks
	@scripts/check.sh

.PHONY: packages
packages: build ## deb packages of agent and collector into dist/
	@scripts/packages.sh $(VERSION)

.PHONY: need-go
need-go:
	@scripts/need.sh go

.PHONY: clean
clean: ## remove what was built; data under .run/ stays
	rm -rf bin dist build/tools collector/web/dist artifacts
