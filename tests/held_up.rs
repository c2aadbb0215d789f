//! What is around the service and could hold it up, or end it: a log that nobody reads, a service
//! manager that does not read, signals that other programs know.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use lab::agent::{Agent, Manager, Port, binary, check};
use lab::fake_patroni::{Behaviour, FakePatroni, Step, primary, replica};
use lab::{any_port, await_some, await_that, requires};
use patroni_check::patroni::{Client, Tls};

const READY: &str = "READY UP # primary timeline 3\n";
const MAINT: &str = "MAINT UP # replica timeline 3\n";

/// More changes of verdict than a pipe of one page, a manager's queue and our own take.
const CHANGES: usize = 500;

/// A service whose standard error is this.
fn service(options: &[&str], stderr: Stdio) -> (Child, std::net::SocketAddr) {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], any_port()));
    let mut command = binary();
    command
        .args(["--listen", &address.to_string(), "--deadline", "5s", "--max-age", "0s"])
        .args(options)
        .stderr(stderr);
    let child = command.spawn().expect("the binary runs");
    await_that("a port", || std::net::TcpStream::connect(address).is_ok());
    (child, address)
}

fn change_often(patroni: &FakePatroni, address: std::net::SocketAddr) {
    for _ in 0..CHANGES / 2 {
        patroni.now(primary());
        assert_eq!(check(address), READY);
        patroni.now(replica());
        assert_eq!(check(address), MAINT);
    }
}

/// SIGTERM, and the exit status.
fn end(mut child: Child) -> Option<i32> {
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    await_some("its end", || child.try_wait().expect("a child")).code()
}

#[test]
fn a_log_that_nobody_reads_or_that_is_closed_holds_up_no_check_and_no_end() {
    let patroni = FakePatroni::new(primary());
    let url = patroni.url();
    let (unread, full) = std::io::pipe().expect("a pipe");
    rustix::pipe::fcntl_setpipe_size(&full, 4096).expect("a small pipe");
    let (reader, closed) = std::io::pipe().expect("a pipe");
    drop(reader);
    for stderr in [OwnedFd::from(full), OwnedFd::from(closed)] {
        let (child, address) = service(&["--patroni", &url, "--insecure"], stderr.into());
        change_often(&patroni, address);
        assert_eq!(end(child), Some(0));
    }
    drop(unread);
}

#[test]
fn what_the_log_could_not_take_is_counted() {
    let patroni = FakePatroni::new(primary());
    let (mut reader, full) = std::io::pipe().expect("a pipe");
    rustix::pipe::fcntl_setpipe_size(&full, 4096).expect("a small pipe");
    let (child, address) = service(&["--patroni", &patroni.url()], OwnedFd::from(full).into());
    change_often(&patroni, address);
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("lines");
        text
    });
    // What was said is read meanwhile, so that there is room for one line more.
    std::thread::sleep(Duration::from_millis(200));
    patroni.now(primary());
    check(address);
    assert_eq!(end(child), Some(0));
    let text = reading.join().expect("it reads");
    let lost: usize = text
        .lines()
        .find_map(|line| line.strip_prefix("patroni-check: ")?.split_once(" entries are missing here")?.0.parse().ok())
        .unwrap_or_else(|| panic!("no word of what is missing in:\n{text}"));
    let lines = text.lines().filter(|line| line.contains(" -> ")).count();
    assert_eq!(lost + lines, CHANGES + 1, "{text}");
}

#[test]
fn an_error_that_nobody_reads_is_still_exit_status_2() {
    let (reader, closed) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = binary().args(["--endpoint", "/nonsense"]).stderr(closed).status().expect("the binary runs");
    assert_eq!(status.code(), Some(2));
}

#[test]
fn a_manager_that_does_not_read_holds_up_no_check_and_no_end() {
    let patroni = FakePatroni::new(primary());
    let url = patroni.url();
    let port = Port::bind();
    let manager = Manager::bind();
    let mut agent = port.agent(&manager, &["--patroni", &url, "--deadline", "5s", "--max-age", "0s"]);
    change_often(&patroni, port.address);
    agent.process.signal(Signal::TERM);
    assert_eq!(agent.process.wait().code(), Some(0));
}

