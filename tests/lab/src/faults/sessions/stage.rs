//! An HAProxy of its own with a backend for each view, the agents, and the sessions through it.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use postgres::Client;

use super::{NEW, SESSIONS, Seen};
use crate::clients::client;
use crate::cluster::Member;
use crate::faults::backends;
use crate::haproxy::{DEFAULTS, Haproxy};
use crate::sampling::Sampling;
use crate::testbed::Testbed;
use crate::{Process, await_that, free_port};

/// A backend: its view, and whether its lines cut the sessions of a server that is down.
pub struct Backend {
    pub view: &'static str,
    pub cuts: bool,
}

pub const fn view(view: &'static str) -> Backend {
    Backend { view, cuts: true }
}

pub struct Stage<'a> {
    testbed: &'a Testbed,
    backends: &'a [Backend],
    haproxy: Arc<Haproxy>,
    ports: Vec<u16>,
    _agents: Vec<Process>,
}

impl<'a> Stage<'a> {
    /// The agents ask their own Patroni, or the one that `patroni` names for their member.
    pub fn start(
        testbed: &'a Testbed,
        backends: &'a [Backend],
        patroni: impl Fn(&Member) -> Option<String>,
    ) -> Result<Self, Box<dyn Error>> {
        let agent_ports: Vec<u16> = (5570..).take(backends.len()).map(|port| testbed.port(port)).collect();
        let ports: Vec<u16> = (5200..).take(backends.len()).map(|port| free_port(&[BIND.into()], port)).collect();
        let names: Vec<&str> = backends.iter().map(|backend| backend.view).collect();
        let mut agents = Vec::new();
        for member in &testbed.cluster.members {
            let patroni = patroni(member).unwrap_or_else(|| testbed.cluster.url(member, ""));
            let hold = hold_file(testbed, member);
            testbed.user.make_dir(hold.parent().ok_or("no directory")?)?;
            let options = ["--hold-file", hold.to_str().ok_or("no text")?];
            let names = format!("--fdname={}", names.join(":"));
            agents.push(testbed.activated_for(member, &patroni, &agent_ports, &[&names], &options)?);
        }
        let mut sections = format!("{DEFAULTS}\n\n");
        for (n, backend) in backends.iter().enumerate() {
            let lines = backends::read_lines(testbed, agent_ports[n], &name(n), ports[n])?;
            let cut = " on-marked-down shutdown-sessions";
            assert!(lines.contains(cut), "{lines}");
            sections += &if backend.cuts { lines } else { lines.replace(cut, "") };
            sections += "\n";
        }
        let home = testbed.directory.join("haproxy-sessions");
        testbed.user.make_dir(&home)?;
        let haproxy = Haproxy::start(testbed.user.command("haproxy".as_ref(), "KILL"), &home, &sections)?;
        let stage = Stage { testbed, backends, haproxy: Arc::new(haproxy), ports, _agents: agents };
        for (n, member) in stage.replicas()?.iter().flat_map(|member| stage.all().map(move |n| (n, *member))) {
            await_that("the replicas UP", || stage.status(n, member) == "UP");
        }
        Ok(stage)
    }

    /// The numbers of the backends.
    pub fn all(&self) -> std::ops::Range<usize> {
        0..self.backends.len()
    }

    pub fn port(&self, backend: usize) -> u16 {
        self.ports[backend]
    }

