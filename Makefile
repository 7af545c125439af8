# Outrider. The two commands for a newcomer are `make run` (no root) and
# `make test` (as root it installs what it lacks). `make help` lists the rest.

GO      ?= go
BENCH   ?= .
RUNS    ?= 1
SEEDS   ?= 1000
FUZZ_S  ?= 3
KILLS   ?= 20
VERSION ?= $(shell sh .ci/version)

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The same sources and the same Go give the same bytes, wherever they lie.
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$(VERSION)"
DEB   = GO='$(GO)' VERSION='$(VERSION)' bash .ci/deb
STAGE = @sh .ci/stage

# These have stages of their own and are left out of the race stage.
OWN_STAGE = /field-tests/(repo|sim|faults|scenario|browser|demo|atak|install|twomachines|operate|carry|config|attack|calls|compliance|core)(/|$$)

.PHONY: build run test check setup help field field-short bench soak release packages source-bundle clean go \
	stages fmt vet staticcheck race fuzz fips sim kills repo scenario browser attack

build: go
	@mkdir -p bin
	$(BUILD) -o bin/outrider ./node/outrider

# The servers of a core (outrider core dev), as go.mod pins them.
bin/nats-server: go.mod
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/nats-server github.com/nats-io/nats-server/v2
	@touch $@

help:
	@echo 'make                build bin/outrider'
	@echo 'make run            build, then show three nodes at work; stays up until Ctrl-C'
	@echo 'make test           everything: set-up, check, scenario, browser'
	@echo 'make check          format, vet, staticcheck, race tests, fuzz, FIPS, simulation, kills, repository'
	@echo 'make bench BENCH=x  Go benchmarks of all packages whose name matches x; RUNS=5 | sh .ci/median for medians'
	@echo 'make field          the long field tests, hours; make field-short is what CI adds'
	@echo 'make soak SEEDS=n   the simulation over n seeds'
	@echo 'make release        static binaries and .deb packages for amd64, arm64 and armv7 (armhf), with checksums, in bin/release'
	@echo 'make source-bundle  an archive that builds without any network, in bin'
	@echo 'make clean          remove bin'

# Before anything else: is there a Go, and is it new enough? One line if not.
go:
	@GO='$(GO)' sh .ci/go-check

run: build bin/nats-server
	@$(GO) build -o bin/demo ./field-tests/demo
	@exec bin/demo -bin bin/outrider

setup: go
	$(STAGE) set-up sh .ci/setup

# Stages run one after the other: two cores are few, and timings are read.
test: go
	@rm -f bin/stages
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory scenario
	@$(MAKE) --no-print-directory browser
	@sh .ci/stage --summary

check: go
	@for s in fmt vet staticcheck repo race fuzz fips sim kills; do $(MAKE) --no-print-directory $$s || exit 1; done

fmt:
	$(STAGE) format sh .ci/format

vet: go
	$(STAGE) vet $(GO) vet ./...
	$(STAGE) vet-32-bit env CGO_ENABLED=0 GOARCH=arm GOARM=7 $(GO) build -o /dev/null ./node/outrider

staticcheck: go
	$(STAGE) staticcheck $(GO) run $(STATICCHECK) ./...

repo: go
	$(STAGE) repository $(GO) test -timeout 15m ./field-tests/repo

race: go
	$(STAGE) race env CGO_ENABLED=1 $(GO) test -race -shuffle=on -p 4 -timeout 15m $$($(GO) list ./... | grep -vE '$(OWN_STAGE)')

fuzz: go
	$(STAGE) fuzz env GO='$(GO)' sh .ci/fuzz $(FUZZ_S)

# The validated module and the crypto packages, strictly and as shipped.
FIPS_PACKAGES = ./mesh/identity ./mesh/envelope
fips: go
	$(STAGE) fips env GOFIPS140=v1.0.0 GODEBUG=fips140=only $(GO) test -timeout 10m $(FIPS_PACKAGES)
	$(STAGE) fips-module env GOFIPS140=v1.0.0 GODEBUG=fips140=on $(GO) test -timeout 10m $(FIPS_PACKAGES)

sim: go
	$(STAGE) simulation env SIM_SEEDS=200 $(GO) test -count=1 -timeout 15m ./field-tests/sim/...

