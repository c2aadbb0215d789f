//! Where the long run takes place: in a booted Debian, by its units, or on this machine with what
//! systemd would do done by hand.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use lab::agent::{Agent, PASS_STDIN, Port, without_settings};
use lab::machine::Machine;
use lab::{await_some, process};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// One persistent service, or one process for each check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Service,
    EachCheck,
}

pub trait Place: Sync {
    fn mode(&self) -> Mode;
    fn address(&self) -> SocketAddr;
    /// Where checks by HTTP are answered, if they are.
    fn http(&self) -> Option<SocketAddr> {
        None
    }
    /// Within this a check is answered, from when somebody looks at it.
    fn deadline(&self) -> Duration {
        Duration::from_millis(80)
    }
    /// How many check at once.
    fn clients(&self) -> usize {
        if self.mode() == Mode::Service { 8 } else { 2 }
    }
    fn start(&self, patroni: &str, authority: &str);
    /// Of the service.
    fn restart(&self);
    fn crash(&self);
    /// Runs the program beside it, for holds.
    fn command(&self, arguments: &[&str]);
    fn upgrade(&self);
    /// Whether there is a journal here that can stall.
    fn stall_journal(&self, _time: Duration) -> bool {
        false
    }
    /// Whether there is a clock here that can be set.
    fn restart_after_sleep(&self, _seconds: u64) -> bool {
        false
    }
    /// The service's resident memory in kB, and its descriptors.
    fn footprint(&self) -> (u64, usize);
}

pub struct Booted<'a> {
    pub machine: &'a Machine,
    pub mode: Mode,
}

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

impl Place for Booted<'_> {
    fn mode(&self) -> Mode {
        self.mode
    }

    fn address(&self) -> SocketAddr {
        local(5555)
    }

    fn http(&self) -> Option<SocketAddr> {
        (self.mode == Mode::Service).then_some(local(5559))
    }

    /// systemd takes longer than the default to start a process, where two start at once.
    fn deadline(&self) -> Duration {
        Duration::from_millis(if self.mode == Mode::Service { 80 } else { 400 })
    }

    fn start(&self, patroni: &str, authority: &str) {
        let deadline = self.deadline();
        let settings = format!(
            "PATRONI_CHECK_PATRONI={patroni}\nPATRONI_CHECK_CACERT=/etc/patroni-check/ca.crt\n\
             PATRONI_CHECK_DEADLINE={deadline:?}\n"
        );
        self.machine.sh("systemctl stop patroni-check.socket patroni-check.service; mkdir -p /etc/patroni-check");
        fs::write(self.machine.path("/etc/patroni-check/ca.crt"), authority).expect("root may write it");
        fs::write(self.machine.path("/etc/default/patroni-check"), settings).expect("root may write it");
        match self.mode {
            Mode::Service => self.machine.sh("systemctl start patroni-check.socket patroni-check-http.socket"),
            Mode::EachCheck => self.machine.sh("systemctl stop patroni-check-http.socket; \
                 install -D -m 644 /usr/share/doc/patroni-check/examples/accept-yes.conf \
                 /etc/systemd/system/patroni-check.socket.d/accept-yes.conf; \
                 systemctl daemon-reload; systemctl start patroni-check.socket"),
        };
    }

    fn restart(&self) {
        self.machine.sh("systemctl try-restart patroni-check.service");
    }

    fn crash(&self) {
        self.machine.sh("pkill -KILL -x patroni-check || true");
    }

    fn command(&self, arguments: &[&str]) {
        self.machine.sh(&format!("patroni-check {}", arguments.join(" ")));
    }

    fn upgrade(&self) {
        self.machine.sh(
            "cp /usr/bin/patroni-check /usr/bin/patroni-check.new; mv /usr/bin/patroni-check.new /usr/bin/patroni-check; \
             /usr/lib/patroni-check/restart",
        );
    }

    fn stall_journal(&self, time: Duration) -> bool {
        let seconds = time.as_secs_f32();
        self.machine.sh(&format!(
            "id=$(systemctl show -P MainPID systemd-journald); kill -STOP $id; sleep {seconds}; kill -CONT $id"
        ));
        true
    }

    fn footprint(&self) -> (u64, usize) {
        await_some("a service that runs", || {
            let id = self.machine.sh("systemctl show -P MainPID patroni-check.service");
            footprint(&self.machine.path(&format!("/proc/{id}")))
        })
    }
}

fn footprint(process: &Path) -> Option<(u64, usize)> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    Some((process::status_field(&status, "VmRSS")?, fs::read_dir(process.join("fd")).ok()?.count()))
}

/// On this machine, with the program that `make` builds, or another one in `SOAK_PROGRAM`.
pub struct Bare {
    mode: Mode,
    program: PathBuf,
    directory: TempDir,
    address: SocketAddr,
    /// The service's, which is open while there is none.
    port: Port,
    /// With each process; where there is one for each check, what starts them.
    agent: Mutex<Option<Agent>>,
    options: Mutex<Vec<String>>,
    more: Vec<&'static str>,
    /// A process forgets what it knows. (A broken program.)
    is_forgetful: bool,
    /// How long the host has slept, in seconds.
    slept: Mutex<u64>,
}

