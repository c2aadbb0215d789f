//! A whole Debian machine, booted with systemd as PID 1 by `tests/nspawn`, with the package
//! installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread;

/// A booted machine. Dropping it throws it away.
pub struct Machine {
    release: &'static str,
    leader: u32,
    _alone: MutexGuard<'static, ()>,
}

/// The package as `make deb` builds it of a program that is built already, and the same with a higher version.
pub struct Packages {
    pub first: PathBuf,
    pub next: PathBuf,
}

impl Machine {
    /// Boots a machine of a release, with nothing of ours in it; none where `RELEASE` names another
    /// one, or none can be booted.
    pub fn boot(release: &'static str) -> Option<Self> {
        static MACHINES: [(&str, Mutex<()>); 2] = [("bookworm", Mutex::new(())), ("trixie", Mutex::new(()))];
        if std::env::var("RELEASE").is_ok_and(|only| only != release) {
            return None;
        }
        if !crate::requires(&["root", "debootstrap", "systemd-nspawn"]) {
            return None;
        }
        let (_, alone) = MACHINES.iter().find(|(name, _)| *name == release).expect("a known release");
        let alone = alone.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let output = nspawn(&["up", release]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let leader =
            String::from_utf8_lossy(&output.stdout).trim().parse().expect("tests/nspawn up prints a process id");
        Some(Machine { release, leader, _alone: alone })
    }

    /// The same with the package installed, its socket enabled and started, unless `RELEASE` names
    /// another one.
    pub fn with_agent(release: &'static str) -> Option<Self> {
        // What the package is made of.
        if !crate::requires(&["root", "make", "dh", "target/release/patroni-check"]) {
            return None;
        }
        let machine = Machine::boot(release)?;
        machine.install(&packages().first);
        machine.sh("systemctl enable --now patroni-check.socket");
        Some(machine)
    }

    /// Installs or upgrades a package from a file.
    pub fn install(&self, package: &Path) {
        std::fs::copy(package, self.path("/root/package.deb")).expect("the package can be copied");
        self.sh("apt-get install -y -q --allow-downgrades /root/package.deb </dev/null");
    }

    /// Runs a line of shell in it, and gives what it printed.
    pub fn sh(&self, line: &str) -> String {
        let output = self.try_sh(line);
        assert!(output.status.success(), "{}: {line}: {output:?}", self.release);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs a line of shell that may fail.
    pub fn try_sh(&self, line: &str) -> Output {
        nspawn(&["run", self.release, "sh", "-c", line])
    }

    /// A file of the machine, as seen from here.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.leader))
    }

    /// Runs something in the machine's network. Threads that it starts are there as well.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        crate::host::inside(self.leader, work)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.try_sh("journalctl --no-pager -n 40; systemctl --no-pager status 'patroni-check*'");
            eprintln!("{}: the end of its journal:\n{}", self.release, String::from_utf8_lossy(&log.stdout));
        }
        nspawn(&["down", self.release]);
    }
}

/// Builds the packages, once in a test run.
pub fn packages() -> &'static Packages {
    static PACKAGES: OnceLock<Packages> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let build = |version: &str| {
            let mut make = Command::new("make");
            // What cargo builds `make test` has built.
            make.args(["deb", "CARGO=true", &format!("DEB_VERSION={version}")]).current_dir(crate::repository());
            let output = make.output().expect("make runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let architecture = Command::new("dpkg").arg("--print-architecture").output().expect("dpkg runs");
            let architecture = String::from_utf8_lossy(&architecture.stdout).trim().to_owned();
            let root = crate::repository();
            let kept = root.join(format!("target/trees/{version}.deb"));
            std::fs::create_dir_all(root.join("target/trees")).expect("a directory for the trees");
            let built = root.join(format!("target/debian/patroni-check_{version}_{architecture}.deb"));
            std::fs::copy(built, &kept).expect("make deb makes it");
            kept
        };
        let manifest = std::fs::read_to_string(crate::repository().join("Cargo.toml")).expect("a manifest");
        let version = manifest.lines().find_map(|line| line.strip_prefix("version = ")).expect("a version");
        let version = version.trim_matches('"');
        Packages { first: build(&format!("{version}-1")), next: build(&format!("{version}-2")) }
    })
}

fn nspawn(arguments: &[&str]) -> Output {
    let mut command = Command::new("tests/nspawn");
    command.args(arguments).current_dir(crate::repository()).stdin(std::process::Stdio::null());
    command.output().expect("tests/nspawn runs")
}
