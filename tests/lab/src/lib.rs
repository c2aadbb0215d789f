//! The lab: real HAProxy, real Patroni, real sockets, and a fake Patroni for what a real one can't
//! be made to do. README.md says what is where. Everything here ends with the value that stands for
//! it.

pub mod agent;
pub mod archive;
pub mod certificates;
pub mod clients;
pub mod cluster;
pub mod fake_patroni;
pub mod faults;
pub mod generate;
pub mod haproxy;
pub mod host;
pub mod http;
pub mod intervals;
pub mod machine;
pub mod model;
pub mod page;
pub mod process;
pub mod process_guard;
pub mod programs;
pub mod properties;
pub mod reads;
pub mod recorded;
pub mod replay;
pub mod requires;
pub mod sampling;
pub mod testbed;
pub mod times;
pub mod tls_proxy;

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use process::Process;
pub use requires::requires;

/// Longer than anything here takes on a slow machine. What is awaited for so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Lets this process, and the programs that it starts, have as many descriptors as there may be.
pub fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the maximum it is allowed");
}

/// Waits until something is there, looking again and again.
///
/// # Panics
/// When patience is at its end; `what` says what did not come.
pub fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until something holds.
pub fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    await_some(what, || holds().then_some(()));
}

/// Where the project is checked out.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A port that is free on all of these addresses: the wanted one or, where that is taken, one of
/// the next thousands.
pub fn free_port(addresses: &[IpAddr], wanted: u16) -> u16 {
    let is_free = |port: u16| addresses.iter().all(|address| TcpListener::bind((*address, port)).is_ok());
    let mut candidates = (wanted..u16::MAX).step_by(1000);
    candidates.find(|port| is_free(*port)).expect("one of so many ports is free")
}

/// A port that nothing uses, each time another one. None of those that the kernel gives to outgoing
/// connections (ip(7), `ip_local_port_range`): one of these could be taken again before our program
/// has it.
pub fn any_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let start = 10_000 + u16::try_from(std::process::id() % 100).expect("less than a hundred") * 200;
    let wanted = start + GIVEN.fetch_add(1, Ordering::Relaxed) % 1000;
    free_port(&[Ipv4Addr::LOCALHOST.into()], wanted)
}
