//! Checks that name their endpoint themselves (HAProxy's `agent-send`), on a socket that is for
//! that.

use std::io::Write;
use std::thread;

use lab::agent::{Agent, MOMENT, Port, check, check_after_sending, connect, read_reply};
use lab::fake_patroni::{Behaviour, FakePatroni, answer};
use lab::requires;

const READY: &str = "READY UP # primary timeline 3\n";

/// A Patroni that knows every parameter.
fn new_primary() -> Behaviour {
    answer(200, r#"{"state": "running", "role": "primary", "timeline": 3, "patroni": {"version": "4.1.5"}}"#)
}

#[test]
fn a_check_names_an_endpoint_of_the_settings_or_of_another_socket() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(new_primary());
    let also = "/replica?lag=1kB /health";
    let options =
        ["--patroni", &patroni.url(), "--deadline", "5s", "--max-age", "0s", "--also", also, "--endpoint", "/leader"];
    let nonsense = "MAINT DOWN # agent-send: no health check endpoint of Patroni's\n";
    let endless = "MAINT DOWN # agent-send: a line without an end; write \\n at its end\n";
    let unlisted = |endpoint: &str| format!("MAINT DOWN # agent-send: not in PATRONI_CHECK_ALSO: {endpoint}\n");
    for activate in [&["--fdname=agent-send"][..], &["--accept", "--fdname=agent-send"]] {
        let before = patroni.requests().len();
        let agent = Agent::activated(activate, &options);
        let table = [
            ("/replica?lag=1kB\n", READY.to_owned()),
            ("/replica?lag=1024\r\n", READY.to_owned()),
            ("/health\n", READY.to_owned()),
            ("/leader\n", READY.to_owned()),
            ("\n", READY.to_owned()),
            ("/replica\n", unlisted("/replica")),
            ("/replica?lag=2kB\n", unlisted("/replica?lag=2048")),
            ("/standby\n", nonsense.to_owned()),
            ("GET /replica HTTP/1.0\r\n\r\n", nonsense.to_owned()),
        ];
        for (line, reply) in table {
            assert_eq!(check_after_sending(agent.address, line.as_bytes()), reply, "{line}");
        }
        // The beginning of another endpoint, and a line that ends nowhere.
        assert_eq!(check_after_sending(agent.address, b"/leader"), endless);
        assert_eq!(check_after_sending(agent.address, &[b'x'; 10_000]), endless);
        let asked = ["/replica?lag=1024", "/replica?lag=1024", "/health", "/leader", "/leader"];
        assert_eq!(patroni.requests()[before..], asked.map(|path| format!("GET {path} HTTP/1.1")));
    }
}

#[test]
fn a_socket_names_an_endpoint_for_agent_send_too() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(new_primary());
    let second = format!("127.0.0.1:{}", lab::any_port());
    let activate = ["-l", &second, "--fdname=agent-send:/sync"];
    let agent = Agent::activated(&activate, &["--patroni", &patroni.url(), "--deadline", "5s"]);
    assert_eq!(check_after_sending(agent.address, b"/sync\n"), READY);
    assert_eq!(patroni.requests(), ["GET /sync HTTP/1.1"]);
}

#[test]
fn a_line_that_comes_late_is_for_its_endpoint_and_none_is_for_nobody() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(new_primary());
    let options = ["--patroni", &patroni.url(), "--deadline", "40ms", "--max-age", "0s", "--also", "/health"];
    for activate in [&["--fdname=agent-send"][..], &["--accept", "--fdname=agent-send"]] {
        let before = patroni.requests().len();
        let agent = Agent::activated(activate, &options);
        let mut late = connect(agent.address);
        // Longer than the deadline: a packet was lost. In two parts.
        thread::sleep(2 * MOMENT);
        late.write_all(b"/hea").unwrap();
        thread::sleep(MOMENT);
        late.write_all(b"lth\n").unwrap();
        // Patroni may be slower than this deadline; what counts is the endpoint.
        drop(read_reply(late));
        assert_eq!(check(agent.address), "", "HAProxy keeps what it knows");
        assert_eq!(patroni.requests()[before..], ["GET /health HTTP/1.1"]);
    }
}

#[test]
fn a_held_node_says_so_whatever_is_named() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(new_primary());
    let directory = tempfile::tempdir().unwrap();
    let hold = directory.path().join("hold");
    std::fs::write(&hold, "new disk\n").unwrap();
    let options = ["--patroni", &patroni.url(), "--deadline", "5s", "--hold-file", hold.to_str().unwrap()];
    for activate in [&["--fdname=agent-send"][..], &["--accept", "--fdname=agent-send"]] {
        let agent = Agent::activated(activate, &options);
        for line in ["/primary\n", "/replica\n", "/nonsense\n"] {
            assert_eq!(check_after_sending(agent.address, line.as_bytes()), "MAINT UP # held: new disk\n", "{line}");
        }
    }
}

#[test]
fn who_says_nothing_makes_room_for_who_does() {
    let patroni = FakePatroni::new(new_primary());
    let url = patroni.url();
    let port = Port::bind();
    let mut limited = port.command_of_few_descriptors(64, &["--patroni", &url, "--deadline", "5s"]);
    let agent = Agent::start(limited.env("LISTEN_FDNAMES", "agent-send"), port.address);
    for _ in 0..5 {
        let silent: Vec<_> = (0..100).map(|_| connect(port.address)).collect();
        assert_eq!(check_after_sending(agent.address, b"/primary\n"), READY);
        drop(silent);
    }
}
