//! What one process leaves for the next: after a restart, or where each check has a process of its
//! own.

mod damage;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use lab::agent::{Agent, Manager, Port, binary, check, connect, connection, read_reply};
use lab::fake_patroni::{Behaviour, FakePatroni, answer, node, primary, replica};
use lab::{await_that, requires};

const READY: &str = "READY UP # primary timeline 3\n";
const MAINT: &str = "MAINT UP # replica timeline 3\n";
const CLOSED: &str = "MAINT DOWN # patroni: answer cut short\n";

/// No machine is too slow for it.
const PATIENT: [&str; 2] = ["--deadline", "5s"];

/// A directory as systemd makes it for a unit, and a Patroni.
struct Host {
    directory: TempDir,
    patroni: FakePatroni,
}

impl Host {
    fn new(behaviour: Behaviour) -> Self {
        Host { directory: tempfile::tempdir().unwrap(), patroni: FakePatroni::new(behaviour) }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("primary.json")
    }

    /// One process for each check.
    fn each_check(&self, options: &[&str]) -> Agent {
        let variable = format!("RUNTIME_DIRECTORY={}:/nowhere", self.directory.path().display());
        let url = self.patroni.url();
        Agent::activated(&["--accept", "-E", &variable], &[&["--patroni", &url], options].concat())
    }

    /// The persistent service.
    fn service(&self, port: &Port, options: &[&str]) -> Agent {
        let url = self.patroni.url();
        let mut command = port.command(&Manager::bind(), &[&["--patroni", &url], options].concat());
        Agent::start(command.env("RUNTIME_DIRECTORY", self.directory.path()), port.address)
    }

    fn requests(&self) -> usize {
        self.patroni.requests().len()
    }
}

/// As many checks at once.
fn at_once(count: usize, address: SocketAddr) -> Vec<String> {
    thread::scope(|scope| {
        let checks: Vec<_> = (0..count).map(|_| scope.spawn(|| check(address))).collect();
        checks.into_iter().map(|check| check.join().unwrap()).collect()
    })
}

fn end(mut agent: Agent, signal: Signal) {
    agent.process.signal(signal);
    agent.process.wait();
}

/// A primary that nobody holds the lock of, as far as its Patroni knows.
fn unlocked() -> Behaviour {
    answer(503, r#"{"state": "running", "role": "primary", "timeline": 3, "cluster_unlocked": true}"#)
}

#[test]
fn while_patroni_is_silent_the_word_of_an_earlier_process_stands_for_the_grace() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let host = Host::new(primary());
    let agent = host.each_check(&[&PATIENT[..], &["--grace", "2s", "--max-age", "0s"]].concat());
    assert_eq!(agent.check(), READY);
    host.patroni.now(Behaviour::Close);
    let mut stood = 0;
    while agent.check() == READY {
        stood += 1;
        thread::sleep(Duration::from_millis(20));
    }
    assert!(stood > 0);
    assert_eq!(agent.check(), CLOSED);
    assert!(host.requests() > stood, "each process asks");
    // After a silence that was longer READY takes two answers, and each is a process's.
    host.patroni.now(primary());
    assert_eq!(agent.check(), "MAINT DOWN # patroni: just back from a silence; asked again\n");
    assert_eq!(agent.check(), READY);
}

#[test]
fn a_lock_that_was_lost_to_nobody_cuts_no_session_in_a_process_that_never_saw_it_held() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let host = Host::new(unlocked());
    let agent = host.each_check(&PATIENT);
    assert_eq!(agent.check(), "MAINT UP # primary timeline 3 nobody holds the lock\n", "nothing is known yet");
    host.patroni.now(primary());
    await_that("READY", || agent.check() == READY);
    host.patroni.now(unlocked());
    await_that("Patroni's word", || agent.check() == "READY UP # primary timeline 3 nobody holds the lock\n");
    // Another one has it: the answer may be torn, so the same process asks once more.
    host.patroni.now(node(503, "running", "primary"));
    await_that("another word", || agent.check() == "MAINT UP # primary without the leader lock\n");
}