kills: build
	$(STAGE) kills env KILLS=$(KILLS) $(GO) test -count=1 -parallel 3 -timeout 30m ./field-tests/faults/...

# Real nodes mostly wait for each other: more packages run at once than there are
# processors, the long ones first.
scenario: build bin/nats-server
	$(STAGE) scenario $(GO) test -count=1 -p 4 -timeout 15m ./field-tests/demo/... ./field-tests/scenario/... ./field-tests/core/... ./field-tests/operate/... ./field-tests/carry/... ./field-tests/atak/... ./field-tests/twomachines/... ./field-tests/config/... ./field-tests/compliance/...

browser: build
	$(STAGE) browser $(GO) test -count=1 -p 3 -timeout 15m ./field-tests/browser/... ./field-tests/calls/...

# What strangers outside the network can do to a node.
attack: build
	$(STAGE) attack $(GO) test -count=1 -timeout 15m ./field-tests/attack

field: build release
	$(STAGE) field-attack env ATTACK=long $(GO) test -count=1 -timeout 0 ./field-tests/attack
	$(STAGE) field-kills env KILLS=1000 $(GO) test -count=1 -timeout 0 ./field-tests/faults/...
	$(STAGE) field-sim env SIM_SEEDS=2000 $(GO) test -count=1 -timeout 0 ./field-tests/sim/...
	$(STAGE) field-boards $(GO) test -tags field -count=1 -timeout 0 -v ./field-tests/scenario/...
	$(STAGE) field-sim-boards $(GO) test -tags field -count=1 -timeout 0 -run SameLogOnAllBoards ./field-tests/sim
	$(STAGE) field-install $(GO) test -tags field -count=1 -timeout 0 -v ./field-tests/install/...
	$(STAGE) field-bundle env FIELD=long $(GO) test -count=1 -timeout 0 -run Bundle ./field-tests/repo
	@sh .ci/stage --summary

field-short: build release attack
	$(STAGE) field-kills env KILLS=200 $(GO) test -count=1 -timeout 30m ./field-tests/faults/...
	$(STAGE) field-boards $(GO) test -tags field -count=1 -timeout 30m -run ThreeBoards ./field-tests/scenario/...
	$(STAGE) field-sim-boards $(GO) test -tags field -count=1 -timeout 30m -run SameLogOnAllBoards ./field-tests/sim
	$(STAGE) field-install $(GO) test -count=1 -timeout 30m -v ./field-tests/install/...
	$(STAGE) field-logins $(GO) test -run '^$$' -bench Logins -benchtime 1x -timeout 30m ./field-tests/bench
	@sh .ci/stage --summary

bench: build
	$(GO) test -run '^$$' -bench '$(BENCH)' -count $(RUNS) -timeout 0 ./...

soak: go
	SIM_SEEDS=$(SEEDS) $(GO) test -count=1 -timeout 0 -v ./field-tests/sim/...

release: go
	@rm -rf bin/release && mkdir -p bin/release
	GOOS=linux GOARCH=amd64 GOAMD64=v1 $(BUILD) -o bin/release/outrider-$(VERSION)-linux-amd64 ./node/outrider
	GOOS=linux GOARCH=arm64 GOARM64=v8.0 $(BUILD) -o bin/release/outrider-$(VERSION)-linux-arm64 ./node/outrider
	GOOS=linux GOARCH=arm GOARM=7 $(BUILD) -o bin/release/outrider-$(VERSION)-linux-armv7 ./node/outrider
	@$(MAKE) --no-print-directory packages
	@cd bin/release && sha256sum outrider* > SHA256SUMS && cat SHA256SUMS

# Debian packages of the three binaries.
packages:
	$(DEB) amd64 bin/release/outrider-$(VERSION)-linux-amd64 bin/release/outrider_$(VERSION)_amd64.deb
	$(DEB) arm64 bin/release/outrider-$(VERSION)-linux-arm64 bin/release/outrider_$(VERSION)_arm64.deb
	$(DEB) armhf bin/release/outrider-$(VERSION)-linux-armv7 bin/release/outrider_$(VERSION)_armhf.deb

source-bundle: go
	@mkdir -p bin
	@GO='$(GO)' VERSION='$(VERSION)' bash .ci/source-bundle bin/outrider-$(VERSION)-source.tar.gz

clean:
	rm -rf bin
