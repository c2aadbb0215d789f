//! A whole Debian machine, booted with systemd as PID 1 by `tests/nspawn`, with the package
//! installed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread;

/// A booted machine. Dropping it throws it away.
pub struct Machine {
    release: &'static str,
    leader: u32,
    _alone: MutexGuard<'static, bool>,
}

/// The exit status of `tests/nspawn up` where Debian's testing can't be installed today.
const NO_TREE: i32 = 75;

/// The package as `make deb` builds it of a program that is built already, and the same with a
/// higher version.
pub struct Packages {
    pub first: PathBuf,
    pub next: PathBuf,
}

impl Machine {
    /// Boots a machine of a release, with nothing of ours in it; none where `RELEASE` names another
    /// one, or none can be booted. Nor where testing can't be installed today, unless `RELEASE`
    /// demands it.
    pub fn boot(release: &'static str) -> Option<Self> {
        // One of each at a time; and whether it was found that it can't be made.
        static MACHINES: [(&str, Mutex<bool>); 3] =
            [("bookworm", Mutex::new(false)), ("trixie", Mutex::new(false)), ("forky", Mutex::new(false))];
        let only = std::env::var("RELEASE").ok();
        if only.as_ref().is_some_and(|only| only != release) {
            return None;
        }
        if !crate::requires(&["root", "debootstrap", "systemd-nspawn"]) {
            return None;
        }
        let (_, alone) = MACHINES.iter().find(|(name, _)| *name == release).expect("a known release");
        let mut alone = alone.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *alone {
            return None;
        }
        let output = nspawn(&["up", release]);
        if output.status.code() == Some(NO_TREE) && only.is_none() {
            *alone = true;
            let said = String::from_utf8_lossy(&output.stderr);
            // Past the capture of the test harness.
            let last = said.lines().last().unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "LEFT OUT: tests/machines on {release}: {last}");
            return None;
        }
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

    /// Installs or upgrades a package from a file, and gives what was said of it.
    pub fn install(&self, package: &Path) -> String {
        std::fs::copy(package, self.path("/root/package.deb")).expect("the package can be copied");
        self.sh("apt-get install -y -q --allow-downgrades /root/package.deb </dev/null 2>&1")
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the releases that do not change the tree can always be made, so it is a failure there.
    #[test]
    fn only_testing_may_be_impossible_to_install() {
        if !crate::requires(&["root", "debootstrap", "systemd-nspawn"]) {
            return;
        }
        let directory = tempfile::TempDir::new().expect("a directory");
        crate::programs::write_script(&directory.path().join("debootstrap"), "#!/bin/sh\nexit 1\n");
        let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").expect("a path"));
        for (release, status) in [("forky", NO_TREE), ("trixie", 1)] {
            let mut command = Command::new("tests/nspawn");
            command.args(["up", release]).current_dir(crate::repository()).env("PATH", &path);
            let output = command.env("CARGO_TARGET_DIR", directory.path()).output().expect("tests/nspawn runs");
            assert_eq!(output.status.code(), Some(status), "{output:?}");
            let said = String::from_utf8_lossy(&output.stderr).contains("its tree can't be made today");
            assert_eq!(said, status == NO_TREE, "{output:?}");
        }
    }
}