/// Fresh enough is answered from memory, and the request of one process answers all who wait.
#[test]
fn twenty_four_processes_at_once_are_answered_by_one_request() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let host = Host::new(primary());
    host.patroni.delay(Duration::from_millis(300));
    let agent = host.each_check(&PATIENT);
    for _ in 0..3 {
        let before = host.requests();
        assert_eq!(at_once(24, agent.address), [READY; 24]);
        // Those that began after a max-age have another one.
        assert!(host.requests() < before + 12, "{} requests", host.requests() - before);
    }
    assert_eq!(host.patroni.most_in_flight(), 1);
    // Patroni is quick again: at most ten a second, whatever the number of askers.
    host.patroni.delay(Duration::ZERO);
    let (before, start) = (host.requests(), Instant::now());
    while start.elapsed() < Duration::from_secs(2) {
        assert_eq!(at_once(8, agent.address), [READY; 8]);
    }
    let most = start.elapsed().as_millis() / 100 + 1;
    let requests = (host.requests() - before) as u128;
    assert!(requests <= most, "{requests} requests, {most} at most");
    assert_eq!(host.patroni.most_in_flight(), 1);
}

#[test]
fn a_request_that_patroni_sits_on_is_not_repeated_and_what_it_says_is_not_lost() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let host = Host::new(Behaviour::Hang);
    let agent = host.each_check(&[]);
    assert_eq!(at_once(12, agent.address), ["MAINT DOWN # patroni: no answer within 80ms\n"; 12]);
    assert_eq!(agent.check(), "MAINT DOWN # patroni: no answer within 80ms\n");
    assert_eq!((host.patroni.in_flight(), host.requests()), (1, 1));
    host.patroni.now(primary());
    await_that("what it says", || {
        fs::read_to_string(host.file()).is_ok_and(|text| text.contains("primary timeline 3"))
    });
    assert_eq!(host.requests(), 1);
    assert_eq!(agent.check(), READY);
}

#[test]
fn a_process_that_dies_with_the_lock_costs_nothing() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let host = Host::new(Behaviour::Hang);
    let url = host.patroni.url();
    let (its, _client) = connection();
    let mut dies = binary();
    dies.args(["--patroni", &url]).env("RUNTIME_DIRECTORY", host.directory.path()).stdin(OwnedFd::from(its));
    let mut dies = dies.stdout(Stdio::null()).spawn().unwrap();
    await_that("its request", || host.patroni.in_flight() == 1);
    let agent = host.each_check(&PATIENT);
    let waits = connect(agent.address);
    kill_process(Pid::from_child(&dies), Signal::KILL).unwrap();
    dies.wait().unwrap();
    await_that("the request of the next one", || host.requests() == 2);
    host.patroni.now(primary());
    assert_eq!(read_reply(waits), READY);
}

/// A restart, an upgrade, a crash; and a switch from the one way to the other and back.
#[test]
fn no_restart_during_a_silence_forgets() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let grace = ["--grace", "20s"];
    for silence in [Behaviour::Close, unlocked()] {
        let is_ready = |reply: String| assert!(reply.starts_with("READY UP # primary timeline 3"), "{reply}");
        let host = Host::new(primary());
        let port = Port::bind();
        let mut service = host.service(&port, &[&PATIENT[..], &grace].concat());
        assert_eq!(service.check(), READY);
        host.patroni.now(silence);
        for signal in [Signal::TERM, Signal::KILL] {
            is_ready(service.check());
            end(service, signal);
            service = host.service(&port, &[&PATIENT[..], &grace].concat());
        }
        is_ready(service.check());
        end(service, Signal::KILL);
        let each = host.each_check(&[&PATIENT[..], &grace].concat());
        is_ready(each.check());
        is_ready(each.check());
        let service = host.service(&port, &[&PATIENT[..], &grace].concat());
        is_ready(service.check());
        end(service, Signal::TERM);
        // And it is the memory that does it.
        fs::remove_file(host.file()).unwrap();
        let reply = each.check();
        assert!(reply.starts_with("MAINT"), "{reply}");
    }
}