#[test]
fn a_manager_that_reads_late_is_told_that_we_are_ready() {
    let patroni = FakePatroni::new(primary());
    let port = Port::bind();
    let manager = Manager::bind();
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("it can be set");
    while filler.send_to(b"STATUS=full", manager.socket()).is_ok() {}
    let agent = port.agent(&manager, &["--patroni", &patroni.url(), "--deadline", "5s"]);
    await_that("a warning", || agent.process.output().contains("can't send READY=1"));
    manager.await_message("READY=1");
    assert_eq!(agent.check(), READY);
}

#[test]
fn a_notification_is_one_thing_and_no_longer_than_the_manager_takes() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let patroni = FakePatroni::new(primary());
    let manager = Manager::bind();
    // As many long names as an administrator may give; each is a view in the status line.
    let others: Vec<_> = (0..30).map(|_| format!("127.0.0.1:{}", any_port())).collect();
    let tag = "x".repeat(200);
    let names: Vec<_> = (0..31).map(|n| format!("/replica?tag_{n}={tag}")).collect();
    let names = format!("--fdname={}", names.join(":"));
    let socket = format!("NOTIFY_SOCKET={}", manager.socket());
    let mut activate = vec![names.as_str(), "-E", &socket, "-E", "WATCHDOG_USEC=100000"];
    others.iter().for_each(|other| activate.extend(["-l", other]));
    let agent = Agent::activated(&activate, &["--patroni", &patroni.url(), "--deadline", "5s"]);
    agent.check();
    let (mut pings, mut statuses) = (0, 0);
    while pings < 3 || statuses < 3 {
        let message = manager.next();
        assert!(message.len() <= 4096, "PID 1 drops {} bytes", message.len());
        assert_eq!(message.trim_end().lines().count(), 1, "{message}");
        pings += usize::from(message.trim_end() == "WATCHDOG=1");
        statuses += usize::from(message.starts_with("STATUS=") && message.len() > 500);
    }
}

#[test]
fn a_manager_in_the_abstract_namespace_is_told() {
    let patroni = FakePatroni::new(primary());
    let port = Port::bind();
    let (manager, name) = Manager::abstract_one(&format!("patroni-check-test-{}", std::process::id()));
    let mut command = port.command(&Manager::bind(), &["--patroni", &patroni.url(), "--deadline", "5s"]);
    let agent = Agent::start(command.env("NOTIFY_SOCKET", name), port.address);
    manager.await_message("READY=1");
    assert_eq!(agent.check(), READY);
}

#[test]
fn a_manager_that_is_not_there_is_a_warning() {
    let patroni = FakePatroni::new(primary());
    for name in ["/nonexistent/notify", "@nobody-listens-here", "vsock:2:1234", "notify", ""] {
        let port = Port::bind();
        let mut command = port.command(&Manager::bind(), &["--patroni", &patroni.url(), "--deadline", "5s"]);
        let agent = Agent::start(command.env("NOTIFY_SOCKET", name), port.address);
        assert_eq!(agent.check(), READY, "{name}");
        let warning = agent.process.output().contains("the service manager (NOTIFY_SOCKET)");
        assert_eq!(warning, !name.is_empty(), "{name}: {}", agent.process.output());
    }
}

#[test]
fn a_watchdog_of_no_time_is_none() {
    let patroni = FakePatroni::new(primary());
    for period in ["0", "1", "nonsense"] {
        let port = Port::bind();
        let mut command = port.command(&Manager::bind(), &["--patroni", &patroni.url(), "--deadline", "5s"]);
        let agent = Agent::start(command.env("WATCHDOG_USEC", period), port.address);
        assert_eq!(agent.check(), READY);
        let before = agent.process.ticks();
        std::thread::sleep(Duration::from_secs(1));
        let used = agent.process.ticks() - before;
        assert!(used <= 30, "{period}: {used} of 100 ticks used while nothing was to be done");
    }
}

#[test]
fn signals_that_other_programs_know_do_not_end_it() {
    let patroni = FakePatroni::new(primary());
    let agent = Agent::listening(&["--patroni", &patroni.url(), "--deadline", "5s", "--max-age", "0s"]);
    assert_eq!(agent.check(), READY);
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::PIPE] {
        agent.process.signal(signal);
        assert_eq!(agent.check(), READY, "{signal:?}");
    }
}

