//! The release archive of this machine's kind (`make dist`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a test needs that reads it.
pub const NEEDS: &str = "target/dist/SHA256SUMS";

/// Its name without `.tar.gz`, which is that of its one directory.
pub fn name() -> String {
    let manifest = fs::read_to_string(crate::repository().join("Cargo.toml")).expect("a manifest");
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = ")).expect("a version");
    format!("patroni-check-{}-{}-linux", version.trim_matches('"'), std::env::consts::ARCH)
}

/// The archive.
pub fn path() -> PathBuf {
    crate::repository().join(format!("target/dist/{}.tar.gz", name()))
}

/// Unpacks it, and gives its one directory.
pub fn unpack(into: &Path) -> PathBuf {
    let mut tar = Command::new("tar");
    let done = tar.arg("--extract").arg("--file").arg(path()).arg("--directory").arg(into).status();
    assert!(done.expect("tar runs").success());
    into.join(name())
}

/// The program in it.
pub fn program(unpacked: &Path) -> PathBuf {
    unpacked.join("files/usr/bin/patroni-check")
}
