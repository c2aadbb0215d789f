//! A cluster to measure on: a copy of patroni-check that PostgreSQL's user may run, an agent beside
//! each member, an HAProxy.

use std::error::Error;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cluster::{Cluster, Member};
use crate::haproxy::Haproxy;
use crate::host::Host;
use crate::programs::{Unprivileged, patroni_program, postgres_bin};
use crate::{Process, free_port};

pub struct Testbed {
    pub directory: PathBuf,
    pub user: Unprivileged,
    pub cluster: Cluster,
    /// patroni-check.
    pub program: PathBuf,
}

impl Testbed {
    /// Starts three members on these hosts, and does not wait for them. `patroni` is Debian's
    /// program, or a directory of tests/install-patroni's.
    pub fn start(directory: &Path, binary: &Path, patroni: &Path, hosts: Vec<Host>) -> Result<Self, Box<dyn Error>> {
        let user = Unprivileged::choose();
        let cluster = Cluster::start(directory, user, &patroni_program(directory, patroni)?, hosts)?;
        let program = directory.join("patroni-check");
        fs::copy(binary, &program)?;
        Ok(Testbed { directory: directory.to_owned(), user, cluster, program })
    }

    /// Starts three on hosts with networks of their own, where we may have such, and waits for
    /// them. There is a table `writes` to write to.
    pub fn start_apart(directory: &Path, binary: &Path, patroni: &Path) -> Result<Self, Box<dyn Error>> {
        let is_root = rustix::process::geteuid().is_root();
        let hosts = if is_root { Host::on_bridge(3, directory)? } else { Host::on_loopback(3) };
        let testbed = Testbed::start(directory, binary, patroni, hosts)?;
        testbed.cluster.heal();
        testbed.make_table()?;
        Ok(testbed)
    }

    /// Makes the table that the clients write to (`clients::Work::Write`).
    pub fn make_table(&self) -> Result<(), Box<dyn Error>> {
        let primary = self.cluster.primary().ok_or("no primary")?;
        Ok(primary.connect(self.cluster.postgres_port)?.batch_execute("CREATE TABLE writes (who text)")?)
    }

    /// A port that is free on every member's host.
    pub fn port(&self, wanted: u16) -> u16 {
        let hosts = || self.cluster.members.iter().map(|member| &member.host);
        // In networks of their own nothing is taken.
        if hosts().all(Host::has_cable) {
            return wanted;
        }
        let ips: Vec<IpAddr> = hosts().map(|host| host.ip).collect();
        free_port(&ips, wanted)
    }

    /// A patroni-check beside a member, as systemd would start it: with these ports under these
    /// names.
    pub fn agent(&self, member: &Member, ports: &[(u16, &str)], options: &[&str]) -> io::Result<Process> {
        let (ports, names): (Vec<u16>, Vec<&str>) = ports.iter().copied().unzip();
        self.activated(member, &ports, &[&format!("--fdname={}", names.join(":"))], options)
    }

    /// The same with systemd-socket-activate's own options, such as `--accept`.
    pub fn activated(
        &self,
        member: &Member,
        ports: &[u16],
        activate: &[&str],
        options: &[&str],
    ) -> io::Result<Process> {
        self.activated_for(member, &self.cluster.url(member, ""), ports, activate, options)
    }

    /// The same with a Patroni that need not be the member's own.
    pub fn activated_for(
        &self,
        member: &Member,
        patroni: &str,
        ports: &[u16],
        activate: &[&str],
        options: &[&str],
    ) -> io::Result<Process> {
        let mut command = self.user.command_on(&member.host, Path::new("systemd-socket-activate"), "KILL");
        for port in ports {
            command.arg("-l").arg(format!("{}:{port}", member.ip));
        }
        command.args(activate).arg(&self.program);
        command.arg("--patroni").arg(patroni).args(options);
        Process::start(&mut command, &self.directory.join(format!("agent-{}.log", member.name)))
    }

    /// A pgbench, with a log of its own, that works on the server at a host's address, or in a
    /// member's directory, and a port.
    pub fn pgbench(&self, host: &str, port: u16, options: &[&str]) -> Result<Process, Box<dyn Error>> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let log = format!("pgbench{}.log", STARTED.fetch_add(1, Ordering::Relaxed));
        let mut command = self.user.command(&postgres_bin()?.join("pgbench"), "KILL");
        command.args(["-h", host, "-p", &port.to_string(), "-U", "postgres"]).args(options);
        command.arg("postgres").env("PGPASSWORD", "demo");
        Ok(Process::start(&mut command, &self.directory.join(log))?)
    }

    /// An HAProxy with these sections.
    pub fn haproxy(&self, sections: &str) -> Result<Haproxy, Box<dyn Error>> {
        let home = self.directory.join("haproxy");
        self.user.make_dir(&home)?;
        Haproxy::start(self.user.command(Path::new("haproxy"), "KILL"), &home, sections)
    }
}
