//! The faults, and what must hold in each.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::json;

use super::recorder::Traffic;
use super::{Lab, Outcome};
use crate::testbed::Testbed;
use crate::{Process, await_that};

pub struct Fault {
    pub name: &'static str,
    pub title: &'static str,
    pub traffic: Traffic,
    /// Whether a replica is promoted behind Patroni's back. The leader is not the one on the newest
    /// timeline then.
    pub by_hand: bool,
    /// Whether there is no room for the load of both modes at once, so that each has its turn.
    pub apart: bool,
    /// What patroni-check must keep to.
    pub goals: Goals,
    /// Does it, to the member with this number, and undoes it.
    pub happens: fn(&mut Lab, usize) -> Outcome,
}

/// At most so much of each.
pub struct Goals {
    /// None for reads, which every replica takes.
    pub two_ready_ms: Option<u64>,
    /// None where it can't be helped: Patroni itself learns it late, or nobody on the host can say
    /// anything.
    pub ready_though_not_fit_ms: Option<u64>,
    /// Whether the primary is one that goes on. If it stays the primary, it is always READY and
    /// none of its sessions is cut.
    pub primary_goes_on: bool,
}

const FAILOVER: Goals = Goals { two_ready_ms: Some(0), ready_though_not_fit_ms: Some(100), primary_goes_on: false };
const GOES_ON: Goals = Goals { primary_goes_on: true, ..FAILOVER };
/// Reads: the primary has no part in it, and Patroni notices late what befalls a replica.
const READS: Goals = Goals { two_ready_ms: None, ready_though_not_fit_ms: None, ..GOES_ON };
/// Patroni notices the death of Postgres, but not at once.
const POSTGRES_DIES: Goals = Goals { ready_though_not_fit_ms: None, ..FAILOVER };

const fn fault(
    name: &'static str,
    title: &'static str,
    goals: Goals,
    happens: fn(&mut Lab, usize) -> Outcome,
) -> Fault {
    Fault { name, title, traffic: Traffic::Writes, by_hand: false, apart: false, goals, happens }
}

/// Longer than the leader key's lease (ttl, 20 s).
const LONGER_THAN_TTL: Duration = Duration::from_secs(30);

/// Long enough for each Patroni to read a change of the configuration, and to notice that the store
/// is away or back.
const A_WHILE: Duration = Duration::from_secs(8);

