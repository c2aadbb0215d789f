//! A host for HAProxies and one for databases, each with as many addresses as are needed, and what
//! a process and its host have used.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::host::Host;
use lab::process;

pub struct Hosts {
    /// Its HAProxies are below 10.1.0.0/16.
    pub clients: Host,
    /// Its databases are below 10.2.0.0/16.
    pub databases: Host,
}

impl Hosts {
    pub fn start(directory: &Path) -> Result<Self, Box<dyn Error>> {
        let mut hosts = Host::on_bridge(2, directory)?.into_iter();
        let (Some(clients), Some(databases)) = (hosts.next(), hosts.next()) else { return Err("two hosts".into()) };
        let hosts = Hosts { clients, databases };
        for (host, other, ours, others) in [
            (&hosts.clients, &hosts.databases, "10.1.0.0/16", "10.2.0.0/16"),
            (&hosts.databases, &hosts.clients, "10.2.0.0/16", "10.1.0.0/16"),
        ] {
            // Each address of the range is the host's own.
            ip(host, &["route", "add", "local", ours, "dev", "lo"])?;
            ip(host, &["route", "add", others, "via", &other.ip.to_string()])?;
        }
        Ok(hosts)
    }
}

fn ip(host: &Host, arguments: &[&str]) -> io::Result<()> {
    let output = host.command("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// What was used from one moment to another.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// Seconds of processor time of the processes.
    pub ours: f64,
    /// The same of the whole machine.
    pub all: f64,
    /// What the machine below this one kept of it.
    pub stolen: f64,
    /// Through their host's cable, both ways.
    pub packets: f64,
    pub seconds: f64,
}

/// What was used so far by these processes, which are on one host.
pub struct Meter {
    processes: Vec<u32>,
    began: Instant,
    so_far: [u64; 4],
}

impl Meter {
    pub fn start(processes: &[u32]) -> Self {
        Meter { so_far: Meter::read(processes), processes: processes.to_vec(), began: Instant::now() }
    }

    /// Hundredths of seconds: ours, the machine's, what it did not get; packets.
    fn read(processes: &[u32]) -> [u64; 4] {
        let ours = processes.iter().filter_map(|id| process::ticks(*id)).sum();
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields: Vec<u64> =
            stat.lines().next().unwrap_or_default().split_whitespace().filter_map(|field| field.parse().ok()).collect();
        // Without what is idle, or waits for a disk (proc(5)).
        let all = fields.iter().take(7).enumerate().filter(|(at, _)| ![3, 4].contains(at)).map(|(_, ticks)| ticks);
        let stolen = fields.get(7).copied().unwrap_or_default();
        [ours, all.sum(), stolen, processes.first().and_then(|id| packets(*id)).unwrap_or_default()]
    }

    #[expect(clippy::cast_precision_loss)]
    pub fn end(&self) -> Used {
        let seconds = self.began.elapsed().as_secs_f64();
        let now = Meter::read(&self.processes);
        let [ours, all, stolen, packets] = [0, 1, 2, 3].map(|at| now[at].saturating_sub(self.so_far[at]) as f64);
        Used { ours: ours / 100.0, all: all / 100.0, stolen: stolen / 100.0, packets, seconds }
    }
}

/// Received and sent by `eth0` of a process's host (proc(5), `/proc/net/dev`).
fn packets(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/net/dev")).ok()?;
    let fields: Vec<&str> =
        text.lines().find_map(|line| line.trim().strip_prefix("eth0:"))?.split_whitespace().collect();
    Some(fields.get(1)?.parse::<u64>().ok()? + fields.get(9)?.parse::<u64>().ok()?)
}

/// A counter of a process's host, such as `Tcp` and `PassiveOpens` of `snmp`: two lines, of names
/// and of values (proc(5)).
pub fn counter(process: u32, file: &str, group: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/net/{file}")).ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(':'));
    let at = lines.next()?.split_whitespace().position(|word| word == name)?;
    lines.next()?.split_whitespace().nth(at)?.parse().ok()
}

/// Connections in TIME_WAIT on a process's host.
pub fn time_wait(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/net/sockstat")).ok()?;
    let mut words = text.lines().find(|line| line.starts_with("TCP:"))?.split_whitespace();
    words.find(|word| *word == "tw")?;
    words.next()?.parse().ok()
}

/// The most descriptors that a process has while something is done.
pub fn most_descriptors<T>(process: u32, work: impl FnOnce() -> T) -> (usize, T) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count));
                thread::sleep(Duration::from_millis(20));
            }
            most
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (looks.join().unwrap_or_default(), result)
    })
}

/// A program on a host, without options that the machine's environment might set.
pub fn program(host: &Host, path: &Path) -> Command {
    let mut command = host.command(&path.to_string_lossy());
    lab::agent::without_settings(command.stdin(std::process::Stdio::null()));
    command
}
