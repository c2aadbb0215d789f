//! On every endpoint, in every situation of a healthy cluster, the verdict is Patroni's own status, for a real Patroni of
//! each series that is in use; older ones are in recorded.rs.

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use tempfile::TempDir;

/// One cluster at a time: two that start at once could choose the same free port.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn run(command: &mut Command) -> Output {
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).output().unwrap()
}

/// Compares on a cluster of this Patroni, and gives what was printed.
fn compare(patroni: &Path) -> String {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let built = run(Command::new(env!("CARGO")).args(["build", "--quiet", "--locked", "--example", "agreement"]));
    assert!(built.status.success(), "{built:?}");
    let binary = Path::new(env!("CARGO_BIN_EXE_patroni-check"));
    let agreement = binary.parent().unwrap().join("examples/agreement");
    let output = run(Command::new(agreement).arg(binary).arg(patroni));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{printed}");
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

/// A version from PyPI, as a program that PostgreSQL's user can run.
fn from_pypi(version: &str) -> (TempDir, PathBuf) {
    let installed = run(Command::new("tests/install-patroni").arg(version));
    assert!(installed.status.success(), "{installed:?}");
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("python");
    let copied = run(Command::new("cp").arg("-r").arg(String::from_utf8_lossy(&installed.stdout).trim()).arg(&copy));
    assert!(copied.status.success(), "{copied:?}");
    let program = directory.path().join("patroni");
    let exec = r#"exec /usr/bin/python3 -m patroni "$@""#;
    fs::write(&program, format!("#!/bin/sh\nexport PYTHONPATH={}\n{exec}\n", copy.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (directory, program)
}

fn agrees(version: &str) {
    let (_directory, program) = from_pypi(version);
    let printed = compare(&program);
    assert!(printed.starts_with(&format!("Patroni {version}: ")), "{printed}");
}

#[test]
fn debians_patroni() {
    compare(Path::new("patroni"));
}

#[test]
fn patroni_3_3() {
    agrees("3.3.11");
}

#[test]
fn patroni_4_0() {
    agrees("4.0.11");
}

#[test]
fn patroni_4_1() {
    agrees("4.1.5");
}
