//! `make bench`: patroni-check next to what this machine can do at all, in one run, as ratios. `bench BINARY FLOOR
//! DIRECTORY`; the table goes to the directory as Markdown and JSON.
//!
//! The floors are floor.c and bare sockets; Patroni is a real one, except where its requests are counted.

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

use lab::agent::Port;
use lab::cluster::{Cluster, Unprivileged};
use lab::host::Host;
use lab::standin::{StandIn, answer, primary};
use lab::{Process, any_port, await_that, house};

/// Each thing is measured so often, in turn with what it is compared with.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    house::keep(run)
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
    let [binary, floor, out] = arguments else { return Err("usage: bench BINARY FLOOR DIRECTORY".into()) };
    eprintln!("Starting a Patroni with PostgreSQL …");
    let cluster = Cluster::start(directory, Unprivileged::new(), Path::new("patroni"), Host::on_loopback(1))?;
    await_that("a primary", || stop.load(Ordering::Relaxed) || cluster.primary().is_some());
    let patroni = cluster.url(&cluster.members[0], "");
    let (binary, floor) = (fs::canonicalize(binary)?, fs::canonicalize(floor)?);
    let mut bench = Bench { binary: &binary, floor: &floor, directory, patroni, rows: Vec::new(), stop };
    type Part<'a> = (&'static str, fn(&mut Bench<'a>) -> Outcome);
    let parts: [Part; 8] = [
        ("checks a second", Bench::throughput),
        ("one check after an idle second", Bench::idle),
        ("a Patroni that refuses", Bench::refused),
        ("one process for each check", Bench::one_shot),
        ("start to first answer", Bench::start),
        ("requests to Patroni", Bench::protection),
        ("memory", Bench::memory),
        ("size", Bench::size),
    ];
    for (what, part) in parts {
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
    let rows = bench.rows.iter().map(|row| json!({"what": row.what, "measured": row.measured, "goal": row.goal, "reached": row.reached, "raw": row.raw}));
    fs::write(out.join("bench.json"), format!("{:#}\n", json!(rows.collect::<Vec<_>>())))?;
    println!("{table}");
    Ok(())
}

/// Many times of the same thing.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn of(count: usize, mut one: impl FnMut() -> Result<Duration, Box<dyn Error>>) -> Result<Self, Box<dyn Error>> {
        (0..count).map(|_| one()).collect::<Result<_, _>>().map(Times)
    }

    fn quantile(&self, share: f64) -> f64 {
        let mut sorted: Vec<f64> = self.0.iter().map(Duration::as_secs_f64).collect();
        sorted.sort_by(f64::total_cmp);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = ((sorted.len() - 1) as f64 * share).round() as usize;
        sorted[index]
    }

    fn p50(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// Median and extremes.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1])
}

fn ms(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1000.0)
}

/// One check: how long from the connect to the end of the answer.
fn timed_check(address: SocketAddr) -> io::Result<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut buffer = [0; 256];
    let mut count = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 if count > 0 => return Ok(start.elapsed()),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => count += more,
        }
    }
}

fn some_check(address: SocketAddr) -> Result<Duration, Box<dyn Error>> {
    Ok(timed_check(address)?)
}

