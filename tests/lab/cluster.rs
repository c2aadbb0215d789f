//! A real Patroni cluster on this machine: etcd and three members, each with its PostgreSQL, on 127.0.0.1, .2 and .3,
//! as it would be on three hosts.

use std::error::Error;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ureq::Agent;

use super::{Process, free_port};

/// Whom the cluster's programs run as: us or, as PostgreSQL refuses root, Debian's `postgres`.
#[derive(Debug, Clone, Copy)]
pub struct Unprivileged {
    is_root: bool,
}

impl Unprivileged {
    pub fn new() -> Self {
        Unprivileged { is_root: rustix::process::geteuid().is_root() }
    }

    /// A command that gets a signal when we are gone, however that happened. It starts in `/`, as the user may not be able
    /// to enter our directory.
    pub fn command(self, program: &Path, last_signal: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", last_signal]);
        if self.is_root {
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
        }
        command.arg("--").arg(program).env("HOME", "/nonexistent").current_dir("/").stdin(Stdio::null());
        command
    }

    /// Makes a directory that is its own.
    pub fn make_dir(self, directory: &Path) -> Result<(), Box<dyn Error>> {
        fs::create_dir_all(directory)?;
        if self.is_root {
            let done = Command::new("chown").arg("postgres:").arg(directory).status()?;
            if !done.success() {
                return Err(format!("can't give {} to postgres", directory.display()).into());
            }
        }
        Ok(())
    }
}

pub struct Member {
    pub name: String,
    pub ip: IpAddr,
    process: Process,
}

/// What Patroni says of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Says {
    pub role: String,
    pub state: String,
}

impl Says {
    pub fn is_primary(&self) -> bool {
        matches!(self.role.as_str(), "primary" | "master") && self.state == "running"
    }

    pub fn is_replica(&self) -> bool {
        self.role == "replica" && self.state == "running"
    }
}

pub struct Cluster {
    pub members: Vec<Member>,
    pub postgres_port: u16,
    pub patroni_port: u16,
    http: Agent,
    _etcd: Process,
}

