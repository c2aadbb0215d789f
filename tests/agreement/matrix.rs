//! The matrix of one cluster: fails where the verdict is neither Patroni's own status nor a
//! documented veto.

use std::error::Error;
use std::ffi::OsString;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use patroni_check::endpoint::Endpoint;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use lab::agent::check;
use lab::cluster::{Cluster, Member};
use lab::host::Host;
use lab::testbed::Testbed;
use lab::{Process, any_port, await_that};

const ENDPOINTS: [&str; 27] = [
    "/primary",
    "/master",
    "/read-write",
    "/leader",
    "/standby-leader",
    "/standby_leader",
    "/replica",
    "/replica?lag=1048576",
    "/replica?tag_zone=a",
    "/read-only",
    "/read-only?lag=1048576",
    "/read-only?tag_zone=a",
    "/sync",
    "/synchronous",
    "/async",
    "/async?lag=1048576",
    "/asynchronous",
    "/read-only-sync",
    "/read-only-synchronous",
    "/quorum",
    "/read-only-quorum",
    "/health",
    "/health?tag_zone=a",
    "/readiness",
    "/readiness?lag=1048576",
    "/readiness?lag=1048576&mode=write",
    "/liveness",
];

/// An agent beside a member, with a port for each endpoint.
struct Agent {
    ports: Vec<SocketAddr>,
    _process: Process,
}

/// What a cell of the matrix shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    BothYes,
    BothNo,
    /// Patroni means something else by this endpoint.
    TooOld,
    Disagreement,
}

struct Column {
    node: &'static str,
    cells: Vec<Cell>,
}

/// The work of a process guard: `BINARY PATRONI`.
pub fn run(directory: &Path, arguments: &[OsString], _: &AtomicBool) -> Result<(), Box<dyn Error>> {
    let [binary, patroni] = arguments else { return Err("usage: BINARY PATRONI".into()) };
    let testbed = Testbed::start(directory, Path::new(binary), Path::new(patroni), Host::on_loopback(3))?;
    let Testbed { user, cluster, program, .. } = &testbed;
    let mut agents = Vec::new();
    for member in &cluster.members {
        let ports: Vec<SocketAddr> = ENDPOINTS.iter().map(|_| (member.ip, any_port()).into()).collect();
        let mut command = user.command(program, "KILL");
        // Each check hears what Patroni says now, and nothing else.
        command
            .args(["--deadline", "5s", "--max-age", "0s", "--grace", "0s", "--patroni"])
            .arg(cluster.url(member, ""));
        for (port, endpoint) in ports.iter().zip(ENDPOINTS) {
            command.arg("--listen").arg(format!("{port}={endpoint}"));
        }
        let mut process = Process::start(&mut command, &directory.join(format!("agent-{}.log", member.name)))?;
        await_that("a listening agent", || {
            assert!(process.try_wait().is_none(), "the agent has ended: {}", process.output());
            ports.iter().all(|port| TcpStream::connect(port).is_ok())
        });
        agents.push(Agent { ports, _process: process });
    }
    cluster.heal();
    let mut matrix = Matrix { cluster, agents: &agents, columns: Vec::new(), wrong: Vec::new() };
    matrix.fill()?;
    matrix.print()?;
    if matrix.wrong.is_empty() { Ok(()) } else { Err(matrix.wrong.join("\n").into()) }
}

struct Matrix<'a> {
    cluster: &'a Cluster,
    agents: &'a [Agent],
    columns: Vec<Column>,
    wrong: Vec<String>,
}

