//! The lab: real HAProxy, real Patroni, real sockets, and a stand-in for what a real Patroni can't be made to do.
//!
//! Everything here ends with the value that stands for it.

// Each test and the demo use a part of it.
#![allow(dead_code)]

pub mod agent;
pub mod certificates;
pub mod clients;
pub mod cluster;
pub mod haproxy;
pub mod host;
pub mod house;
pub mod machine;
pub mod plot;
pub mod programs;
pub mod properties;
pub mod replay;
pub mod standin;
pub mod tls_proxy;
pub mod watches;
pub mod witness;

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a slow machine. What is awaited for so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(180);

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

/// A program that was started here. Dropping it kills it.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program whose output goes to a log file, and whose input is the command's affair. It gets a process group
    /// of its own, so that a Ctrl-C in the terminal is for us alone.
    pub fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let output = File::options().create(true).append(true).open(log)?;
        let command = command.process_group(0).stdout(output.try_clone()?).stderr(output);
        let child = command
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("can't start {:?}: {e}", command.get_program())))?;
        Ok(Process { child, log: log.to_owned() })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).expect("the process was started by us and not yet waited for");
    }

    /// The exit status, once it has ended.
    pub fn try_wait(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    pub fn wait(&mut self) -> std::process::ExitStatus {
        await_some("the process's end", || self.try_wait())
    }

    /// The processor time it has used, in hundredths of a second (proc(5), `/proc/pid/stat`, utime and stime).
    pub fn ticks(&self) -> u64 {
        ticks(self.id()).expect("it runs")
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processor time that a process has used, its threads included, in hundredths of a second.
pub fn ticks(id: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit(')').next()?.split_whitespace().collect();
    Some(fields.get(11..13)?.iter().map(|ticks| ticks.parse::<u64>().unwrap_or_default()).sum())
}

/// A port that is free on all of these addresses: the wanted one or, where that is taken, one of the next thousands.
pub fn free_port(addresses: &[IpAddr], wanted: u16) -> u16 {
    let is_free = |port: u16| addresses.iter().all(|address| TcpListener::bind((*address, port)).is_ok());
    let mut candidates = (wanted..u16::MAX).step_by(1000);
    candidates.find(|port| is_free(*port)).expect("one of so many ports is free")
}

/// A port that nothing uses, each time another one. None of those that the kernel gives to outgoing connections
/// (ip(7), `ip_local_port_range`): one of these could be taken again before our program has it.
pub fn any_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let start = 10_000 + u16::try_from(std::process::id() % 100).expect("less than a hundred") * 200;
    let wanted = start + GIVEN.fetch_add(1, Ordering::Relaxed) % 1000;
    free_port(&[Ipv4Addr::LOCALHOST.into()], wanted)
}
