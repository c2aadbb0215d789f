//! A real Patroni cluster on this machine: etcd and a member for each host, with its PostgreSQL,
//! and what can befall them.

mod member;

use std::error::Error;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use ureq::Agent;

use crate::host::{BRIDGE, Host};
use crate::programs::{Unprivileged, postgres_bin};
use crate::{Process, await_some, await_that, free_port};
use member::configuration;
pub use member::{Member, Says};

pub struct Cluster {
    pub members: Vec<Member>,
    pub postgres_port: u16,
    pub patroni_port: u16,
    user: Unprivileged,
    patroni: PathBuf,
    http: Agent,
    etcd: Process,
    etcd_url: String,
    directory: PathBuf,
}

impl Cluster {
    /// Starts etcd and a member on each host, and does not wait for them. `patroni` is the program:
    /// Debian's, or another version.
    pub fn start(
        directory: &Path,
        user: Unprivileged,
        patroni: &Path,
        hosts: Vec<Host>,
    ) -> Result<Self, Box<dyn Error>> {
        let ips: Vec<IpAddr> = hosts.iter().map(|host| host.ip).collect();
        // In networks of their own nothing is taken.
        let choose = |wanted| if hosts[0].has_cable() { wanted } else { free_port(&ips, wanted) };
        let etcd_ip = if hosts[0].has_cable() { BRIDGE } else { Ipv4Addr::LOCALHOST };
        let (etcd_port, peer_port) = (choose(2379), choose(2380));
        let (postgres_port, patroni_port) = (choose(5432), choose(8008));

        user.make_dir(&directory.join("etcd"))?;
        let etcd_url = format!("http://{etcd_ip}:{etcd_port}");
        let etcd = start_etcd(directory, user, &etcd_url, peer_port)?;

        let bin = postgres_bin()?;
        let mut members = Vec::new();
        for (n, host) in hosts.into_iter().enumerate() {
            let name = format!("member{}", n + 1);
            let home = directory.join(&name);
            user.make_dir(&home)?;
            let ip = host.ip;
            let log = directory.join(format!("{name}.log"));
            let member = Member { name, host, ip, home, log, process: None };
            let (api, postgres) = (SocketAddr::new(ip, patroni_port), SocketAddr::new(ip, postgres_port));
            let etcd = SocketAddr::new(etcd_ip.into(), etcd_port);
            fs::write(member.configuration(), configuration(&member, api, postgres, etcd, &bin))?;
            members.push(member);
        }
        let config = Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).proxy(None);
        let http = Agent::new_with_config(config.http_status_as_error(false).build());
        let (patroni, directory) = (patroni.to_owned(), directory.to_owned());
        let mut cluster =
            Cluster { members, postgres_port, patroni_port, user, patroni, http, etcd, etcd_url, directory };
        for member in 0..cluster.members.len() {
            cluster.start_patroni(member)?;
        }
        Ok(cluster)
    }

    /// Starts a member's Patroni; also again. Only from a thread that stays, as it ends with it
    /// (PR_SET_PDEATHSIG(2const)).
    pub fn start_patroni(&mut self, member: usize) -> Result<(), Box<dyn Error>> {
        let member = &mut self.members[member];
        let mut command = self.user.command_on(&member.host, &self.patroni, "TERM");
        member.process = Some(Process::start(command.arg(member.configuration()), &member.log)?);
        Ok(())
    }

    pub fn stop_etcd(&mut self) {
        self.etcd.signal(Signal::TERM);
        self.etcd.wait();
    }

    /// Stops etcd in mid-word, and lets it go on. What was leased for a shorter time is gone then,
    /// whereas an etcd that starts again gives each lease its whole time anew.
    pub fn signal_etcd(&self, signal: Signal) {
        self.etcd.signal(signal);
    }

    /// Starts it again, with what it knew.
    pub fn start_etcd(&mut self) -> Result<(), Box<dyn Error>> {
        let peer_port = free_port(&[Ipv4Addr::LOCALHOST.into()], 2380);
        self.etcd = start_etcd(&self.directory, self.user, &self.etcd_url, peer_port)?;
        Ok(())
    }

    /// Takes the leader key away, as if its lease had been lost (etcd's JSON gateway,
    /// `/v3/kv/deleterange`).
    pub fn delete_leader_key(&self) -> Result<(), Box<dyn Error>> {
        // The gateway wants the key, /service/demo/leader, in base64.
        let key = r#"{"key": "L3NlcnZpY2UvZGVtby9sZWFkZXI="}"#;
        let mut response = self.http.post(format!("{}/v3/kv/deleterange", self.etcd_url)).send(key)?;
        let answer = response.body_mut().read_to_string()?;
        if answer.contains(r#""deleted":"1""#) { Ok(()) } else { Err(format!("no leader key: {answer}").into()) }
    }

    /// Makes a replica's Postgres a primary behind Patroni's back.
    pub fn promote_by_hand(&self, member: &Member) -> Result<(), Box<dyn Error>> {
        let promoted: bool = member.connect(self.postgres_port)?.query_one("SELECT pg_promote()", &[])?.get(0);
        if promoted { Ok(()) } else { Err(format!("{} can't be promoted", member.name).into()) }
    }

    /// Asks Patroni to restart its Postgres.
    pub fn restart_postgres(&self, member: &Member) -> Result<(), Box<dyn Error>> {
        let patient = self.http.post(self.url(member, "/restart")).config().timeout_global(Some(crate::PATIENCE));
        match patient.build().send("{}")?.status().as_u16() {
            200 => Ok(()),
            status => Err(format!("restart: {status}").into()),
        }
    }

    /// Changes the cluster's dynamic configuration (`PATCH /config`).
    pub fn configure(&self, change: &serde_json::Value) -> Result<(), Box<dyn Error>> {
        let change = change.to_string();
        await_some("a Patroni that takes the configuration", || {
            let member = self.primary().or(self.members.first())?;
            let response = self.http.patch(self.url(member, "/config")).send(&change).ok()?;
            (response.status() == 200).then_some(())
        });
        Ok(())
    }

    /// The version of a member's Patroni, as in `3.0.2`.
    pub fn version(&self) -> Result<String, Box<dyn Error>> {
        let body = self.body(self.members.first().ok_or("no member")?)?;
        Ok(body["patroni"]["version"].as_str().ok_or("no version")?.to_owned())
    }

    /// What the report of a measurement names.
    pub fn versions(&self) -> serde_json::Value {
        let first_line = |program: &str, argument: &str| {
            let output = Command::new(program).arg(argument).stdin(Stdio::null()).output();
            let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            text.lines().next().unwrap_or_default().to_owned()
        };
        let postgres = postgres_bin().map(|bin| bin.join("postgres").display().to_string());
        let cores = thread::available_parallelism().map_or(0, usize::from);
        let haproxy = first_line("haproxy", "-v");
        serde_json::json!([
            format!("patroni {}", self.version().unwrap_or_default()),
            first_line(&postgres.unwrap_or_default(), "--version"),
            haproxy.split(" 20").next(),
            format!("{cores} cores"),
        ])
    }

    /// Whether its Patroni knows failsafe mode, which came with 3.0.
    pub fn knows_failsafe(&self) -> Result<bool, Box<dyn Error>> {
        let version = self.version()?;
        Ok(version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 3))
    }

    /// The number of the primary.
    pub fn leader(&self) -> Option<usize> {
        let primary = self.primary()?;
        self.members.iter().position(|member| member.name == primary.name)
    }

    /// Waits until there is one primary to which all others stream. A member that can't follow any
    /// more is made anew.
    ///
    /// # Panics
    /// When that does not come about.
    pub fn heal(&self) {
        let mut since = Instant::now();
        await_that("a cluster with one primary to which all stream", || {
            if self.is_whole() && self.streaming() == Some(self.members.len() - 1) {
                return true;
            }
            if since.elapsed() > Duration::from_secs(20) {
                since = Instant::now();
                let followers = self.followers();
                for member in &self.members {
                    if self.primary().is_some_and(|p| p.name != member.name) && !followers.contains(&member.name) {
                        let _ = self.http.post(self.url(member, "/reinitialize")).send(r#"{"force": true}"#);
                    }
                }
            }
            false
        });
    }

    fn streaming(&self) -> Option<usize> {
        self.primary()?;
        Some(self.followers().len())
    }

    /// The names of those that stream from the primary.
    fn followers(&self) -> Vec<String> {
        let names = || {
            let mut client = self.primary()?.connect(self.postgres_port).ok()?;
            let ask = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'";
            Some(client.query(ask, &[]).ok()?.iter().map(|row| row.get(0)).collect())
        };
        names().unwrap_or_default()
    }

    pub fn url(&self, member: &Member, path: &str) -> String {
        format!("http://{}:{}{path}", member.ip, self.patroni_port)
    }

    /// The status of Patroni's answer, if there is one.
    pub fn status(&self, member: &Member, path: &str) -> Option<u16> {
        let mut response = self.http.get(self.url(member, path)).call().ok()?;
        let status = response.status().as_u16();
        // Patroni logs a traceback for an answer that is not read.
        response.body_mut().read_to_string().ok().map(|_| status)
    }

    /// All that Patroni says of a member.
    pub fn body(&self, member: &Member) -> Result<serde_json::Value, Box<dyn Error>> {
        let text = self.http.get(self.url(member, "/health")).call()?.body_mut().read_to_string()?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Tags a member, as in `zone: a`.
    pub fn set_tags(&self, member: &Member, tags: &str) -> Result<(), Box<dyn Error>> {
        let configuration = fs::read_to_string(member.configuration())?;
        let rest: Vec<_> = configuration.lines().filter(|line| !line.starts_with("tags:")).collect();
        fs::write(member.configuration(), format!("{}\ntags: {{{tags}}}\n", rest.join("\n")))?;
        member.signal_patroni(Signal::HUP);
        Ok(())
    }

    /// What Patroni says of a member, if it answers.
    pub fn says(&self, member: &Member) -> Option<Says> {
        let body = self.body(member).ok()?;
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
        let patient = self.http.post(self.url(from, "/switchover")).config().timeout_global(Some(crate::PATIENCE));
        let mut response = patient.build().send(&order)?;
        match response.status().as_u16() {
            200 => Ok(()),
            status => Err(format!("switchover: {status} {}", response.body_mut().read_to_string()?).into()),
        }
    }

    /// Fails if one of the programs has ended, with the last lines of its log.
    pub fn check_alive(&mut self) -> Result<(), Box<dyn Error>> {
        for member in &mut self.members {
            let Some(process) = &mut member.process else { continue };
            if process.try_wait().is_some() {
                let log = process.output();
                let last: Vec<_> = log.lines().rev().take(10).collect();
                let last: Vec<_> = last.into_iter().rev().collect();
                return Err(format!("Patroni of {} has ended:\n{}", member.name, last.join("\n")).into());
            }
        }
        Ok(())
    }
}

fn start_etcd(directory: &Path, user: Unprivileged, url: &str, peer_port: u16) -> Result<Process, Box<dyn Error>> {
    let peer = format!("http://127.0.0.1:{peer_port}");
    let mut command = user.command(Path::new("etcd"), "KILL");
    command.arg("--data-dir").arg(directory.join("etcd/data"));
    command.args(["--listen-client-urls", url, "--advertise-client-urls", url]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("default={peer}")]);
    Ok(Process::start(&mut command, &directory.join("etcd.log"))?)
}