#[test]
fn a_hold_file_that_never_ends_holds_and_holds_up_nobody() {
    let patroni = FakePatroni::new(primary());
    let directory = tempfile::tempdir().expect("a directory");
    let fifo = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    let huge = directory.path().join("huge");
    File::create(&huge).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
    for file in [fifo.as_path(), std::path::Path::new("/dev/zero"), &huge] {
        let options = ["--patroni", &patroni.url(), "--deadline", "5s", "--hold-file", file.to_str().expect("a path")];
        let mut agent = Agent::listening(&options);
        assert!(agent.check().starts_with("MAINT UP # held"), "{}", file.display());
        agent.process.signal(Signal::TERM);
        assert_eq!(agent.process.wait().code(), Some(0), "{}", file.display());
    }
}

/// What `at_deadline` is told of: how often it was called.
fn counted(calls: &Arc<AtomicUsize>, act: impl FnOnce() + Send + 'static) -> impl FnOnce() + Send + 'static {
    let calls = Arc::clone(calls);
    move || {
        calls.fetch_add(1, Ordering::SeqCst);
        act();
    }
}

fn client(url: &str) -> Client {
    Client::new(url.parse().expect("an address"), Tls::default(), Duration::from_secs(30)).expect("a client")
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(100)
}

#[test]
fn a_deadline_is_heeded_and_the_same_request_goes_on() {
    // By an address, by the name that needs no lookup, and by one that does.
    let own_name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    for host in ["127.0.0.1", "localhost", own_name.trim()] {
        let patroni = Arc::new(FakePatroni::at("0.0.0.0:0", Behaviour::Hang));
        let client = client(&format!("http://{host}:{}", patroni.address.port()));
        let calls = Arc::default();
        // It is answered only because the deadline came first.
        let answers = Arc::clone(&patroni);
        let late = counted(&calls, move || answers.now(primary()));
        let answer = client.get_answering_late(&"/primary".parse().expect("an endpoint"), soon(), late);
        assert_eq!(answer.map(|answer| answer.status), Ok(200), "{host}");
        assert_eq!((calls.load(Ordering::SeqCst), patroni.requests().len()), (1, 1), "{host}");
    }
}

#[test]
fn a_deadline_is_heeded_once_in_two_requests_and_while_an_answer_drips() {
    let head = "HTTP/1.0 200 OK\r\n\r\n";
    let drip = |text: &str| Behaviour::Script(vec![Step::Drip(text.into(), Duration::from_millis(5))]);
    let calls = Arc::default();
    // Which takes a second request for the version.
    let probe = "/readiness?lag=1kB".parse().expect("an endpoint");
    let patroni = FakePatroni::new(drip(&format!("{head}{}", r#"{"state": "running", "role": "replica"}"#)));
    let answer = client(&patroni.url()).get_answering_late(&probe, soon(), counted(&calls, || ()));
    assert_eq!(answer.map(|answer| answer.status), Ok(200));
    assert_eq!((calls.load(Ordering::SeqCst), patroni.requests().len()), (1, 2));
}

#[test]
fn a_deadline_that_does_not_come_is_not_heeded() {
    let patroni = FakePatroni::new(primary());
    let calls = Arc::default();
    let deadline = Instant::now() + Duration::from_secs(20);
    let primary = "/primary".parse().expect("an endpoint");
    let answer = client(&patroni.url()).get_answering_late(&primary, deadline, counted(&calls, || ()));
    assert_eq!(answer.map(|answer| answer.status), Ok(200));
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[test]
fn a_deadline_is_heeded_while_a_port_takes_no_connection() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    listener.listen(0).expect("the least backlog");
    let listener = TcpListener::from(listener);
    let address = listener.local_addr().expect("an address");
    let fillers: Vec<_> =
        (0..3).filter_map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(50)).ok()).collect();
    let calls = Arc::default();
    // There is room for another connection only because the deadline came first.
    let late = counted(&calls, move || {
        std::thread::spawn(move || {
            fillers.iter().for_each(|_| drop(listener.accept()));
            let (mut stream, _) = listener.accept().expect("a connection");
            assert!(stream.read(&mut [0; 1024]).is_ok_and(|count| count > 0), "a request");
            stream.write_all(b"HTTP/1.0 503 No\r\n\r\n{}").expect("it is read");
        });
    });
    let primary = "/primary".parse().expect("an endpoint");
    let answer = client(&format!("http://{address}")).get_answering_late(&primary, soon(), late);
    assert_eq!(answer.map(|answer| answer.status), Ok(503));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}
