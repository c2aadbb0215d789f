//! Whole Debian machines, booted with their own systemd, with the package installed: what the units
//! promise. The Patroni in them is the fake Patroni, because here it is systemd that is tried; the
//! demo runs in them with real ones.
//!
//! A machine has a network of its own, so everything is on the ports that it really has.

// Before the modules, which use it.
/// Each test on each release, the releases next to each other in the order in which tests are run:
/// a machine of the one can be booted while the other is at work.
macro_rules! on_each_release {
    ($($test:ident: $boot:ident,)*) => {
        $(mod $test {
            use super::{Machine, $test as test};
            #[test] fn bookworm() { if let Some(machine) = Machine::$boot("bookworm") { test(&machine) } }
            #[test] fn forky() { if let Some(machine) = Machine::$boot("forky") { test(&machine) } }
            #[test] fn trixie() { if let Some(machine) = Machine::$boot("trixie") { test(&machine) } }
        })*
    };
}

mod archive;
mod clusters;
mod each_check;
mod haproxy;
mod hold;
mod in_the_way;
mod jobs;
mod lifetime;
mod memory;
mod network;
mod newcomer;
mod package;
mod probe;
mod sockets;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use lab::agent::{binary_path, check, check_after_sending};
use lab::certificates::Authority;
use lab::fake_patroni::{Behaviour, FakePatroni, answer, in_role, node, primary, replica};
use lab::machine::{Machine, packages};
use lab::{PATIENCE, await_that};

const READY: &str = "READY UP # primary timeline 3\n";
const PORT: SocketAddr = at(5555);
const REPLICA_PORT: SocketAddr = at(5556);

const fn at(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn patroni(machine: &Machine, behaviour: Behaviour) -> FakePatroni {
    machine.inside(|| FakePatroni::at("127.0.0.1:8008", behaviour))
}

fn set(machine: &Machine, settings: &str) {
    fs::write(machine.path("/etc/default/patroni-check"), settings).unwrap();
}

/// A deadline that no machine is too slow for.
fn set_patient(machine: &Machine) {
    set(machine, "PATRONI_CHECK_DEADLINE=5s\n");
    machine.sh("systemctl try-restart patroni-check.service");
}

/// What one check came to.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Refused,
    Unanswered,
    Answered(String),
}

fn try_check(address: SocketAddr) -> Outcome {
    let Ok(mut stream) = TcpStream::connect(address) else { return Outcome::Refused };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reply = String::new();
    match stream.read_to_string(&mut reply) {
        Ok(_) if !reply.is_empty() => Outcome::Answered(reply),
        _ => Outcome::Unanswered,
    }
}

/// Four clients that check all the while that something is done. Gives what their checks came to.
fn checking(machine: &Machine, work: impl FnOnce() + Send) -> Vec<Outcome> {
    checking_at(PORT, machine, work)
}

fn checking_at(port: SocketAddr, machine: &Machine, work: impl FnOnce() + Send) -> Vec<Outcome> {
    let done = AtomicBool::new(false);
    machine.inside(|| {
        thread::scope(|scope| {
            let client = || {
                let mut outcomes = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    outcomes.push(try_check(port));
                    thread::sleep(Duration::from_millis(10));
                }
                outcomes
            };
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            done.store(true, Ordering::Relaxed);
            let outcomes = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
            worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcomes
        })
    })
}

fn count(outcomes: &[Outcome], wanted: &Outcome) -> usize {
    outcomes.iter().filter(|outcome| *outcome == wanted).count()
}

fn report(machine: &Machine, what: &str, outcomes: &[Outcome]) {
    let (refused, unanswered) = (count(outcomes, &Outcome::Refused), count(outcomes, &Outcome::Unanswered));
    let version = machine.sh("systemctl --version | head -n 1");
    println!("{version}: {what}: {} checks, {refused} refused, {unanswered} unanswered", outcomes.len());
}

/// How many entries the journal has. Of each unit that ends systemd 262 says that it can't read
/// pids.max, where the host has that controller in a hierarchy of its own (cgroup v1).
fn entries(machine: &Machine) -> usize {
    machine
        .sh("journalctl -q --no-pager | grep -v 'Failed to read pids.max for control group' | wc -l")
        .parse()
        .unwrap()
}

/// What systemd says of a unit.
fn property(machine: &Machine, name: &str, unit: &str) -> String {
    machine.sh(&format!("systemctl show -P {name} {unit}"))
}

/// As the guide says.
fn accept_yes(machine: &Machine) {
    machine.sh("systemctl stop patroni-check.socket patroni-check.service");
    machine.sh("install -D -m 644 /usr/share/doc/patroni-check/examples/accept-yes.conf \
         /etc/systemd/system/patroni-check.socket.d/accept-yes.conf");
    machine.sh("systemctl daemon-reload; systemctl start patroni-check.socket");
}
