//! `make bench`: patroni-check next to what this machine can do at all, in one run, as ratios.
//! `bench BINARY FLOOR DIRECTORY [PART…]`; the table goes to the directory as Markdown and JSON.
//!
//! The floors are floor.c and bare sockets; Patroni is a real one, except where its requests are
//! counted, and where its own time would hide ours.

mod answering;
mod checks;
mod footprint;
mod protection;
mod starting;

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use lab::cluster::Cluster;
use lab::host::Host;
use lab::process_guard::{self, Network};
use lab::programs::Unprivileged;
use lab::times::{ms, spread};
use lab::{Process, any_port, await_that};

/// Each thing is measured so often, in turn with what it is compared with.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    process_guard::run(Network::Ours, run)
}

/// What was measured, and what was to be reached.
struct Row {
    what: String,
    measured: String,
    goal: &'static str,
    reached: Option<bool>,
    raw: Value,
}

struct Bench<'a> {
    binary: &'a Path,
    floor: &'a Path,
    directory: &'a Path,
    patroni: String,
    rows: Vec<Row>,
    stop: &'a AtomicBool,
}

type Outcome = Result<(), Box<dyn Error>>;

fn run(directory: &Path, arguments: &[OsString], stop: &AtomicBool) -> Outcome {
    let [binary, floor, out, wanted @ ..] = arguments else {
        return Err("usage: bench BINARY FLOOR DIRECTORY [PART…]".into());
    };
    eprintln!("Starting a Patroni with PostgreSQL …");
    let cluster = Cluster::start(directory, Unprivileged::choose(), Path::new("patroni"), Host::on_loopback(1))?;
    await_that("a primary", || stop.load(Ordering::Relaxed) || cluster.primary().is_some());
    let patroni = cluster.url(&cluster.members[0], "");
    let (binary, floor) = (fs::canonicalize(binary)?, fs::canonicalize(floor)?);
    let mut bench = Bench { binary: &binary, floor: &floor, directory, patroni, rows: Vec::new(), stop };
    type Part<'a> = (&'static str, &'static str, fn(&mut Bench<'a>) -> Outcome);
    let parts: [Part; 11] = [
        ("throughput", "checks a second", Bench::throughput),
        ("http", "checks by HTTP", Bench::http),
        ("pause", "one check after an idle second", Bench::after_pause),
        ("refused", "a Patroni that refuses", Bench::refused),
        ("one-shot", "one process for each check", Bench::one_shot),
        ("is", "an exit status", Bench::is),
        ("start", "start to first answer", Bench::start),
        ("protection", "requests to Patroni", Bench::protection),
        ("memory", "memory", Bench::memory),
        ("idle", "an idle minute", Bench::idle_minute),
        ("size", "size", Bench::size),
    ];
    if let Some(unknown) = wanted.iter().find(|wanted| parts.iter().all(|(name, ..)| *wanted != name)) {
        return Err(format!("{unknown:?}: no part; there are {}", parts.map(|(name, ..)| name).join(", ")).into());
    }
    for (name, what, part) in parts {
        if !wanted.is_empty() && wanted.iter().all(|wanted| wanted != name) {
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        eprintln!("Measuring: {what} …");
        part(&mut bench)?;
    }
    let mut table = "| what | measured | goal | |\n|---|---|---|---|\n".to_owned();
    for row in &bench.rows {
        let mark = row.reached.map_or("", |reached| if reached { "reached" } else { "missed" });
        table += &format!("| {} | {} | {} | {mark} |\n", row.what, row.measured, row.goal);
    }
    let out = PathBuf::from(out);
    fs::create_dir_all(&out)?;
    fs::write(out.join("bench.md"), &table)?;
    let rows = bench.rows.iter().map(|row| {
        json!({
            "what": row.what,
            "measured": row.measured,
            "goal": row.goal,
            "reached": row.reached,
            "raw": row.raw,
        })
    });
    fs::write(out.join("bench.json"), format!("{:#}\n", json!(rows.collect::<Vec<_>>())))?;
    println!("{table}");
    Ok(())
}

impl Bench<'_> {
    /// A row about times in seconds by the wall clock: in each round ours, and what it is compared with.
    fn wall_time(&mut self, what: &str, rounds: &[(f64, f64)], (most, goal): (f64, &'static str)) {
        let of_each = |value: fn(&(f64, f64)) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
        let ratios = of_each(|(ours, floor)| ours / floor);
        let (ratio, low, high) = spread(&ratios);
        let (ours, floor) = (spread(&of_each(|(ours, _)| *ours)).0, spread(&of_each(|(_, floor)| *floor)).0);
        let measured = format!("{ratio:.2} ({low:.2} to {high:.2}): p50 {} beside {}", ms(ours), ms(floor));
        let raw = json!({"ratios": ratios, "ours": ours, "floor": floor});
        self.row(what, measured, goal, Some(ratio <= most), raw);
    }

    fn start_process(&self, command: &mut Command, address: SocketAddr) -> Result<Process, Box<dyn Error>> {
        let log = self.directory.join(format!("{}.log", address.port()));
        let process = Process::start(command.stdin(Stdio::null()), &log)?;
        await_that("a listener", || TcpStream::connect(address).is_ok());
        Ok(process)
    }

    fn agent(&self, patroni: &str, options: &[&str]) -> Result<(Process, SocketAddr), Box<dyn Error>> {
        let address = SocketAddr::from(([127, 0, 0, 1], any_port()));
        let mut command = Command::new(self.binary);
        command.args(["--patroni", patroni, "--listen", &address.to_string()]).args(options);
        Ok((self.start_process(&mut command, address)?, address))
    }

    fn floor(&self, what: &str) -> Result<(Process, SocketAddr), Box<dyn Error>> {
        let address = SocketAddr::from(([127, 0, 0, 1], any_port()));
        let mut command = Command::new(self.floor);
        command.args([what, &address.port().to_string()]);
        Ok((self.start_process(&mut command, address)?, address))
    }

    /// A program that systemd-socket-activate starts for each connection.
    fn accepting(&self, program: &[&str]) -> Result<(Process, SocketAddr), Box<dyn Error>> {
        let address = SocketAddr::from(([127, 0, 0, 1], any_port()));
        let mut command = Command::new("systemd-socket-activate");
        command.args(["-l", &address.to_string(), "--accept"]).args(program);
        Ok((self.start_process(&mut command, address)?, address))
    }

    fn row(
        &mut self,
        what: impl Into<String>,
        measured: String,
        goal: &'static str,
        reached: Option<bool>,
        raw: Value,
    ) {
        self.rows.push(Row { what: what.into(), measured, goal, reached, raw });
    }
}
