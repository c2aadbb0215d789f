//! What a process costs: one for each check, and the start of the persistent service.

use std::error::Error;
use std::fs::File;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::Process;
use lab::agent::{PASS_STDIN, Port, connection};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;

use crate::checks::{some_check, timed_check, timed_get};
use crate::{Bench, Outcome, ROUNDS};
use lab::times::{Times, ms, spread};

/// In memory, as is the place where systemd makes a unit's runtime directory.
const RUN: &str = "/dev/shm";

/// Gives a program a connection as its standard input, as inetd does, and a memory.
fn with_connection(command: &mut Command, memory: &Path) -> TcpStream {
    let (its, client) = connection();
    command.stdin(OwnedFd::from(its)).env("RUNTIME_DIRECTORY", memory).env("BOOT_ID", "bench");
    client
}

impl Bench<'_> {
    pub fn one_shot(&mut self) -> Outcome {
        let floor_program = self.floor.display().to_string();
        let binary = self.binary.display().to_string();
        let (_bare, bare) = self.floor("patroni")?;
        let at_once = format!("http://{bare}");
        let patroni = self.patroni.clone();
        self.one_shot_beside("one process for each check (Accept=yes), wall", &patroni)?;
        self.one_shot_beside("the same, of a Patroni that answers at once", &at_once)?;
        // Processor time, of processes that are our own children.
        let memory = tempfile::tempdir_in(RUN)?;
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
                let mut command = Command::new(program);
                let client = with_connection(command.args(arguments), memory.path());
                let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
                drop(client);
                process.wait()?;
            }
            Ok((used()? - before).as_secs_f64() / 100.0)
        };
        let (ours, bare) = (cpu(&binary, &["--max-age=0s", "--patroni", &patroni])?, cpu(&floor_program, &["once"])?);
        self.row(
            "the same, processor time",
            format!("{} (the C program {})", ms(ours), ms(bare)),
            "3 ms",
            Some(ours <= 0.003),
            json!({"ours": ours, "floor": bare}),
        );
        let instructions = |program: &str, arguments: &[&str]| -> Result<u64, Box<dyn Error>> {
            let mut command = Command::new("valgrind");
            command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", program]).args(arguments);
            // As few variables as in a unit: what is read of them is counted as well.
            command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
            drop(with_connection(&mut command, memory.path()));
            let output = command.output()?;
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let count = text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
            count.ok_or_else(|| format!("callgrind: {text}").into())
        };
        // The first one finds no memory.
        instructions(&binary, &["--max-age=0s", "--patroni", &at_once])?;
        let ours = instructions(&binary, &["--max-age=0s", "--patroni", &at_once])?;
        let bare = instructions(&floor_program, &["once"])?;
        self.row(
            "the same, instructions (callgrind)",
            format!("{ours} (the C program {bare})"),
            "500,000",
            Some(ours <= 500_000),
            json!({"ours": ours, "floor": bare}),
        );
        Ok(())
    }

    fn one_shot_beside(&mut self, what: &str, patroni: &str) -> Outcome {
        let floor_program = self.floor.display().to_string();
        let binary = self.binary.display().to_string();
        let (_floor, floor) = self.accepting(&[&floor_program, "once"])?;
        let memory = tempfile::tempdir_in(RUN)?;
        let variable = format!("RUNTIME_DIRECTORY={}", memory.path().display());
        // Each check asks Patroni, however soon it comes after the one before.
        let (_agent, agent) = self.accepting(&["-E", &variable, &binary, "--max-age=0s", "--patroni", patroni])?;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let ours = Times::of(60, || some_check(agent))?.p50();
            let bare = Times::of(60, || some_check(floor))?.p50() + Times::of(60, || timed_get(patroni))?.p50();
            rounds.push((ours, bare));
        }
        self.wall_time(what, &rounds, (1.5, "1.5 × (static C program + GET)"));
        Ok(())
    }

    pub fn is(&mut self) -> Outcome {
        let ended = |command: &mut Command| -> Result<Duration, Box<dyn Error>> {
            let start = Instant::now();
            // The C program writes to its standard input, which inetd would make a connection.
            let nowhere = File::options().read(true).write(true).open("/dev/null")?;
            let status = command.stdin(nowhere).stdout(Stdio::null()).status()?;
            if status.success() { Ok(start.elapsed()) } else { Err(format!("{command:?}: {status}").into()) }
        };
        let patroni = self.patroni.clone();
        for (what, path) in [
            ("`patroni-check is /primary`, wall", std::env::var_os("PATH").unwrap_or_default()),
            ("the same, where there is no systemctl to ask for the service's settings", "/nowhere".into()),
        ] {
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                let ours = Times::of(60, || {
                    let mut command = Command::new(self.binary);
                    ended(command.args(["is", "/primary", "--quiet", "--patroni", &patroni]).env("PATH", &path))
                })?;
                let program = Times::of(60, || ended(Command::new(self.floor).arg("once")))?;
                rounds.push((ours.p50(), program.p50() + Times::of(60, || timed_get(&patroni))?.p50()));
            }
            self.wall_time(what, &rounds, (1.5, "1.5 × (static C program + GET)"));
        }
        Ok(())
    }

    pub fn start(&mut self) -> Outcome {
        let mut beyond = Vec::new();
        for _ in 0..4 * ROUNDS {
            let port = Port::bind();
            let mut command = Command::new("sh");
            command.args(["-c", PASS_STDIN]).arg(self.binary);
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
}
