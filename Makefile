# make            build; STATIC=yes with the C library in it
# make demo       a real Patroni cluster, HAProxy and patroni-check on this machine, until Ctrl-C
# make faults     one fault after the other on such a cluster: who said READY, and could it take the writes?
#                 FAULTS='switchover partition' for these alone, OUT=target/faults, PATRONI=4.1.5 for one from PyPI,
#                 PROBE=yes: the service probes Postgres, one process for each check does not
# make intervals  what a client's outage in a switchover is at agent-inter 250, 100 and 50 ms, and what each costs
#                 SWITCHOVERS=10 at each, OUT=target/intervals, PATRONI=4.1.5 for one from PyPI
# make reads      what each rule for a read endpoint would do to the replicas of such a cluster, without patroni-check
#                 SCENARIOS='bulk-load failover' for these alone, OUT=target/reads, PATRONI=4.1.5
# make pictures   draws the README's pictures from the demo, OUT=docs
# make man        manual pages, shell completions and the settings file from the command line and man/*.md
# make bench      what the program costs, beside what this machine can do at all, OUT=target/bench
#                 PARTS='throughput is' for these alone: throughput, http, pause, refused, one-shot, is, start, protection,
#                 memory, idle, size
# make scale      one agent that 1,000 HAProxies ask, one HAProxy with 300 servers, and how each grows, as root,
#                 OUT=target/scale, PART=agent or haproxy for that alone
# make simulate   the rule in a model of a cluster, under combinations of up to three faults, for SECONDS=3600
# make soak       a month in an hour, on a booted Debian and beside it: ten million checks while everything happens that
#                 happens to a service, SOAK_SEED=7 for that sequence of events, SOAK_CHECKS=1000000 for fewer
# make quick      what is tested in seconds, whatever is installed
# make test       everything that is tested, on the real parts; nothing is skipped
#                 RELEASE=trixie: of the booted Debians (bookworm, trixie, forky) that one alone
# make install    PREFIX=/usr/local, DESTDIR=
# make dist       archives with a static program for any distribution, checksums and SBOM, in target/dist
# make deb        a Debian package in target/debian, and its source package; CARGO=true: only the package, of what is built already
# make rpm        an RPM package in target/generate-rpm
PREFIX ?= /usr/local
BINDIR = $(PREFIX)/bin
UNITDIR = $(PREFIX)/lib/systemd/system
DOCDIR = $(PREFIX)/share/doc/patroni-check
ZSHDIR = $(PREFIX)/share/zsh/site-functions
UNITS = $(notdir $(wildcard systemd/*.socket systemd/*.service))

MAN = patroni-check.8 patroni-check.socket.5

# How long the demo runs; for ever without it.
DEMO_SECONDS ?=

# Which faults; all without it. Where the table and the plot go. Which Patroni; Debian's without it.
FAULTS ?=
OUT ?= target/faults
PATRONI ?=

# How many at each interval.
SWITCHOVERS ?= 10

TARGET = target

# What makes the RPM package.
CARGO_RPM = target/tools/bin/cargo-generate-rpm
CARGO_CYCLONEDX = target/tools/bin/cargo-cyclonedx

# true: nothing is built, as it is there already.
CARGO = cargo

# STATIC=yes: with the C library in it. So it starts faster, which one process for each check gains by, and runs on any
# distribution.
STATIC ?=
BUILD = $(CARGO) build --release --locked
ifeq ($(STATIC),yes)
ifneq ($(wildcard $(shell $(CC) -print-file-name=libc.a)),)
TRIPLE = $(shell rustc -vV | sed -n 's/^host: //p')
BUILD = dist/static && cp --remove-destination target/$(TRIPLE)/release/patroni-check target/release/patroni-check
else
$(warning there is no libc.a (Debian: libc6-dev, Fedora: glibc-static), so the C library is not linked statically)
endif
endif

# A program of tests/lab. It is built apart from the program's own build, which is of fewer crates' features.
LAB = $(CARGO) build --release --locked --package lab --bin

# Where Debian has HAProxy and ip; not in the PATH of its users.
export PATH := $(PATH):/usr/sbin:/sbin

# python3-etcd: Debian's patroni is content with another store.
STACK = etcd-server haproxy patroni postgresql python3-etcd systemd

build: toolchain
	$(BUILD)
	@echo
	@echo 'Built target/release/patroni-check. Further targets:'
	@sed -n 's/^# make \([a-z]\)/  make \1/p' Makefile

toolchain:
	@tests/install-toolchain

demo: toolchain
	@tests/install-packages $(STACK)
	@$(BUILD) && $(LAB) demo
	@target/release/demo target/release/patroni-check $(DEMO_SECONDS)

faults: toolchain
	@tests/install-packages $(STACK) iproute2
	@$(BUILD) && $(LAB) faults
	@patroni=$(if $(PATRONI),$$(tests/install-patroni $(PATRONI)),patroni) && \
	    $(if $(PROBE),PROBE=$(PROBE)) target/release/faults target/release/patroni-check $(OUT) "$$patroni" $(FAULTS)

intervals: toolchain
	@tests/install-packages $(STACK) iproute2
	@$(BUILD) && $(LAB) intervals
	@patroni=$(if $(PATRONI),$$(tests/install-patroni $(PATRONI)),patroni) && \
	    target/release/intervals target/release/patroni-check \
	    $(if $(filter file,$(origin OUT)),target/intervals,$(OUT)) "$$patroni" $(SWITCHOVERS)

# Debian 12's Patroni does not say yet whether a replica streams.
SCENARIOS ?=
reads: toolchain
	@tests/install-packages $(STACK) iproute2
	@$(BUILD) && $(LAB) reads
	@patroni=$$(tests/install-patroni $(or $(PATRONI),4.1.5)) && \
	    target/release/reads target/release/patroni-check \
	    $(if $(filter file,$(origin OUT)),target/reads,$(OUT)) "$$patroni" $(SCENARIOS)

# How long; and from which seed on the random ones go.
SECONDS ?= 3600
SEED ?= 1
simulate: toolchain
	@$(LAB) simulate
	@target/release/simulate $(SECONDS) $(SEED)

PARTS ?=
bench: toolchain
	@tests/install-packages $(STACK) gcc libc6-dev python3 valgrind
	@$(BUILD) && $(LAB) bench
	@mkdir -p target/bench && $(CC) -O2 -static -o target/bench/floor tests/lab/src/bin/bench/floor.c
	@target/release/bench target/release/patroni-check target/bench/floor \
	    $(if $(filter file,$(origin OUT)),target/bench,$(OUT)) $(PARTS)

# agent: one agent and many HAProxies; haproxy: one HAProxy and many agents; both without it.
PART ?=
scale: toolchain
	@tests/install-packages haproxy iproute2 systemd
	@$(BUILD) && $(LAB) scale
	@target/release/scale target/release/patroni-check $(if $(filter file,$(origin OUT)),target/scale,$(OUT)) $(PART)

pictures: toolchain
	@tests/install-packages $(STACK) aha chromium fonts-dejavu-core pngquant tmux
	@tests/pictures $(if $(filter file,$(origin OUT)),docs,$(OUT))

# What is checked in of it is compared with its sources by tests/packaging.rs. Newer groffs have no font C.
PAGES = man
COMPLETIONS = completions
SETTINGS = systemd
PAGE_SOURCES = target/man
man: toolchain
	cargo run --quiet --locked --package lab --bin generate -- $(COMPLETIONS) $(SETTINGS) $(PAGE_SOURCES)
	@$(MAKE) --no-print-directory pages

pages:
	@tests/install-packages pandoc
	for page in $(MAN); do \
	    pandoc -s -t man $(PAGE_SOURCES)/$$page.md | sed 's/\\f\[C\]/\\f[R]/g; s/\\f\[CB\]/\\f[B]/g' >$(PAGES)/$$page || exit 1; \
	done

# How many checks of the service, and of one process for each; the same beside a booted Debian, where a clock can be set.
soak: export SOAK_SEED ?= $(strip $(shell od -A n -N 4 -t u4 /dev/urandom))
soak: export SOAK_CHECKS ?= 10000000
soak: export SOAK_EACH_CHECKS ?= 50000
soak: export SOAK_BARE_CHECKS ?= 1000000
soak: export SOAK_BARE_EACH_CHECKS ?= 200000
soak: toolchain
	@tests/install-packages debhelper debootstrap systemd systemd-container
	cargo build --release --locked
	LAB_REQUIRES=all cargo test --locked --test soak -- --nocapture --test-threads 1

# What the tests demand (tests/lab/src/requires.rs): the booted Debians need root.
ifeq ($(shell id -u),0)
DEMANDED = all
else
DEMANDED = all-but-root
endif

# The tests that take seconds and need nothing.
QUICK = accepting agent_send documents http invocation lock properties recorded responder layers settings statements views

quick:
	@tests/install-toolchain fmt clippy
	cargo fmt --all --check
	@if cargo clippy --version >/dev/null 2>&1; then echo cargo clippy && \
	    cargo clippy --locked --workspace --all-targets -- -D warnings; \
	else echo 'LEFT OUT: clippy, which this Rust comes without'; fi
	cargo test --locked --workspace --lib
	cargo test --locked $(addprefix --test ,$(QUICK))

# What the tests run of it is built before them, and no cargo runs in a cargo.
test: quick
	@tests/install-packages $(STACK) apache2-utils bubblewrap curl debhelper debootstrap iproute2 keepalived pandoc pgbouncer prometheus python3-pip rpm \
	    systemd-container wget
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --quiet
	@$(MAKE) --no-print-directory crates
	cargo build --release --locked && $(LAB) demo --bin simulate
	@$(MAKE) --no-print-directory $(CARGO_RPM) target/tools/busybox dist-twice
	target/release/simulate 60
	LAB_REQUIRES=$(DEMANDED) cargo test --locked
	@[ $(DEMANDED) = all ] || echo 'LEFT OUT, as they need root: the booted Debians, tests/machines. Run: sudo make test'

# The crates: licences, sources, bans (deny.toml); and advisories, which are no package but a repository, where it can be
# reached.
ADVISORIES = https://github.com/RustSec/advisory-db
# What the tools need to be built; Debian 13's is older.
CRATES_RUST = 1.88
crates:
	@if printf '%s\n' $(CRATES_RUST) "$$(rustc --version | cut -d ' ' -f 2)" | sort -V -C; then \
	    $(MAKE) --no-print-directory crates-checked; \
	else echo 'LEFT OUT: the crates, as cargo-deny needs Rust $(CRATES_RUST)'; fi

crates-checked: target/tools/bin/cargo-deny
	target/tools/bin/cargo-deny --log-level error check bans licenses sources
	@if timeout 20 git ls-remote --quiet $(ADVISORIES) HEAD >/dev/null 2>&1; then \
	    $(MAKE) --no-print-directory target/tools/bin/cargo-audit && \
	    target/tools/bin/cargo-deny --log-level error check advisories && target/tools/bin/cargo-audit audit; \
	else echo 'LEFT OUT: the advisories, as $(ADVISORIES) can not be reached'; fi

target/tools/bin/cargo-deny:
	cargo install --quiet --locked --root target/tools cargo-deny@0.20.2

target/tools/bin/cargo-audit:
	cargo install --quiet --locked --root target/tools cargo-audit@0.22.2

# Built on the oldest release it is for: the C library's version decides where it runs, and the package says which.
# dpkg-buildpackage works in a copy of this tree, by debian/rules, which calls the Makefile again: first for the source package,
# then for the package, from that one alone. -d: rustup's cargo is no package. With CARGO=true the package is of the program
# that is there already, and there is no source package.
DEB_VERSION ?= $(VERSION)-1
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
DEB_TREE = target/debian/patroni-check-$(VERSION)
ORIG = target/debian/patroni-check_$(VERSION).orig
BUILDPACKAGE = env -u MAKEFLAGS dpkg-buildpackage -d -us -uc
# Such as: unshare --net
OFFLINE ?=
deb: toolchain
	@tests/install-packages debhelper $(if $(filter true,$(CARGO)),,build-essential)
	rm -rf $(DEB_TREE) && mkdir -p $(DEB_TREE)
	tar --create --exclude-vcs --exclude=./target --exclude=./fuzz/target --exclude=./fuzz/artifacts . | tar -xC $(DEB_TREE)
	sed -i '1s/(.*)/($(DEB_VERSION))/' $(DEB_TREE)/debian/changelog
ifeq ($(CARGO),true)
	cd $(DEB_TREE) && BUILT_IN=$(abspath $(TARGET)) $(BUILDPACKAGE) --build=binary
else
	tar --create --xz --exclude=./debian --transform='s|^\.|patroni-check-$(VERSION)|' --sort=name --owner=0 --group=0 \
	    --numeric-owner --file $(ORIG).tar.xz --directory $(DEB_TREE) .
	debian/vendor $(ORIG)-vendor.tar.xz
	tar -xJf $(ORIG)-vendor.tar.xz --directory $(DEB_TREE)
	cd $(DEB_TREE) && $(BUILDPACKAGE) --build=source
	rm -rf $(DEB_TREE) && dpkg-source --extract target/debian/patroni-check_$(DEB_VERSION).dsc $(DEB_TREE)
	cd $(DEB_TREE) && RUSTUP_HOME=$${RUSTUP_HOME:-$$HOME/.rustup} $(OFFLINE) $(BUILDPACKAGE) --build=binary
endif
	rm -rf $(DEB_TREE)

rpm: toolchain $(CARGO_RPM)
	$(BUILD)
	$(CARGO_RPM)

# The same again from a copy in another directory, for the test that compares them. What cargo has done there stays there.
ELSEWHERE = target/elsewhere/of/that
dist: toolchain $(CARGO_CYCLONEDX)
	@dist/archives

dist-twice: dist
	@rm -rf $(ELSEWHERE).new && mkdir -p $(ELSEWHERE) $(ELSEWHERE).new
	@tar --create --exclude=./target --exclude=./fuzz/target --exclude=./.git . | tar --extract --directory $(ELSEWHERE).new
	@[ ! -d $(ELSEWHERE)/target ] || mv $(ELSEWHERE)/target $(ELSEWHERE).new/
	@rm -rf $(ELSEWHERE) && mv $(ELSEWHERE).new $(ELSEWHERE)
	@mkdir -p $(ELSEWHERE)/target && ln -sfn $(CURDIR)/target/tools $(ELSEWHERE)/target/tools
	@cd $(ELSEWHERE) && dist/archives

$(CARGO_CYCLONEDX):
	cargo install --quiet --locked --debug --root target/tools cargo-cyclonedx@0.5.9

# A shell for a root that has nothing else in it. It is not installed, as it would replace the machine's own busybox.
target/tools/busybox:
	@rm -rf $@-static && mkdir -p $@-static
	cd $@-static && apt-get -o APT::Sandbox::User=root download -qq busybox-static && dpkg-deb --extract *.deb .
	cp "$$(find $@-static -name busybox -type f -perm /1 | head -n 1)" $@

$(CARGO_RPM):
	cargo install --quiet --locked --root target/tools cargo-generate-rpm@0.21.1

# Units in PREFIX=/usr go to /usr/lib/systemd/system; systemd reads /usr/local/lib/systemd/system as well.
install:
	install -D -m 755 $(TARGET)/release/patroni-check $(DESTDIR)$(BINDIR)/patroni-check
	install -d $(DESTDIR)$(UNITDIR)
	for unit in $(UNITS); do \
	    sed -e 's|/usr/bin/|$(BINDIR)/|' -e 's|^BindReadOnlyPaths=/usr |BindReadOnlyPaths=$(filter-out /usr/%,$(sort /usr $(PREFIX))) |' \
	        systemd/$$unit > $(DESTDIR)$(UNITDIR)/$$unit || exit 1; \
	    chmod 644 $(DESTDIR)$(UNITDIR)/$$unit; \
	done
	install -D -m 755 systemd/restart $(DESTDIR)$(PREFIX)/lib/patroni-check/restart
	install -D -m 644 systemd/tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/patroni-check.conf
	install -D -m 644 -t $(DESTDIR)$(DOCDIR) README.md SECURITY.md docs/guide.md docs/clients.md \
	    docs/containers.md
	install -d $(DESTDIR)$(DOCDIR)/examples
	for example in systemd/*.conf systemd/examples/*; do \
	    sed 's|/usr/bin/patroni-check|$(BINDIR)/patroni-check|' $$example > $(DESTDIR)$(DOCDIR)/examples/$${example##*/} || exit 1; \
	    chmod 644 $(DESTDIR)$(DOCDIR)/examples/$${example##*/}; \
	done
	for page in $(MAN); do \
	    install -D -m 644 man/$$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$$page || exit 1; \
	done
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/bash-completion/completions completions/patroni-check
	install -D -m 644 -t $(DESTDIR)$(ZSHDIR) completions/_patroni-check
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d completions/patroni-check.fish
	[ -e $(DESTDIR)/etc/default/patroni-check ] || \
	    install -D -m 644 systemd/default $(DESTDIR)/etc/default/patroni-check

.PHONY: bench build crates crates-checked deb demo dist dist-twice faults install intervals man pages pictures quick reads rpm \
    scale simulate soak test toolchain
