# make demo · build · package · test · fuzz · soak · bench · doctor: each installs what it needs first. `make` alone tells.
SHELL := /bin/sh
# One target at a time: they share build/, dist/ and the machine's network.
.NOTPARALLEL:
.PHONY: help demo build package test test-unit test-netns test-bare test-kernel test-unit-and-bare tests fuzz coverage soak bench doctor lint clean deps deps-test deps-fuzz deps-coverage deps-demo deps-bench deps-package
# Debian's `su` leaves them out, and ip, sysctl and iptables are there.
export PATH := $(PATH):/usr/sbin:/sbin

VITEST = npx --no-install vitest run --reporter=default --reporter=json --reporter=./scripts/failures-reporter.js
REPORTS = build/test/unit.json build/test/bare.json build/test/netns.json build/test/kernel.json
# What failed, in few words, where a log's end is what is read.
FAILURES = build/test/failures.txt

# What tests need; nothing where it has just been made.
READY = deps-test build

help:
	@echo 'make demo         watch lb4 balance real requests in network namespaces (root)'
	@echo 'make build        build everything; then bin/lb4 runs'
	@echo 'make package      what lb4 is installed from: build/package/*.tgz (npm) and *.deb'
	@echo 'make test         install, build, lint and run every test (root)'
	@echo 'make test-unit    the tests that need no root'
	@echo 'make test-netns   the tests in network namespaces (root)'
	@echo 'make test-bare    make demo, and both packages, on a Debian on which nothing is installed (root)'
	@echo 'make test-kernel  the tests in a stock Debian kernel under QEMU, where that can be installed'
	@echo 'make fuzz         hostile packets over the C++ and BPF sides, FUZZ_SECONDS (60) for each of four targets'
	@echo 'make coverage     lines of the packet path that tests run: of native/ by the corpus of make fuzz, of src/ by the unit tests'
	@echo 'make soak         mixed churn for SOAK_MINUTES (10), kills and reloads included, by SOAK_FAST_PATH (off, tc, xdp) (root)'
	@echo 'make bench        the benchmarks (root)'
	@echo 'make doctor       what this machine can and cannot do for lb4'
	@echo 'make lint         formatting, lint rules, types, unused code'
	@echo 'make clean        remove what was built'

deps:
	@scripts/install-deps.sh build

deps-test:
	@scripts/install-deps.sh test

deps-demo:
	@scripts/install-deps.sh demo

deps-fuzz:
	@scripts/install-deps.sh fuzz

deps-coverage:
	@scripts/install-deps.sh coverage

deps-bench:
	@scripts/install-deps.sh bench
	@scripts/install-deps.sh kernel

deps-package:
	@scripts/install-deps.sh package

build: deps
	@npm run --silent build:bpf
	@scripts/quietly.sh 'building the addon' npm run --silent build:native
	@scripts/quietly.sh 'building the TypeScript' npm run --silent build:ts

package: deps-package build
	@scripts/package.sh

demo: deps-demo build
	@node dist/demo/demo.js

# Both kinds of tests run even when the first fails; the last line tells, alone on its line, how many passed and failed.
test: deps-test build lint
	@rm -f $(REPORTS) $(FAILURES)
	@status=0; $(MAKE) --no-print-directory -k tests READY= || status=1; cat $(FAILURES) 2>/dev/null; node scripts/tally.js $(REPORTS) || status=1; exit $$status

tests: test-unit-and-bare test-netns test-kernel

test-unit: $(READY)
	@$(VITEST) --project unit --outputFile.json=build/test/unit.json

test-netns: $(READY)
	@$(VITEST) --project netns --outputFile.json=build/test/netns.json

# Without debootstrap or a mirror, on this host with every wanted command hidden: the test says which it was. Where no package could be
# made, the test of packages fails, or says what this host lacks for it.
test-bare: $(READY)
	@scripts/install-deps.sh bare || true
	@scripts/package.sh || true
	@$(VITEST) --project bare --outputFile.json=build/test/bare.json

# Where QEMU cannot be installed they are skipped, and say why.
test-kernel: $(READY)
	@scripts/install-deps.sh kernel || true
	@$(VITEST) --project kernel --outputFile.json=build/test/kernel.json

# At the same time, since the one mostly waits for downloads; what it says comes last. Not beside an emulated machine: that one is too
# slow for its own clients then.
test-unit-and-bare: $(READY)
	@scripts/install-deps.sh bare || true
	@mkdir -p build/test; { scripts/package.sh; exec $(VITEST) --project bare --outputFile.json=build/test/bare.json; } >build/test/bare.log 2>&1 & bare=$$!; \
	trap 'kill $$bare' HUP INT TERM; \
	$(VITEST) --project unit --outputFile.json=build/test/unit.json; status=$$?; \
	wait $$bare || status=1; \
	cat build/test/bare.log; exit $$status

# Two targets at a time (test/fuzz/README.md).
FUZZ_SECONDS ?= 60
fuzz: deps-fuzz
	@scripts/fuzz.sh $(FUZZ_SECONDS)

# Of the native packet path, by the fuzzers' corpus alone; of the rooms that handle packets, by the unit tests that name them. Less than
# 95 % of lines fails, in each room as well (vitest.config.ts). The second table names the files that are not covered wholly, and their lines.
coverage: deps-coverage build
	@status=0; scripts/fuzz.sh coverage || status=1; \
	npx --no-install vitest run --project unit --coverage --reporter=dot $$(grep -lE 'src/(access|balance|engine|flow|forward|layout|packet)/|lab/world|fixtures/' test/unit/*.test.ts) || status=1; \
	exit $$status

SOAK_MINUTES ?= 10
SOAK_FAST_PATH ?= off
soak: deps-test build
	@node dist/test/soak/soak.js $(SOAK_MINUTES) $(SOAK_FAST_PATH)

bench: deps-bench build
	@for file in dist/bench/*.js; do node "$$file" || exit 1; done

doctor: build
	@bin/lb4 doctor

lint: deps
	@npm run --silent lint

clean:
	rm -rf build dist
