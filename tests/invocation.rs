//! The five ways to hold the socket, each as it really happens, and what stops the program at the
//! start.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

use lab::agent::{Agent, Manager, Port, binary, check, check_after_sending, connection};
use lab::fake_patroni::{Behaviour, FakePatroni, primary, replica};
use lab::requires;

const READY: &str = "READY UP # primary timeline 3\n";

fn run(options: &[&str]) -> Output {
    binary().args(options).output().expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn listeners_passed_by_systemd_are_served_by_one_process() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(primary());
    let agent = Agent::activated(&[], &["--patroni", &patroni.url(), "--deadline", "5s", "--grace", "20s"]);
    assert_eq!(agent.check(), READY);
    // Remembered: one process answers all.
    patroni.now(Behaviour::Close);
    for _ in 0..5 {
        assert_eq!(agent.check(), READY);
    }
}

#[test]
fn a_connection_passed_by_systemd_is_answered_by_a_process_of_its_own() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(primary());
    let agent = Agent::activated(&["--accept"], &["--patroni", &patroni.url(), "--deadline", "5s", "--max-age", "1s"]);
    for _ in 0..3 {
        assert_eq!(agent.check(), READY);
    }
    assert_eq!(check_after_sending(agent.address, &[b'x'; 10_000]), READY);
    assert_eq!(patroni.requests().len(), 4);
}

#[test]
fn a_connection_on_standard_input_is_answered_and_nothing_else_is_said_there() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(primary());
    let options = ["--patroni", &patroni.url(), "--deadline", "5s"];
    let agent = Agent::activated(&["--accept", "--inetd"], &options);
    assert_eq!(agent.check(), READY);
    assert_eq!(check_after_sending(agent.address, &[b'x'; 10_000]), READY);
}

#[test]
fn a_port_is_bound_where_nobody_holds_one() {
    let patroni = FakePatroni::new(primary());
    let agent = Agent::listening(&["--patroni", &patroni.url(), "--deadline", "5s"]);
    assert_eq!(agent.check(), READY);
    let second = run(&["--listen", &agent.address.to_string()]);
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8_lossy(&second.stderr);
    assert!(error.contains(&format!("--listen {}: Address already in use", agent.address)), "{error}");
}

#[test]
fn without_any_socket_the_reply_is_printed() {
    let patroni = FakePatroni::new(primary());
    let output = run(&["--patroni", &patroni.url(), "--deadline", "5s"]);
    assert_eq!((stdout(&output).as_str(), output.status.code()), (READY, Some(0)));
    patroni.now(replica());
    let output = run(&["--patroni", &patroni.url(), "--deadline", "5s", "--words", "plain"]);
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("MAINT\n", Some(0)));
    let drain = ["--words", "plain", "--on-standby", "drain", "--endpoint", "/replica"];
    let output = run(&[&["--patroni", &patroni.url(), "--deadline", "5s"][..], &drain].concat());
    assert_eq!(stdout(&output), "DRAIN\n");
}

/// What `systemctl start patroni-check.service` without a socket comes to. A program that such a
/// service starts is no such service.
#[test]
fn a_service_without_a_socket_says_so() {
    let patroni = FakePatroni::new(primary());
    let started = |variable: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{variable} exec \"$0\" \"$@\"")]).arg(binary().get_program());
        shell.args(["--patroni", &patroni.url(), "--deadline", "5s"]).env("NOTIFY_SOCKET", "/nowhere");
        shell.stdin(Stdio::null()).output().unwrap()
    };
    let output = started("SYSTEMD_EXEC_PID=$$");
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("", Some(6)));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.starts_with("patroni-check: no socket was passed to the service; "), "{error}");
    assert_eq!(stdout(&started("SYSTEMD_EXEC_PID=1")), READY);
}

#[test]
fn a_one_shot_answers_within_the_deadline_when_patroni_hangs() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(Behaviour::Hang);
    let agent = Agent::activated(&["--accept"], &["--patroni", &patroni.url(), "--deadline", "200ms"]);
    assert_eq!(agent.check(), "MAINT DOWN # patroni: no answer within 200ms\n");
}

#[test]
fn silence_closes_without_an_answer() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(Behaviour::Close);
    let options = ["--patroni", &patroni.url(), "--on-failure", "silent", "--deadline", "5s"];
    assert_eq!(Agent::activated(&["--accept"], &options).check(), "");
    assert_eq!(Agent::listening(&options).check(), "");
}

