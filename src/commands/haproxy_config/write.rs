//! `haproxy-config --write`: a configuration that follows the members of the cluster.
//!
//! HAProxy's file is there whole at all times, and always one that the check has taken. Beside it is a
//! small file of what it does not tell itself: who is absent since when, and what HAProxy has loaded.
//! So whatever ends the program, the next run knows what is left to be done.

use std::fs::{self, File, Metadata};
use std::io::{self, stderr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::file::{Staged, read_at_most};
use crate::haproxy::config_text::Choices;
use crate::haproxy::membership::{Absent, Membership, Update};
use crate::patroni::body::Cluster;

/// A configuration of thousands of members is smaller.
const SIZE_LIMIT: u64 = 16 << 20;

/// Who finds another one at work waits for so long.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// A file to keep up to date.
#[derive(Debug, Clone)]
pub struct Write {
    /// The file.
    pub file: PathBuf,
    /// The command that takes or refuses a new one, whose name is its last argument.
    pub check: String,
    /// The command that makes HAProxy read it.
    pub reload: String,
    /// A member that is absent for so long leaves it.
    pub leave_after: Duration,
}

/// What is remembered beside the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct State {
    absent: Absent,
    /// What HAProxy has loaded; None if that is not known, as after a reload that failed.
    loaded: Option<String>,
    /// What was written here last. Another text in the file is somebody's own, which no check has
    /// taken.
    #[serde(default)]
    written: Option<String>,
}

/// Why the work is not done.
enum Trouble {
    /// The file is as it was, and so is HAProxy.
    NotWritten(String),
    /// HAProxy may not have what is in the file.
    NotLoaded(String),
}

/// Brings the file up to date, and HAProxy. Gives the exit status and a line for monitoring.
pub fn run(order: &Write, choices: &Choices, list: impl Fn() -> Result<Cluster, String>) -> (u8, String) {
    let file = order.file.display();
    match Work::begin(order).and_then(|work| work.run(choices, list)) {
        Ok(done) => (0, format!("OK: {done}")),
        Err(Trouble::NotWritten(why)) => (1, format!("WARNING: {file} is as it was: {why}")),
        Err(Trouble::NotLoaded(why)) => (2, format!("CRITICAL: HAProxy may not have what is in {file}: {why}")),
    }
}

struct Work<'a> {
    order: &'a Write,
    /// The file itself, where a symbolic link leads to it.
    path: PathBuf,
    old: Option<(String, Metadata)>,
    state: State,
    /// Of the directory: there is nothing to be left behind. The kernel takes it back from a process
    /// that dies.
    _lock: File,
}

impl<'a> Work<'a> {
    fn begin(order: &'a Write) -> Result<Self, Trouble> {
        let fail = |path: &Path, e: io::Error| Trouble::NotWritten(format!("{}: {e}", path.display()));
        let path = resolve(&order.file).map_err(|e| fail(&order.file, e))?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        let lock = lock(directory).map_err(|e| fail(directory, e))?;
        let old = read(&path).map_err(|e| fail(&path, e))?;
        let mut work = Work { order, path, old, state: State::default(), _lock: lock };
        let state = work.beside("state");
        work.state = match read(&state) {
            // It is written before the file is, so this is a file whose state was removed.
            Ok(None) => {
                let text = work.old.as_ref().map(|(text, _)| text.clone());
                State { loaded: text.clone(), written: text, ..State::default() }
            }
            // Damaged: nothing is known, so HAProxy is reloaded once more.
            read => read.ok().flatten().and_then(|(text, _)| serde_json::from_str(&text).ok()).unwrap_or_default(),
        };
        Ok(work)
    }

    fn run(mut self, choices: &Choices, list: impl Fn() -> Result<Cluster, String>) -> Result<String, Trouble> {
        let replaced = self.replace(choices, list);
        // What is left of an earlier run is done, whatever has become of this one.
        let is_loaded = match &self.old {
            Some((text, _))
                if self.state.loaded.as_ref() != Some(text) && self.state.written.as_ref() == Some(text) =>
            {
                let text = text.clone();
                self.reload(text).map_err(Trouble::NotLoaded)?;
                ", reloaded"
            }
            _ => "",
        };
        replaced.map(|what| what + is_loaded).map_err(Trouble::NotWritten)
    }