    pub fn replicas(&self) -> Result<Vec<&'a Member>, Box<dyn Error>> {
        let primary = self.testbed.cluster.leader().ok_or("no primary")?;
        let members = self.testbed.cluster.members.iter().enumerate();
        Ok(members.filter(|(n, _)| *n != primary).map(|(_, member)| member).collect())
    }

    pub fn status(&self, backend: usize, member: &Member) -> String {
        self.haproxy.status(&name(backend), &member.name).unwrap_or_default()
    }

    /// A number of `show stat`: `scur` are the sessions that a server has, `stot` those that it has
    /// had.
    pub fn count(&self, backend: usize, member: &Member, column: &str) -> u64 {
        let row = self.haproxy.server(&name(backend), &member.name);
        row.ok().and_then(|row| row.get(column)?.parse().ok()).unwrap_or_default()
    }

    /// Begins to note a member's status in each backend whenever it is another one.
    pub fn watch(&self, member: &Member) -> Watch {
        let sampling = Sampling::new(Duration::from_millis(10));
        let threads = self.all().map(|n| {
            let (sampling, haproxy) = (sampling.clone(), Arc::clone(&self.haproxy));
            let (backend, server) = (name(n), member.name.clone());
            thread::spawn(move || {
                let mut statuses = Vec::new();
                loop {
                    // Once more when it is over.
                    let is_last = !sampling.on();
                    // `UP 1/3` of a server that has yet to pass further health checks gets sessions as well.
                    let status = haproxy.status(&backend, &server).unwrap_or_default();
                    statuses.push(if status.starts_with("UP ") { "UP".to_owned() } else { status });
                    statuses.dedup();
                    if is_last {
                        return statuses;
                    }
                    sampling.rest();
                }
            })
        });
        Watch { threads: threads.collect(), sampling }
    }

    /// Opens sessions through a backend, as many to each replica.
    pub fn open(&self, backend: usize) -> Result<Sessions, Box<dyn Error>> {
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS * (self.testbed.cluster.members.len() - 1) {
            let mut client = client(self.ports[backend])?;
            let address: String = client.query_one("SELECT host(inet_server_addr())", &[])?.get(0);
            let members = &self.testbed.cluster.members;
            let member = members.iter().find(|member| member.ip.to_string() == address).ok_or("no member")?;
            sessions.push((member.name.clone(), client));
        }
        Ok(Sessions(sessions))
    }

    /// Tries new sessions through a backend; says how many of them came to a member.
    pub fn try_new(&self, backend: usize, member: &Member) -> Result<u64, Box<dyn Error>> {
        let before = self.count(backend, member, "stot");
        for _ in 0..NEW {
            client(self.ports[backend])?.batch_execute("")?;
        }
        Ok(self.count(backend, member, "stot") - before)
    }

    /// Runs `patroni-check hold` or `release` on a member's host.
    pub fn hold(&self, member: &Member, arguments: &[&str]) -> Result<(), Box<dyn Error>> {
        let mut command = member.host.command(self.testbed.program.to_str().ok_or("no text")?);
        command.args(arguments).arg("--hold-file").arg(hold_file(self.testbed, member));
        let output = command.args(["--patroni", &self.testbed.cluster.url(member, "")]).output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }
}

const BIND: std::net::Ipv4Addr = std::net::Ipv4Addr::LOCALHOST;

fn name(backend: usize) -> String {
    format!("sessions{backend}")
}

/// Whether it is held, for the agents of a scenario.
fn hold_file(testbed: &Testbed, member: &Member) -> PathBuf {
    testbed.directory.join(format!("hold-{}", member.name)).join("hold")
}

pub struct Watch {
    sampling: Sampling,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Watch {
    /// The statuses in each backend, in their order.
    pub fn finish(self) -> Vec<Vec<String>> {
        self.sampling.end();
        self.threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
    }
}

/// Open sessions through one backend, with the name of the member that each is with.
pub struct Sessions(Vec<(String, Client)>);

impl Sessions {
    /// Takes one of a member's and begins a query over it, which says whether it came to its end.
    pub fn begin(&mut self, member: &Member, query: &'static str) -> JoinHandle<bool> {
        let place = self.0.iter().position(|(name, _)| *name == member.name).expect("a session of each replica");
        let (_, mut client) = self.0.swap_remove(place);
        let (told, begun) = std::sync::mpsc::channel();
        let running = thread::spawn(move || {
            let _ = told.send(());
            client.batch_execute(query).is_ok()
        });
        let _ = begun.recv();
        running
    }

    /// Which of them are still there: of a member's, and of the others'.
    pub fn kept(&mut self, member: &Member) -> [(usize, usize); 2] {
        let mut kept = [(0, 0); 2];
        for (name, client) in &mut self.0 {
            let (kept, of) = &mut kept[usize::from(*name != member.name)];
            *kept += usize::from(client.batch_execute("").is_ok());
            *of += 1;
        }
        kept
    }
}

/// What was seen through a backend with these sessions, of which one had a query.
pub fn seen(
    with: &str,
    statuses: Vec<String>,
    member: &Member,
    sessions: &mut Sessions,
    went_on: Option<bool>,
) -> Seen {
    let [(kept, of), kept_elsewhere] = sessions.kept(member);
    let kept = (kept + usize::from(went_on == Some(true)), of + usize::from(went_on.is_some()));
    Seen { with: with.to_owned(), statuses, kept, kept_elsewhere, ..Seen::default() }
}
