//! Records what a real Patroni says, for tests/recorded: `record PATRONI_PROGRAM >
//! tests/recorded/VERSION.http`. A section begins with `=== NODE PATH`; the answer follows byte for
//! byte. `record PATRONI_PROGRAM lock` records the moments of the leader lock alone. How long each
//! answer lasted goes to standard error.

use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use lab::cluster::{Cluster, Member};
use lab::host::Host;
use lab::http::{Answer, get};
use lab::process_guard::{self, Network};
use lab::programs::Unprivileged;
use lab::{await_that, recorded};

const ENDPOINTS: [&str; 19] = [
    "/primary",
    "/master",
    "/read-write",
    "/leader",
    "/standby-leader",
    "/replica",
    "/replica?lag=1048576",
    "/replica?tag_zone=a",
    "/read-only",
    "/sync",
    "/synchronous",
    "/async",
    "/asynchronous",
    "/read-only-sync",
    "/quorum",
    "/read-only-quorum",
    "/health",
    "/readiness",
    "/liveness",
];

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    process_guard::run(Network::Ours, record)
}

fn record(directory: &Path, arguments: &[OsString], _: &AtomicBool) -> Outcome {
    let (program, lock_alone) = match arguments {
        [program] => (program, false),
        [program, lock] if lock == "lock" => (program, true),
        _ => return Err("usage: record PATRONI_PROGRAM [lock]".into()),
    };
    let mut cluster = Cluster::start(directory, Unprivileged::choose(), Path::new(program), Host::on_loopback(3))?;
    await_that("one primary and two replicas", || cluster.is_whole());
    if !lock_alone {
        record_endpoints(&cluster)?;
    }
    record_lock(&mut cluster)
}

/// Every endpoint on a primary and on a replica, a switchover, and a crash of Postgres.
fn record_endpoints(cluster: &Cluster) -> Outcome {
    let primary = cluster.primary().ok_or("no primary")?;
    let mut replicas = cluster.members.iter().filter(|member| member.name != primary.name);
    let (Some(replica), Some(other)) = (replicas.next(), replicas.next()) else { return Err("no replica".into()) };
    for path in ENDPOINTS {
        print(&format!("primary {path}"), &get(address(cluster, primary), path)?)?;
        print(&format!("replica {path}"), &get(address(cluster, replica), path)?)?;
    }

    // What only lasts for a moment: each new combination of status, state and role is recorded
    // once.
    thread::scope(|scope| {
        let watch = |name, member| scope.spawn(move || watch(cluster, name, member).map_err(|e| e.to_string()));
        let watches = [watch("switchover-old", primary), watch("switchover-new", replica)];
        cluster.switch_over(primary, replica)?;
        for watch in watches {
            watch.join().map_err(|_| "a watch panicked")??;
        }
        Ok::<(), Box<dyn Error>>(())
    })?;
    await_that("a whole cluster again", || cluster.is_whole());

    let crashing = if cluster.says(replica).is_some_and(|says| says.is_primary()) { replica } else { other };
    thread::scope(|scope| {
        let watched = scope.spawn(|| watch(cluster, "crash", crashing).map_err(|e| e.to_string()));
        thread::sleep(Duration::from_millis(100));
        crashing.kill_postgres()?;
        Ok(watched.join().map_err(|_| "the watch panicked")??)
    })
}

