//! On every endpoint, in every situation of a healthy cluster, the verdict is Patroni's own status,
//! for a real Patroni of each series that is in use; older ones are in recorded.rs.

mod matrix;

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use lab::agent::binary_path;
use lab::process_guard::{self, Network};
use lab::requires;

/// One cluster at a time: two that start at once could choose the same free port.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const NEEDS: [&str; 3] = ["etcd", "postgresql", "setpriv"];

/// Compares on a cluster of this Patroni, and gives what was printed.
fn compare(test: &str, patroni: impl FnOnce() -> OsString) -> String {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    process_guard::run_test(test, Network::Ours, || vec![binary_path().into(), patroni()], matrix::run)
}

/// With a version from PyPI.
fn agrees(test: &str, version: &str) {
    if !requires(&NEEDS) || !requires(&["pip3"]) {
        return;
    }
    let printed = compare(test, || {
        let mut install = Command::new("tests/install-patroni");
        let installed = install.arg(version).current_dir(lab::repository()).stdin(Stdio::null()).output().unwrap();
        assert!(installed.status.success(), "{installed:?}");
        String::from_utf8_lossy(&installed.stdout).trim().into()
    });
    assert!(printed.contains(&format!("Patroni {version}: ")), "{printed}");
}

#[test]
fn debians_patroni() {
    if requires(&NEEDS) && requires(&["patroni"]) {
        compare("debians_patroni", || "patroni".into());
    }
}

#[test]
fn patroni_3_3() {
    agrees("patroni_3_3", "3.3.11");
}

#[test]
fn patroni_4_0() {
    agrees("patroni_4_0", "4.0.11");
}

#[test]
fn patroni_4_1() {
    agrees("patroni_4_1", "4.1.5");
}
