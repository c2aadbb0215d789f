//! A guard for a program that starts many others: nothing is left behind, whatever becomes of it.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, wait};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// In the environment of the process that does the work: its directory.
const DIRECTORY: &str = "LAB_GUARDED_DIRECTORY";

/// In the environment of a test binary that is the guard, or does the work: the work's arguments,
/// between `SEPARATOR`s.
const ARGUMENTS: &str = "LAB_GUARDED_ARGUMENTS";
const SEPARATOR: u8 = 0x1f;

/// How a guard that is a test binary ends when all went well: a test binary that found no such test
/// ends with 0.
const DONE: i32 = 42;

/// The work: a directory, the program's arguments, and whether to stop.
pub type Work = fn(&Path, &[OsString], &AtomicBool) -> Result<(), Box<dyn Error>>;

/// Where the work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Ours,
    /// One of its own, where we are root and may have one.
    Own,
}

/// Runs the work in a process of its own, with the program's arguments, in a directory that is gone
/// afterwards. It ends soon after `stop` is set: by Ctrl-C, a closed terminal, SIGTERM.
pub fn run(network: Network, work: Work) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if run_with(network, &arguments, work) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The same for a test, whose name is needed: the guard is the test binary once more, with this
/// test alone. Gives what was printed. `arguments` is called here and not there.
///
/// # Panics
/// When the work fails, with what it said.
pub fn run_test(test: &str, network: Network, arguments: impl FnOnce() -> Vec<OsString>, work: Work) -> String {
    if let Some(arguments) = std::env::var_os(ARGUMENTS) {
        let arguments = arguments.as_bytes().split(|byte| *byte == SEPARATOR);
        let arguments: Vec<OsString> = arguments.map(|argument| OsString::from_vec(argument.to_vec())).collect();
        let is_guard = std::env::var_os(DIRECTORY).is_none();
        std::process::exit(match run_with(network, &arguments, work) {
            true if is_guard => DONE,
            true => 0,
            false => 1,
        });
    }
    let mut guard = Command::new(std::env::current_exe().expect("a program"));
    guard.args([test, "--exact", "--nocapture"]).env(ARGUMENTS, arguments().join(OsStr::from_bytes(&[SEPARATOR])));
    let output = guard.stdin(Stdio::null()).output().expect("the test binary runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{printed}");
    assert_eq!(output.status.code(), Some(DONE), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

/// As the guard or, in the process that it has started, the work.
fn run_with(network: Network, arguments: &[OsString], work: Work) -> bool {
    let stop = Arc::new(AtomicBool::new(false));
    let handled = [SIGINT, SIGTERM, SIGHUP].map(|signal| signal_hook::flag::register(signal, Arc::clone(&stop)));
    assert!(handled.iter().all(Result::is_ok), "signals can be handled");
    let result = match std::env::var_os(DIRECTORY) {
        Some(directory) => work(Path::new(&directory), arguments, &stop),
        None => guard(network, &stop),
    };
    // The terminal may be gone.
    result.map_err(|e| writeln!(std::io::stderr(), "{e}")).is_ok()
}

fn guard(network: Network, stop: &AtomicBool) -> Result<(), Box<dyn Error>> {
    // Postgres detaches itself from Patroni, and becomes our child then.
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let directory = tempfile::Builder::new().prefix("patroni-check-lab.").tempdir()?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]);
    if network == Network::Own && rustix::process::geteuid().is_root() {
        command.args(["unshare", "--net", "--"]);
    }
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    let inside = command.env(DIRECTORY, directory.path()).spawn()?;
    let id = Pid::from_child(&inside);
    let mut told: Option<Instant> = None;
    let end = loop {
        match wait(WaitOptions::NOHANG)? {
            Some((pid, end)) if pid == id => break end,
            Some(_orphan) => continue,
            None => thread::sleep(Duration::from_millis(20)),
        }
        if stop.swap(false, Ordering::Relaxed) {
            // Where the signal was for the whole terminal it has this one already; that makes no
            // difference.
            kill_process(id, Signal::TERM)?;
            told = told.or(Some(Instant::now()));
        }
        if told.is_some_and(|told| told.elapsed() > Duration::from_secs(5)) {
            kill_process(id, Signal::KILL)?;
        }
    };
    end_all();
    directory.close()?;
    // It has said why itself, unless it died.
    match end.exit_status() {
        Some(0) => Ok(()),
        Some(_) => Err("it did not come to its end; the reason is above".into()),
        None => Err(format!("ended by signal {:?}", end.terminating_signal()).into()),
    }
}

/// Ends all that is still there of what we started, and returns when it is gone. A postmaster is
/// asked first: it removes its shared memory then.
fn end_all() {
    let asked = Instant::now();
    loop {
        for id in descendants(std::process::id()) {
            let is_postgres =
                fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim() == "postgres");
            let polite = is_postgres && asked.elapsed() < Duration::from_secs(5);
            if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
                // One that is gone meanwhile is what we want.
                let _ = kill_process(pid, if polite { Signal::QUIT } else { Signal::KILL });
            }
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                // No child is left, and an orphan of theirs would be our child.
                Err(_) => return,
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The processes below one (proc(5), `/proc/pid/task/tid/children`).
pub fn descendants(id: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let lists: Vec<String> = lists.collect();
    let children: Vec<u32> =
        lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|id| id.parse().ok()).collect();
    let deeper: Vec<u32> = children.iter().flat_map(|child| descendants(*child)).collect();
    children.into_iter().chain(deeper).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leave_a_process_behind(directory: &Path, arguments: &[OsString], _: &AtomicBool) -> Result<(), Box<dyn Error>> {
        let script = r#"setsid sleep 1000 >/dev/null 2>&1 & echo "left $!""#;
        let left = Command::new("sh").args(["-c", script]).output()?;
        println!("{:?} {} {}", arguments, directory.display(), String::from_utf8_lossy(&left.stdout));
        if arguments.len() == 2 { Ok(()) } else { Err("it went wrong".into()) }
    }

    #[test]
    fn nothing_is_left_of_the_work_and_its_directory() {
        if !crate::requires(&["setpriv", "setsid"]) {
            return;
        }
        let arguments = || vec!["a b".into(), "c".into()];
        let test = "process_guard::tests::nothing_is_left_of_the_work_and_its_directory";
        let printed = run_test(test, Network::Ours, arguments, leave_a_process_behind);
        let (_, said) = printed.split_once(r#"["a b", "c"] "#).expect("the arguments");
        let said: Vec<&str> = said.split_whitespace().collect();
        let [directory, "left", process, ..] = said[..] else { panic!("{printed}") };
        assert!(!Path::new(directory).exists(), "{directory}");
        assert!(!Path::new("/proc").join(process).exists(), "{process}");
    }

    #[test]
    #[should_panic(expected = "it went wrong")]
    fn work_that_fails_fails_the_test() {
        if !crate::requires(&["setpriv", "setsid"]) {
            panic!("it went wrong");
        }
        let test = "process_guard::tests::work_that_fails_fails_the_test";
        run_test(test, Network::Ours, || vec!["one".into()], leave_a_process_behind);
    }

    #[test]
    #[should_panic(expected = "42")]
    fn a_test_that_is_not_found_has_not_passed() {
        run_test("no_such_test", Network::Ours, Vec::new, leave_a_process_behind);
    }
}
