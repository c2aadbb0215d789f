//! What happens to the replicas.

use std::error::Error;
use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::json;

use super::Outcome;
use crate::cluster::Member;
use crate::testbed::Testbed;
use crate::{Process, await_that};

pub struct Scenario {
    pub name: &'static str,
    pub title: &'static str,
    /// Does it, to the member with this number or one after it, and undoes it.
    pub happens: fn(&mut Testbed, usize) -> Outcome,
}

/// Two writing clients, 200 transactions a second.
const STEADY: &[&str] = &["-n", "-c", "2", "-R", "200"];

pub const SCENARIOS: [Scenario; 15] = [
    Scenario { name: "idle", title: "nothing, for 20 s", happens: |_, _| pause(20) },
    Scenario {
        name: "bulk-load",
        title: "`pgbench -i -s 50` on the primary",
        happens: |testbed, primary| finish(pgbench(testbed, primary, &["-i", "-s", "50", "-q"], None)?),
    },
    Scenario {
        name: "bulk-load-busy",
        title: "the same while four clients keep each replica busy",
        happens: |testbed, primary| {
            // Of no table, as they are dropped.
            let script = testbed.directory.join("busy.sql");
            fs::write(&script, "SELECT sum(i) FROM generate_series(1, 20000) i;\n")?;
            let query = ["-n", "-c", "4", "-f", script.to_str().ok_or("no text")?];
            let replicas = (0..testbed.cluster.members.len()).filter(|member| *member != primary);
            let reading = replicas.map(|replica| pgbench(testbed, replica, &query, Some(600)));
            // Ended with their values.
            let _reading: Vec<Process> = reading.collect::<Result<_, _>>()?;
            finish(pgbench(testbed, primary, &["-i", "-s", "50", "-q"], None)?)
        },
    },
    Scenario {
        name: "busy",
        title: "`pgbench -c 8` on the primary for 30 s",
        happens: |testbed, primary| finish(pgbench(testbed, primary, &["-n", "-c", "8"], Some(30))?),
    },
    Scenario {
        name: "big-update",
        title: "one UPDATE of five million rows",
        happens: |testbed, primary| {
            let mut client = testbed.cluster.members[primary].connect(testbed.cluster.postgres_port)?;
            Ok(client.batch_execute("UPDATE pgbench_accounts SET abalance = abalance + 1")?)
        },
    },
    Scenario {
        name: "long-query",
        title: "a query on a replica holds up what a VACUUM removed (`max_standby_streaming_delay` 30 s), 200 transactions/s",
        happens: |testbed, primary| {
            let (members, port) = (&testbed.cluster.members, testbed.cluster.postgres_port);
            let load = pgbench(testbed, primary, STEADY, Some(50))?;
            let mut reader = members[next(testbed, primary)].connect(port)?;
            reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pgbench_tellers")?;
            pause(2)?;
            members[primary].connect(port)?.batch_execute("VACUUM pgbench_tellers")?;
            // Postgres ends it.
            finish(load)
        },
    },
    Scenario {
        name: "switchover",
        title: "planned switchover",
        happens: |testbed, primary| {
            let members = &testbed.cluster.members;
            testbed.cluster.switch_over(&members[primary], &members[next(testbed, primary)])
        },
    },
    Scenario {
        name: "postgres-killed",
        title: "postmaster on the primary killed; Patroni starts it again",
        happens: |testbed, primary| {
            testbed.cluster.members[primary].kill_postgres()?;
            pause(20)
        },
    },
    Scenario {
        name: "failover",
        title: "primary and its Patroni killed, back after 60 s",
        happens: |testbed, primary| {
            let postmaster = testbed.cluster.members[primary].postmaster().ok_or("no postmaster")?;
            testbed.cluster.members[primary].end_patroni(Signal::KILL);
            kill_process(postmaster, Signal::KILL)?;
            pause(60)?;
            testbed.cluster.start_patroni(primary)
        },
    },
    Scenario {
        name: "no-primary",
        title: "paused, the primary's Postgres killed, for 30 s no primary",
        happens: |testbed, primary| {
            testbed.cluster.configure(&json!({"pause": true}))?;
            pause(15)?;
            testbed.cluster.members[primary].kill_postgres()?;
            pause(30)?;
            testbed.cluster.configure(&json!({"pause": null}))
        },
    },
    Scenario {
        name: "replica-restarted",
        title: "a replica's Postgres restarted",
        happens: |testbed, primary| testbed.cluster.restart_postgres(&testbed.cluster.members[next(testbed, primary)]),
    },
    Scenario {
        name: "dropped",
        title: "the primary's packets to a replica dropped for 100 s, 200 transactions/s",
        happens: |testbed, primary| {
            let load = pgbench(testbed, primary, STEADY, Some(100))?;
            let members = &testbed.cluster.members;
            let (from, to) = (&members[primary].host, &members[next(testbed, primary)].host);
            from.drop_packets(to, "add")?;
            finish(load)?;
            Ok(from.drop_packets(to, "del")?)
        },
    },
    Scenario {
        name: "refused",
        title: "a replica's replication ended and refused for 30 s, 200 transactions/s",
        happens: |testbed, primary| refuse(testbed, primary, STEADY, 30),
    },
    Scenario {
        name: "refused-quiet",
        title: "the same with 20 one-row updates/s and nothing else",
        happens: |testbed, primary| refuse(testbed, primary, &[], 30),
    },
    Scenario {
        name: "archive",
        title: "the same for 60 s, with an archive that the replica goes on from",
        happens: |testbed, _| {
            let archive = testbed.directory.join("archive");
            testbed.user.make_dir(&archive)?;
            let archive = archive.display();
            testbed.cluster.configure(&json!({"postgresql": {
                "parameters": {"archive_mode": "on", "archive_command": format!("cp %p {archive}/%f")},
                "recovery_conf": {"restore_command": format!("cp {archive}/%f %p")},
            }}))?;
            pause(15)?;
            for member in &testbed.cluster.members {
                testbed.cluster.restart_postgres(member)?;
            }
            testbed.cluster.heal();
            let primary = testbed.cluster.leader().ok_or("no primary")?;
            refuse(testbed, primary, STEADY, 60)
        },
    },
];