pub const FAULTS: [Fault; 19] = [
    fault("switchover", "planned switchover", FAILOVER, |lab, primary| {
        let members = &lab.testbed.cluster.members;
        lab.testbed.cluster.switch_over(&members[primary], &members[lab.next(primary)])
    }),
    fault("patroni-killed", "Patroni on the primary killed, back after 30 s", FAILOVER, |lab, primary| {
        lab.testbed.cluster.members[primary].end_patroni(Signal::KILL);
        thread::sleep(Duration::from_secs(30));
        lab.testbed.cluster.start_patroni(primary)
    }),
    fault("postgres-killed", "postmaster on the primary killed", POSTGRES_DIES, |lab, primary| {
        lab.testbed.cluster.members[primary].kill_postgres()
    }),
    fault("etcd-stopped", "etcd stopped for 20 s", FAILOVER, |lab, _| {
        lab.testbed.cluster.stop_etcd();
        thread::sleep(Duration::from_secs(20));
        lab.testbed.cluster.start_etcd()
    }),
    fault("patroni-frozen", "Patroni on the primary frozen for 30 s", FAILOVER, |lab, primary| {
        lab.testbed.cluster.members[primary].signal_patroni(Signal::STOP);
        thread::sleep(Duration::from_secs(30));
        lab.testbed.cluster.members[primary].signal_patroni(Signal::CONT);
        Ok(())
    }),
    fault("backend-frozen", "Patroni's backends on the primary frozen for 10 s", FAILOVER, |lab, primary| {
        let member = &lab.testbed.cluster.members[primary];
        let which = "application_name LIKE 'Patroni%' OR usename = 'postgres' AND query LIKE '%pg_last_xact_replay%' \
            AND pid <> pg_backend_pid()";
        let frozen = member.signal_backends(lab.testbed.cluster.postgres_port, which, Signal::STOP)?;
        thread::sleep(Duration::from_secs(10));
        for pid in frozen {
            kill_process(pid, Signal::CONT)?;
        }
        Ok(())
    }),
    fault(
        "postgres-cannot-start",
        "postmaster on the primary killed, and can't start for 20 s",
        POSTGRES_DIES,
        |lab, primary| {
            let member = &lab.testbed.cluster.members[primary];
            // Patroni writes postgresql.conf itself, which includes this file.
            let file = member.home.join("data/postgresql.base.conf");
            let good = fs::read_to_string(&file)?;
            fs::write(&file, format!("{good}\nno_such_parameter = on\n"))?;
            member.kill_postgres()?;
            thread::sleep(Duration::from_secs(20));
            Ok(fs::write(&file, good)?)
        },
    ),
    fault("pause-restart", "Patroni on the primary restarted in pause mode", GOES_ON, |lab, primary| {
        lab.testbed.cluster.configure(&json!({"pause": true}))?;
        thread::sleep(Duration::from_secs(5));
        lab.testbed.cluster.members[primary].end_patroni(Signal::TERM);
        lab.testbed.cluster.start_patroni(primary)?;
        thread::sleep(Duration::from_secs(8));
        lab.testbed.cluster.configure(&json!({"pause": null}))
    }),
    Fault {
        name: "overloaded",
        title: "primary overloaded for 15 s: 60 heavy queries, four busy loops",
        traffic: Traffic::Writes,
        by_hand: false,
        apart: true,
        // A write of ours may take too long as well.
        goals: Goals { ready_though_not_fit_ms: None, ..GOES_ON },
        happens: |lab, primary| {
            let script = lab.testbed.directory.join("heavy.sql");
            fs::write(&script, "SELECT count(*), avg(i) FROM generate_series(1, 500000) i;\n")?;
            let Testbed { cluster, .. } = &lab.testbed;
            let home = cluster.members[primary].home.to_str().ok_or("no text")?;
            let heavy = ["-n", "-c", "60", "-j", "4", "-T", "15", "-f", script.to_str().ok_or("no text")?];
            let mut pgbench = lab.testbed.pgbench(home, cluster.postgres_port, &heavy)?;
            let busy = || {
                let mut command = lab.testbed.user.command(Path::new("sh"), "KILL");
                Process::start(command.args(["-c", "while :; do :; done"]), &lab.testbed.directory.join("busy.log"))
            };
            let _busy: Vec<Process> = (0..4).map(|_| busy()).collect::<Result<_, _>>()?;
            let status = pgbench.wait();
            if status.success() { Ok(()) } else { Err(format!("pgbench: {}", pgbench.output()).into()) }
        },
    },
    fault(
        "query-fails",
        "Patroni's query on the primary hangs, then fails: its table locked for 4 s",
        GOES_ON,
        |lab, primary| {
            // Patroni's query names pg_authid, and its statement_timeout is 2 s (api.py).
            let mut client = lab.testbed.cluster.members[primary].connect(lab.testbed.cluster.postgres_port)?;
            Ok(client
                .batch_execute("BEGIN; LOCK TABLE pg_authid IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(4); COMMIT")?)
        },
    ),
    fault("key-deleted", "leader key deleted eight times", GOES_ON, |lab, primary| {
        for _ in 0..8 {
            lab.testbed.cluster.delete_leader_key()?;
            thread::sleep(Duration::from_secs(1));
            let holder = &lab.testbed.cluster.members[primary];
            await_that("the key in the same hands again", || {
                lab.testbed.cluster.status(holder, "/primary") == Some(200)
            });
            thread::sleep(Duration::from_secs(2));
        }
        Ok(())
    }),
    fault("failsafe", "failsafe mode, etcd frozen for 30 s", GOES_ON, |lab, _| {
        lab.testbed.cluster.configure(&json!({"failsafe_mode": true}))?;
        thread::sleep(A_WHILE);
        freeze_etcd(lab);
        lab.testbed.cluster.configure(&json!({"failsafe_mode": null}))
    }),
    fault("paused-alone", "paused, etcd stopped for 30 s, then frozen for 30 s", GOES_ON, |lab, _| {
        lab.testbed.cluster.configure(&json!({"pause": true}))?;
        thread::sleep(A_WHILE);
        // A new etcd has the leader key for another ttl; a frozen one has it no more.
        lab.testbed.cluster.stop_etcd();
        thread::sleep(LONGER_THAN_TTL);
        lab.testbed.cluster.start_etcd()?;
        thread::sleep(A_WHILE);
        freeze_etcd(lab);
        lab.testbed.cluster.configure(&json!({"pause": null}))
    }),
    Fault {
        name: "paused-split",
        title: "paused, a replica promoted by hand, then etcd frozen for 30 s",
        traffic: Traffic::Writes,
        by_hand: true,
        apart: false,
        // Which of the two takes the key afterwards is chance, and an interval passes until both
        // agents have heard.
        goals: Goals { two_ready_ms: Some(100), ..GOES_ON },
        happens: |lab, primary| {
            lab.testbed.cluster.configure(&json!({"pause": true}))?;
            thread::sleep(A_WHILE);
            lab.testbed.cluster.promote_by_hand(&lab.testbed.cluster.members[lab.next(primary)])?;
            thread::sleep(A_WHILE);
            freeze_etcd(lab);
            // Patroni makes the one without the key a replica again.
            lab.testbed.cluster.configure(&json!({"pause": null}))
        },
    },
    Fault {
        name: "host-frozen",
        title: "the primary's host frozen for 35 s: Patroni, Postgres and the agent",
        traffic: Traffic::Writes,
        by_hand: false,
        apart: false,
        // READY was its last word, until the health check beside the agent has failed. And Patroni
        // 3.0.2, back again, puts its name into the leader key without a look at who is there
        // (etcd3.py, _update_leader): the key moves.
        goals: Goals { two_ready_ms: Some(100), ready_though_not_fit_ms: None, ..FAILOVER },
        happens: |lab, primary| {
            let frozen = lab.freeze_host(primary)?;
            thread::sleep(Duration::from_secs(35));
            for pid in frozen {
                // A backend whose client went away may be gone, or one that answered a check.
                let _ = kill_process(pid, Signal::CONT);
            }
            Ok(())
        },
    },
    fault(
        "promotion-after-boot",
        "first promotion after a boot on which the agent was asked before Patroni was up",
        FAILOVER,
        |lab, primary| {
            let replica = lab.next(primary);
            lab.testbed.cluster.members[replica].end_patroni(Signal::TERM);
            lab.boot_agents(replica)?;
            thread::sleep(Duration::from_secs(5));
            lab.testbed.cluster.start_patroni(replica)?;
            lab.testbed.cluster.heal();
            thread::sleep(Duration::from_secs(2));
            lab.testbed
                .cluster
                .switch_over(&lab.testbed.cluster.members[primary], &lab.testbed.cluster.members[replica])
        },
    ),
    Fault {
        name: "replica-postgres-killed",
        title: "postmaster on a replica killed under read clients",
        traffic: Traffic::Reads,
        by_hand: false,
        apart: false,
        goals: READS,
        happens: |lab, primary| lab.testbed.cluster.members[lab.next(primary)].kill_postgres(),
    },
    Fault {
        name: "replication-cut",
        title: "a replica's replication cut for 15 s, asked with lag=1MB",
        traffic: Traffic::FreshReads,
        by_hand: false,
        apart: false,
        goals: READS,
        happens: |lab, primary| {
            let port = lab.testbed.cluster.postgres_port;
            let members = &lab.testbed.cluster.members;
            let frozen =
                members[lab.next(primary)].signal_backends(port, "backend_type = 'walreceiver'", Signal::STOP)?;
            let write = "INSERT INTO writes SELECT repeat('x', 1000) FROM generate_series(1, 5000)";
            members[primary].connect(port)?.batch_execute(write)?;
            thread::sleep(Duration::from_secs(15));
            for pid in frozen {
                kill_process(pid, Signal::CONT)?;
            }
            Ok(())
        },
    },
    fault("partition", "the primary's host cut off from all others for 40 s", FAILOVER, |lab, primary| {
        lab.testbed.cluster.members[primary].host.pull_cable()?;
        thread::sleep(Duration::from_secs(40));
        Ok(lab.testbed.cluster.members[primary].host.plug_cable()?)
    }),
];

/// The leader key's lease ends meanwhile.
fn freeze_etcd(lab: &Lab) {
    lab.testbed.cluster.signal_etcd(Signal::STOP);
    thread::sleep(LONGER_THAN_TTL);
    lab.testbed.cluster.signal_etcd(Signal::CONT);
    thread::sleep(A_WHILE);
}
