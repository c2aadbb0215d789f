//! haproxy-config, read by a real HAProxy.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use lab::fake_patroni::{FakePatroni, answer, primary};
use lab::haproxy::Haproxy;
use lab::{any_port, requires};

use crate::{run, stdout};

#[test]
fn haproxy_takes_the_configuration_that_is_printed() {
    if !requires(&["haproxy"]) {
        return;
    }
    let members = r#"{"name": "db 1", "role": "leader", "state": "running", "host": "127.0.0.1", "port": 5432},
        {"name": "db2", "role": "replica", "state": "running", "host": "::1", "port": 5432, "lag": 0},
        {"name": "db3", "role": "replica", "state": "running", "host": "localhost", "port": 5432, "lag": "unknown"}"#;
    let patroni = FakePatroni::new(answer(200, &format!(r#"{{"members": [{members}]}}"#)));
    let directory = TempDir::new().unwrap();
    for arguments in [
        &[][..],
        &["--resolvers", "dns"],
        &["--read-only", "none", "--stats", "none"],
        &["--fallback", "cut", "--server-port", "6432"],
        &["--http"],
        &["--http", "--read-write", "none"],
    ] {
        let output = run(&[&["haproxy-config", "--patroni", &patroni.url()], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        let file = directory.path().join("haproxy.cfg");
        std::fs::write(&file, &output.stdout).unwrap();
        let checked = haproxy_check(&file);
        assert!(checked.status.success(), "{}{checked:?}", stdout(&output));
        assert!(checked.stderr.is_empty(), "no warning: {checked:?}");
    }
    assert_eq!(patroni.requests()[0], "GET /cluster HTTP/1.1");
    patroni.now(primary());
    assert_eq!(run(&["haproxy-config", "--patroni", &patroni.url()]).status.code(), Some(1));
    assert_eq!(run(&["haproxy-config", "--name", "a b"]).status.code(), Some(2));
    assert_eq!(run(&["haproxy-config", "--read-write", "5000; x"]).status.code(), Some(2));
    assert_eq!(run(&["haproxy-config", "--agent-port", "0"]).status.code(), Some(2));
    assert_eq!(run(&["haproxy-config", "--agent-port", "5556"]).status.code(), Some(2));
}

#[test]
fn haproxy_starts_with_the_configuration_that_is_printed() {
    if !requires(&["haproxy"]) {
        return;
    }
    let members = r#"{"name": "é", "role": null, "state": null, "host": "127.0.0.1", "port": 1, "lag": "unknown"},
        {"name": "ü\u009b\nglobal", "host": "127.0.0.1", "port": 1, "tags": {"a": Infinity}}, {"name": "a b", "host": "127.0.0.1", "port": 1},
        {"name": "a_b", "role": "leader", "state": "running", "host": "127.0.0.1", "port": 1}, {"name": "", "host": "127.0.0.1", "port": 1},
        {"name": "gone", "role": "replica"}, null, {"name": "zone", "host": "fe80::1%eth0", "port": 1}"#;
    let patroni = FakePatroni::new(answer(200, &format!(r#"{{"scope": "a\nb", "members": [{members}]}}"#)));
    let directory = TempDir::new().unwrap();
    let own = directory.path().join("own.sock");
    let bind = || format!("127.0.0.1:{}", any_port());
    let (writes, reads) = (bind(), bind());
    for socket in ["none", &own.display().to_string()] {
        let output = run(&[
            &["haproxy-config", "--patroni", &patroni.url(), "--stats", "none", "--stats-socket", socket][..],
            &["--read-write", &writes, "--read-only", &reads],
        ]
        .concat());
        assert!(output.status.success(), "{output:?}");
        let text = stdout(&output);
        let haproxy = Haproxy::start(Command::new("haproxy"), directory.path(), &text).unwrap();
        for server in ["_", "__3", "___global", "a_b", "a_b_2"] {
            assert_eq!(haproxy.status("postgres_read_only", server).unwrap(), "MAINT", "{text}");
        }
        assert_eq!(text.matches("    server ").count(), 15, "{text}");
        assert_eq!(own.exists(), socket != "none");
    }
}

fn haproxy_check(file: &Path) -> Output {
    Command::new("haproxy").args(["-c", "-q", "-f"]).arg(file).stdin(Stdio::null()).output().unwrap()
}
