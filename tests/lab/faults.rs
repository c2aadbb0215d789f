//! `make faults`: a real Patroni cluster behind a real HAProxy, one fault after the other, and for each rule how long it
//! said READY to a node that could not take the traffic. `faults BINARY DIRECTORY [FAULT…]`; the table goes to the
//! directory as Markdown and JSON, with a plot of the switchover.

#[path = "mod.rs"]
mod lab;

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use lab::cluster::{Cluster, Unprivileged};
use lab::haproxy::{Haproxy, readme};
use lab::host::Host;
use lab::witness::{RULES, Sums, Traffic, Witness, client};
use lab::{PATIENCE, Process, await_that, free_port, house};

/// In HAProxy, in the order of the table.
const BACKENDS: [&str; 3] = ["official", "article", "recommended"];

/// Sessions through each backend that do nothing, to be counted afterwards.
const SESSIONS: usize = 5;

type Outcome = Result<(), Box<dyn Error>>;

struct Fault {
    name: &'static str,
    title: &'static str,
    traffic: Traffic,
    /// Does it, to the member with this number, and undoes it.
    happens: fn(&mut Lab, usize) -> Outcome,
}

const fn fault(name: &'static str, title: &'static str, happens: fn(&mut Lab, usize) -> Outcome) -> Fault {
    Fault { name, title, traffic: Traffic::Writes, happens }
}

const FAULTS: [Fault; 12] = [
    fault("switchover", "planned switchover", |lab, primary| {
        let members = &lab.cluster.members;
        lab.cluster.switch_over(&members[primary], &members[(primary + 1) % members.len()])
    }),
    fault("patroni-killed", "Patroni on the primary killed, back after 30 s", |lab, primary| {
        lab.cluster.members[primary].end_patroni(Signal::KILL);
        thread::sleep(Duration::from_secs(30));
        lab.cluster.start_patroni(primary)
    }),
    fault("postgres-killed", "postmaster on the primary killed", |lab, primary| {
        lab.cluster.members[primary].kill_postgres()
    }),
    fault("etcd-stopped", "etcd stopped for 20 s", |lab, _| {
        lab.cluster.stop_etcd();
        thread::sleep(Duration::from_secs(20));
        lab.cluster.start_etcd()
    }),
    fault("patroni-frozen", "Patroni on the primary frozen for 30 s", |lab, primary| {
        lab.cluster.members[primary].signal_patroni(Signal::STOP);
        thread::sleep(Duration::from_secs(30));
        lab.cluster.members[primary].signal_patroni(Signal::CONT);
        Ok(())
    }),
    fault("backend-frozen", "Patroni's backends on the primary frozen for 10 s", |lab, primary| {
        let member = &lab.cluster.members[primary];
        let which = "application_name LIKE 'Patroni%' OR usename = 'postgres' AND query LIKE '%pg_last_xact_replay%' \
            AND pid <> pg_backend_pid()";
        let frozen = member.signal_backends(lab.cluster.postgres_port, which, Signal::STOP)?;
        thread::sleep(Duration::from_secs(10));
        for pid in frozen {
            kill_process(pid, Signal::CONT)?;
        }
        Ok(())
    }),
    fault("postgres-cannot-start", "postmaster on the primary killed, and can't start for 20 s", |lab, primary| {
        let member = &lab.cluster.members[primary];
        // Patroni writes postgresql.conf itself, which includes this file.
        let file = member.home.join("data/postgresql.base.conf");
        let good = fs::read_to_string(&file)?;
        fs::write(&file, format!("{good}\nno_such_parameter = on\n"))?;
        member.kill_postgres()?;
        thread::sleep(Duration::from_secs(20));
        Ok(fs::write(&file, good)?)
    }),
    fault("pause-restart", "Patroni on the primary restarted in pause mode", |lab, primary| {
        lab.cluster.configure(&json!({"pause": true}))?;
        thread::sleep(Duration::from_secs(5));
        lab.cluster.members[primary].end_patroni(Signal::TERM);
        lab.cluster.start_patroni(primary)?;
        thread::sleep(Duration::from_secs(8));
        lab.cluster.configure(&json!({"pause": null}))
    }),
    fault("overloaded", "primary overloaded for 15 s: 60 heavy queries, four busy loops", |lab, primary| {
        let script = lab.directory.join("heavy.sql");
        fs::write(&script, "SELECT count(*), avg(i) FROM generate_series(1, 500000) i;\n")?;
        let bin = lab::cluster::postgres_bin()?.join("pgbench");
        let mut command = lab.user.command(&bin, "KILL");
        command.arg("-h").arg(&lab.cluster.members[primary].home).args(["-U", "postgres"]);
        command.args(["-p", &lab.cluster.postgres_port.to_string(), "-n", "-c", "60", "-j", "4", "-T", "15", "-f"]);
        let mut pgbench = Process::start(command.arg(&script).arg("postgres"), &lab.directory.join("pgbench.log"))?;
        let busy = || {
            let mut command = lab.user.command(Path::new("sh"), "KILL");
            Process::start(command.args(["-c", "while :; do :; done"]), &lab.directory.join("busy.log"))
        };
        let _busy: Vec<Process> = (0..4).map(|_| busy()).collect::<Result<_, _>>()?;
        let status = pgbench.wait();
        if status.success() { Ok(()) } else { Err(format!("pgbench: {}", pgbench.output()).into()) }
    }),
    fault(
        "query-fails",
        "Patroni's query on the primary hangs, then fails: its table locked for 4 s",
        |lab, primary| {
            // Patroni's query names pg_authid, and its statement_timeout is 2 s (api.py).
            let mut client = lab.cluster.members[primary].connect(lab.cluster.postgres_port)?;
            Ok(client
                .batch_execute("BEGIN; LOCK TABLE pg_authid IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(4); COMMIT")?)
        },
    ),
    Fault {
        name: "replication-cut",
        title: "a replica's replication cut for 15 s, asked with lag=1MB",
        traffic: Traffic::FreshReads,
        happens: |lab, primary| {
            let port = lab.cluster.postgres_port;
            let members = &lab.cluster.members;
            let replica = &members[(primary + 1) % members.len()];
            let frozen = replica.signal_backends(port, "backend_type = 'walreceiver'", Signal::STOP)?;
            let write = "INSERT INTO witness SELECT repeat('x', 1000) FROM generate_series(1, 5000)";
            members[primary].connect(port)?.batch_execute(write)?;
            thread::sleep(Duration::from_secs(15));
            for pid in frozen {
                kill_process(pid, Signal::CONT)?;
            }
            Ok(())
        },
    },
    fault("partition", "the primary's host cut off from all others for 40 s", |lab, primary| {
        lab.cluster.members[primary].host.pull_cable()?;
        thread::sleep(Duration::from_secs(40));
        Ok(lab.cluster.members[primary].host.plug_cable()?)
    }),
];

