# make help lists the targets. VERSION is what `irctl version` prints.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X irctl/internal/cli.Version=$(VERSION)
FUZZTIME ?= 20s

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/irctl
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/irctl ./cmd/irctl

.PHONY: demo
demo: ## A whole incident on a simulated cluster, from the alert to the score
	go run ./cmd/irctl drill --auto --speed 60 --dir "$$(mktemp -d)/drill"

.PHONY: recording
recording: build ## Draw the pictures of README and docs/tui.md anew, from a drill (needs tmux)
	go run ./docs/recording bin/irctl docs/pictures

# A program built with the race detector sleeps a second before it exits, and
# the tests run hundreds of them. What the tests keep in memory is little: to collect
# garbage less often saves a tenth of their time.
.PHONY: test
test: export GORACE = atexit_sleep_ms=20
test: export GOGC = 400
test: ## Run the tests, with the race detector; of the longest ones a sample
	test/install-deps.sh
	go test -race -short -timeout 20m ./...

.PHONY: test-full
test-full: ## Run all of the longest tests: every API call fails in every way, 500 pods, bounded memory, every drill by keys, every command in every state
	test/install-deps.sh
	go test -timeout 30m ./internal/evidence ./internal/steps/detect ./internal/drill/player
	go test -timeout 30m ./internal/engine -exhaustive
	go test ./internal/cli -run TestStates

# The packages in which things are decided. Each fault costs a build and the tests
# of its package: MUTATE=./internal/sanitize takes a minute, all of them many hours.
GREMLINS := github.com/go-gremlins/gremlins/cmd/gremlins@v0.6.0
MUTATE ?= ./internal/steps/recover ./internal/steps/eradicate ./internal/steps/contain ./internal/steps/detect \
	./internal/cluster/netpol ./internal/cluster/rights ./internal/change ./internal/rotate ./internal/timeline \
	./internal/runbook ./internal/sanitize ./internal/engine

# The test cache would answer the run by which gremlins sets its time limit in no
# time, and every fault would seem to hang.
.PHONY: mutate
mutate: export GOFLAGS = -count=1 -short
mutate: ## Put faults into the packages of MUTATE and see which the tests catch (hours; see docs/reliability.md)
	@for package in $(MUTATE); do \
		echo "$$package"; \
		nice go run $(GREMLINS) unleash --config test/gremlins.yaml --output-statuses lt "$$package" || exit 1; \
	done

.PHONY: lint
lint: ## Check format, modules and code
	@test -z "$$(gofmt -l cmd internal deploy docs test/e2e)" || { gofmt -l cmd internal deploy docs test/e2e; exit 1; }
	go mod tidy -diff
	go vet ./...
	go tool -modfile=tools/go.mod golangci-lint run ./...

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME
	@go list ./... | while read -r package; do \
		go test -list '^Fuzz' "$$package" | grep '^Fuzz' | while read -r target; do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$package" || exit 1; \
		done || exit 1; \
	done

.PHONY: bench
bench: ## Run the benchmarks
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: e2e
e2e: ## Run the tests on a real one-node cluster (root, Linux; builds Kubernetes the first time)
	test/e2e/install-deps.sh
	test/e2e/build.sh >/dev/null
	cd test/e2e && go test -count=1 -timeout 30m ./...

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin
