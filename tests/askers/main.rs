//! Those who ask for the verdict by HTTP or by `patroni-check is`, as they come from their makers:
//! HAProxy, keepalived, Envoy, curl, wget, Python, ab. One switchover of one real cluster is seen
//! by all of them, with the lines of docs/clients.md.

mod by_hand;
mod envoy;
mod haproxy;
mod keepalived;
mod load;
mod switchover;

use std::sync::OnceLock;

use lab::agent::binary_path;
use lab::process_guard::{self, Network};
use lab::requires;
use lab::requires::is_there;

/// What the cluster needs.
const CLUSTER: [&str; 5] = ["etcd", "patroni", "postgresql", "setpriv", "systemd-socket-activate"];

/// What is printed when all askers that are installed have seen a switchover. It is done once in a
/// run of the tests.
fn seen() -> &'static str {
    static PRINTED: OnceLock<Result<String, String>> = OnceLock::new();
    let printed = PRINTED.get_or_init(|| {
        let arguments = || {
            let envoy = if envoy::NEEDS.iter().all(|need| is_there(need)) { envoy::install() } else { String::new() };
            vec![binary_path().into(), envoy.into()]
        };
        let run = || process_guard::run_test("a_switchover_is_seen", Network::Own, arguments, switchover::run);
        std::panic::catch_unwind(run)
            .map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it failed".to_owned()))
    });
    printed.as_ref().unwrap_or_else(|e| panic!("{e}"))
}

/// Fails unless this asker saw it rightly.
fn saw(asker: &str, needs: &[&str]) {
    if !requires(&CLUSTER) || !requires(needs) {
        return;
    }
    let mut lines = seen().lines();
    let line = lines.find_map(|line| line.strip_prefix(asker)?.strip_prefix(": "));
    let line = line.unwrap_or_else(|| panic!("nothing of {asker} in\n{}", seen()));
    assert!(line.starts_with("saw "), "{asker}: {line}");
}

/// By whatever is installed. Under this name the process guard runs.
#[test]
fn a_switchover_is_seen() {
    if requires(&CLUSTER) {
        seen();
    }
}

#[test]
fn curl_sees_it() {
    saw("curl", &["curl"]);
}

#[test]
fn wget_sees_it() {
    saw("wget", &["wget"]);
}

#[test]
fn python_sees_it() {
    saw("python3", &["python3"]);
}

#[test]
fn is_sees_it() {
    saw("is", &[]);
}

#[test]
fn a_script_sees_it() {
    saw("sh", &[]);
}

#[test]
fn haproxy_sees_it_with_httpchk() {
    saw("haproxy httpchk", &haproxy::NEEDS);
}

#[test]
fn haproxy_sees_it_with_http_check() {
    saw("haproxy http-check", &haproxy::NEEDS);
}

#[test]
fn keepalived_moves_an_address_with_the_role() {
    saw("keepalived", &keepalived::NEEDS);
}

#[test]
fn envoy_sees_it() {
    saw("envoy", &envoy::NEEDS);
}
