# make            build
# make demo       a real Patroni cluster, HAProxy and patroni-check on this machine, until Ctrl-C
# make test       everything that is tested, on the real parts
# make install    PREFIX=/usr/local, DESTDIR=
PREFIX ?= /usr/local
BINDIR = $(PREFIX)/bin
UNITDIR = $(PREFIX)/lib/systemd/system
DOCDIR = $(PREFIX)/share/doc/patroni-check
UNITS = patroni-check.socket patroni-check-replica.socket patroni-check.service patroni-check@.service

# How long the demo runs; for ever without it.
DEMO_SECONDS ?=

TARGET = target

# python3-etcd: Debian's patroni is content with another store.
STACK = etcd-server haproxy patroni postgresql python3-etcd systemd

build: toolchain
	cargo build --release --locked
	@echo
	@echo 'Built target/release/patroni-check. Further targets:'
	@sed -n 's/^# make \([a-z]\)/  make \1/p' Makefile

toolchain:
	@tests/install-toolchain

demo: toolchain
	@tests/install-packages $(STACK)
	@cargo build --release --locked --example demo --bin patroni-check
	@target/release/examples/demo target/release/patroni-check $(DEMO_SECONDS)

test:
	@tests/install-toolchain fmt clippy
	@tests/install-packages $(STACK)
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --quiet
	cargo build --release --locked --example demo --bin patroni-check
	cargo test --locked

# Units in PREFIX=/usr go to /usr/lib/systemd/system; systemd reads /usr/local/lib/systemd/system as well.
install:
	install -D -m 755 $(TARGET)/release/patroni-check $(DESTDIR)$(BINDIR)/patroni-check
	install -d $(DESTDIR)$(UNITDIR)
	for unit in $(UNITS); do \
	    sed 's|/usr/bin/|$(BINDIR)/|' systemd/$$unit > $(DESTDIR)$(UNITDIR)/$$unit || exit 1; \
	    chmod 644 $(DESTDIR)$(UNITDIR)/$$unit; \
	done
	install -D -m 644 README.md $(DESTDIR)$(DOCDIR)/README.md
	install -D -m 644 systemd/accept-yes.conf $(DESTDIR)$(DOCDIR)/accept-yes.conf

.PHONY: build demo install test toolchain
