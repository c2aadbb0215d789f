//! Processes that were started here, and what the kernel says of any (proc(5)).

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::Signal;

use crate::await_some;

/// A program that was started here. Dropping it kills it.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program whose output goes to a log file, and whose input is the command's affair.
    /// It gets a process group of its own, so that a Ctrl-C in the terminal is for us alone.
    pub fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let command = command.process_group(0).stdout(output.try_clone()?).stderr(output);
        let child = command
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("can't start {:?}: {e}", command.get_program())))?;
        Ok(Process { child, log: log.to_owned() })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).expect("the process was started by us and not yet waited for");
    }

    /// The exit status, once it has ended.
    pub fn try_wait(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    pub fn wait(&mut self) -> std::process::ExitStatus {
        await_some("the process's end", || self.try_wait())
    }

    /// The processor time it has used, in hundredths of a second (proc(5), `/proc/pid/stat`, utime
    /// and stime).
    pub fn ticks(&self) -> u64 {
        ticks(self.id()).expect("it runs")
    }

    /// The same to the nanosecond, of its threads that live (`/proc/pid/task/tid/schedstat`).
    pub fn processor_time(&self) -> Duration {
        let of_thread = |thread: &Path| {
            let text = fs::read_to_string(thread.join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
        };
        threads(self.id()).iter().filter_map(|thread| of_thread(thread)).sum()
    }

    /// How often its threads were put on a processor: after a sleep, or after another's turn.
    pub fn context_switches(&self) -> u64 {
        let of_thread = |thread: &Path| {
            let status = fs::read_to_string(thread.join("status")).unwrap_or_default();
            let count = |name| status_field(&status, name).unwrap_or_default();
            count("voluntary_ctxt_switches") + count("nonvoluntary_ctxt_switches")
        };
        threads(self.id()).iter().map(|thread| of_thread(thread)).sum()
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The directories of a process's threads.
fn threads(id: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// The processor time that a process has used, its threads included, in hundredths of a second.
pub fn ticks(id: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit(')').next()?.split_whitespace().collect();
    Some(fields.get(11..13)?.iter().map(|ticks| ticks.parse::<u64>().unwrap_or_default()).sum())
}

/// What the kernel says of a process in `/proc/pid/status`, such as `Threads` or, in kilobytes,
/// `VmRSS`.
pub fn status(id: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    status_field(&status, name)
}

/// The same in the text of such a file.
pub fn status_field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

#[test]
fn a_field_is_read_by_its_whole_name() {
    let status = "Name:\tx\nVmPeak:\t    9000 kB\nVmRSS:\t    3800 kB\nThreads:\t5\n";
    for (name, value) in
        [("VmRSS", Some(3800)), ("Threads", Some(5)), ("Thread", None), ("VmHWM", None), ("Name", None)]
    {
        assert_eq!(status_field(status, name), value, "{name}");
    }
}