#[test]
fn a_descriptor_name_that_begins_with_a_slash_is_the_endpoint() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(primary());
    let options = ["--patroni", &patroni.url(), "--deadline", "5s"];
    Agent::activated(&["--fdname=/replica?lag=1MB"], &options).check();
    Agent::activated(&["--accept", "--fdname=/read-only"], &options).check();
    Agent::activated(&["--fdname=patroni-check.socket"], &options).check();
    Agent::activated(&["--accept"], &[&options[..], &["--endpoint", "/sync"]].concat()).check();
    let asked = ["/replica?lag=1048576", "/read-only", "/primary", "/sync"];
    assert_eq!(patroni.requests(), asked.map(|path| format!("GET {path} HTTP/1.1")));
}

#[test]
fn two_passed_listeners_answer_each_for_its_endpoint() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(primary());
    let second = lab::any_port();
    let listen = format!("127.0.0.1:{second}");
    let activate = ["-l", &listen, "--fdname=/primary:/health"];
    let agent = Agent::activated(&activate, &["--patroni", &patroni.url(), "--deadline", "5s"]);
    agent.check();
    check(([127, 0, 0, 1], second).into());
    assert_eq!(patroni.requests(), ["GET /primary HTTP/1.1", "GET /health HTTP/1.1"]);
}

#[test]
fn options_come_from_the_environment_too_and_the_command_line_wins() {
    let patroni = FakePatroni::new(primary());
    let run = |options: &[&str]| {
        let mut command = binary();
        command.env("PATRONI_CHECK_PATRONI", patroni.url()).env("PATRONI_CHECK_DEADLINE", "5s");
        command.env("PATRONI_CHECK_WORDS", "plain").env("PATRONI_CHECK_ENDPOINT", "/read-only").args(options);
        stdout(&command.output().expect("the binary runs"))
    };
    assert_eq!(run(&[]), "READY\n");
    assert_eq!(run(&["--words", "full", "--endpoint", "/primary"]), READY);
    assert_eq!(patroni.requests(), ["GET /read-only HTTP/1.1", "GET /primary HTTP/1.1"]);
}

#[test]
fn several_ports_can_be_given_in_the_environment() {
    let patroni = FakePatroni::new(primary());
    let second = lab::any_port();
    let mut command = binary();
    let first = std::net::SocketAddr::from(([127, 0, 0, 1], lab::any_port()));
    command.env("PATRONI_CHECK_LISTEN", format!("{first} 127.0.0.1:{second}=/health"));
    let agent = Agent::start(command.args(["--patroni", &patroni.url(), "--deadline", "5s"]), first);
    agent.check();
    check(([127, 0, 0, 1], second).into());
    assert_eq!(patroni.requests(), ["GET /primary HTTP/1.1", "GET /health HTTP/1.1"]);
}

