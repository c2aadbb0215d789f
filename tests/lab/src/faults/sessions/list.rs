//! The scenarios.

use std::error::Error;
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use super::stage::{Backend, Sessions, Stage, seen, view};
use super::{Outcome, Scenario, Seen};
use crate::clients::{Work, Worker};
use crate::cluster::Member;
use crate::fake_patroni::{Behaviour, FakePatroni};
use crate::host::BRIDGE;
use crate::recorded;
use crate::sampling::Sampling;
use crate::testbed::Testbed;
use crate::{await_that, process::Process};

/// Longer than what happens.
const LONG_QUERY: &str = "SELECT pg_sleep(10)";

pub const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "replica-lags",
        title: "its WAL receiver frozen, 5 MB behind; one of its sessions in a long query",
        happens: lags,
    },
    Scenario { name: "replica-promoted", title: "a switchover makes it the primary", happens: promoted },
    Scenario { name: "replica-held", title: "held for maintenance while `pgbench -S -C -c 8` goes on", happens: held },
    Scenario {
        name: "replica-flaps",
        title: "Patroni says yes and no of it by turns, 13 times in 8 s; then yes",
        happens: flaps,
    },
];

/// Sessions through each of the backends.
fn open(stage: &Stage) -> Result<Vec<Sessions>, Box<dyn Error>> {
    stage.all().map(|n| stage.open(n)).collect()
}

fn code(view: &str) -> String {
    format!("`{view}`")
}

fn lags(testbed: &Testbed) -> Outcome {
    const BACKENDS: [Backend; 3] =
        [view("/replica"), view("/replica?lag=1MB"), view("/replica?lag=1MB&on-standby=drain")];
    let stage = Stage::start(testbed, &BACKENDS, |_| None)?;
    let replica = stage.replicas()?[0];
    let mut sessions = open(&stage)?;
    let watch = stage.watch(replica);
    let running: Vec<_> = sessions.iter_mut().map(|sessions| sessions.begin(replica, LONG_QUERY)).collect();
    // Not by pg_wal_replay_pause, as Patroni resumes it.
    let port = testbed.cluster.postgres_port;
    let frozen = replica.signal_backends(port, "backend_type = 'walreceiver'", Signal::STOP)?;
    let primary = testbed.cluster.primary().ok_or("no primary")?;
    let (mut primary, mut other) = (primary.connect(port)?, stage.replicas()?[1].connect(port)?);
    // Little by little, so that the other one is never so far behind.
    for _ in 0..10 {
        primary.batch_execute("INSERT INTO writes SELECT repeat('x', 1000) FROM generate_series(1, 500)")?;
        let written: String = primary.query_one("SELECT pg_current_wal_lsn()::text", &[])?.get(0);
        let has_it = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
        await_that("the other replica", || other.query_one(has_it, &[&written]).is_ok_and(|row| row.get(0)));
    }
    await_that("a replica that lags", || (1..BACKENDS.len()).all(|n| stage.status(n, replica) != "UP"));
    let new: Vec<u64> = stage.all().map(|n| stage.try_new(n, replica)).collect::<Result<_, _>>()?;
    let went_on: Vec<bool> = running.into_iter().map(|query| query.join().unwrap_or(false)).collect();
    for pid in frozen {
        kill_process(pid, Signal::CONT)?;
    }
    await_that("a replica that has caught up", || stage.all().all(|n| stage.status(n, replica) == "UP"));
    let statuses = watch.finish().into_iter();
    let all = statuses.zip(&mut sessions).zip(went_on).zip(new).zip(&BACKENDS);
    let all = all.map(|((((statuses, sessions), went_on), new), Backend { view, .. })| Seen {
        new: Some(new),
        ..seen(&code(view), statuses, replica, sessions, Some(went_on))
    });
    Ok(all.collect())
}

fn promoted(testbed: &Testbed) -> Outcome {
    const VIEW: &str = "/replica?lag=1MB&on-standby=drain";
    const BACKENDS: [Backend; 2] = [Backend { view: VIEW, cuts: false }, view(VIEW)];
    let stage = Stage::start(testbed, &BACKENDS, |_| None)?;
    let replica = stage.replicas()?[0];
    let primary = testbed.cluster.primary().ok_or("no primary")?;
    let mut sessions = open(&stage)?;
    let watch = stage.watch(replica);
    testbed.cluster.switch_over(primary, replica)?;
    testbed.cluster.heal();
    await_that("the former primary for reads", || {
        stage.all().all(|n| stage.status(n, primary) == "UP" && stage.status(n, replica) != "UP")
    });
    let new: Vec<u64> = stage.all().map(|n| stage.try_new(n, replica)).collect::<Result<_, _>>()?;
    let all = watch.finish().into_iter().zip(&mut sessions).zip(new).zip(&BACKENDS);
    let all = all.map(|(((statuses, sessions), new), Backend { view, cuts })| {
        let with = code(view) + if *cuts { "" } else { ", without `on-marked-down`" };
        Seen { new: Some(new), ..seen(&with, statuses, replica, sessions, None) }
    });
    Ok(all.collect())
}

