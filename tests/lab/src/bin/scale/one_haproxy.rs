//! One HAProxy with many clusters of three, as `patroni-check haproxy-config` writes them, and
//! their agents: stand-ins in one thread, or patroni-check itself.

use std::error::Error;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use lab::fake_patroni::{Behaviour, FakePatroni, answer, node};
use lab::haproxy::{DEFAULTS, Haproxy, parse_csv};
use lab::{Process, agent, await_that};
use serde_json::{Value, json};

use crate::hosts::{Meter, Used, counter, program};
use crate::one_agent::growth;
use crate::stand_in::{StandIns, member};
use crate::{Outcome, Scale};

const AGENT_PORT: u16 = 5555;

const MEMBERS: u32 = 3;

/// What is measured is measured for so long.
const TIME: Duration = Duration::from_secs(6);

#[derive(Clone, Copy)]
struct Setup {
    clusters: u32,
    /// Milliseconds.
    agent_inter: f64,
    /// HAProxy's own default is one for each core.
    threads: Option<u8>,
}

struct Measured {
    setup: Setup,
    haproxy: Used,
    /// Seconds of processor time of the agents, where these are real.
    agents: Option<f64>,
    /// A second.
    asked: f64,
    arrived: f64,
    /// Servers that HAProxy has in the wrong state.
    wrong: usize,
    /// Checks of any kind that HAProxy says failed.
    failed: u64,
}

impl Scale<'_> {
    pub fn one_haproxy(&mut self) -> Outcome {
        let mut measured = Vec::new();
        let setup = |clusters, agent_inter| Setup { clusters, agent_inter, threads: None };
        for agent_inter in [1000.0, 250.0, 100.0] {
            measured.push(self.haproxy_with_stand_ins(setup(100, agent_inter))?);
        }
        for agent_inter in [1000.0, 250.0, 100.0] {
            measured.push(self.haproxy_with_agents(setup(10, agent_inter))?);
        }
        // One thread, so that the stand-ins have a core beside it.
        for clusters in [100, 150, 200, 250, 300, 400, 500, 600] {
            let one = self.haproxy_with_stand_ins(Setup { threads: Some(1), ..setup(clusters, 100.0) })?;
            let is_full = one.haproxy.ours > 0.95 * one.haproxy.seconds || one.arrived < 0.8 * one.asked;
            measured.push(one);
            if is_full {
                break;
            }
        }
        for agent_inter in [50.0, 20.0] {
            measured.push(self.haproxy_with_stand_ins(Setup { threads: Some(1), ..setup(100, agent_inter) })?);
        }
        let columns = [
            "HAProxy",
            "agents",
            "agent-inter",
            "checks asked/s",
            "arrived/s",
            "HAProxy's core",
            "a check",
            "packets a check",
            "agents', a check",
            "servers in the wrong state",
            "checks failed",
        ];
        let rows: Vec<_> = measured.iter().map(Measured::row).collect();
        self.table("One HAProxy and clusters of three", &columns, &rows);
        self.raw.insert("one HAProxy".into(), measured.iter().map(Measured::json).collect());
        let mut series = Vec::new();
        for clusters in [10, 33, 100, 200] {
            series.push(self.haproxy_with_stand_ins(setup(clusters, 250.0))?);
        }
        let points: Vec<_> = series
            .iter()
            .map(|m| (f64::from(m.setup.clusters * MEMBERS), m.haproxy.ours / m.haproxy.seconds * 1000.0))
            .collect();
        let with = "servers, agent-inter 250 ms";
        let rows = [growth(with, "HAProxy's processor time, ms/s", &points)];
        self.table("How one HAProxy grows", &["with", "what", "measured", "exponent"], &rows);
        self.raw.insert("growth of one HAProxy".into(), series.iter().map(Measured::json).collect());
        Ok(())
    }

    fn haproxy_with_stand_ins(&self, setup: Setup) -> Result<Measured, Box<dyn Error>> {
        let stand_ins = StandIns::start(&self.hosts.databases, AGENT_PORT)?;
        let measured = self.haproxy(setup, || stand_ins.answered(), &[]);
        stand_ins.end(&self.hosts.databases);
        measured
    }

    fn haproxy_with_agents(&self, setup: Setup) -> Result<Measured, Box<dyn Error>> {
        let host = &self.hosts.databases;
        let patronis = [(200, "primary"), (503, "replica")]
            .map(|(status, role)| host.inside(|| FakePatroni::at("127.0.0.1:0", node(status, "running", role))));
        let mut agents = Vec::new();
        for cluster in 0..setup.clusters {
            for number in 1..=MEMBERS {
                let patroni = &patronis[usize::from(number > 1)];
                let mut command = program(host, &self.binary);
                command.args(["--patroni", &patroni.url(), "--listen"]);
                command.arg(format!("{}:{AGENT_PORT}", member(cluster, number)));
                agents.push(Process::start(&mut command, &self.directory.join("agents.log"))?);
            }
        }
        let answered = || {
            let id = agents.first().map_or(0, Process::id);
            let taken = counter(id, "snmp", "Tcp", "PassiveOpens").unwrap_or_default();
            // The Patronis are on the same host.
            let asked: usize = patronis.iter().map(|patroni| patroni.requests().len()).sum();
            taken - u64::try_from(asked).unwrap_or(0)
        };
        self.haproxy(setup, answered, &agents)
    }

    fn haproxy(
        &self,
        setup: Setup,
        answered: impl Fn() -> u64,
        agents: &[Process],
    ) -> Result<Measured, Box<dyn Error>> {
        let Setup { clusters, agent_inter, threads } = setup;
        self.next(&format!("One HAProxy, {clusters} clusters, agent-inter {agent_inter} ms"))?;
        let home = self.directory.join("haproxy");
        fs::create_dir_all(&home)?;
        let sections = self.sections(setup)?;
        let threads = threads.map_or(String::new(), |threads| format!("    nbthread {threads}\n"));
        let command = self.hosts.clients.command("haproxy");
        let haproxy = Haproxy::start(command, &home, &format!("{threads}{DEFAULTS}\n{sections}"))?;
        await_that("all servers in the right state", || wrong_servers(&haproxy).is_ok_and(|(wrong, _)| wrong == 0));
        let (_, failed) = wrong_servers(&haproxy)?;
        let ids: Vec<u32> = agents.iter().map(Process::id).collect();
        let (meter, of_agents, before) = (Meter::start(&[haproxy.id()]), Meter::start(&ids), answered());
        thread::sleep(TIME);
        let (used, arrived, of_agents) = (meter.end(), answered() - before, of_agents.end());
        let (wrong, failed_now) = wrong_servers(&haproxy)?;
        #[expect(clippy::cast_precision_loss)]
        let arrived = arrived as f64 / used.seconds;
        Ok(Measured {
            setup,
            haproxy: used,
            agents: (!agents.is_empty()).then_some(of_agents.ours),
            // Those in maintenance have no health check, which comes each second.
            asked: f64::from(clusters * MEMBERS) * 1000.0 / agent_inter + f64::from(clusters),
            arrived,
            wrong,
            failed: failed_now - failed,
        })
    }

    /// What `patroni-check haproxy-config` writes for the writes of each cluster.
    fn sections(&self, setup: Setup) -> Result<String, Box<dyn Error>> {
        let patroni = FakePatroni::new(Behaviour::Hang);
        let mut sections = String::new();
        for cluster in 0..setup.clusters {
            let members: Vec<Value> = (1..=MEMBERS)
                .map(|number| json!({"name": format!("db{number}"), "host": member(cluster, number), "port": 5432, "role": "replica", "state": "running"}))
                .collect();
            patroni.now(answer(200, &json!({"scope": format!("c{cluster}"), "members": members}).to_string()));
            let mut command = Command::new(&self.binary);
            agent::without_settings(&mut command);
            command.args(["haproxy-config", "--section", "--read-only=none", "--patroni", &patroni.url()]);
            command.args([
                "--name",
                &format!("c{cluster}"),
                "--read-write",
                &format!("127.0.0.1:{}", 10_000 + cluster),
            ]);
            let output = command.arg("--agent-inter=100ms").output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into());
            }
            sections += &String::from_utf8(output.stdout)?;
        }
        let agent_inter = format!("agent-inter {:.0}us", setup.agent_inter * 1000.0);
        Ok(sections.replace("agent-inter 100ms", &agent_inter))
    }
}

