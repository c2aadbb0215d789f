//! Accepting connections where something is short or broken: descriptors, room, a listener.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::agent::{Agent, MOMENT, Port, binary, check, connect, read_reply};
use lab::await_that;
use lab::fake_patroni::{Behaviour, FakePatroni, primary};

#[test]
fn with_room_for_one_client_the_next_is_accepted_as_soon_as_that_one_has_its_answer() {
    let patroni = FakePatroni::new(primary());
    let port = Port::bind();
    let url = patroni.url();
    let mut limited = port.command_of_few_descriptors(40, &["--patroni", &url, "--deadline", "5s", "--max-age", "0s"]);
    let _agent = Agent::start(&mut limited, port.address);
    let start = Instant::now();
    (0..40).for_each(|_| assert_eq!(check(port.address), "READY UP # primary timeline 3\n"));
    // A pause of 100 ms after each would be 4 s.
    assert!(start.elapsed() < Duration::from_secs(3), "{:?} for 40 checks", start.elapsed());
}

#[test]
fn with_room_for_one_client_its_request_is_waited_for() {
    let patroni = FakePatroni::new(primary());
    let port = Port::bind();
    let options = ["--patroni", &patroni.url(), "--deadline", "5s", "--also", "/health"];
    let mut limited = port.command_of_few_descriptors(40, &options);
    let _agent = Agent::start(limited.env("LISTEN_FDNAMES", "agent-send"), port.address);
    for _ in 0..10 {
        let mut client = connect(port.address);
        thread::sleep(MOMENT);
        client.write_all(b"/health\n").unwrap();
        assert_eq!(read_reply(client), "READY UP # primary timeline 3\n");
    }
}

#[test]
fn a_crowd_at_one_listener_keeps_nobody_from_another() {
    let patroni = FakePatroni::new(Behaviour::Hang);
    let (first, second) = (Port::bind(), Port::bind());
    let options = ["--patroni", &patroni.url(), "--deadline", "50ms"];
    let agent = agent_of_two(&first, &second, "ulimit -n 64;", &options);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    check(agent.address);
                }
            });
        }
        await_that("a crowd", || patroni.in_flight() == 1 && first.backlog() > 10);
        let answered = std::panic::catch_unwind(|| (0..5).map(|_| check(second.address)).collect::<Vec<_>>());
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(answered.unwrap(), ["MAINT DOWN # patroni: no answer within 50ms\n"; 5]);
    });
}

/// An agent with both listeners, after this line of a shell.
fn agent_of_two(first: &Port, second: &Port, before: &str, options: &[&str]) -> Agent {
    let inherited = second.inheritable();
    // Other shells know no descriptors of two digits.
    let mut command = Command::new("bash");
    let descriptor = inherited.as_raw_fd();
    let script =
        format!(r#"{before} exec 3<&0 4<&{descriptor} 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" "$@""#);
    command.args(["-c", &script]).arg(binary().get_program()).args(options).stdin(first.stdin());
    Agent::start(&mut command, first.address)
}

#[test]
fn a_listener_that_is_broken_takes_no_other_along() {
    let patroni = FakePatroni::new(primary());
    let (first, second) = (Port::bind(), Port::bind());
    let agent = agent_of_two(&first, &second, "", &["--patroni", &patroni.url(), "--deadline", "5s"]);
    assert_eq!(agent.check(), "READY UP # primary timeline 3\n");
    first.shutdown();
    await_that("a complaint", || agent.process.output().contains("can't accept connections at 127.0.0.1"));
    for _ in 0..5 {
        assert_eq!(check(second.address), "READY UP # primary timeline 3\n");
        thread::sleep(MOMENT);
    }
    assert_eq!(agent.process.output().matches("can't accept").count(), 1, "{}", agent.process.output());
}

#[test]
fn clients_cannot_take_all_descriptors_and_those_who_wait_cost_nothing() {
    let patroni = FakePatroni::new(Behaviour::Hang);
    let url = patroni.url();
    let port = Port::bind();
    let mut limited = port.command_of_few_descriptors(64, &["--patroni", &url, "--deadline", "5s"]);
    let agent = Agent::start(&mut limited, port.address);
    let clients: Vec<_> = (0..60).map(|_| connect(port.address)).collect();
    await_that("a request", || patroni.in_flight() == 1);
    await_that("as many accepted as can be", || port.backlog() < 60);
    let before = agent.process.ticks();
    thread::sleep(Duration::from_secs(1));
    let used = agent.process.ticks() - before;
    assert!(port.backlog() > 20, "the limit was not reached: {} wait", port.backlog());
    assert!(used <= 20, "{used} of 100 ticks used while nothing could be done");
    patroni.now(primary());
    for client in clients {
        assert_eq!(read_reply(client), "READY UP # primary timeline 3\n");
    }
}