struct Lab {
    directory: PathBuf,
    user: Unprivileged,
    cluster: Cluster,
    haproxy: Haproxy,
    agent_ports: (u16, u16),
    backends: BTreeMap<String, u16>,
    _agents: Vec<Process>,
}

fn main() -> ExitCode {
    house::keep_apart(run)
}

fn run(directory: &Path, arguments: &[OsString], stop: &AtomicBool) -> Outcome {
    let [binary, out, chosen @ ..] = arguments else { return Err("usage: faults BINARY DIRECTORY [FAULT…]".into()) };
    let names: Vec<_> = FAULTS.iter().map(|fault| fault.name).collect();
    if let Some(unknown) = chosen.iter().find(|name| !names.iter().any(|known| *known == **name)) {
        return Err(format!("no such fault: {}; there are: {}", unknown.to_string_lossy(), names.join(" ")).into());
    }
    eprintln!("Starting etcd, three Patroni members with PostgreSQL, three patroni-checks, HAProxy …");
    let mut lab = Lab::start(directory, Path::new(binary))?;
    let mut results = Vec::new();
    for fault in FAULTS.iter().filter(|fault| chosen.is_empty() || chosen.iter().any(|name| *name == *fault.name)) {
        if stop.load(Ordering::Relaxed) {
            return Err("stopped".into());
        }
        if fault.name == "partition" && !lab.cluster.members[0].host.has_cable() {
            eprintln!("partition: left out, as only root can give the hosts networks of their own");
            continue;
        }
        results.push(lab.run(fault).map_err(|e| format!("{}: {e}", fault.name))?);
    }
    let report = json!({"on": lab.versions(), "faults": results});
    let table = markdown(&report);
    let out = Path::new(out);
    fs::create_dir_all(out)?;
    fs::write(out.join("faults.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    fs::write(out.join("faults.md"), &table)?;
    if let Some(switchover) = results.iter().find(|result| result["name"] == "switchover") {
        fs::write(out.join("switchover.svg"), lab::plot::timelines(switchover))?;
    }
    println!("{table}\nWritten to {}: faults.md, faults.json, switchover.svg", out.display());
    Ok(())
}

impl Lab {
    fn start(directory: &Path, binary: &Path) -> Result<Self, Box<dyn Error>> {
        let user = Unprivileged::new();
        let is_root = rustix::process::geteuid().is_root();
        let hosts = if is_root { Host::on_bridge(3, directory)? } else { Host::on_loopback(3) };
        let cluster = Cluster::start(directory, user, Path::new("patroni"), hosts)?;
        let program = directory.join("patroni-check");
        fs::copy(binary, &program)?;
        let ips: Vec<IpAddr> = cluster.members.iter().map(|member| member.ip).collect();
        let choose = |wanted| if is_root { wanted } else { free_port(&ips, wanted) };
        let agent_ports = (choose(5555), choose(5556));
        let mut agents = Vec::new();
        for member in &cluster.members {
            let mut command = user.command_on(&member.host, Path::new("systemd-socket-activate"), "KILL");
            for port in [agent_ports.0, agent_ports.1] {
                command.arg("-l").arg(format!("{}:{port}", member.ip));
            }
            command.arg(format!("--fdname={}:{}", Traffic::Writes.endpoint(), Traffic::FreshReads.endpoint()));
            command.arg(&program).arg("--patroni").arg(cluster.url(member, ""));
            agents.push(Process::start(&mut command, &directory.join(format!("agent-{}.log", member.name)))?);
        }
        cluster.heal();
        let primary = cluster.primary().ok_or("no primary")?;
        primary.connect(cluster.postgres_port)?.batch_execute("CREATE TABLE witness (who text)")?;

        let local = [IpAddr::from(Ipv4Addr::LOCALHOST)];
        let backends: BTreeMap<String, u16> =
            BACKENDS.iter().zip(5000..).map(|(name, port)| ((*name).to_owned(), free_port(&local, port))).collect();
        let home = directory.join("haproxy");
        user.make_dir(&home)?;
        let sections = sections(&cluster, agent_ports.0, &backends);
        let haproxy = Haproxy::start(user.command(Path::new("haproxy"), "KILL"), &home, &sections)?;
        let directory = directory.to_owned();
        Ok(Lab { directory, user, cluster, haproxy, agent_ports, backends, _agents: agents })
    }

    fn run(&mut self, fault: &Fault) -> Result<Value, Box<dyn Error>> {
        eprintln!("{}: {}", fault.name, fault.title);
        self.settle();
        let primary = self.cluster.leader().ok_or("no primary")?;
        let old = self.cluster.members[primary].name.clone();
        let mut sessions = BTreeMap::new();
        for (name, port) in &self.backends {
            let opened: Result<Vec<_>, _> = (0..SESSIONS).map(|_| client(*port)).collect();
            sessions.insert(name.clone(), opened?);
        }
        let port = match fault.traffic {
            Traffic::Writes => self.agent_ports.0,
            Traffic::FreshReads => self.agent_ports.1,
        };
        let mut witness = Witness::new(&self.cluster, fault.traffic, port, &self.backends);
        thread::sleep(Duration::from_secs(3));
        let began = witness.elapsed();
        (fault.happens)(self, primary)?;
        let restored = witness.elapsed();
        // Nobody may have noticed yet.
        thread::sleep(Duration::from_secs(1));
        eprintln!("{}: over after {:.1} s; healing", fault.name, (restored - began).as_secs_f64());
        self.settle();
        // Each client has written again.
        let settled = witness.elapsed();
        let deadline = Instant::now() + PATIENCE;
        while !witness.writers.values().all(|writer| writer.last_write() > Some(settled)) {
            if Instant::now() > deadline {
                return Err("a client of HAProxy's never wrote again".into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        thread::sleep(Duration::from_secs(1));
        let end = witness.finish();
        let cut =
            |clients: &mut Vec<postgres::Client>| clients.iter_mut().filter_map(|c| c.batch_execute("").err()).count();
        let cut: BTreeMap<_, _> = sessions.iter_mut().map(|(name, clients)| (name, cut(clients))).collect();

        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let sums: Vec<Sums> = (0..RULES.len()).map(|rule| witness.sums(rule, end)).collect();
        let by_rule = |part: fn(&Sums) -> Duration| -> BTreeMap<&str, u64> {
            RULES.iter().zip(&sums).map(|(rule, sums)| (*rule, ms(part(sums)))).collect()
        };
        let outages: BTreeMap<_, _> =
            witness.writers.iter().map(|(name, writer)| (name, ms(writer.longest_outage()))).collect();
        let track = |track: &lab::witness::Track| -> Vec<(u64, u32)> {
            track.changes().into_iter().map(|(at, value)| (ms(at), value)).collect()
        };
        let nodes: BTreeMap<_, _> = witness
            .nodes
            .iter()
            .map(|(name, seen)| {
                let ready: BTreeMap<_, _> = RULES.iter().zip(&seen.ready).map(|(r, t)| (*r, track(t))).collect();
                (name, json!({"fit": track(&seen.fit), "ready": ready}))
            })
            .collect();
        Ok(json!({
            "name": fault.name,
            "title": fault.title,
            "endpoint": fault.traffic.endpoint(),
            "primary before": old,
            "primary after": self.cluster.leader().map(|leader| &self.cluster.members[leader].name),
            "began ms": ms(began),
            "restored ms": ms(restored),
            "end ms": ms(end),
            "longest unfit ms": ms(witness.longest_unfit(end)),
            "READY though not fit ms": by_rule(|sums| sums.wrong),
            "leader fit and not READY ms": by_rule(|sums| sums.missed),
            "two READY ms": by_rule(|sums| sums.double),
            "write outage ms": outages,
            "sessions cut": cut,
            "sessions": SESSIONS,
            "nodes": nodes,
        }))
    }

    /// Waits until the cluster is whole and each backend has the primary UP and nobody else.
    fn settle(&self) {
        self.cluster.heal();
        await_that("the primary alone UP in each backend", || {
            let Some(primary) = self.cluster.primary() else { return false };
            BACKENDS.iter().all(|backend| {
                self.cluster.members.iter().all(|member| {
                    let is_up = self.haproxy.status(backend, &member.name).is_ok_and(|status| status == "UP");
                    is_up == (member.name == primary.name)
                })
            })
        });
    }

    fn versions(&self) -> Value {
        let first_line = |program: &str, argument: &str| {
            let output = Command::new(program).arg(argument).stdin(Stdio::null()).output();
            let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            text.lines().next().unwrap_or_default().to_owned()
        };
        let postgres = lab::cluster::postgres_bin().map(|bin| bin.join("postgres").display().to_string());
        let cores = thread::available_parallelism().map_or(0, usize::from);
        let haproxy = first_line("haproxy", "-v");
        json!([
            first_line("patroni", "--version"),
            first_line(&postgres.unwrap_or_default(), "--version"),
            haproxy.split(" 20").next(),
            format!("{cores} cores"),
        ])
    }
}

/// The three backends: Patroni's own template, and the two of the README, word by word but for the addresses.
fn sections(cluster: &Cluster, agent_port: u16, backends: &BTreeMap<String, u16>) -> String {
    let official = "listen official
    bind :5000
    option httpchk OPTIONS /master
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
    server db1 192.0.2.1:5432 maxconn 100 check port 8008
";
    let [article, recommended] = &readme()[..] else { panic!("the README has two configurations") };
    let blocks = [official, article, recommended].into_iter().zip(BACKENDS);
    let listen = |(block, name): (&str, &str)| {
        let mut lines = Vec::new();
        for line in block.lines() {
            if line.trim_start().starts_with("server db1 ") {
                lines.extend(cluster.members.iter().map(|member| {
                    let address = format!("{}:{}", member.ip, cluster.postgres_port);
                    line.replace("db1", &member.name).replace("192.0.2.1:5432", &address)
                }));
            } else if line.starts_with("listen ") {
                lines.push(format!("listen {name}"));
            } else if !line.trim_start().starts_with("server db") {
                lines.push(line.to_owned());
            }
        }
        lines
            .join("\n")
            .replace("bind :5000", &format!("bind 127.0.0.1:{}", backends[name]))
            .replace("port 5555", &format!("port {agent_port}"))
            .replace("port 8008", &format!("port {}", cluster.patroni_port))
    };
    // The official template's.
    let defaults = "defaults
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s
";
    [defaults.to_owned()].into_iter().chain(blocks.map(listen)).collect::<Vec<_>>().join("\n\n") + "\n"
}

/// The table for the README.
fn markdown(report: &Value) -> String {
    let cells = |value: &Value, keys: &[&str]| {
        let cells = keys.iter().map(|key| value[*key].to_string());
        cells.collect::<Vec<_>>().join(" / ")
    };
    let mut table = "| fault | nobody could | READY, but could not: role / status / patroni-check | could, but not READY: the same \
        | two READY | a client's longest outage: official / article / recommended | sessions cut, of 5 |
|---|---|---|---|---|---|---|
"
    .to_owned();
    for fault in report["faults"].as_array().into_iter().flatten() {
        let writes = fault["endpoint"] == Traffic::Writes.endpoint();
        let for_writes = |text: String| if writes { text } else { "–".to_owned() };
        table += &format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            fault["title"].as_str().unwrap_or_default(),
            for_writes(fault["longest unfit ms"].to_string()),
            cells(&fault["READY though not fit ms"], &RULES),
            for_writes(cells(&fault["leader fit and not READY ms"], &RULES)),
            for_writes(cells(&fault["two READY ms"], &RULES)),
            cells(&fault["write outage ms"], &BACKENDS),
            cells(&fault["sessions cut"], &BACKENDS),
        );
    }
    let on: Vec<_> = report["on"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!("{table}\nMilliseconds, by `make faults` on {}.\n", on.join(", "))
}