#[test]
fn bad_configuration_is_one_line_and_exit_status_2() {
    let table: &[(&[&str], &str)] = &[
        (&["--endpoint", "/standby"], "/read-only-quorum"),
        (&["--endpoint", "/replica?lag=10mb"], "such as 16MB"),
        (&["--words", "many"], "possible values: full, plain"),
        (&["--words", "plain", "--on-failure", "down"], "needs --words full"),
        (&["--on-failure", "up"], "possible values: maint, down, drain, silent"),
        (&["--deadline", "500"], "time unit needed"),
        (&["--deadline", "0s"], "out of range"),
        (&["--grace", "21s"], "0s to 20s"),
        (&["--patroni", "localhost:8008"], "http://localhost:8008"),
        (&["--patroni", "ftp://localhost"], "http://localhost:8008"),
        (&["--patroni", "http://localhost:8008#x"], "write http://localhost:8008"),
        (&["--patroni", "http://localhost:8008/patroni"], "write http://localhost:8008"),
        (&["--patroni", "http://localhost:8008\nhttp://db2:8008"], "without blanks"),
        (&["--listen", "5555"], "127.0.0.1:5555"),
        (&["--listen", "127.0.0.1:0=/nonsense"], "no such health check endpoint"),
        (&["--cert", "a.pem"], "--key"),
        (&["--patroni", "https://localhost", "--cacert", "/nonexistent.pem"], "/nonexistent.pem"),
        (&["--no-such-option"], "--no-such-option"),
    ];
    for (options, complaint) in table {
        let output = run(options);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{options:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{options:?}: {error}");
        assert!(error.starts_with("patroni-check: ") && error.contains(complaint), "{options:?}: {error}");
        assert_eq!(stdout(&output), "", "{options:?}");
    }
}

#[test]
fn sockets_that_cannot_be_answered_on_are_bad_configuration() {
    let complaint = |command: &mut Command| {
        let output = command.output().expect("the program runs");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // Patroni would answer 503 to it, which reads as "standby" for ever.
    let port = Port::bind();
    let mut misnamed = port.command(&Manager::bind(), &[]);
    let error = complaint(misnamed.env("LISTEN_FDNAMES", "/standby"));
    assert!(error.contains("FileDescriptorName=/standby: no such health check endpoint"), "{error}");
    let mut file = Command::new("sh");
    file.args(["-c", r#"exec 3</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0""#]).arg(binary().get_program());
    assert!(complaint(&mut file).contains("no TCP socket"));
    assert!(complaint(binary().stdin(port.stdin())).contains("nowait"));
}

#[test]
fn sockets_that_may_be_for_another_process_are_bad_configuration() {
    let table = [
        // What a process inherits that was started by one that systemd started.
        ("unset LISTEN_PID", "LISTEN_PID is missing"),
        ("LISTEN_PID=me", "LISTEN_PID"),
        ("LISTEN_FDS=one", "LISTEN_FDS"),
        ("LISTEN_FDS=-1", "LISTEN_FDS"),
        ("LISTEN_FDS=2147483647", "no number of them up to 1024"),
        ("LISTEN_FDS=4294967297", "no number of them up to 1024"),
        ("LISTEN_FDNAMES=\"$(printf '/x\\n\\033[31my')\"", "FileDescriptorName=/x ?[31my: no such"),
        // Without its name a socket would answer for another endpoint.
        ("LISTEN_FDNAMES=/primary:/replica", "1 sockets and 2 names"),
        ("LISTEN_FDS=2 LISTEN_FDNAMES=/replica", "LISTEN_FDS"),
    ];
    for (change, complaint) in table {
        let port = Port::bind();
        let mut command = Command::new("sh");
        let script = format!(
            r#"exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; export {change} 2>/dev/null; {change}; exec "$0""#
        );
        command.args(["-c", &script]).arg(binary().get_program()).stdin(port.stdin());
        let output = command.output().expect("it ends");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{change}: {error}");
        assert!(error.contains(complaint) && error.lines().count() == 1, "{change}: {error}");
    }
}

#[test]
fn a_port_to_bind_counts_more_than_a_socket_on_standard_input() {
    let patroni = FakePatroni::new(primary());
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], lab::any_port()));
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    let (tcp, _client) = connection();
    for stdin in [OwnedFd::from(ours), OwnedFd::from(tcp)] {
        let mut command = binary();
        command.args(["--listen", &address.to_string(), "--patroni", &patroni.url(), "--deadline", "5s"]).stdin(stdin);
        assert_eq!(Agent::start(&mut command, address).check(), READY);
    }
}

#[test]
fn a_socket_on_standard_input_that_is_no_connection_of_haproxys_is_none() {
    let patroni = FakePatroni::new(primary());
    // As sshd and containers have it.
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let mut command = binary();
    let output = command.args(["--patroni", &patroni.url(), "--deadline", "5s"]).stdin(OwnedFd::from(ours)).output();
    assert_eq!(stdout(&output.expect("it runs")), READY);
    drop(command);
    let mut rest = String::new();
    theirs.read_to_string(&mut rest).expect("an end");
    assert_eq!(rest, "");
}

#[test]
fn under_inetd_the_client_reads_the_reply_and_nothing_else() {
    let patroni = FakePatroni::new(primary());
    let url = patroni.url();
    let table: [(&[&str], &str); 3] = [
        (&["--patroni", &url, "--insecure", "--deadline", "5s"], READY),
        // HAProxy would heed the "down" in what is said of it.
        (&["--patroni", &url, "--words", "plain", "--on-failure", "down"], ""),
        (&["--patroni", "http://localhost:8008 down"], ""),
    ];
    for (options, reply) in table {
        let (ours, client) = connection();
        let all = || Stdio::from(OwnedFd::from(ours.try_clone().expect("a descriptor is free")));
        let mut process =
            binary().args(options).stdin(all()).stdout(all()).stderr(all()).spawn().expect("the binary runs");
        drop(ours);
        assert_eq!(lab::agent::read_reply(client), reply, "{options:?}");
        process.wait().expect("it ends");
    }
}

#[test]
fn a_standard_output_that_takes_nothing_is_an_error_and_no_panic() {
    let patroni = FakePatroni::new(primary());
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let mut command = binary();
    command.args(["--patroni", &patroni.url(), "--deadline", "5s"]).stdout(full).stderr(Stdio::piped());
    let output = command.spawn().and_then(|child| child.wait_with_output()).expect("it runs and ends");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"));
}