/// One after the other, as a hold is for the host.
fn held(testbed: &Testbed) -> Outcome {
    const BACKENDS: [Backend; 1] = [view("/replica")];
    let primary = testbed.cluster.leader().ok_or("no primary")?;
    let primary = &testbed.cluster.members[primary];
    let home = primary.home.to_str().ok_or("no text")?;
    let mut made = testbed.pgbench(home, testbed.cluster.postgres_port, &["-i", "-q"])?;
    made.wait();
    testbed.cluster.heal();
    let stage = Stage::start(testbed, &BACKENDS, |_| None)?;
    let mut all = Vec::new();
    for options in [&["--on", "/replica"][..], &["--drain", "--on", "/replica"]] {
        let replica = stage.replicas()?[0];
        let mut sessions = stage.open(0)?;
        let pgbench =
            testbed.pgbench("127.0.0.1", stage.port(0), &["-n", "-S", "-C", "-c", "8", "-j", "8", "-T", "12"])?;
        await_that("pgbench at work", || stage.count(0, replica, "stot") > 100);
        let watch = stage.watch(replica);
        let query = sessions.begin(replica, "SELECT pg_sleep(5)");
        stage.hold(replica, &[&["hold"], options, &["new disk"]].concat())?;
        await_that("a hold", || stage.status(0, replica) != "UP");
        let before = stage.count(0, replica, "stot");
        let went_on = query.join().unwrap_or(false);
        let mut seen =
            seen(&code(&["hold", &options.join(" ")].join(" ")), Vec::new(), replica, &mut sessions, Some(went_on));
        drop(sessions);
        await_that("an empty replica", || stage.count(0, replica, "scur") == 0);
        seen.errors = Some(errors(pgbench));
        seen.new = Some(stage.count(0, replica, "stot") - before);
        stage.hold(replica, &["release"])?;
        await_that("a release", || stage.status(0, replica) == "UP");
        seen.statuses = watch.finish().remove(0);
        all.push(seen);
    }
    Ok(all)
}

/// How many of its clients a pgbench lost. It gives up a client with its first error.
fn errors(mut pgbench: Process) -> usize {
    let status = pgbench.wait();
    let output = pgbench.output();
    match output.matches(" aborted").count() {
        0 => usize::from(!status.success()),
        aborted => aborted,
    }
}

fn flaps(testbed: &Testbed) -> Outcome {
    const BACKENDS: [Backend; 4] = [
        view("/replica"),
        view("/replica?on-standby=drain"),
        view("/replica?calm=10s"),
        view("/replica?on-standby=drain&calm=10s"),
    ];
    // What Patroni said of a running replica, 200 and 503.
    let answer = |path| recorded::answers("4.1.5", "replica", path).swap_remove(0);
    let (good, bad) = (answer("/replica"), answer("/replica?tag_zone=a"));
    let ip = if testbed.cluster.members[0].host.has_cable() { BRIDGE } else { Ipv4Addr::LOCALHOST };
    let patroni = FakePatroni::at(&format!("{ip}:0"), Behaviour::Send(good.clone()));
    let number = testbed.cluster.leader().ok_or("no primary")?;
    let of: &Member = &testbed.cluster.members[(number + 1) % testbed.cluster.members.len()];
    let stage = Stage::start(testbed, &BACKENDS, |member| (member.name == of.name).then(|| patroni.url()))?;
    let mut sessions = open(&stage)?;
    let watch = stage.watch(of);
    let sampling = Sampling::new(Duration::from_millis(20));
    let workers = |n| (0..4).map(|_| Worker::start(sampling.clone(), stage.port(n), Work::Read)).collect::<Vec<_>>();
    let workers: Vec<Vec<_>> = stage.all().map(workers).collect();
    for _ in 0..13 {
        for (answer, is_good) in [(&bad, false), (&good, true)] {
            patroni.now(Behaviour::Send(answer.clone()));
            thread::sleep(Duration::from_millis(300));
            // On a slow machine a check may be lost.
            await_that("those that follow", || (0..2).all(|n| stage.status(n, of).starts_with("UP") == is_good));
        }
    }
    await_that("all well again", || stage.all().all(|n| stage.status(n, of) == "UP"));
    sampling.end();
    let mut all = Vec::new();
    for (((statuses, sessions), workers), Backend { view, .. }) in
        watch.finish().into_iter().zip(&mut sessions).zip(workers).zip(&BACKENDS)
    {
        let mut errors = 0;
        for (worker, thread) in workers {
            let _ = thread.join();
            errors += usize::try_from(worker.failures())?;
        }
        all.push(Seen { errors: Some(errors), ..seen(&code(view), statuses, of, sessions, None) });
    }
    Ok(all)
}
