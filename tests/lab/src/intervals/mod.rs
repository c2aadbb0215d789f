//! `make intervals`: a real Patroni cluster behind a real HAProxy with the recommended lines, at
//! one `agent-inter` after the other. How long a client can't write in a switchover beside how long
//! nobody could, what the rest is made of, and what asking so often costs. `intervals BINARY
//! DIRECTORY PATRONI SWITCHOVERS`; the tables go to the directory as Markdown and JSON. PATRONI is
//! a program, or a directory of tests/install-patroni's.

mod report;

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use crate::clients::{Work, Worker};
use crate::cluster::Member;
use crate::haproxy::{DEFAULTS, Haproxy, listen, readme};
use crate::http;
use crate::process::ticks;
use crate::process_guard::descendants;
use crate::sampling::{Sampling, Track, longest_gap};
use crate::testbed::Testbed;
use crate::{Process, await_that, free_port};

/// Milliseconds.
struct Setup {
    agent_inter: u32,
    /// Below it, as HAProxy drops a late answer.
    deadline: u32,
    max_age: u32,
}

const SETUPS: [Setup; 5] = [
    Setup { agent_inter: 250, deadline: 200, max_age: 100 },
    Setup { agent_inter: 100, deadline: 80, max_age: 100 },
    Setup { agent_inter: 100, deadline: 80, max_age: 50 },
    Setup { agent_inter: 50, deadline: 40, max_age: 100 },
    Setup { agent_inter: 50, deadline: 40, max_age: 50 },
];

/// Between two writes, and two looks at HAProxy and at the agent.
const PAUSE: Duration = Duration::from_millis(5);

/// The costs are measured in two rounds, for so long each.
const IDLE: Duration = Duration::from_secs(10);

const BACKEND: &str = "postgres_read_write";

type Outcome = Result<(), Box<dyn Error>>;

struct Lab {
    testbed: Testbed,
    /// Of HAProxy, of the agents, of their metrics.
    ports: [u16; 3],
}

/// What asks Patroni, at a setup's interval.
struct Askers {
    haproxy: Arc<Haproxy>,
    agents: Vec<Process>,
}

