//! `make demo`: a real Patroni cluster behind a real HAProxy, with the usual health check and with patroni-check side by
//! side. `demo BINARY [SECONDS]`; without seconds it goes on until Ctrl-C.

#[path = "mod.rs"]
mod lab;

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::cluster::{Cluster, Says, Unprivileged};
use lab::haproxy::Haproxy;
use lab::host::Host;
use lab::{Process, free_port, house};

/// How long the table is shown before the switchover.
const BEFORE: Duration = Duration::from_secs(8);

/// Initial database, two base backups: a few seconds here, more on a slow disk.
const START: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    house::keep(run)
}

struct Demo<'a> {
    stop: &'a AtomicBool,
    cluster: Cluster,
    haproxy: Haproxy,
    _agents: Vec<Process>,
    stats: String,
    shown: String,
}

/// A line of the table.
struct Line {
    server: String,
    patroni: Option<Says>,
    usual: String,
    ours: String,
    said: String,
}

fn run(directory: &Path, arguments: &[OsString], stop: &AtomicBool) -> Result<(), Box<dyn Error>> {
    let (binary, seconds) = match arguments {
        [binary] => (binary, None),
        [binary, seconds] => (binary, Some(Duration::from_secs(seconds.to_string_lossy().parse()?))),
        _ => return Err("usage: demo BINARY [SECONDS]".into()),
    };

    say("Starting etcd, three Patroni members with PostgreSQL, three patroni-checks, HAProxy …")?;
    let user = Unprivileged::new();
    let cluster = Cluster::start(directory, user, Path::new("patroni"), Host::on_loopback(3))?;
    // The user whom PostgreSQL runs as need not be able to read the build directory.
    let program = directory.join("patroni-check");
    fs::copy(binary, &program)?;
    let ips: Vec<IpAddr> = cluster.members.iter().map(|member| member.ip).collect();
    let agent_port = free_port(&ips, 5555);
    let mut agents = Vec::new();
    for member in &cluster.members {
        let mut command = user.command(Path::new("systemd-socket-activate"), "KILL");
        command.arg("-l").arg(format!("{}:{agent_port}", member.ip)).arg(&program);
        command.arg("--patroni").arg(cluster.url(member, ""));
        agents.push(Process::start(&mut command, &directory.join(format!("agent-{}.log", member.name)))?);
    }
    let (usual, ours, stats) = (free_port(&ips[..1], 5000), free_port(&ips[..1], 5001), free_port(&ips[..1], 7000));
    let home = directory.join("haproxy");
    user.make_dir(&home)?;
    let sections = haproxy_sections(&cluster, agent_port, usual, ours, stats);
    let haproxy = Haproxy::start(user.command(Path::new("haproxy"), "KILL"), &home, &sections)?;

    let stats = format!("http://127.0.0.1:{stats}/");
    let mut demo = Demo { stop, cluster, haproxy, _agents: agents, stats, shown: String::new() };
    demo.await_start()?;
    let start = Instant::now();
    let is_over = |demo: &Demo| demo.is_stopped() || seconds.is_some_and(|seconds| start.elapsed() >= seconds);

    demo.show_until("a cluster with one primary", |demo| is_over(demo) || start.elapsed() >= BEFORE)?;
    if demo.is_stopped() {
        return Ok(());
    }
    demo.check_steady()?;
    demo.switch_over()?;
    let title = if seconds.is_some() { "after the switchover" } else { "after the switchover; Ctrl-C ends the demo" };
    demo.show_until(title, is_over)?;
    if demo.is_stopped() {
        return Ok(());
    }
    // A slow machine may not be through with the switchover when its seconds are over.
    let patience = Instant::now() + lab::PATIENCE;
    demo.show_until(title, |demo| demo.is_stopped() || demo.check_steady().is_ok() || Instant::now() >= patience)?;
    demo.check_steady()
}