/// One bare GET.
fn timed_get(url: &str) -> Result<Duration, Box<dyn Error>> {
    let address = url.trim_start_matches("http://");
    let start = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(format!("GET /primary HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(start.elapsed())
}

struct Load {
    a_second: f64,
    lost: usize,
    p99: f64,
}

/// Clients that check as fast as they can.
fn load(address: SocketAddr, clients: usize, time: Duration) -> Load {
    let lost = AtomicUsize::new(0);
    let start = Instant::now();
    let times: Vec<Duration> = thread::scope(|scope| {
        let client = || {
            let mut times = Vec::new();
            while start.elapsed() < time {
                match timed_check(address) {
                    Ok(time) => times.push(time),
                    Err(_) => _ = lost.fetch_add(1, Ordering::Relaxed),
                }
            }
            times
        };
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client does not panic")).collect()
    });
    #[expect(clippy::cast_precision_loss)]
    let a_second = times.len() as f64 / start.elapsed().as_secs_f64();
    Load { a_second, lost: lost.into_inner(), p99: Times(times).quantile(0.99) }
}

fn listening(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

impl Bench<'_> {
    fn start_process(&self, command: &mut Command, address: SocketAddr) -> Result<Process, Box<dyn Error>> {
        let log = self.directory.join(format!("{}.log", address.port()));
        let process = Process::start(command.stdin(Stdio::null()), &log)?;
        await_that("a listener", || listening(address));
        Ok(process)
    }

    fn agent(&self, patroni: &str, options: &[&str]) -> Result<(Process, SocketAddr), Box<dyn Error>> {
        let address = SocketAddr::from(([127, 0, 0, 1], any_port()));
        let mut command = Command::new(self.binary);
        command.args(["--patroni", patroni, "--listen", &address.to_string()]).args(options);
        Ok((self.start_process(&mut command, address)?, address))
    }

    fn floor(&self) -> Result<(Process, SocketAddr), Box<dyn Error>> {
        let address = SocketAddr::from(([127, 0, 0, 1], any_port()));
        let mut command = Command::new(self.floor);
        command.args(["listen", &address.port().to_string()]);
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

    fn throughput(&mut self) -> Outcome {
        let (_floor, floor) = self.floor()?;
        let (_agent, agent) = self.agent(&self.patroni, &[])?;
        let original = SocketAddr::from(([127, 0, 0, 1], any_port()));
        let mut python = Command::new("python3");
        python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/original.py"));
        python.args([&original.port().to_string(), &self.patroni]);
        let _python = self.start_process(&mut python, original)?;
        for clients in [1, 16] {
            let (mut ratios, mut ours, mut floors, mut originals) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let time = Duration::from_secs(2);
                let bare = load(floor, clients, time);
                let agent = load(agent, clients, time);
                ratios.push(agent.a_second / bare.a_second);
                ours.push(agent);
                floors.push(bare);
                originals.push(load(original, clients, time));
            }
            let (ratio, low, high) = spread(&ratios);
            let rate = |loads: &[Load]| spread(&loads.iter().map(|load| load.a_second).collect::<Vec<_>>()).0;
            let p99 = |loads: &[Load]| spread(&loads.iter().map(|load| load.p99).collect::<Vec<_>>()).0;
            let lost = |loads: &[Load]| loads.iter().map(|load| load.lost).sum::<usize>();
            let measured = format!(
                "{ratio:.2} ({low:.2} to {high:.2}) of the floor: {:.0} of {:.0}; lost {}; p99 {}; the original {:.0}, lost {}, p99 {}",
                rate(&ours),
                rate(&floors),
                lost(&ours),
                ms(p99(&ours)),
                rate(&originals),
                lost(&originals),
                ms(p99(&originals)),
            );
            let reached = ratio >= 0.8 && lost(&ours) == 0 && (clients == 1 || p99(&ours) < 0.005);
            let raw = json!({"ratios": ratios, "ours": rate(&ours), "floor": rate(&floors), "original": rate(&originals), "lost": lost(&ours), "p99": p99(&ours), "original_lost": lost(&originals), "original_p99": p99(&originals)});
            self.row(
                format!("checks/s, {clients} clients, from a fresh observation"),
                measured,
                "0.8 of accept-write-close, none lost, p99 at 16 under 5 ms",
                Some(reached),
                raw,
            );
        }
        Ok(())
    }

    fn idle(&mut self) -> Outcome {
        let (_floor, floor) = self.floor()?;
        let (_agent, agent) = self.agent(&self.patroni, &[])?;
        let (mut ours, mut get, mut bare) = (Times::default(), Times::default(), Times::default());
        for _ in 0..25 {
            thread::sleep(Duration::from_secs(1));
            ours.0.push(timed_check(agent)?);
            thread::sleep(Duration::from_secs(1));
            get.0.push(timed_get(&self.patroni)?);
            bare.0.push(timed_check(floor)?);
        }
        let floor = get.p50() + bare.p50();
        let ratio = ours.p50() / floor;
        let measured = format!("{ratio:.2}: p50 {} beside {}", ms(ours.p50()), ms(floor));
        self.row(
            "one check after an idle second",
            measured,
            "1.2 × (GET + accept-write-close)",
            Some(ratio <= 1.2),
            json!({"ours": ours.p50(), "get": get.p50(), "bare": bare.p50(), "ours_p90": ours.quantile(0.9)}),
        );
        Ok(())
    }

    fn refused(&mut self) -> Outcome {
        let nobody = SocketAddr::from(([127, 0, 0, 1], any_port()));
        let (_floor, floor) = self.floor()?;
        let (_agent, agent) = self.agent(&format!("http://{nobody}"), &["--max-age", "0s", "--grace", "0s"])?;
        let mut ratios = Vec::new();
        let (mut all_ours, mut all_floor) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let ours = Times::of(400, || some_check(agent))?.p50();
            let refused = Times::of(400, || {
                let start = Instant::now();
                Ok(TcpStream::connect(nobody).map_or_else(|_| start.elapsed(), |_| Duration::ZERO))
            })?;
            let floor = refused.p50() + Times::of(400, || some_check(floor))?.p50();
            ratios.push(ours / floor);
            all_ours.push(ours);
            all_floor.push(floor);
        }
        let (ratio, low, high) = spread(&ratios);
        let (ours, floor) = (spread(&all_ours).0, spread(&all_floor).0);
        let measured = format!("{ratio:.2} ({low:.2} to {high:.2}): p50 {} beside {}", ms(ours), ms(floor));
        self.row(
            "a check that finds Patroni refusing",
            measured,
            "1.3 × (refused connect + accept-write-close)",
            Some(ratio <= 1.3),
            json!({"ratios": ratios, "ours": ours, "floor": floor}),
        );
        Ok(())
    }

    fn one_shot(&mut self) -> Outcome {
        let floor_program = self.floor.display().to_string();
        let binary = self.binary.display().to_string();
        let patroni = self.patroni.clone();
        let (_floor, floor) = self.accepting(&[&floor_program, "once"])?;
        let (_agent, agent) = self.accepting(&[&binary, "--patroni", &patroni])?;
        let (mut ratios, mut all_ours, mut all_floor) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let ours = Times::of(60, || some_check(agent))?.p50();
            let bare = Times::of(60, || some_check(floor))?.p50() + Times::of(60, || timed_get(&patroni))?.p50();
            ratios.push(ours / bare);
            all_ours.push(ours);
            all_floor.push(bare);
        }
        let (ratio, low, high) = spread(&ratios);
        let measured = format!(
            "{ratio:.2} ({low:.2} to {high:.2}): p50 {} beside {}",
            ms(spread(&all_ours).0),
            ms(spread(&all_floor).0)
        );
        self.row(
            "one process for each check (Accept=yes), wall",
            measured,
            "1.5 × (static C program + GET)",
            Some(ratio <= 1.5),
            json!({"ratios": ratios, "ours": spread(&all_ours).0, "floor": spread(&all_floor).0}),
        );
        // Processor time, of processes that are our own children.
        let cpu = |program: &str, arguments: &[&str]| -> Result<f64, Box<dyn Error>> {
            let used = || {
                getrusage(UsageWho::RUSAGE_CHILDREN).map(|usage| {
                    let seconds = |time: nix::sys::time::TimeVal| {
                        Duration::new(time.tv_sec().unsigned_abs(), u32::try_from(time.tv_usec()).unwrap_or(0) * 1000)
                    };
                    seconds(usage.user_time()) + seconds(usage.system_time())
                })
            };
            let before = used()?;
            for _ in 0..100 {
                Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
            }
            Ok((used()? - before).as_secs_f64() / 100.0)
        };
        let (ours, bare) = (cpu(&binary, &["--patroni", &patroni])?, cpu(&floor_program, &["once"])?);
        self.row(
            "the same, processor time",
            format!("{} (the C program {})", ms(ours), ms(bare)),
            "3 ms",
            Some(ours <= 0.003),
            json!({"ours": ours, "floor": bare}),
        );
        let instructions = |program: &str, arguments: &[&str]| -> Result<u64, Box<dyn Error>> {
            let mut command = Command::new("valgrind");
            command
                .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", program])
                .args(arguments)
                .stdin(Stdio::null());
            let output = command.output()?;
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let count = text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
            count.ok_or_else(|| format!("callgrind: {text}").into())
        };
        let (ours, bare) = (instructions(&binary, &["--patroni", &patroni])?, instructions(&floor_program, &["once"])?);
        self.row(
            "the same, instructions (callgrind)",
            format!("{ours} (the C program {bare})"),
            "",
            None,
            json!({"ours": ours, "floor": bare}),
        );
        Ok(())
    }

    fn start(&mut self) -> Outcome {
        let mut beyond = Vec::new();
        for _ in 0..4 * ROUNDS {
            let port = Port::new();
            let mut command = Command::new("sh");
            command.args(["-c", r#"exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@""#]).arg(self.binary);
            command.args(["--patroni", &self.patroni]).stdin(port.stdin());
            let start = Instant::now();
            let process = Process::start(&mut command, &self.directory.join("start.log"))?;
            timed_check(port.address)?;
            let ours = start.elapsed();
            drop(process);
            let get = Times::of(5, || timed_get(&self.patroni))?.p50();
            beyond.push(ours.as_secs_f64() - get);
        }
        let (middle, low, high) = spread(&beyond);
        let measured = format!(
            "{} ({} to {}) beyond the GET, the shell that passes the listener included",
            ms(middle),
            ms(low),
            ms(high)
        );
        self.row(
            "start to first answer of the persistent service",
            measured,
            "5 ms beyond the GET",
            Some(middle <= 0.005),
            json!({"beyond": beyond}),
        );
        Ok(())
    }

    fn protection(&mut self) -> Outcome {
        let patroni = StandIn::new(primary());
        let newer = r#"{"state": "running", "role": "primary", "timeline": 1, "patroni": {"version": "4.0.6"}}"#;
        patroni.now(answer(200, newer));
        // Patroni's own time, a p50 of which was measured.
        patroni.delay(Duration::from_millis(2));
        let endpoints = ["/primary", "/replica", "/read-only", "/sync"];
        for views in [1, 4] {
            let addresses: Vec<SocketAddr> =
                (0..views).map(|_| SocketAddr::from(([127, 0, 0, 1], any_port()))).collect();
            let mut command = Command::new(self.binary);
            command.args(["--patroni", &patroni.url()]);
            for (address, endpoint) in addresses.iter().zip(endpoints) {
                command.args(["--listen", &format!("{address}={endpoint}")]);
            }
            let agent = self.start_process(&mut command, addresses[0])?;
            for (rate, clients) in [(1, 1), (10, 10), (100, 100), (1000, 200)] {
                let time = Duration::from_secs(5);
                let (before, ticks) = (patroni.requests().len(), agent.ticks());
                let start = Instant::now();
                let answered = AtomicUsize::new(0);
                thread::scope(|scope| {
                    for client in 0..clients {
                        let (addresses, answered) = (&addresses, &answered);
                        scope.spawn(move || {
                            let pause = Duration::from_secs(clients) / rate;
                            let mut next = start
                                + pause * u32::try_from(client).unwrap_or(0) / u32::try_from(clients).unwrap_or(1);
                            for turn in 0.. {
                                thread::sleep(next.saturating_duration_since(Instant::now()));
                                if next > start + time {
                                    break;
                                }
                                let view = (usize::try_from(client).unwrap_or(0) + turn) % addresses.len();
                                answered
                                    .fetch_add(usize::from(timed_check(addresses[view]).is_ok()), Ordering::Relaxed);
                                next += pause;
                            }
                        });
                    }
                });
                let elapsed = start.elapsed().as_secs_f64();
                #[expect(clippy::cast_precision_loss)]
                let (asked, cpu, answered) = (
                    (patroni.requests().len() - before) as f64 / elapsed / views as f64,
                    (agent.ticks() - ticks) as f64 / elapsed,
                    answered.into_inner() as f64 / elapsed,
                );
                let flight = patroni.most_in_flight();
                let reached = asked <= 10.0 && flight <= views && (rate < 1000 || cpu < 5.0);
                let measured = format!(
                    "{asked:.1} a second and view, at most {flight} at once; {answered:.0} answered/s, {cpu:.1} % of a core"
                );
                self.row(
                    format!("requests to Patroni: {views} views, {clients} clients, {rate} checks/s"),
                    measured,
                    "10 a second and view, one in flight each; 5 % of a core at 1,000/s",
                    Some(reached),
                    json!({"asked": asked, "in_flight": flight, "cpu_percent": cpu}),
                );
            }
        }
        Ok(())
    }

    fn memory(&mut self) -> Outcome {
        let (agent, address) = self.agent(&self.patroni, &[])?;
        let resident = || -> Result<u64, Box<dyn Error>> {
            let status = fs::read_to_string(format!("/proc/{}/status", agent.id()))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
            Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
        };
        let first = resident()?;
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while answered.load(Ordering::Relaxed) < 1_000_000 && !self.stop.load(Ordering::Relaxed) {
                        answered.fetch_add(usize::from(timed_check(address).is_ok()), Ordering::Relaxed);
                    }
                });
            }
        });
        let million = resident()?;
        // Answered, and lingering until they close.
        let clients: Vec<TcpStream> = (0..1000).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
        thread::sleep(Duration::from_millis(100));
        let open = resident()?;
        drop(clients);
        #[expect(clippy::cast_precision_loss)]
        let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        self.row(
            "resident memory after a million checks",
            format!("{} ({} at the start)", mb(million), mb(first)),
            "4 MB",
            Some(million <= 4_000_000),
            json!({"bytes": million, "start": first}),
        );
        self.row(
            "resident memory with 1,000 open clients",
            mb(open),
            "6 MB",
            Some(open <= 6_000_000),
            json!({"bytes": open}),
        );
        Ok(())
    }

    fn size(&mut self) -> Outcome {
        let bytes = fs::metadata(self.binary)?.len();
        let mut tree = Command::new(env!("CARGO"));
        tree.args(["tree", "--locked", "-e", "normal", "--prefix", "none"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        let text = String::from_utf8(tree.output()?.stdout)?;
        let mut crates: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        crates.sort_unstable();
        crates.dedup();
        self.row(
            "binary, with TLS",
            format!("{bytes} bytes; {} crates", crates.len() - 1),
            "2 MB",
            Some(bytes <= 2_000_000),
            json!({"bytes": bytes, "crates": crates.len() - 1}),
        );
        Ok(())
    }
}
