# `make demo` and `make test` are all a fresh machine needs.

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT   ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS   = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
# grpcnotrace: gRPC, of which the exporter of traces takes types only, without pages that are templates.
TAGS      = grpcnotrace
FUZZTIME ?= 60s
# How many packages `make race` tests at a time. Some wait more than they work: internal/serve/service is at work for a quarter of its time.
RACE_BESIDE ?= 4

# All parts share what Go's cache has, whichever folder the clone is in.
export GOFLAGS := $(filter-out -trimpath,$(GOFLAGS)) -trimpath
ARCHS    ?= amd64 arm64

# What `make stress` runs: packages as for go test (empty: none), how many times, how many packages at a time, and the packages of e2e that follow (empty: none).
STRESS_PACKAGES ?= ./...
STRESS_COUNT    ?= 10
STRESS_BESIDE   ?= 4
STRESS_E2E      ?= ./...

.PHONY: help build image manifests demo cluster cluster-down test test-parts check lint structure lint-format lint-modules lint-vet lint-static \
  race race-unit race-tools race-googlesdk race-alibabasdk race-sigstorego e2e e2e-build e2e-browser pictures recording fuzz stress bench clean

help: ## say what each target does
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/boltseal
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/boltseal ./cmd/boltseal

image: ## a container image in dist/image, without a container engine; PUSH=REPOSITORY:TAG pushes it, ARCHS=arm64 packs one platform
	@for arch in $(ARCHS); do echo "boltseal-linux-$$arch"; \
	  CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o dist/boltseal-linux-$$arch ./cmd/boltseal || exit 1; done
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(GO) -C tools run ./image -binaries $(CURDIR)/dist -platforms "$$(echo $(ARCHS:%=linux/%) | tr ' ' ,)" -out $(CURDIR)/dist/image -version '$(VERSION)' -revision '$(COMMIT)' $(if $(PUSH),-push $(PUSH))

manifests: ## plain manifests of the chart in dist, for kubectl; TAG=… names the image's tag
	$(GO) -C e2e run ./cmd/manifests $(if $(TAG),-tag $(TAG))

demo: build ## sign images in a registry of its own and verify them
	./bin/boltseal demo

cluster: e2e-build ## a cluster to play with: Gatekeeper (GATEKEEPER=no: without), Boltseal and a registry with images, no container engine
	$(GO) -C e2e run ./cmd/cluster up $(if $(filter no,$(GATEKEEPER)),-gatekeeper=false)

cluster-down: ## stop it
	$(GO) -C e2e run ./cmd/cluster down

test: test-parts ## everything that must hold before a change lands; it names the parts that failed
	$(if $(shell cat bin/test.failed),$(error failed: $(shell cat bin/test.failed)))
	@rm bin/test.failed

test-parts:
	@$(GO) -C tools run ./parts -make '$(MAKE)' -dir '$(CURDIR)' -failed bin/test.failed

check: ## the quick loop while working: vet and the tests, without the race detector
	$(GO) vet ./...
	$(GO) test ./...

lint: structure ## format, vet, staticcheck (the import rules are tests)
	@$(MAKE) --no-print-directory -k lint-format lint-modules lint-vet lint-static

structure: ## what makes the code easy or hard to find one's way in, as figures; a report, not a gate (V=-v lists what is behind them)
	@$(GO) -C tools run ./structure -dir '$(CURDIR)' $(V)

lint-format:
	@bad=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$bad" ]; then echo "not formatted:"; echo "$$bad"; exit 1; fi

lint-modules:
	$(GO) mod verify

lint-vet:
	$(GO) vet ./...
	$(GO) -C tools vet ./...
	$(GO) -C internal/test/testcloud/googlesdk vet ./...
	$(GO) -C internal/test/testcloud/alibabasdk vet ./...
	$(GO) -C internal/test/testsigstore/sigstorego vet ./...

lint-static:
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

race: ## all tests under the race detector
	@$(MAKE) --no-print-directory -k race-unit race-tools race-googlesdk race-alibabasdk race-sigstorego

race-unit:
	$(GO) test -race -p $(RACE_BESIDE) ./...

race-tools:
	$(GO) -C tools test -race ./...

race-googlesdk:
	$(GO) -C internal/test/testcloud/googlesdk test ./...

race-alibabasdk:
	$(GO) -C internal/test/testcloud/alibabasdk test ./...

race-sigstorego:
	$(GO) -C internal/test/testsigstore/sigstorego test ./...

e2e-build: ## build the control plane and Gatekeeper for e2e (about 10 minutes once, then cached)
	$(GO) -C e2e run ./cmd/kit build

e2e-browser: ## what the compliance page is tested with: Chromium must be installed, axe-core comes by its lock file
	@command -v chromium >/dev/null || { echo 'the compliance page is tested in Chromium: apt-get install chromium'; exit 1; }
	@command -v npm >/dev/null || { echo 'axe-core comes by npm: apt-get install npm'; exit 1; }
	cd e2e/browser && npm ci --ignore-scripts --no-audit --no-fund

pictures: ## the pictures of the compliance page in docs/images
	$(GO) -C e2e run ./cmd/pictures -out $(CURDIR)/docs/images

recording: e2e-build ## the picture of a terminal in the README: runs tools/recording/readme.script on a cluster of its own
	@mkdir -p bin
	$(GO) -C e2e run ./cmd/cluster up -gatekeeper=false -dir $(CURDIR)/bin/recording > bin/recording.txt
	grep '^export ' bin/recording.txt > bin/recording.sh
	$(GO) -C tools run ./recording -prelude $(CURDIR)/bin/recording.sh -script recording/readme.script \
	  -show TRUST=trust.yaml -show IMAGES=reg.example.com/demo/app -out $(CURDIR)/docs/images/terminal.svg; \
	  status=$$?; $(GO) -C e2e run ./cmd/cluster down -dir $(CURDIR)/bin/recording; exit $$status

e2e: build e2e-build e2e-browser ## tests against a real control plane and a real Gatekeeper
	$(GO) -C e2e vet ./...
	$(GO) -C e2e test -count=1 -timeout 30m ./...

fuzz: ## every fuzz target for FUZZTIME (default 60s); fails on a fault and on too few executions
	$(GO) -C tools run ./fuzz -dir '$(CURDIR)' -time $(FUZZTIME)

stress: $(if $(STRESS_E2E),e2e-build) ## every unit test 10 times and e2e once while six busy loops run; takes hours
	$(GO) -C tools run ./stress -dir '$(CURDIR)' -logs '$(CURDIR)/dist/stress' -packages '$(STRESS_PACKAGES)' -count $(STRESS_COUNT) -beside $(STRESS_BESIDE) -e2e '$(CURDIR)/e2e' -e2e-packages '$(STRESS_E2E)'

bench: build ## the figures of docs/performance.md
	$(GO) test -run '^$$' -bench . -benchmem ./...
	$(GO) run ./bench serve -boltseal bin/boltseal

clean: ## remove what the build made
	rm -rf bin dist
