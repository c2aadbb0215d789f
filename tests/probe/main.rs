//! The probe: what clients will talk to, beside what Patroni says.

mod real;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use tempfile::TempDir;

use lab::agent::{Agent, binary};
use lab::fake_patroni::{Behaviour, FakePatroni, primary, replica};
use lab::{any_port, await_that, requires};

const READY: &str = "READY UP # primary timeline 3\n";

/// What answers each connection so, and tells what it was sent.
#[derive(Clone, Copy)]
enum Server {
    Answers,
    Closes,
    SaysNothing,
}

fn serve<S: Read + Write + Send + 'static>(
    incoming: impl Iterator<Item = S> + Send + 'static,
    server: Server,
) -> Receiver<Vec<u8>> {
    let (sent_tx, sent_rx) = channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for mut client in incoming {
            let mut request = vec![0; 8];
            if matches!(server, Server::Closes) {
                continue;
            }
            let _ = client.read_exact(&mut request);
            let _ = sent_tx.send(request);
            match server {
                Server::Answers => drop(client.write_all(b"N")),
                _ => kept.push(client),
            }
        }
    });
    sent_rx
}

fn unix(directory: &Path, port: u16, server: Server) -> Receiver<Vec<u8>> {
    let listener = UnixListener::bind(directory.join(format!(".s.PGSQL.{port}"))).unwrap();
    serve(std::iter::from_fn(move || listener.accept().ok().map(|(client, _)| client)), server)
}

fn tcp(port: u16, server: Server) -> Receiver<Vec<u8>> {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    serve(std::iter::from_fn(move || listener.accept().ok().map(|(client, _)| client)), server)
}

/// Both ways to run.
fn agents(patroni: &FakePatroni, directory: &TempDir, options: &[&str]) -> [Agent; 2] {
    agents_within("1s", patroni, directory, options)
}

fn agents_within(deadline: &str, patroni: &FakePatroni, directory: &TempDir, options: &[&str]) -> [Agent; 2] {
    let url = patroni.url();
    let options = [&["--patroni", &url, "--deadline", deadline, "--max-age", "0s"], options].concat();
    let runtime = format!("RUNTIME_DIRECTORY={}", directory.path().display());
    let ways: [&[&str]; 2] = [&["-E", &runtime], &["-E", &runtime, "--accept"]];
    ways.map(|activate| Agent::activated(activate, &options))
}

#[test]
fn who_refuses_or_is_not_there_is_not_ready_and_who_answers_is_what_patroni_says() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let sockets = tempfile::tempdir().unwrap();
    let directory = sockets.path().display().to_string();
    let [answering, closing, free] = [any_port(), any_port(), any_port()];
    let _unix = unix(sockets.path(), 5432, Server::Answers);
    let _closing = unix(sockets.path(), 5433, Server::Closes);
    // A socket that nobody listens on any more.
    drop(UnixListener::bind(sockets.path().join(".s.PGSQL.6432")).unwrap());
    let _tcp = (tcp(answering, Server::Answers), tcp(closing, Server::Closes));
    let table = [
        (format!("{directory}:5432"), READY.to_owned()),
        (format!("127.0.0.1:{answering}"), READY.to_owned()),
        (format!("{directory}:5433"), "MAINT DOWN # postgres: connection closed\n".into()),
        (format!("127.0.0.1:{closing}"), "MAINT DOWN # postgres: connection closed\n".into()),
        (format!("{directory}:6432"), "MAINT DOWN # pgbouncer: connection refused\n".into()),
        (format!("127.0.0.1:{free}"), "MAINT DOWN # postgres: connection refused\n".into()),
        (format!("{directory}:5434"), format!("MAINT DOWN # postgres: no socket at {directory}:5434\n")),
    ];
    let patroni = FakePatroni::new(primary());
    for (target, reply) in table {
        let memory = tempfile::tempdir().unwrap();
        for agent in agents(&patroni, &memory, &["--probe", &target]) {
            patroni.now(primary());
            assert_eq!(agent.check(), reply, "{target}");
            // It never makes a READY.
            patroni.now(replica());
            assert_ne!(agent.check(), READY, "{target}");
        }
    }
}