/// The work of a process guard.
pub fn run(directory: &Path, arguments: &[OsString], stop: &AtomicBool) -> Outcome {
    let [binary, out, patroni, switchovers] = arguments else {
        return Err("usage: intervals BINARY DIRECTORY PATRONI SWITCHOVERS".into());
    };
    let rounds: usize = switchovers.to_string_lossy().parse()?;
    eprintln!("Starting etcd, three Patroni members with PostgreSQL …");
    let lab = Lab::start(directory, Path::new(binary), Path::new(patroni))?;
    let mut unasked = Vec::new();
    let mut costs: [Vec<Value>; SETUPS.len()] = Default::default();
    let mut switchovers: [Vec<Value>; SETUPS.len()] = Default::default();
    for round in 0..rounds {
        let is_idle = round == 0 || round == rounds / 2;
        if is_idle {
            lab.testbed.cluster.heal();
            unasked.push(lab.costs(None));
        }
        for (number, setup) in SETUPS.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return Err("stopped".into());
            }
            lab.testbed.cluster.heal();
            let askers = lab.ask(setup)?;
            if is_idle {
                costs[number].push(lab.costs(Some(&askers)));
            }
            let switchover = lab.switch_over(&askers)?;
            eprintln!("round {}, {} ms, max-age {} ms: {switchover}", round + 1, setup.agent_inter, setup.max_age);
            switchovers[number].push(switchover);
        }
    }
    let results = SETUPS.iter().zip(&costs).zip(&switchovers).map(|((setup, costs), switchovers)| {
        json!({
            "agent-inter ms": setup.agent_inter,
            "deadline ms": setup.deadline,
            "max-age ms": setup.max_age,
            "switchovers": switchovers,
            "costs": costs,
        })
    });
    let results: Vec<Value> = results.collect();
    let report = json!({"on": lab.testbed.cluster.versions(), "unasked": unasked, "intervals": results});
    let table = report::markdown(&report);
    let out = Path::new(out);
    fs::create_dir_all(out)?;
    fs::write(out.join("intervals.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    fs::write(out.join("intervals.md"), &table)?;
    println!("{table}\nWritten to {}: intervals.md, intervals.json", out.display());
    Ok(())
}

impl Lab {
    fn start(directory: &Path, binary: &Path, patroni: &Path) -> Result<Self, Box<dyn Error>> {
        let testbed = Testbed::start_apart(directory, binary, patroni)?;
        let ports = [free_port(&[Ipv4Addr::LOCALHOST.into()], 5000), testbed.port(5555), testbed.port(5556)];
        Ok(Lab { testbed, ports })
    }

    /// Starts the agents and HAProxy, and waits until the primary alone is UP.
    fn ask(&self, setup: &Setup) -> Result<Askers, Box<dyn Error>> {
        let [port, agent, metrics] = self.ports;
        let (deadline, max_age) = (format!("{}ms", setup.deadline), format!("{}ms", setup.max_age));
        let options = ["--deadline", &deadline, "--max-age", &max_age];
        let ports = [(agent, "/primary"), (metrics, "metrics")];
        let agents = self.testbed.cluster.members.iter().map(|member| self.testbed.agent(member, &ports, &options));
        let agents = agents.collect::<Result<_, _>>()?;
        let [_, recommended] = &readme()[..] else { return Err("the README has two configurations".into()) };
        let recommended = at_interval(recommended, setup.agent_inter).ok_or("the README names no agent-inter")?;
        let sections = listen(&self.testbed.cluster, agent, &recommended, BACKEND, port);
        let haproxy = Arc::new(self.testbed.haproxy(&format!("{DEFAULTS}\n\n{sections}\n"))?);
        await_that("the primary alone UP", || {
            let primary = self.testbed.cluster.primary().map(|primary| &primary.name);
            let is_up = |member: &Member| haproxy.status(BACKEND, &member.name).is_ok_and(|s| s.starts_with("UP"));
            self.testbed.cluster.members.iter().all(|member| is_up(member) == (primary == Some(&member.name)))
        });
        Ok(Askers { haproxy, agents })
    }

    /// What everything uses while nothing happens: milliseconds of processor time a second, and
    /// Patroni's requests a second.
    fn costs(&self, askers: Option<&Askers>) -> Value {
        let tree = |id| [vec![id], descendants(id)].concat();
        let postmasters = self.testbed.cluster.members.iter().filter_map(Member::postmaster);
        let ids: BTreeMap<&str, Vec<u32>> = BTreeMap::from([
            ("haproxy", askers.iter().map(|askers| askers.haproxy.id()).collect()),
            ("agents", askers.iter().flat_map(|askers| askers.agents.iter().map(Process::id)).collect()),
            ("patronis", self.testbed.cluster.members.iter().map(Member::patroni_id).flat_map(tree).collect()),
            ("postgres", postmasters.flat_map(|id| tree(id.as_raw_nonzero().get().unsigned_abs())).collect()),
        ]);
        let used = |ids: &Vec<u32>| ids.iter().map(|id| ticks(*id)).collect::<Vec<_>>();
        let asked = askers.map_or(&[][..], |_| &self.testbed.cluster.members);
        let requests = || asked.iter().filter_map(|member| Metrics::of(self.metrics(member))).map(|m| m.requests).sum();
        let (before, requests_before): (Vec<_>, u32) = (ids.values().map(used).collect(), requests());
        thread::sleep(IDLE);
        let (after, requests_after): (Vec<_>, u32) = (ids.values().map(used).collect(), requests());
        let mut costs = serde_json::Map::new();
        for ((what, before), after) in ids.keys().zip(before).zip(after) {
            // Of those that are still there.
            let ticks: u64 = after.iter().zip(before).filter_map(|(after, before)| Some((*after)? - before?)).sum();
            costs.insert(format!("{what} ms/s"), json!(ticks * 10 / IDLE.as_secs()));
        }
        let requests = f64::from(requests_after - requests_before) / IDLE.as_secs_f64();
        costs.insert("requests/s".to_owned(), json!(requests));
        costs.into()
    }

    /// One switchover.
    fn switch_over(&self, askers: &Askers) -> Result<Value, Box<dyn Error>> {
        let members = &self.testbed.cluster.members;
        let from = self.testbed.cluster.leader().ok_or("no primary")?;
        let to = (from + 1) % members.len();
        let sampling = Sampling::new(PAUSE);
        let (client, its_thread) = Worker::start(sampling.clone(), self.ports[0], Work::Write);
        let start =
            |member: &Member| Worker::start_on(sampling.clone(), &member.home, self.testbed.cluster.postgres_port);
        let (nodes, mut threads): (Vec<_>, Vec<_>) = members.iter().map(start).unzip();
        threads.push(its_thread);
        let (haproxy, name) = (Arc::clone(&askers.haproxy), members[to].name.clone());
        let (up, thread) = follow(&sampling, move || {
            // With the health check still to come it is `UP 1/3`.
            Some(haproxy.status(BACKEND, &name).ok()?.starts_with("UP").into())
        });
        threads.push(thread);
        let metrics = self.metrics(&members[to]);
        let (ready, thread) = follow(&sampling, move || Some(Metrics::of(metrics)?.ready));
        threads.push(thread);
        // Not always at the same moment between two of HAProxy's checks.
        thread::sleep(Duration::from_millis(1500 + fastrand::u64(..250)));
        let began = sampling.now();
        self.testbed.cluster.switch_over(&members[from], &members[to])?;
        let done = sampling.now();
        await_that("a client that writes again", || client.last() > Some(done));
        thread::sleep(Duration::from_millis(200));
        sampling.end();
        for thread in threads {
            let _ = thread.join();
        }
        let mut writes: Vec<_> = nodes.iter().flat_map(Worker::times).collect();
        writes.sort_unstable();
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let (lost, possible) = longest_gap(&writes).ok_or("no write")?;
        let (last, wrote) = longest_gap(&client.times()).ok_or("no write of the client's")?;
        let first = |track: &Track| {
            let changes = track.changes();
            changes.iter().find(|(at, value)| *at > began && *value > 0).map(|(at, _)| ms(*at) - ms(possible))
        };
        Ok(json!({
            "nobody could ms": ms(possible - lost),
            "client outage ms": ms(wrote - last),
            "ratio": (wrote - last).as_secs_f64() / (possible - lost).as_secs_f64(),
            "client lost it earlier by ms": ms(lost) - ms(last),
            "READY after ms": first(&ready),
            "UP after ms": first(&up),
            "client wrote after ms": ms(wrote) - ms(possible),
        }))
    }

    fn metrics(&self, member: &Member) -> SocketAddr {
        SocketAddr::new(member.ip, self.ports[2])
    }
}

/// HAProxy's lines with this interval instead of theirs.
fn at_interval(lines: &str, milliseconds: u32) -> Option<String> {
    let (before, after) = lines.split_once(" agent-inter ")?;
    let (_, after) = after.split_once(' ')?;
    Some(format!("{before} agent-inter {milliseconds}ms {after}"))
}

/// Looks at a value again and again.
fn follow(sampling: &Sampling, value: impl Fn() -> Option<u32> + Send + 'static) -> (Track, JoinHandle<()>) {
    let (sampling, track) = (sampling.clone(), Track::default());
    let its = track.clone();
    let thread = thread::spawn(move || {
        while sampling.on() {
            if let Some(value) = value() {
                its.note(sampling.now(), value);
            }
            sampling.rest();
        }
    });
    (track, thread)
}

/// Of what an agent counts.
struct Metrics {
    /// Answers READY.
    ready: u32,
    /// To Patroni.
    requests: u32,
}

impl Metrics {
    fn of(address: SocketAddr) -> Option<Self> {
        let answer = http::get_while(address, "/metrics", Duration::from_secs(1), || false).ok()?;
        Some(Self::read(&String::from_utf8_lossy(&answer)))
    }

    fn read(answer: &str) -> Self {
        let value = |name: &str| {
            let line = answer.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
        };
        let ready = value(r#"patroni_check_answers_total{endpoint="/primary",reply="READY UP"}"#);
        Metrics { ready, requests: value("patroni_check_patroni_seconds_count") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_alone_is_another() {
        let lines = "server db1 192.0.2.1:5432 agent-check agent-inter 100ms agent-port 5555";
        let expected = "server db1 192.0.2.1:5432 agent-check agent-inter 50ms agent-port 5555";
        assert_eq!(at_interval(lines, 50).as_deref(), Some(expected));
        assert_eq!(at_interval("server db1 192.0.2.1:5432 check", 50), None);
    }

    #[test]
    fn what_an_agent_counts() {
        let answer = "HTTP/1.1 200 OK\r\n\r\n# TYPE patroni_check_answers_total counter\n\
            patroni_check_answers_total{endpoint=\"/primary\",reply=\"MAINT UP\"} 7\n\
            patroni_check_answers_total{endpoint=\"/primary\",reply=\"READY UP\"} 12\n\
            patroni_check_patroni_seconds_sum{endpoint=\"/primary\"} 0.5\n\
            patroni_check_patroni_seconds_count{endpoint=\"/primary\"} 34\n";
        let metrics = Metrics::read(answer);
        assert_eq!((metrics.ready, metrics.requests), (12, 34));
        assert_eq!(Metrics::read("").ready, 0, "before the first one there is no such line");
    }
}