impl Matrix<'_> {
    fn fill(&mut self) -> Result<(), Box<dyn Error>> {
        let cluster = self.cluster;
        let leader = cluster.leader().ok_or("no primary")?;
        let (primary, a, b) = (leader, (leader + 1) % 3, (leader + 2) % 3);
        let members = &cluster.members;
        let yes = |member: usize, path: &str| cluster.status(&members[member], path) == Some(200);
        let version = cluster.body(&members[primary])?["patroni"]["version"].as_str().unwrap_or_default().to_owned();

        self.column("primary", primary)?;
        self.column("replica", a)?;

        cluster.set_tags(&members[a], "zone: a")?;
        cluster.set_tags(&members[b], "zone: a, noloadbalance: true")?;
        await_that("tags", || yes(a, "/health?tag_zone=a") || yes(a, "/replica?tag_zone=a") && !yes(b, "/replica"));
        self.column("tagged replica", a)?;
        self.column("replica, noloadbalance", b)?;
        cluster.set_tags(&members[a], "")?;
        cluster.set_tags(&members[b], "")?;
        await_that("no tags", || yes(b, "/replica") && !yes(a, "/replica?tag_zone=a"));

        let port = cluster.postgres_port;
        let frozen = members[b].signal_backends(port, "backend_type = 'walreceiver'", Signal::STOP)?;
        let write = "CREATE TABLE written AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)";
        members[primary].connect(port)?.batch_execute(write)?;
        await_that("a lag", || !yes(b, "/replica?lag=1048576"));
        self.column("lagging replica", b)?;
        for pid in frozen {
            kill_process(pid, Signal::CONT)?;
        }
        await_that("no lag", || yes(b, "/replica?lag=1048576"));

        cluster.configure(&json!({"synchronous_mode": true}))?;
        await_that("a synchronous standby", || yes(a, "/sync") != yes(b, "/sync"));
        let (sync, other) = if yes(a, "/sync") { (a, b) } else { (b, a) };
        self.column("primary, synchronous mode", primary)?;
        self.column("sync standby", sync)?;
        self.column("async replica beside it", other)?;

        if version.starts_with("4.") {
            cluster.configure(&json!({"synchronous_mode": "quorum"}))?;
            await_that("quorum standbys", || yes(a, "/quorum") && yes(b, "/quorum"));
            self.column("primary, quorum mode", primary)?;
            self.column("quorum standby", a)?;
        }
        cluster.configure(&json!({"synchronous_mode": null}))?;
        await_that("asynchronous replicas", || yes(a, "/async") && yes(b, "/async"));

        cluster.configure(&json!({"pause": true}))?;
        await_that("a pause", || {
            members.iter().all(|member| cluster.body(member).is_ok_and(|body| body["pause"] == true))
        });
        self.column("primary, paused", primary)?;
        self.column("replica, paused", a)?;
        cluster.configure(&json!({"pause": null}))?;
        await_that("the end of the pause", || {
            members.iter().all(|member| cluster.body(member).is_ok_and(|body| body["pause"] != true))
        });

        // There is nothing at that address; a standby leader that waits for its source is one all
        // the same.
        cluster.configure(&json!({"standby_cluster": {"host": "127.0.0.9", "port": port}}))?;
        let settled = |member: &Member| cluster.body(member).is_ok_and(|body| body["state"] == "running");
        await_that("a standby leader", || {
            let leads = |member: &&Member| cluster.status(member, "/standby-leader") == Some(200);
            members.iter().filter(leads).count() == 1 && members.iter().all(settled)
        });
        // It says 200 a moment before it is called so.
        let leads = |member: &Member| cluster.body(member).is_ok_and(|body| body["role"] == "standby_leader");
        await_that("its role", || members.iter().any(leads));
        let leader = members.iter().position(leads).ok_or("no standby leader")?;
        self.column("standby leader", leader)?;
        self.column("its replica", (leader + 1) % 3)
    }

    /// Compares all endpoints on a member.
    fn column(&mut self, node: &'static str, member: usize) -> Result<(), Box<dyn Error>> {
        let mut cells = Vec::new();
        for (endpoint, port) in ENDPOINTS.iter().zip(&self.agents[member].ports) {
            cells.push(self.cell(node, endpoint, &self.cluster.members[member], *port)?);
        }
        self.columns.push(Column { node, cells });
        Ok(())
    }

    fn cell(&mut self, node: &str, endpoint: &str, member: &Member, port: SocketAddr) -> Result<Cell, Box<dyn Error>> {
        let status = || self.cluster.status(member, endpoint);
        // What Patroni says may change just between the two.
        let (status, reply) = loop {
            let (before, reply, after) = (status(), check(port), status());
            // The first answer after a silence, such as that of a Patroni that was not up when the
            // agent began, is not enough.
            if before == after && !reply.contains("just back from a silence") {
                break (before.ok_or("Patroni is gone")?, reply);
            }
        };
        let parsed: Endpoint = endpoint.parse()?;
        let is_probe = endpoint.starts_with("/readiness") || endpoint == "/liveness";
        let since = parsed.since();
        let version = self.cluster.body(member)?["patroni"]["version"].as_str().unwrap_or_default().to_owned();
        let numbers: Vec<u32> = version.split('.').filter_map(|number| number.parse().ok()).collect();
        let cell = match (status, reply.split(" #").next().unwrap_or_default()) {
            (200, "READY UP") => Cell::BothYes,
            (503, "MAINT UP") => Cell::BothNo,
            (503, "READY DOWN") if is_probe => Cell::BothNo,
            // The one veto that a healthy cluster can show.
            (_, "READY DOWN" | "MAINT DOWN") if numbers < vec![since.0, since.1, since.2] => Cell::TooOld,
            _ => Cell::Disagreement,
        };
        if cell == Cell::Disagreement {
            self.wrong.push(format!("{node}: {endpoint}: Patroni {version} says {status}, patroni-check {reply}"));
        }
        Ok(cell)
    }

    fn print(&self) -> Result<(), Box<dyn Error>> {
        let version = &self.cluster.body(&self.cluster.members[0])?["patroni"]["version"];
        println!(
            "Patroni {}: + both yes, . both no, o too old for this endpoint, ! disagreement",
            Value::as_str(version).unwrap_or("?")
        );
        for (i, endpoint) in ENDPOINTS.iter().enumerate() {
            let cells = self.columns.iter().map(|column| match column.cells[i] {
                Cell::BothYes => '+',
                Cell::BothNo => '.',
                Cell::TooOld => 'o',
                Cell::Disagreement => '!',
            });
            println!("  {endpoint:<34} {}", cells.map(|cell| format!(" {cell} ")).collect::<String>());
        }
        for (i, column) in self.columns.iter().enumerate() {
            println!("  {:34} {}{}", "", " | ".repeat(i), format!(" `- {}", column.node).trim_end());
        }
        Ok(())
    }
}