impl Demo<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn await_start(&mut self) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        let mut before = String::new();
        while !self.is_stopped() {
            let mut progress = String::new();
            for member in &self.cluster.members {
                let says = self.cluster.says(member);
                let says = says.map_or("not answering yet".into(), |says| format!("{} {}", says.role, says.state));
                write!(progress, "  {}: {says}", member.name)?;
            }
            if progress != before {
                say(&format!("{:4} s{progress}", start.elapsed().as_secs()))?;
                before = progress;
            }
            if self.cluster.is_whole() && self.check_steady().is_ok() {
                return Ok(());
            }
            self.cluster.check_alive()?;
            if start.elapsed() > START {
                return Err(format!("the cluster did not come up within {START:?}").into());
            }
            thread::sleep(Duration::from_millis(250));
        }
        Ok(())
    }

    /// Whether both backends are as they should be: the primary UP in both, the replicas DOWN and MAINT.
    fn check_steady(&self) -> Result<(), Box<dyn Error>> {
        for line in self.lines()? {
            let wanted = match line.patroni {
                Some(says) if says.is_primary() => ("UP", "UP"),
                Some(says) if says.is_replica() => ("DOWN", "MAINT"),
                says => return Err(format!("{}: Patroni says {says:?}", line.server).into()),
            };
            if (line.usual.as_str(), line.ours.as_str()) != wanted {
                return Err(format!(
                    "{}: expected {wanted:?} in HAProxy, found {} {}",
                    line.server, line.usual, line.ours
                )
                .into());
            }
        }
        Ok(())
    }

    fn switch_over(&mut self) -> Result<(), Box<dyn Error>> {
        let from = self.cluster.primary().ok_or("no primary to switch over from")?;
        let to = self.cluster.members.iter().find(|member| member.name != from.name).ok_or("no other member")?;
        let title = format!("switchover from {} to {}", from.name, to.name);
        let (from, to) = (from.name.clone(), to.name.clone());
        let cluster = &self.cluster;
        let by_name = |name: &str| cluster.members.iter().find(|member| member.name == name);
        let (Some(leader), Some(candidate)) = (by_name(&from), by_name(&to)) else { return Ok(()) };
        // Patroni answers when it is done; what happens meanwhile is what the table is for.
        thread::scope(|scope| {
            let order = scope.spawn(|| cluster.switch_over(leader, candidate).map_err(|e| e.to_string()));
            let mut shown = String::new();
            while !order.is_finished() {
                show(&mut shown, &title, &self.stats, &self.lines()?)?;
                thread::sleep(Duration::from_millis(100));
            }
            order.join().map_err(|_| "the switchover panicked")??;
            Ok(())
        })
    }

    fn show_until(&mut self, title: &str, is_over: impl Fn(&Demo) -> bool) -> Result<(), Box<dyn Error>> {
        while !is_over(self) {
            let lines = self.lines()?;
            show(&mut self.shown, title, &self.stats, &lines)?;
            self.cluster.check_alive()?;
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn lines(&self) -> Result<Vec<Line>, Box<dyn Error>> {
        let mut lines = Vec::new();
        for member in &self.cluster.members {
            let ours = self.haproxy.server_between_checks("patroni-check", &member.name)?;
            lines.push(Line {
                server: member.name.clone(),
                patroni: self.cluster.says(member),
                usual: self.haproxy.status("usual", &member.name)?,
                ours: ours["status"].clone(),
                said: ours["last_agt"].trim_start_matches("via agent : ").to_owned(),
            });
        }
        Ok(lines)
    }
}

/// Prints the table, if it differs from what was shown last; over it where there is a terminal.
fn show(shown: &mut String, title: &str, stats: &str, lines: &[Line]) -> Result<(), Box<dyn Error>> {
    let mut table = format!("{title}\n\n");
    let mut row = |a: &str, b: &str, c: &str, d: &str, e: &str| {
        let line = format!("  {a:<9} {b:<20} {c:<12} {d:<12} {e}");
        writeln!(table, "{}", line.trim_end())
    };
    row("server", "Patroni says", "usual check", "patroni-check", "")?;
    for line in lines {
        let says = line.patroni.as_ref().map_or("no answer".into(), |says| format!("{} {}", says.role, says.state));
        row(&line.server, &says, &line.usual, &line.ours, &line.said)?;
    }
    write!(table, "\n  HAProxy's stats page: {stats}")?;
    if table != *shown {
        if std::io::stdout().is_terminal() {
            // Home, and clear to the end of the screen.
            say(&format!("\x1b[H\x1b[J{table}"))?;
        } else {
            say(&format!("\n{table}"))?;
        }
        *shown = table;
    }
    Ok(())
}

/// Prints a line; the terminal may be gone, and then the demo ends.
fn say(text: &str) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Two read-write backends for the same servers: HAProxy's usual check of Patroni, and the original article's.
fn haproxy_sections(cluster: &Cluster, agent_port: u16, usual: u16, ours: u16, stats: u16) -> String {
    let (postgres, patroni) = (cluster.postgres_port, cluster.patroni_port);
    let server = |options: &str| {
        let lines = cluster.members.iter().map(|m| format!("    server {} {}:{postgres} {options}\n", m.name, m.ip));
        lines.collect::<String>()
    };
    let usual_servers =
        server(&format!("maxconn 100 check inter 1s fall 2 rise 2 on-marked-down shutdown-sessions port {patroni}"));
    let our_servers = server(&format!(
        "maxconn 100 check agent-check agent-port {agent_port} inter 1s fall 2 rise 2 on-marked-down shutdown-sessions port {patroni}"
    ));
    format!(
        "defaults
    mode tcp
    timeout connect 2s
    timeout client 30m
    timeout server 30m

listen usual
    bind 127.0.0.1:{usual}
    option httpchk OPTIONS /master
    http-check expect status 200
{usual_servers}
listen patroni-check
    bind 127.0.0.1:{ours}
    option tcpka
    option httpchk OPTIONS /master
    http-check expect status 200
{our_servers}
listen stats
    bind 127.0.0.1:{stats}
    mode http
    stats enable
    stats uri /
    stats refresh 1s
"
    )
}
