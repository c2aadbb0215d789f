//! `make faults`: a real Patroni cluster behind a real HAProxy, one fault after the other, and for
//! each rule how long it said READY to a node that could not take the traffic. `faults BINARY
//! DIRECTORY PATRONI [FAULT…]`; the table goes to the directory as Markdown and JSON, with a plot
//! of the switchover. PATRONI is a program, or a directory of tests/install-patroni's.

mod agents;
mod backends;
mod list;
mod plot;
mod recorder;
mod report;
mod sessions;
mod timeline;
mod watches;

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::clients::{Worker, client};
use crate::haproxy::Haproxy;
use crate::sampling::Track;
use crate::testbed::Testbed;
use crate::{PATIENCE, await_that, free_port};
use agents::{AgentPorts, Agents, MODES, Mode};
use list::{FAULTS, Fault};
use recorder::{Backends, Recorder};
use timeline::{RULES, Sums, longest_unfit};

/// In HAProxy, in the order of the table.
const WRITE_BACKENDS: [&str; 4] = ["official", "article", "recommended", "each_check"];
const READ_BACKENDS: [&str; 2] = ["official_reads", "recommended_reads"];

/// Sessions through each backend that do nothing, to be counted afterwards.
const SESSIONS: usize = 5;

type Outcome = Result<(), Box<dyn Error>>;

struct Lab {
    testbed: Testbed,
    haproxy: Haproxy,
    agent_ports: AgentPorts,
    writes: Backends,
    reads: Backends,
    /// Those beside each member.
    agents: Vec<Agents>,
}

