//! A member: Patroni with its PostgreSQL.

use std::error::Error;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use crate::Process;
use crate::host::Host;
use crate::process_guard::descendants;

pub struct Member {
    pub name: String,
    pub host: Host,
    pub ip: IpAddr,
    /// Its own directory: Postgres's socket, the data, the configuration.
    pub home: PathBuf,
    pub(super) log: PathBuf,
    /// None while Patroni is down on purpose.
    pub(super) process: Option<Process>,
}

impl Member {
    /// Patroni's process.
    fn patroni(&self) -> &Process {
        self.process.as_ref().expect("Patroni was not stopped")
    }

    /// The process id of Patroni.
    pub fn patroni_id(&self) -> u32 {
        self.patroni().id()
    }

    /// Stops Patroni in mid-word, and lets it go on.
    pub fn signal_patroni(&self, signal: Signal) {
        self.patroni().signal(signal);
    }

    /// Ends Patroni and not Postgres, unless the signal is one on which Patroni ends both.
    pub fn end_patroni(&mut self, signal: Signal) {
        let mut process = self.process.take().expect("Patroni was not stopped");
        process.signal(signal);
        process.wait();
    }

    pub fn configuration(&self) -> PathBuf {
        self.home.join("patroni.yml")
    }

    /// The process id of Postgres.
    pub fn postmaster(&self) -> Option<Pid> {
        let file = fs::read_to_string(self.home.join("data/postmaster.pid")).ok()?;
        Pid::from_raw(file.lines().next()?.trim().parse().ok()?)
    }

    /// All processes of Patroni's and of Postgres's.
    pub fn processes(&self) -> Result<Vec<Pid>, Box<dyn Error>> {
        let postmaster = self.postmaster().ok_or("no postmaster")?.as_raw_nonzero().get().unsigned_abs();
        let tree = |id| [vec![id], descendants(id)].concat();
        let ids = [tree(self.patroni().id()), tree(postmaster)].concat();
        Ok(ids.into_iter().filter_map(|id| Pid::from_raw(i32::try_from(id).ok()?)).collect())
    }

    pub fn kill_postgres(&self) -> Result<(), Box<dyn Error>> {
        Ok(kill_process(self.postmaster().ok_or("no postmaster")?, Signal::KILL)?)
    }

    /// A connection over its socket file, which no network can cut.
    pub fn connect(&self, port: u16) -> Result<postgres::Client, postgres::Error> {
        let mut config = postgres::Config::new();
        config.host_path(&self.home).port(port).user("postgres").dbname("postgres").connect(postgres::NoTls)
    }

    /// Sends a signal to the backends of Postgres that a condition on pg_stat_activity names; says
    /// to which.
    pub fn signal_backends(&self, port: u16, which: &str, signal: Signal) -> Result<Vec<Pid>, Box<dyn Error>> {
        let rows = self.connect(port)?.query(&format!("SELECT pid FROM pg_stat_activity WHERE {which}"), &[])?;
        let pids: Vec<Pid> = rows.iter().filter_map(|row| Pid::from_raw(row.get(0))).collect();
        for pid in &pids {
            kill_process(*pid, signal)?;
        }
        if pids.is_empty() { Err(format!("no backend with {which}").into()) } else { Ok(pids) }
    }
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

/// The text of a member's configuration.
pub fn configuration(member: &Member, api: SocketAddr, postgres: SocketAddr, etcd: SocketAddr, bin: &Path) -> String {
    let (name, home, bin) = (&member.name, member.home.display(), bin.display());
    // As quick as Patroni lets it be (ttl ≥ 20, retry_timeout ≥ 3), and the data need not survive a
    // power cut.
    format!(
        "scope: demo
name: {name}
restapi: {{listen: '{api}', connect_address: '{api}'}}
etcd3: {{host: '{etcd}'}}
bootstrap:
  dcs: {{ttl: 20, loop_wait: 2, retry_timeout: 3, postgresql: {{use_pg_rewind: true}}}}
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
  pg_hba: ['local all all trust', 'host all all samenet md5', 'host replication all samenet md5']
  parameters:
    unix_socket_directories: '{home}'
    shared_buffers: 16MB
    min_wal_size: 32MB
    dynamic_shared_memory_type: mmap
    fsync: false
"
    )
}
