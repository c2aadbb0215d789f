//! The demo as a newcomer runs it: a real Patroni cluster, a switchover, what HAProxy thinks of it,
//! and nothing left behind however it ends.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use rustix::process::Signal;
use tempfile::TempDir;

use lab::agent::binary_path;
use lab::haproxy::parse_csv;
use lab::{Process, await_some, requires};

/// One cluster at a time: two that start at once could choose the same free port.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Demo {
    process: Process,
    directory: TempDir,
}

impl Demo {
    /// As the README says; what cargo builds is there already.
    fn make(seconds: &str) -> Self {
        let mut command = Command::new("make");
        command.args(["demo", "CARGO=true"]).arg(format!("DEMO_SECONDS={seconds}"));
        Demo::start(&mut command)
    }

    /// Without make, so that a signal reaches it.
    fn run(binary: &Path) -> Self {
        Demo::start(Command::new(lab::repository().join(DEMO)).arg(binary))
    }

    fn start(command: &mut Command) -> Self {
        let directory = TempDir::new().unwrap();
        // PostgreSQL's user has to get through.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        command.current_dir(lab::repository()).env("TMPDIR", directory.path()).stdin(Stdio::null());
        let log = directory.path().join("log");
        Demo { process: Process::start(command, &log).unwrap(), directory }
    }

    fn await_output(&mut self, text: &str) {
        await_some(text, || {
            let output = self.process.output();
            let ended = self.process.try_wait();
            assert!(ended.is_none() || output.contains(text), "the demo has ended ({ended:?}):\n{output}");
            output.contains(text).then_some(())
        });
    }

    /// The processes that have something to do with the demo's directory.
    fn processes(&self) -> Vec<String> {
        let needle = self.directory.path().to_string_lossy().into_owned();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok());
        lines.filter(|line| line.contains(&needle)).collect()
    }

    /// Waits for its end and sees that nothing is left of it.
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.process.wait().code();
        let output = self.process.output();
        assert_eq!(self.processes(), [""; 0], "left behind; its output:\n{output}");
        let left = fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["log"], "left behind; its output:\n{output}");
        (code, output)
    }

    /// What HAProxy itself says of the servers of a backend, on the address that the demo shows.
    fn statuses(&self, backend: &str) -> BTreeMap<String, String> {
        let output = self.process.output();
        let url = output.lines().find_map(|line| line.trim().strip_prefix("HAProxy's stats page: ")).unwrap();
        let csv = ureq::get(format!("{url};csv")).call().unwrap().body_mut().read_to_string().unwrap();
        let rows = parse_csv(&csv).into_iter();
        let servers = rows.filter(|row| row["pxname"] == backend && row["svname"].starts_with("member"));
        servers.map(|row| (row["svname"].clone(), row["status"].clone())).collect()
    }

    /// Waits until one server is UP in both backends and the others DOWN and MAINT; says which is
    /// UP.
    fn await_one_up(&self, not: Option<&str>) -> String {
        await_some("one UP, the others DOWN and MAINT", || {
            let (usual, ours) = (self.statuses("usual"), self.statuses("patroni-check_read_write"));
            let up: Vec<_> = ours.iter().filter(|(_, status)| *status == "UP").map(|(name, _)| name.clone()).collect();
            let [up] = up.as_slice() else { return None };
            let as_it_should_be = usual.len() == 3
                && usual.iter().all(|(name, status)| *status == if name == up { "UP" } else { "DOWN" })
                && ours.iter().all(|(name, status)| *status == if name == up { "UP" } else { "MAINT" });
            (as_it_should_be && not != Some(up)).then(|| up.clone())
        })
    }
}

/// As `make demo` builds it.
const DEMO: &str = "target/release/demo";

fn can_run() -> bool {
    let programs = ["make", "patroni", "etcd", "haproxy", "postgresql", "setpriv", "systemd-socket-activate"];
    requires(&programs) && requires(&[DEMO, "target/release/patroni-check"])
}

#[test]
fn a_switchover_on_a_real_cluster() {
    if !can_run() {
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // As if somebody had these in use: a port of all members, one of HAProxy's.
    let taken = ["127.0.0.2:8008", "127.0.0.1:5000"].map(std::net::TcpListener::bind);
    let mut demo = Demo::make("30");
    demo.await_output("a cluster with one primary");
    let before = demo.await_one_up(None);
    demo.await_output(&format!("switchover from {before} to "));
    demo.await_one_up(Some(&before));
    let (code, output) = demo.end();
    assert_eq!(code, Some(0), "{output}");
    drop(taken);
}

#[test]
fn nothing_is_left_behind_however_it_ends() {
    if !can_run() {
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Ctrl-C and a closed terminal, while PostgreSQL runs.
    for signal in [Signal::INT, Signal::HUP] {
        let mut demo = Demo::run(&binary_path());
        demo.await_output("running");
        assert!(!demo.processes().is_empty());
        demo.process.signal(signal);
        assert_eq!(demo.end().0, Some(0));
    }
    // The demo proper dies; the process guard is its parent.
    let mut demo = Demo::run(&binary_path());
    demo.await_output("running");
    let parent = demo.process.id();
    let child = await_some("the demo proper", || {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    });
    rustix::process::kill_process(rustix::process::Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
    assert_eq!(demo.end().0, Some(1));
    // An error on the way.
    let demo = Demo::run(Path::new("/nonexistent"));
    let (code, output) = demo.end();
    assert_eq!(code, Some(1));
    assert!(output.contains("No such file"), "{output}");
}