impl Cluster {
    /// Starts etcd and the members, and does not wait for them. `patroni` is the program: Debian's, or another version.
    pub fn start(directory: &Path, user: Unprivileged, patroni: &Path) -> Result<Self, Box<dyn Error>> {
        let ips: Vec<IpAddr> = (1..=3).map(|n| Ipv4Addr::new(127, 0, 0, n).into()).collect();
        let etcd_port = free_port(&ips[..1], 2379);
        let peer_port = free_port(&ips[..1], 2380);
        let postgres_port = free_port(&ips, 5432);
        let patroni_port = free_port(&ips, 8008);

        let data = directory.join("etcd");
        user.make_dir(&data)?;
        let (client, peer) = (format!("http://127.0.0.1:{etcd_port}"), format!("http://127.0.0.1:{peer_port}"));
        let mut command = user.command(Path::new("etcd"), "KILL");
        command.arg("--data-dir").arg(data.join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}")]);
        let etcd = Process::start(&mut command, &directory.join("etcd.log"))?;

        let bin = postgres_bin()?;
        let mut members = Vec::new();
        for (n, ip) in ips.into_iter().enumerate() {
            let name = format!("member{}", n + 1);
            let home = directory.join(&name);
            user.make_dir(&home)?;
            let configuration = home.join("patroni.yml");
            let (api, postgres) = (SocketAddr::new(ip, patroni_port), SocketAddr::new(ip, postgres_port));
            fs::write(&configuration, member_configuration(&name, &home, api, postgres, etcd_port, &bin))?;
            let mut command = user.command(patroni, "TERM");
            command.arg(&configuration);
            let process = Process::start(&mut command, &directory.join(format!("{name}.log")))?;
            members.push(Member { name, ip, process });
        }
        let config = Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).proxy(None);
        let http = Agent::new_with_config(config.http_status_as_error(false).build());
        Ok(Cluster { members, postgres_port, patroni_port, http, _etcd: etcd })
    }

    pub fn url(&self, member: &Member, path: &str) -> String {
        format!("http://{}:{}{path}", member.ip, self.patroni_port)
    }

    /// What Patroni says of a member, if it answers.
    pub fn says(&self, member: &Member) -> Option<Says> {
        let mut response = self.http.get(self.url(member, "/health")).call().ok()?;
        let body: serde_json::Value = serde_json::from_str(&response.body_mut().read_to_string().ok()?).ok()?;
        Some(Says { role: body["role"].as_str()?.to_owned(), state: body["state"].as_str()?.to_owned() })
    }

    /// The member that is the primary, if one says so.
    pub fn primary(&self) -> Option<&Member> {
        self.members.iter().find(|member| self.says(member).is_some_and(|says| says.is_primary()))
    }

    /// Whether there is one primary and all others are replicas.
    pub fn is_whole(&self) -> bool {
        let says: Vec<_> = self.members.iter().filter_map(|member| self.says(member)).collect();
        let count = |is: fn(&Says) -> bool| says.iter().filter(|says| is(says)).count();
        count(Says::is_primary) == 1 && count(Says::is_replica) == self.members.len() - 1
    }

    /// Asks the primary's Patroni to hand over to another member.
    pub fn switch_over(&self, from: &Member, to: &Member) -> Result<(), Box<dyn Error>> {
        let order = format!(r#"{{"leader": "{}", "candidate": "{}"}}"#, from.name, to.name);
        let patient = self.http.post(self.url(from, "/switchover")).config().timeout_global(Some(super::PATIENCE));
        let mut response = patient.build().send(&order)?;
        match response.status().as_u16() {
            200 => Ok(()),
            status => Err(format!("switchover: {status} {}", response.body_mut().read_to_string()?).into()),
        }
    }

    /// Fails if one of the programs has ended, with the last lines of its log.
    pub fn check_alive(&mut self) -> Result<(), Box<dyn Error>> {
        for member in &mut self.members {
            if member.process.try_wait().is_some() {
                let log = member.process.output();
                let last: Vec<_> = log.lines().rev().take(10).collect();
                let last: Vec<_> = last.into_iter().rev().collect();
                return Err(format!("Patroni of {} has ended:\n{}", member.name, last.join("\n")).into());
            }
        }
        Ok(())
    }
}

fn member_configuration(
    name: &str,
    home: &Path,
    api: SocketAddr,
    postgres: SocketAddr,
    etcd_port: u16,
    bin: &Path,
) -> String {
    let (home, bin) = (home.display(), bin.display());
    // As quick as Patroni lets it be (ttl ≥ 20, retry_timeout ≥ 3), and the data need not survive a power cut.
    format!(
        "scope: demo
name: {name}
restapi: {{listen: '{api}', connect_address: '{api}'}}
etcd3: {{host: '127.0.0.1:{etcd_port}'}}
bootstrap:
  dcs: {{ttl: 20, loop_wait: 2, retry_timeout: 3}}
  initdb: [{{encoding: UTF8}}, {{locale: C}}, no-sync]
postgresql:
  listen: '{postgres}'
  connect_address: '{postgres}'
  data_dir: '{home}/data'
  bin_dir: '{bin}'
  pgpass: '{home}/pgpass'
  authentication:
    superuser: {{username: postgres, password: demo}}
    replication: {{username: replicator, password: demo}}
  basebackup: [{{checkpoint: fast}}, no-sync]
  pg_hba: ['local all all trust', 'host all all 127.0.0.0/8 md5', 'host replication all 127.0.0.0/8 md5']
  parameters:
    unix_socket_directories: '{home}'
    shared_buffers: 16MB
    min_wal_size: 32MB
    dynamic_shared_memory_type: mmap
    fsync: false
"
    )
}

/// The newest of Debian's PostgreSQL servers.
fn postgres_bin() -> Result<PathBuf, Box<dyn Error>> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir("/usr/lib/postgresql")? {
        let entry = entry?;
        let bin = entry.path().join("bin");
        if let (Ok(version), true) = (entry.file_name().to_string_lossy().parse(), bin.join("postgres").exists()) {
            found.push((version, bin));
        }
    }
    found.into_iter().max().map(|(_, bin)| bin).ok_or_else(|| "no PostgreSQL server is installed".into())
}
