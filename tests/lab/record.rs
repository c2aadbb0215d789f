//! Records what a real Patroni says, for tests/recorded: `record PATRONI_PROGRAM > tests/recorded/VERSION.http`.
//! A section begins with `=== NODE PATH`; the answer follows byte for byte.

#[path = "mod.rs"]
mod lab;

use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use lab::cluster::{Cluster, Member, Unprivileged};
use lab::host::Host;
use lab::{await_that, house};

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

fn main() -> ExitCode {
    house::keep(record)
}

fn record(directory: &Path, arguments: &[OsString], _: &AtomicBool) -> Result<(), Box<dyn Error>> {
    let [program] = arguments else { return Err("usage: record PATRONI_PROGRAM".into()) };
    let cluster = Cluster::start(directory, Unprivileged::new(), Path::new(program), Host::on_loopback(3))?;
    await_that("one primary and two replicas", || cluster.is_whole());

    let primary = cluster.primary().ok_or("no primary")?;
    let mut replicas = cluster.members.iter().filter(|member| member.name != primary.name);
    let (Some(replica), Some(other)) = (replicas.next(), replicas.next()) else { return Err("no replica".into()) };
    for path in ENDPOINTS {
        print(&format!("primary {path}"), &get(&cluster, primary, path)?)?;
        print(&format!("replica {path}"), &get(&cluster, replica, path)?)?;
    }

    // What only lasts for a moment: each new combination of status, state and role is recorded once.
    thread::scope(|scope| {
        let cluster = &cluster;
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
        let watched = scope.spawn(|| watch(&cluster, "crash", crashing).map_err(|e| e.to_string()));
        thread::sleep(Duration::from_millis(100));
        crashing.kill_postgres()?;
        Ok(watched.join().map_err(|_| "the watch panicked")??)
    })
}

fn watch(cluster: &Cluster, name: &str, member: &Member) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut seen = BTreeSet::new();
    while start.elapsed() < Duration::from_secs(15) {
        let answer = get(cluster, member, "/primary")?;
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        if let Ok(node) = serde_json::from_str::<serde_json::Value>(body) {
            let status = head.lines().next().unwrap_or_default().to_owned();
            if seen.insert((status, node["state"].to_string(), node["role"].to_string())) {
                print(&format!("{name} /primary"), &answer)?;
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn get(cluster: &Cluster, member: &Member, path: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut stream = TcpStream::connect((member.ip, cluster.patroni_port))?;
    stream.set_read_timeout(Some(lab::PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: patroni\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn print(title: &str, answer: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "=== {title}")?;
    out.write_all(answer)?;
    writeln!(out)?;
    Ok(())
}