impl Bare {
    pub fn new(mode: Mode, options: &[&'static str], is_forgetful: bool) -> Self {
        let port = Port::bind();
        let directory = tempfile::tempdir().expect("a directory");
        Bare {
            mode,
            program: directory.path().join("patroni-check"),
            directory,
            address: if mode == Mode::Service { port.address } else { local(lab::any_port()) },
            port,
            agent: Mutex::default(),
            options: Mutex::default(),
            more: options.to_vec(),
            is_forgetful,
            slept: Mutex::new(0),
        }
    }

    /// The program that `make` builds, or another one.
    fn install(&self) {
        let built = lab::repository().join("target/release/patroni-check");
        let built = std::env::var_os("SOAK_PROGRAM").map_or(built, PathBuf::from);
        fs::copy(built, self.path("new")).expect("it is built");
        fs::rename(self.path("new"), &self.program).expect("one file replaces another");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn agent(&self) -> MutexGuard<'_, Option<Agent>> {
        self.agent.lock().expect("nobody has panicked with it")
    }

    /// The agent, and what it has started.
    fn processes(&self) -> Vec<u32> {
        let Some(agent) = &*self.agent() else { return Vec::new() };
        let id = agent.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        std::iter::once(id).chain(children.split_whitespace().filter_map(|id| id.parse().ok())).collect()
    }

    fn signal(&self, id: u32, signal: Signal) {
        let id = i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process id");
        // It may be gone.
        let _ = kill_process(id, signal);
    }

    fn begin(&self) {
        let options = self.options.lock().expect("nobody has panicked with it").clone();
        let options: Vec<&str> = options.iter().map(String::as_str).chain(self.more.iter().copied()).collect();
        let runtime = format!("RUNTIME_DIRECTORY={}", self.directory.path().display());
        let agent = match self.mode {
            Mode::EachCheck => {
                let mut command = Command::new("systemd-socket-activate");
                command.args(["--accept", "-l", &self.address.to_string(), "-E", &runtime]).arg(&self.program);
                command.args(&options).stdin(Stdio::null());
                Agent::start(without_settings(&mut command), self.address)
            }
            Mode::Service => {
                let slept = self.slept.lock().expect("nobody has panicked with it").to_string();
                let mut command = Command::new(if slept == "0" { "sh" } else { "unshare" });
                if slept != "0" {
                    command.args(["--time", "--boottime", &slept, "--kill-child", "--", "sh"]);
                }
                command.args(["-c", PASS_STDIN]).arg(&self.program).args(&options).stdin(self.port.stdin());
                if !self.is_forgetful {
                    command.env("RUNTIME_DIRECTORY", self.directory.path());
                }
                Agent::start(without_settings(&mut command), self.address)
            }
        };
        *self.agent() = Some(agent);
    }

    fn end(&self, signal: Signal) {
        if self.mode == Mode::Service {
            self.processes().last().iter().for_each(|id| self.signal(**id, signal));
            let ended = self.agent().take();
            ended.into_iter().for_each(|mut agent| _ = agent.process.wait());
        }
    }
}

impl Place for Bare {
    fn mode(&self) -> Mode {
        self.mode
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn start(&self, patroni: &str, authority: &str) {
        fs::write(self.path("ca.crt"), authority).expect("it can be written");
        let path = |name: &str| self.path(name).display().to_string();
        let options = ["--patroni", patroni, "--cacert", &path("ca.crt"), "--hold-file", &path("hold")];
        *self.options.lock().expect("nobody has panicked with it") = options.map(str::to_owned).to_vec();
        self.install();
        self.begin();
    }

    fn restart(&self) {
        if self.mode == Mode::Service {
            self.end(Signal::TERM);
            self.begin();
        }
    }

    fn crash(&self) {
        match self.mode {
            Mode::Service => {
                self.end(Signal::KILL);
                self.begin();
            }
            Mode::EachCheck => self.processes().iter().skip(1).for_each(|id| self.signal(*id, Signal::KILL)),
        }
    }

    fn command(&self, arguments: &[&str]) {
        let hold_file = self.path("hold");
        let output = Command::new(&self.program)
            .args(arguments)
            .arg("--hold-file")
            .arg(hold_file)
            .output()
            .expect("the program runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn upgrade(&self) {
        self.install();
        self.restart();
    }

    fn restart_after_sleep(&self, seconds: u64) -> bool {
        let mut clock = Command::new("unshare");
        clock.args(["--time", "--boottime", "1", "--", "true"]).stderr(Stdio::null());
        if self.mode == Mode::EachCheck || !clock.status().is_ok_and(|status| status.success()) {
            return false;
        }
        self.end(Signal::TERM);
        *self.slept.lock().expect("nobody has panicked with it") += seconds;
        self.begin();
        true
    }

    fn footprint(&self) -> (u64, usize) {
        let is_ours =
            |id: &u32| fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name == "patroni-check\n");
        await_some("a service that runs", || {
            let id = self.processes().into_iter().rfind(is_ours)?;
            footprint(Path::new(&format!("/proc/{id}")))
        })
    }
}
