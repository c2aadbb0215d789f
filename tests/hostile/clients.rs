//! Clients that misbehave, by the thousand.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use lab::agent::{Agent, connect};
use lab::fake_patroni::{FakePatroni, primary};
use lab::{PATIENCE, await_that, requires};

use crate::footprint;

/// As many at a time; the service has room for 4096.
const CROWD: usize = 5000;

/// What a client does after it has connected. Gives the connection if it is to stay open.
type Misbehave = fn(TcpStream) -> Option<TcpStream>;

fn reset(stream: TcpStream) -> Option<TcpStream> {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    None
}

const CLIENTS: [(&str, Misbehave); 7] = [
    ("stay silent", Some),
    ("send and never read", |mut stream| {
        // It may have been answered and closed already.
        let _ = stream.write_all(&[b'x'; 10_000]);
        Some(stream)
    }),
    ("half-close and never read", |stream| {
        let _ = stream.shutdown(Shutdown::Write);
        Some(stream)
    }),
    ("close at once", |_| None),
    ("reset at once", reset),
    ("send, then reset", |mut stream| {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        reset(stream)
    }),
    ("half-close, then reset", |stream| {
        let _ = stream.shutdown(Shutdown::Write);
        reset(stream)
    }),
];

/// Both the test and the service that it starts need that many: two for each of the crowd.
const DESCRIPTORS: &str = "10000 descriptors";

#[test]
fn crowds_of_hostile_clients_keep_nobody_from_his_answer() {
    if !requires(&[DESCRIPTORS]) {
        return;
    }
    lab::raise_descriptors();
    let patroni = FakePatroni::new(primary());
    let agent = Agent::listening(&["--patroni", &patroni.url(), "--deadline", "5s"]);
    assert_eq!(agent.check(), "READY UP # primary timeline 3\n");
    let id = agent.process.id();
    let before = footprint(id);
    for (what, misbehave) in CLIENTS {
        let mut crowd = Vec::new();
        for n in 0..CROWD {
            crowd.extend(misbehave(connect(agent.address)));
            if n % 100 == 0 {
                assert_eq!(agent.check(), "READY UP # primary timeline 3\n", "while {n} {what}");
            }
        }
        drop(crowd);
        await_that("no more descriptors and threads than before", || {
            let now = footprint(id);
            now.0 <= before.0 && now.1 <= before.1
        });
    }
    // Many that send for ever, all at once; the service closes on them.
    let mut senders: Vec<_> = (0..CROWD).map(|_| connect(agent.address)).collect();
    senders.iter().for_each(|sender| sender.set_nonblocking(true).unwrap());
    let start = Instant::now();
    while !senders.is_empty() {
        assert!(start.elapsed() < PATIENCE, "{} may send for ever", senders.len());
        senders.retain_mut(|sender| match sender.write(&[b'x'; 1000]) {
            Ok(_) => true,
            Err(e) => e.kind() == std::io::ErrorKind::WouldBlock,
        });
        assert_eq!(agent.check(), "READY UP # primary timeline 3\n", "while {} send", senders.len());
    }
    println!("descriptors, threads, resident kB: {before:?} before, {:?} after; peak {} kB", footprint(id), peak(id));
    assert!(peak(id) < before.2 + 8192, "{} kB at the peak", peak(id));
}

/// The most memory that was ever resident, in kB.
fn peak(id: u32) -> u64 {
    lab::process::status(id, "VmHWM").unwrap()
}

#[test]
fn a_hundred_thousand_connects_in_a_row() {
    let patroni = FakePatroni::new(primary());
    let agent = Agent::listening(&["--patroni", &patroni.url(), "--deadline", "5s"]);
    assert_eq!(agent.check(), "READY UP # primary timeline 3\n");
    let before = footprint(agent.process.id());
    for n in 0..100_000 {
        // A reset leaves no port behind in TIME_WAIT.
        reset(connect(agent.address));
        if n % 1000 == 0 {
            assert_eq!(agent.check(), "READY UP # primary timeline 3\n", "after {n}");
        }
    }
    await_that("no more descriptors and threads than before", || {
        let now = footprint(agent.process.id());
        now.0 <= before.0 && now.1 <= before.1
    });
    let after = footprint(agent.process.id());
    println!(
        "descriptors, threads, resident kB: {before:?} before, {after:?} after; {} requests",
        patroni.requests().len()
    );
    assert!(after.2 < before.2 + 2048, "{before:?} {after:?}");
}