/// Those that pgbench works on.
pub fn make_tables(testbed: &Testbed) -> Outcome {
    finish(pgbench(testbed, testbed.cluster.leader().ok_or("no primary")?, &["-i", "-q"], None)?)
}

fn pause(seconds: u64) -> Outcome {
    thread::sleep(Duration::from_secs(seconds));
    Ok(())
}

fn next(testbed: &Testbed, member: usize) -> usize {
    (member + 1) % testbed.cluster.members.len()
}

/// The replica after the primary gets no replication for so long, as if its password were no more,
/// under this load.
fn refuse(testbed: &Testbed, primary: usize, load: &[&str], seconds: u64) -> Outcome {
    let replica: &Member = &testbed.cluster.members[next(testbed, primary)];
    let mut client = testbed.cluster.members[primary].connect(testbed.cluster.postgres_port)?;
    let load = if load.is_empty() { None } else { Some(pgbench(testbed, primary, load, Some(seconds))?) };
    client.batch_execute("ALTER ROLE replicator NOLOGIN")?;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = $1";
    await_that("an end of replication", || client.query(end, &[&replica.name]).is_ok_and(|rows| !rows.is_empty()));
    load.map_or_else(|| pause(seconds), finish)?;
    Ok(client.batch_execute("ALTER ROLE replicator LOGIN")?)
}

fn pgbench(
    testbed: &Testbed,
    member: usize,
    options: &[&str],
    seconds: Option<u64>,
) -> Result<Process, Box<dyn Error>> {
    let cluster = &testbed.cluster;
    let home = cluster.members[member].home.to_str().ok_or("no text")?;
    let seconds = seconds.map(|seconds| ["-T".to_owned(), seconds.to_string()]);
    let seconds = seconds.iter().flatten().map(String::as_str);
    testbed.pgbench(home, cluster.postgres_port, &options.iter().copied().chain(seconds).collect::<Vec<_>>())
}

fn finish(mut pgbench: Process) -> Outcome {
    let status = pgbench.wait();
    if status.success() { Ok(()) } else { Err(format!("pgbench: {}", pgbench.output()).into()) }
}