    /// Replaces the file if it is another one by this list, and says what there is to be said of it.
    fn replace(&mut self, choices: &Choices, list: impl Fn() -> Result<Cluster, String>) -> Result<String, String> {
        let membership = match &self.old {
            None => Membership::default(),
            Some((text, _)) => Membership::read(text).ok_or(
                "it was not written by haproxy-config --write, or its line of members was changed; move it away first",
            )?,
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let absent = &self.state.absent;
        let update = membership.update(&list()?, choices.server_port, absent, now, self.order.leave_after)?;
        let text = update.membership.config_text(choices)?;
        let is_same = self.old.as_ref().is_some_and(|(old, _)| *old == text);
        let staged = if is_same { None } else { Some(self.stage(&text, choices)?) };
        let said = describe(&update, now);
        let state = State { absent: update.absent, written: Some(text.clone()), ..self.state.clone() };
        let Some(staged) = staged else {
            self.save(state)?;
            return Ok(said);
        };
        // HAProxy may have loaded what somebody else wrote meanwhile.
        self.save(State { loaded: None, ..state })?;
        staged.replace(&self.path).map_err(|e| format!("{}: {e}", self.path.display()))?;
        let metadata = fs::metadata(&self.path).map_err(|e| e.to_string())?;
        self.old = Some((text, metadata));
        Ok(said + "; written")
    }

    /// Writes a new file beside the old one, and has it checked.
    fn stage(&self, text: &str, choices: &Choices) -> Result<Staged, String> {
        if let Some(socket) = choices.stats_socket.as_ref().filter(|_| !choices.section) {
            // The check of HAProxy does not look for it, and then it would not start.
            if !Path::new(socket).parent().is_some_and(Path::is_dir) {
                return Err(format!("the directory of {socket} is missing; see --stats-socket"));
            }
        }
        let like = self.old.as_ref().map(|(_, metadata)| metadata);
        let path = self.beside("new");
        let staged = Staged::write(path.clone(), text.as_bytes(), like, 0o644);
        let staged = staged.map_err(|e| format!("{}: {e}", path.display()))?;
        shell(&format!("{} \"$1\"", self.order.check), Some(staged.path())).map_err(|e| format!("--check: {e}"))?;
        Ok(staged)
    }

    /// Has HAProxy read the file. What it has is unknown until that has gone well.
    fn reload(&mut self, text: String) -> Result<(), String> {
        self.save(State { loaded: None, ..self.state.clone() })?;
        shell(&self.order.reload, None).map_err(|e| format!("--reload: {e}; the next run tries again"))?;
        self.save(State { loaded: Some(text), ..self.state.clone() })
    }

    fn save(&mut self, state: State) -> Result<(), String> {
        let path = self.beside("state");
        if state != self.state || !path.exists() {
            let text = serde_json::to_string(&state).map_err(|e| e.to_string())?;
            let staged = Staged::write(self.beside("state.new"), text.as_bytes(), None, 0o644);
            staged.and_then(|staged| staged.replace(&path)).map_err(|e| format!("{}: {e}", path.display()))?;
            self.state = state;
        }
        Ok(())
    }

    /// A hidden file in the same directory: HAProxy reads none such if it is given the directory.
    fn beside(&self, what: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.{what}"))
    }
}

/// The file that is meant: not a symbolic link to it, which would be replaced.
fn resolve(file: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let directory = file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
            let name = file.file_name().ok_or_else(|| io::Error::other("not the name of a file"))?;
            Ok(fs::canonicalize(directory)?.join(name))
        }
        found => found,
    }
}

fn read(path: &Path) -> io::Result<Option<(String, Metadata)>> {
    let metadata = match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    let text = String::from_utf8(read_at_most(path, SIZE_LIMIT)?).map_err(|_| io::Error::other("not UTF-8"))?;
    Ok(Some((text, metadata)))
}

fn lock(directory: &Path) -> io::Result<File> {
    let file = File::open(directory)?;
    let start = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) if start.elapsed() < LOCK_TIMEOUT => sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => return Err(io::Error::other("another patroni-check is at work here")),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Runs a command. What it prints goes where errors go, as our own output is one line.
fn shell(command: &str, argument: Option<&Path>) -> Result<(), String> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command, "sh"]).args(argument).stdin(Stdio::null());
    if let Ok(error) = stderr().as_fd().try_clone_to_owned() {
        shell.stdout(error);
    }
    let status = shell.status().map_err(|e| e.to_string())?;
    if status.success() { Ok(()) } else { Err(status.to_string()) }
}

/// The members in a few words.
fn describe(update: &Update, now: u64) -> String {
    let count = update.membership.count();
    let mut text = format!("{count} member{}", if count == 1 { "" } else { "s" });
    for (names, what) in [(&update.new, "new"), (&update.gone, "gone"), (&update.left_out, "left out")] {
        if !names.is_empty() {
            text += &format!("; {what}: {}", names.join(", "));
        }
    }
    for (name, since) in &update.absent {
        let lasting = humantime::format_duration(Duration::from_secs(now.saturating_sub(*since)));
        text += &format!("; {name} absent for {lasting}");
    }
    text
}
