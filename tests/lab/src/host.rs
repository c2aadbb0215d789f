//! Hosts for the members of a cluster: addresses of the loopback, or networks of their own on a
//! bridge, with a cable that can be pulled.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Process;

/// Where a member lives.
pub struct Host {
    pub ip: IpAddr,
    number: u8,
    /// Keeps the network there.
    network: Option<Process>,
}

/// Our own address on the bridge.
pub const BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

impl Host {
    /// 127.0.0.1, .2 and so on.
    pub fn on_loopback(count: u8) -> Vec<Host> {
        (1..=count).map(|n| Host { ip: Ipv4Addr::new(127, 0, 0, n).into(), number: n, network: None }).collect()
    }

    /// 10.0.0.1, .2 and so on, each in a network of its own. Only in a network that is the lab's
    /// own (`process_guard::keep_apart`), with which all of it vanishes.
    pub fn on_bridge(count: u8, directory: &Path) -> io::Result<Vec<Host>> {
        ip("link set lo up")?;
        ip("link add bridge type bridge")?;
        ip(&format!("address add {BRIDGE}/24 dev bridge"))?;
        ip("link set bridge up")?;
        (1..=count)
            .map(|number| {
                let address = Ipv4Addr::new(10, 0, 0, number);
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "--", "unshare", "--net", "--", "sleep", "infinity"]);
                let network =
                    Process::start(command.stdin(Stdio::null()), &directory.join(format!("network{number}.log")))?;
                let (id, ours) = (network.id(), std::fs::read_link("/proc/self/ns/net")?);
                crate::await_that("a network of its own", || {
                    std::fs::read_link(format!("/proc/{id}/ns/net")).is_ok_and(|its| its != ours)
                });
                ip(&format!("link add cable{number} type veth peer name eth0 netns {id}"))?;
                ip(&format!("link set cable{number} master bridge up"))?;
                let host = Host { ip: address.into(), number, network: Some(network) };
                host.inside(|| {
                    ip("link set lo up")?;
                    ip(&format!("address add {address}/24 dev eth0"))?;
                    ip("link set eth0 up")
                })?;
                Ok(host)
            })
            .collect()
    }

    /// A command that runs in its network.
    pub fn command(&self, program: &str) -> Command {
        let Some(network) = &self.network else { return Command::new(program) };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", network.id())).arg("--").arg(program);
        command
    }

    /// Runs something in its network. Threads that it starts are there as well.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.network {
            Some(network) => inside(network.id(), work),
            None => work(),
        }
    }

    /// Whether it has a cable.
    pub fn has_cable(&self) -> bool {
        self.network.is_some()
    }

    /// Cuts it off from the others and from us.
    pub fn pull_cable(&self) -> io::Result<()> {
        ip(&format!("link set cable{} down", self.number))
    }

    pub fn plug_cable(&self) -> io::Result<()> {
        ip(&format!("link set cable{} up", self.number))
    }

    /// `add` has its packets to another host vanish, `del` undoes it (ip-route(8), blackhole).
    pub fn drop_packets(&self, to: &Host, command: &str) -> io::Result<()> {
        self.inside(|| ip(&format!("route {command} blackhole {}/32", to.ip)))
    }
}

/// Runs something in the network of a process. Threads that it starts are there as well.
pub fn inside<T: Send>(process: u32, work: impl FnOnce() -> T + Send) -> T {
    let network = File::open(format!("/proc/{process}/ns/net")).expect("the process runs");
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter a network");
            work()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs ip(8).
fn ip(arguments: &str) -> io::Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
