# `make demo` and `make test` are all a fresh machine needs.

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT   ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS   = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
FUZZTIME ?= 60s

.PHONY: help build image manifests demo cluster cluster-down test check lint race e2e e2e-build fuzz bench clean

help: ## say what each target does
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/boltseal
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/boltseal ./cmd/boltseal

image: ## a container image in dist/image, without a container engine; PUSH=REPOSITORY:TAG pushes it
	@for arch in amd64 arm64; do echo "boltseal-linux-$$arch"; \
	  CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o dist/boltseal-linux-$$arch ./cmd/boltseal || exit 1; done
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(GO) -C tools run ./image -binaries $(CURDIR)/dist -out $(CURDIR)/dist/image -version '$(VERSION)' -revision '$(COMMIT)' $(if $(PUSH),-push $(PUSH))

manifests: ## plain manifests of the chart in dist, for kubectl; TAG=… names the image's tag
	$(GO) -C e2e run ./cmd/manifests $(if $(TAG),-tag $(TAG))

demo: build ## sign images in a registry of its own and verify them
	./bin/boltseal demo

cluster: e2e-build ## a cluster to play with: Gatekeeper, Boltseal and a registry with images, no container engine
	$(GO) -C e2e run ./cmd/cluster up

cluster-down: ## stop it
	$(GO) -C e2e run ./cmd/cluster down

test: lint race e2e ## everything that must hold before a change lands

check: ## the quick loop while working: vet and the tests, without the race detector
	$(GO) vet ./...
	$(GO) test ./...

lint: ## format, vet, staticcheck (the import rules are tests)
	@bad=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$bad" ]; then echo "not formatted:"; echo "$$bad"; exit 1; fi
	$(GO) mod verify
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...
	$(GO) -C tools vet ./...
	$(GO) -C internal/testcloud/googlesdk vet ./...

race: ## all tests under the race detector
	$(GO) test -race ./...
	$(GO) -C tools test -race ./...
	$(GO) -C internal/testcloud/googlesdk test ./...

e2e-build: ## build the control plane and Gatekeeper for e2e (about 10 minutes once, then cached)
	$(GO) -C e2e run ./cmd/kit build

e2e: build e2e-build ## tests against a real control plane and a real Gatekeeper
	$(GO) -C e2e vet ./...
	$(GO) -C e2e test -timeout 30m ./...

fuzz: ## every fuzz target for FUZZTIME (default 60s)
	@for pkg in $$(grep -rl --include='*_test.go' --exclude-dir=e2e '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -h '^func Fuzz' $$pkg/*_test.go | sed 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/'); do \
	    echo "== $$pkg $$f"; $(GO) test $$pkg -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5s || exit 1; \
	  done; done

bench: build ## the figures of docs/performance.md
	$(GO) test -run '^$$' -bench . -benchmem ./...
	$(GO) run ./bench serve -boltseal bin/boltseal

clean: ## remove what the build made
	rm -rf bin dist