/// Two sockets for one endpoint, with and without `Accept=yes`.
#[test]
fn a_service_and_processes_for_one_check_know_the_same() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let host = Host::new(primary());
    let port = Port::bind();
    let options = [&PATIENT[..], &["--grace", "20s"]].concat();
    let (service, each) = (host.service(&port, &options), host.each_check(&options));
    assert_eq!((service.check(), each.check()), (READY.into(), READY.into()));
    // Only the one sees that the node is a replica now, and the other is asked in a silence.
    for (sees, other) in [(&each, &service), (&service, &each)] {
        host.patroni.now(primary());
        for agent in [sees, other] {
            await_that("READY", || agent.check() == READY);
        }
        host.patroni.now(replica());
        await_that("MAINT", || sees.check() == MAINT);
        host.patroni.now(Behaviour::Close);
        assert_eq!(other.check(), MAINT);
        thread::sleep(Duration::from_millis(150));
        assert_eq!((sees.check(), other.check()), (MAINT.into(), MAINT.into()));
    }
    // And together they make one request at a time, and ten a second.
    host.patroni.now(primary());
    let (before, start) = (host.requests(), Instant::now());
    thread::scope(|scope| {
        for agent in [&service, &each] {
            scope.spawn(move || {
                while start.elapsed() < Duration::from_secs(2) {
                    agent.check();
                }
            });
        }
    });
    let (requests, most) = ((host.requests() - before) as u128, start.elapsed().as_millis() / 100 + 1);
    assert!(requests <= most, "{requests} requests, {most} at most");
    host.patroni.delay(Duration::from_millis(50));
    thread::scope(|scope| {
        for agent in [&service, &each] {
            scope.spawn(|| {
                (0..10).for_each(|_| assert!(at_once(4, agent.address).iter().all(|reply| !reply.is_empty())))
            });
        }
    });
    assert_eq!(host.patroni.most_in_flight(), 1);
}

#[test]
fn a_change_of_verdict_is_one_entry_although_each_process_is_new() {
    if !requires(&["systemd-socket-activate"]) {
        return;
    }
    let host = Host::new(primary());
    let agent = host.each_check(&[&PATIENT[..], &["--max-age", "0s"]].concat());
    for (behaviour, reply) in [(primary(), READY), (replica(), MAINT), (primary(), READY)] {
        host.patroni.now(behaviour);
        for _ in 0..5 {
            assert_eq!(agent.check(), reply);
        }
        assert!(at_once(8, agent.address).iter().all(|found| found == reply));
    }
    let said = |text: &str| agent.process.output().matches(text).count();
    await_that("the entries", || said("/primary -> READY UP # primary timeline 3\n") == 2);
    assert_eq!(said("/primary -> MAINT UP # replica timeline 3\n"), 1, "{}", agent.process.output());
    assert_eq!(said("/primary -> "), 3, "{}", agent.process.output());
    // The service tells a change as well, and what it told is known here.
    let port = Port::bind();
    let service = host.service(&port, &[&PATIENT[..], &["--max-age", "0s"]].concat());
    host.patroni.now(replica());
    assert_eq!(service.check(), MAINT);
    let told = host.file().with_extension("told");
    await_that("a note", || fs::read_to_string(&told).is_ok_and(|text| text.contains("StandBy")));
    assert_eq!(agent.check(), MAINT);
    host.patroni.now(primary());
    assert_eq!(agent.check(), READY);
    await_that("an entry", || said("/primary -> READY UP # primary timeline 3\n") == 3);
    assert_eq!(said("/primary -> "), 4, "{}", agent.process.output());
}