/// How many servers HAProxy has in another state than that of the agents, and how many checks
/// failed.
fn wrong_servers(haproxy: &Haproxy) -> Result<(usize, u64), Box<dyn Error>> {
    let rows = parse_csv(&haproxy.command("show stat")?);
    let servers: Vec<_> = rows.iter().filter(|row| row["svname"].starts_with("db")).collect();
    let is_right = |name: &str, status: &str| status.starts_with(if name == "db1" { "UP" } else { "MAINT" });
    let wrong = servers.iter().filter(|row| !is_right(&row["svname"], &row["status"])).count();
    Ok((wrong, servers.iter().filter_map(|row| row["chkfail"].parse::<u64>().ok()).sum()))
}

impl Measured {
    fn row(&self) -> Vec<String> {
        let Setup { clusters, agent_inter, threads } = self.setup;
        let checks = self.arrived * self.haproxy.seconds;
        vec![
            threads.map_or("default".to_owned(), |threads| format!("nbthread {threads}")),
            format!("{} {}", clusters * MEMBERS, if self.agents.is_some() { "real" } else { "stand-ins" }),
            format!("{agent_inter:.0} ms"),
            format!("{:.0}", self.asked),
            format!("{:.0}", self.arrived),
            format!("{:.0} %", self.haproxy.ours / self.haproxy.seconds * 100.0),
            format!("{:.0} µs", self.haproxy.ours / checks * 1e6),
            format!("{:.2}", self.haproxy.packets / checks),
            self.agents.map_or("–".to_owned(), |agents| format!("{:.0} µs", agents / checks * 1e6)),
            self.wrong.to_string(),
            self.failed.to_string(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "clusters": self.setup.clusters,
            "agent-inter ms": self.setup.agent_inter,
            "threads": self.setup.threads,
            "asked/s": self.asked,
            "arrived/s": self.arrived,
            "seconds": self.haproxy.seconds,
            "HAProxy's processor s": self.haproxy.ours,
            "processor of the machine s": self.haproxy.all,
            "stolen s": self.haproxy.stolen,
            "packets": self.haproxy.packets,
            "agents' processor s": self.agents,
            "servers in the wrong state": self.wrong,
            "checks failed": self.failed,
        })
    }
}