#[test]
fn silence_settles_nothing() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let sockets = tempfile::tempdir().unwrap();
    let _sent = unix(sockets.path(), 5432, Server::SaysNothing);
    let target = format!("{}:5432", sockets.path().display());
    let patroni = FakePatroni::new(primary());
    let memory = tempfile::tempdir().unwrap();
    for agent in agents(&patroni, &memory, &["--probe", &target, "--grace", "0s"]) {
        for _ in 0..3 {
            assert_eq!(agent.check(), READY);
        }
    }
}

#[test]
fn a_refusal_ends_the_grace_of_a_patroni_that_hangs_and_asks_nothing_more_of_it() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(primary());
    for accept in [false, true] {
        let (sockets, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let socket = sockets.path().join(".s.PGSQL.5432");
        let target = format!("{}:5432", sockets.path().display());
        let [service, each_check] = agents(&patroni, &memory, &["--probe", &target]);
        let agent = if accept { each_check } else { service };
        {
            let _sent = unix(sockets.path(), 5432, Server::Answers);
            patroni.now(primary());
            assert_eq!(agent.check(), READY);
        }
        // The listener lives on in its thread, so the socket is taken away.
        std::fs::remove_file(&socket).unwrap();
        patroni.now(Behaviour::Hang);
        let before = patroni.requests().len();
        assert_eq!(agent.check(), format!("MAINT DOWN # postgres: no socket at {target}\n"));
        assert_eq!(patroni.requests().len(), before);
    }
}

#[test]
fn a_refusal_amid_a_request_that_patroni_sits_on_is_told_at_the_deadline() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(primary());
    for accept in [false, true] {
        let (sockets, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = format!("{}:5432", sockets.path().display());
        let _sent = unix(sockets.path(), 5432, Server::Answers);
        let options = ["--probe", &target, "--grace", "20s"];
        let [service, each_check] = agents_within("300ms", &patroni, &memory, &options);
        let agent = if accept { each_check } else { service };
        patroni.now(primary());
        await_that("READY", || agent.check() == READY);
        patroni.now(Behaviour::Hang);
        assert_eq!(agent.check(), READY, "the grace");
        let before = patroni.requests().len();
        std::fs::remove_file(sockets.path().join(".s.PGSQL.5432")).unwrap();
        assert_eq!(agent.check(), format!("MAINT DOWN # postgres: no socket at {target}\n"));
        assert_eq!(patroni.requests().len(), before, "it is still the same request");
        patroni.now(primary());
    }
}

#[test]
fn over_tcp_and_over_a_unix_socket_it_asks_for_what_is_not_logged() {
    let sockets = tempfile::tempdir().unwrap();
    let port = any_port();
    let (by_unix, by_tcp) = (unix(sockets.path(), 5432, Server::Answers), tcp(port, Server::Answers));
    let patroni = FakePatroni::new(primary());
    for (target, sent, request) in [
        (format!("{}:5432", sockets.path().display()), by_unix, [0, 0, 0, 8, 4, 210, 22, 47]),
        (format!("127.0.0.1:{port}"), by_tcp, [0, 0, 0, 8, 4, 210, 22, 48]),
    ] {
        for command in [&["is", "/primary"][..], &["explain", "/primary"], &[]] {
            let mut command_line = binary();
            command_line.args(["--patroni", &patroni.url(), "--deadline", "5s", "--probe", &target]).args(command);
            let output = command_line.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            assert_eq!(sent.recv().unwrap(), request);
        }
    }
}

#[test]
fn each_view_may_have_a_probe_of_its_own() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let (sockets, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _postgres = unix(sockets.path(), 5432, Server::Answers);
    let probe = format!("{}:5432", sockets.path().display());
    let gone = format!("READY DOWN # pgbouncer: no socket at {}:6432\n", sockets.path().display());
    let patroni = FakePatroni::new(primary());
    for (view, reply) in [
        ("/health", READY.to_owned()),
        ("/health?probe=6432", gone.clone()),
        ("/health?probe=none", READY.to_owned()),
        ("/health?probe=5432", READY.to_owned()),
    ] {
        for agent in agents(&patroni, &memory, &["--probe", &probe, "--endpoint", view]) {
            assert_eq!(agent.check(), reply, "{view}");
        }
    }
    // What was learnt with one probe does not count with another.
    let names: Vec<_> = std::fs::read_dir(memory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    for name in ["health.json", "health?probe=6432.json", "health?probe=none.json"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    assert!(!names.iter().any(|found| found == "health?probe=5432.json"), "it is the program's own: {names:?}");
}