fn watch(cluster: &Cluster, name: &str, member: &Member) -> Outcome {
    let start = Instant::now();
    let mut seen = BTreeSet::new();
    while start.elapsed() < Duration::from_secs(15) {
        let answer = get(address(cluster, member), "/primary")?;
        if let Some(said) = Said::read(&answer) {
            if seen.insert((said.status, said.state, said.role)) {
                print(&format!("{name} /primary"), &answer)?;
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Longer than the leader key's lease (ttl, 20 s).
const LONGER_THAN_TTL: Duration = Duration::from_secs(26);

/// Long enough for Patroni to go round its loop twice, and to notice that the store is away or
/// back.
const A_WHILE: Duration = Duration::from_secs(8);

/// The moments in which nobody holds the leader key, or another than the node that is asked. The
/// store is away in two ways: a frozen etcd has lost the leader key when it goes on, one that
/// starts again has it for another ttl.
fn record_lock(cluster: &mut Cluster) -> Outcome {
    let freeze = |cluster: &mut Cluster| {
        cluster.signal_etcd(Signal::STOP);
        pass(LONGER_THAN_TTL)
    };
    let thaw = |cluster: &mut Cluster| {
        cluster.signal_etcd(Signal::CONT);
        pass(A_WHILE)
    };
    let stop = |cluster: &mut Cluster| {
        cluster.stop_etcd();
        pass(A_WHILE)
    };
    let start = |cluster: &mut Cluster| cluster.start_etcd().and_then(|()| pass(A_WHILE));

    let lock = ["/leader", "/primary", "/replica"];
    let [primary, replica] = nodes(cluster)?;
    during(cluster, &[("key-deleted", primary, &lock)], |cluster| {
        // Each time it is another moment of Patroni's loop.
        for _ in 0..5 {
            cluster.delete_leader_key()?;
            pass(Duration::from_secs(3))?;
        }
        Ok(())
    })?;

    if cluster.knows_failsafe()? {
        cluster.configure(&json!({"failsafe_mode": true}))?;
        pass(A_WHILE)?;
        let others = ("failsafe-replica", replica, &lock[1..]);
        during(cluster, &[("failsafe", primary, &lock), others], freeze)?;
        during(cluster, &[("failsafe-back", primary, &lock)], thaw)?;
        stop(cluster)?;
        during(cluster, &[("failsafe-back-restarted", primary, &lock)], start)?;
        cluster.configure(&json!({"failsafe_mode": null}))?;
    }
    cluster.heal();

    let [primary, replica] = nodes(cluster)?;
    during(cluster, &[("paused", primary, &lock[1..2])], |cluster| {
        cluster.configure(&json!({"pause": true}))?;
        pass(A_WHILE)
    })?;
    let others = ("paused-cut-off-replica", replica, &lock[1..]);
    during(cluster, &[("paused-cut-off", primary, &lock), others], freeze)?;
    during(cluster, &[("paused-back", primary, &lock)], thaw)?;
    stop(cluster)?;
    during(cluster, &[("paused-back-restarted", primary, &lock)], start)?;
    during(cluster, &[("paused-just-started", primary, &lock)], |cluster| start_anew(cluster, primary))?;
    during(cluster, &[("paused-split-other-holds", replica, &lock)], |cluster| {
        cluster.promote_by_hand(&cluster.members[replica])?;
        pass(A_WHILE)
    })?;
    let both = |old, new| [(old, primary, &lock[..2]), (new, replica, &lock[..2])];
    during(cluster, &both("paused-split-old", "paused-split-new"), freeze)?;
    during(cluster, &both("paused-split-back-old", "paused-split-back-new"), thaw)?;
    let both = [("unpaused-split-old", primary, &lock[1..2]), ("unpaused-split-new", replica, &lock[1..2])];
    during(cluster, &both, |cluster| {
        cluster.configure(&json!({"pause": null}))?;
        pass(A_WHILE)
    })?;
    cluster.heal();

    let [primary, replica] = nodes(cluster)?;
    during(cluster, &[("just-started", primary, &lock)], |cluster| {
        start_anew(cluster, primary)?;
        start_anew(cluster, primary)
    })?;
    during(cluster, &[("just-started-replica", replica, &lock[1..])], |cluster| start_anew(cluster, replica))?;
    during(cluster, &[("restarted-postgres", primary, &lock[1..2])], |cluster| {
        cluster.restart_postgres(&cluster.members[primary])?;
        pass(Duration::from_secs(4))
    })?;
    cluster.heal();

    let [primary, replica] = nodes(cluster)?;
    let both = |old, other| [(old, primary, &lock[1..]), (other, replica, &lock[1..])];
    during(cluster, &both("etcd-gone-demoted", "etcd-gone-replica"), stop)?;
    during(cluster, &both("etcd-back-demoted", "etcd-back-replica"), start)?;
    cluster.heal();

    // Another node has the key when this one goes on.
    let [primary, _] = nodes(cluster)?;
    during(cluster, &[("overtaken", primary, &lock[1..2])], |cluster| {
        cluster.members[primary].signal_patroni(Signal::STOP);
        await_that("another primary", || {
            let mut others = cluster.members.iter().enumerate().filter(|(number, _)| *number != primary);
            others.any(|(_, other)| cluster.status(other, "/primary") == Some(200))
        });
        cluster.members[primary].signal_patroni(Signal::CONT);
        pass(A_WHILE)
    })
}

fn pass(time: Duration) -> Outcome {
    thread::sleep(time);
    Ok(())
}

/// Kills Patroni, so that Postgres goes on, and starts it again.
fn start_anew(cluster: &mut Cluster, member: usize) -> Outcome {
    cluster.members[member].end_patroni(Signal::KILL);
    cluster.start_patroni(member)?;
    pass(Duration::from_secs(6))
}

/// The numbers of the primary and of a replica.
fn nodes(cluster: &Cluster) -> Result<[usize; 2], Box<dyn Error>> {
    let primary = cluster.leader().ok_or("no primary")?;
    Ok([primary, (primary + 1) % cluster.members.len()])
}

/// The name of the sections, the member's number, and what it is asked for again and again.
type Watched<'a> = (&'static str, usize, &'a [&'static str]);

/// Records each new combination of what decides the verdict, once, while something happens.
fn during(cluster: &mut Cluster, watched: &[Watched], happens: impl FnOnce(&mut Cluster) -> Outcome) -> Outcome {
    let (stop, start) = (AtomicBool::new(false), Instant::now());
    let seen = thread::scope(|scope| {
        // Also where it panics.
        let stopper = Stopper(&stop);
        let mut watches = Vec::new();
        for (node, member, paths) in watched {
            let address = address(cluster, &cluster.members[*member]);
            for path in *paths {
                let stop = &stop;
                watches.push((format!("{node} {path}"), scope.spawn(move || changes(address, path, start, stop))));
            }
        }
        thread::sleep(Duration::from_millis(200));
        happens(cluster)?;
        drop(stopper);
        let seen = watches.into_iter().map(|(title, watch)| (title, watch.join().unwrap_or_default()));
        Ok::<_, Box<dyn Error>>(seen.collect::<Vec<_>>())
    })?;
    for (title, changes) in seen {
        let mut recorded = BTreeSet::new();
        for (at, said, answer) in changes {
            let Some(said) = said else {
                eprintln!("{title}: {} ms: no answer", at.as_millis());
                continue;
            };
            eprintln!("{title}: {} ms: {} {} {} {}", at.as_millis(), said.status, said.state, said.role, said.flags);
            if recorded.insert(said) {
                print(&title, &answer)?;
            }
        }
    }
    Ok(())
}

struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// From when on, what was said, and the first answer that said it.
type Change = (Duration, Option<Said>, Vec<u8>);

fn changes(address: SocketAddr, path: &str, start: Instant, stop: &AtomicBool) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let answer = get(address, path).unwrap_or_default();
        let said = Said::read(&answer);
        if changes.last().is_none_or(|(_, last, _)| *last != said) {
            changes.push((start.elapsed(), said, answer));
        }
        thread::sleep(Duration::from_millis(10));
    }
    changes
}

/// What of an answer decides the verdict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    status: u16,
    state: String,
    role: String,
    flags: String,
}

impl Said {
    fn read(answer: &[u8]) -> Option<Self> {
        let Answer { status, body } = Answer::read(answer)?;
        let flags = ["pause", "cluster_unlocked", "failsafe_mode_is_active"];
        let flags: Vec<_> = flags.into_iter().filter(|flag| body[flag] == true).collect();
        Some(Said {
            status,
            state: body["state"].as_str()?.to_owned(),
            role: body["role"].as_str()?.to_owned(),
            flags: flags.join(" "),
        })
    }
}

fn address(cluster: &Cluster, member: &Member) -> SocketAddr {
    SocketAddr::new(member.ip, cluster.patroni_port)
}

fn print(title: &str, answer: &[u8]) -> Outcome {
    Ok(recorded::write(&mut std::io::stdout().lock(), title, answer)?)
}