/// The work of a process guard.
pub fn run(directory: &Path, arguments: &[OsString], stop: &AtomicBool) -> Outcome {
    let [binary, out, patroni, chosen @ ..] = arguments else {
        return Err("usage: faults BINARY DIRECTORY PATRONI [FAULT…]".into());
    };
    let of_sessions = sessions::SCENARIOS.iter().map(|scenario| scenario.name);
    let names: Vec<_> = FAULTS.iter().map(|fault| fault.name).chain(of_sessions).collect();
    if let Some(unknown) = chosen.iter().find(|name| !names.iter().any(|known| *known == **name)) {
        return Err(format!("no such fault: {}; there are: {}", unknown.to_string_lossy(), names.join(" ")).into());
    }
    eprintln!(
        "Starting etcd, three Patroni members with PostgreSQL, patroni-check in both modes beside each, HAProxy …"
    );
    let mut lab = Lab::start(directory, Path::new(binary), Path::new(patroni))?;
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| *chosen == *name);
    let mut results = Vec::new();
    for fault in FAULTS.iter().filter(|fault| is_chosen(fault.name)) {
        if stop.load(Ordering::Relaxed) {
            return Err("stopped".into());
        }
        if let Some(why) = lab.leaves_out(fault)? {
            eprintln!("{}: left out, as {why}", fault.name);
            continue;
        }
        results.push(lab.run(fault).map_err(|e| format!("{}: {e}", fault.name))?);
    }
    let mut of_sessions = Vec::new();
    for scenario in sessions::SCENARIOS.iter().filter(|scenario| is_chosen(scenario.name)) {
        if stop.load(Ordering::Relaxed) {
            return Err("stopped".into());
        }
        of_sessions.push(scenario.run(&lab.testbed).map_err(|e| format!("{}: {e}", scenario.name))?);
    }
    let report = json!({"on": lab.testbed.cluster.versions(), "faults": results, "sessions": of_sessions});
    let table = report::markdown(&report);
    let out = Path::new(out);
    fs::create_dir_all(out)?;
    fs::write(out.join("faults.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    fs::write(out.join("faults.md"), &table)?;
    if let Some(switchover) = results.iter().find(|result| result["name"] == "switchover") {
        fs::write(out.join("switchover.svg"), plot::timelines(switchover))?;
    }
    println!("{table}\nWritten to {}: faults.md, faults.json, switchover.svg", out.display());
    Ok(())
}

impl Lab {
    fn start(directory: &Path, binary: &Path, patroni: &Path) -> Result<Self, Box<dyn Error>> {
        let testbed = Testbed::start_apart(directory, binary, patroni)?;
        let agent_ports = AgentPorts::choose(&testbed);
        let local = [IpAddr::from(Ipv4Addr::LOCALHOST)];
        let port = |(name, port): (&&str, u16)| ((*name).to_owned(), free_port(&local, port));
        let writes: Backends = WRITE_BACKENDS.iter().zip(5000..).map(port).collect();
        let reads: Backends = READ_BACKENDS.iter().zip(5100..).map(port).collect();
        let sections = backends::sections(&testbed, &agent_ports, [&writes, &reads])?;
        let haproxy = testbed.haproxy(&sections)?;
        let mut lab = Lab { testbed, haproxy, agent_ports, writes, reads, agents: Vec::new() };
        for member in 0..lab.testbed.cluster.members.len() {
            let agents = lab.agents(member)?;
            lab.agents.push(agents);
        }
        Ok(lab)
    }

    fn agents(&self, member: usize) -> Result<Agents, Box<dyn Error>> {
        Agents::start(&self.testbed, &self.testbed.cluster.members[member], &self.agent_ports)
    }

    /// Kills the patroni-checks beside a member and starts them anew: they remember nothing, as
    /// after a boot.
    fn boot_agents(&mut self, member: usize) -> Outcome {
        self.agents[member].kill();
        self.agents[member] = self.agents(member)?;
        Ok(())
    }

    /// The member after this one.
    fn next(&self, member: usize) -> usize {
        (member + 1) % self.testbed.cluster.members.len()
    }

    /// Stops all processes of a host in mid-word, Patroni's, Postgres's and the agents', and says
    /// which they are.
    fn freeze_host(&self, member: usize) -> Result<Vec<Pid>, Box<dyn Error>> {
        let mut frozen: Vec<Pid> = Vec::new();
        loop {
            // One that was begun meanwhile is stopped as well.
            let processes = [self.agents[member].ids(), self.testbed.cluster.members[member].processes()?].concat();
            let new: Vec<Pid> = processes.into_iter().filter(|id| !frozen.contains(id)).collect();
            if new.is_empty() {
                return Ok(frozen);
            }
            for id in new {
                // One that answers a check may be gone.
                let _ = kill_process(id, Signal::STOP);
                frozen.push(id);
            }
        }
    }

    /// Why a fault can't be had here.
    fn leaves_out(&self, fault: &Fault) -> Result<Option<&'static str>, Box<dyn Error>> {
        Ok(match fault.name {
            "partition" if !self.testbed.cluster.members[0].host.has_cable() => {
                Some("only root can give the hosts networks of their own")
            }
            "failsafe" if !self.testbed.cluster.knows_failsafe()? => Some("failsafe mode came with Patroni 3.0"),
            _ => None,
        })
    }

    /// Does it to both modes.
    fn run(&mut self, fault: &Fault) -> Result<Value, Box<dyn Error>> {
        let mut result = if fault.apart {
            let mut turns = Vec::new();
            for mode in MODES {
                self.settle();
                self.ask_no_other(mode, "disable")?;
                turns.push(self.run_in(&[mode], fault)?);
                self.ask_no_other(mode, "enable")?;
            }
            report::merged(&turns)
        } else {
            self.run_in(&MODES, fault)?
        };
        fault.goals.judge(fault.by_hand, &mut result);
        Ok(result)
    }

    /// Has HAProxy ask the agents of one mode alone, which is to `disable` those of the other mode,
    /// or has it ask both again.
    fn ask_no_other(&self, mode: Mode, command: &str) -> Outcome {
        let others: &[&str] = match mode {
            Mode::Service => &[Mode::EachCheck.backend()],
            Mode::EachCheck => &["article", Mode::Service.backend(), "recommended_reads"],
        };
        for (backend, member) in others.iter().flat_map(|b| self.testbed.cluster.members.iter().map(move |m| (b, m))) {
            self.haproxy.command(&format!("{command} agent {backend}/{}", member.name))?;
        }
        Ok(())
    }

    fn run_in(&mut self, modes: &[Mode], fault: &Fault) -> Result<Value, Box<dyn Error>> {
        eprintln!("{}: {}", fault.name, fault.title);
        self.settle();
        let primary = self.testbed.cluster.leader().ok_or("no primary")?;
        let old = self.testbed.cluster.members[primary].name.clone();
        let mut sessions = BTreeMap::new();
        for (name, port) in &self.writes {
            let opened: Result<Vec<_>, _> = (0..SESSIONS).map(|_| client(*port)).collect();
            sessions.insert(name.clone(), opened?);
        }
        let agents = (&self.agent_ports, modes);
        let mut recorder = Recorder::new(&self.testbed.cluster, fault.traffic, agents, &self.writes, &self.reads);
        thread::sleep(Duration::from_secs(3));
        let began = recorder.elapsed();
        (fault.happens)(self, primary)?;
        let restored = recorder.elapsed();
        // Nobody may have noticed yet.
        thread::sleep(Duration::from_secs(1));
        eprintln!("{}: over after {:.1} s; healing", fault.name, (restored - began).as_secs_f64());
        self.settle();
        // Each client has written again.
        let settled = recorder.elapsed();
        let deadline = Instant::now() + PATIENCE;
        while !recorder.writers.values().all(|writer| writer.last() > Some(settled)) {
            if Instant::now() > deadline {
                return Err("a client of HAProxy's never wrote again".into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        thread::sleep(Duration::from_secs(1));
        let end = recorder.finish();
        let cut =
            |clients: &mut Vec<postgres::Client>| clients.iter_mut().filter_map(|c| c.batch_execute("").err()).count();
        let cut: BTreeMap<_, _> = sessions.iter_mut().map(|(name, clients)| (name, cut(clients))).collect();

        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let sums: Vec<Sums> = (0..RULES.len()).map(|rule| Sums::of(&recorder.nodes_by(rule), end)).collect();
        let by_rule = |part: fn(&Sums) -> Duration| -> BTreeMap<&str, u64> {
            RULES.iter().zip(&sums).map(|(rule, sums)| (*rule, ms(part(sums)))).collect()
        };
        let outage = |workers: &[Worker]| workers.iter().map(|worker| ms(worker.longest_outage())).max();
        let writes = recorder.writers.iter().map(|(name, writer)| (name, ms(writer.longest_outage())));
        let reads = recorder.readers.iter().map(|(name, readers)| (name, outage(readers)));
        let failed = |readers: &[Worker]| readers.iter().map(Worker::failures).sum::<u32>();
        let reads_failed = recorder.readers.iter().map(|(name, readers)| (name, failed(readers)));
        let leader = self.testbed.cluster.leader().map(|leader| self.testbed.cluster.members[leader].name.clone());
        // By Patroni: one that was promoted by hand says 200 long before it has the key.
        let promoted = leader.as_ref().filter(|leader| **leader != old && !fault.by_hand);
        let first_word =
            promoted.map(|promoted| MODES.map(|mode| (mode.name(), recorder.nodes[promoted].first_word(mode, began))));
        let track = |track: &Track| -> Vec<(u64, u32)> {
            track.changes().into_iter().map(|(at, value)| (ms(at), value)).collect()
        };
        let nodes: BTreeMap<_, _> = recorder
            .nodes
            .iter()
            .map(|(name, seen)| {
                let ready: BTreeMap<_, _> = RULES.iter().zip(&seen.ready).map(|(r, t)| (*r, track(t))).collect();
                let words = MODES.map(|mode| {
                    let words = seen.changes_of_word(mode).into_iter().map(|(at, word)| (ms(at), word));
                    (mode.name(), words.collect::<Vec<_>>())
                });
                (name, json!({"fit": track(&seen.fit), "ready": ready, "words": BTreeMap::from(words)}))
            })
            .collect();
        Ok(json!({
            "name": fault.name,
            "title": fault.title,
            "endpoint": fault.traffic.endpoint(),
            "primary before": old,
            "primary after": leader,
            "began ms": ms(began),
            "restored ms": ms(restored),
            "end ms": ms(end),
            "longest unfit ms": ms(longest_unfit(&recorder.nodes_by(0), end)),
            "READY though not fit ms": by_rule(|sums| sums.wrong),
            "leader fit and not READY ms": (!fault.by_hand).then(|| by_rule(|sums| sums.missed)),
            "two READY ms": by_rule(|sums| sums.double),
            "write outage ms": writes.collect::<BTreeMap<_, _>>(),
            "read outage ms": reads.collect::<BTreeMap<_, _>>(),
            "reads failed": reads_failed.collect::<BTreeMap<_, _>>(),
            "first word after promotion": first_word.map(BTreeMap::from),
            "sessions cut": cut,
            "sessions": SESSIONS,
            "nodes": nodes,
        }))
    }

    /// Waits until the cluster is whole and each backend has those UP that it is for, and nobody
    /// else.
    fn settle(&self) {
        self.testbed.cluster.heal();
        await_that("the primary alone UP in each backend, and the replicas in those for reads", || {
            let Some(primary) = self.testbed.cluster.primary() else { return false };
            self.testbed.cluster.members.iter().all(|member| {
                let is_up = |backend: &str| self.haproxy.status(backend, &member.name).is_ok_and(|s| s == "UP");
                let is_primary = member.name == primary.name;
                WRITE_BACKENDS.iter().all(|backend| is_up(backend) == is_primary)
                    && READ_BACKENDS.iter().all(|backend| is_up(backend) != is_primary)
            })
        });
    }
}
