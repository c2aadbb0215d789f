//! Programs that others made: where they are, and whom they run as.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::host::Host;

/// Whom the cluster's programs run as: us or, as PostgreSQL refuses root, Debian's `postgres`.
#[derive(Debug, Clone, Copy)]
pub struct Unprivileged {
    is_root: bool,
}

impl Unprivileged {
    pub fn choose() -> Self {
        Unprivileged { is_root: rustix::process::geteuid().is_root() }
    }

    /// A command that gets a signal when we are gone, however that happened. It starts in `/`, as
    /// the user may not be able to enter our directory.
    pub fn command(self, program: &Path, last_signal: &str) -> Command {
        self.setpriv(Command::new("setpriv"), program, last_signal)
    }

    /// The same in the network of a host.
    pub fn command_on(self, host: &Host, program: &Path, last_signal: &str) -> Command {
        self.setpriv(host.command("setpriv"), program, last_signal)
    }

    fn setpriv(self, mut command: Command, program: &Path, last_signal: &str) -> Command {
        command.args(["--pdeathsig", last_signal]);
        if self.is_root {
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
        }
        command.arg("--").arg(program).env("HOME", "/nonexistent").current_dir("/").stdin(Stdio::null());
        command
    }

    /// Makes a directory that is its own.
    pub fn make_dir(self, directory: &Path) -> Result<(), Box<dyn Error>> {
        fs::create_dir_all(directory)?;
        if self.is_root {
            let done = Command::new("chown").arg("postgres:").arg(directory).status()?;
            if !done.success() {
                return Err(format!("can't give {} to postgres", directory.display()).into());
            }
        }
        Ok(())
    }
}

/// Patroni as a program: the one that is given or, of a directory of Python modules
/// (tests/install-patroni), a copy that PostgreSQL's user can read.
pub fn patroni_program(directory: &Path, given: &Path) -> Result<PathBuf, Box<dyn Error>> {
    if !given.is_dir() {
        return Ok(given.to_owned());
    }
    let modules = directory.join("python");
    if !Command::new("cp").arg("-r").arg(given).arg(&modules).status()?.success() {
        return Err(format!("can't copy {}", given.display()).into());
    }
    let program = directory.join("patroni");
    let exec = r#"exec /usr/bin/python3 -m patroni "$@""#;
    write_script(&program, &format!("#!/bin/sh\nexport PYTHONPATH={}\n{exec}\n", modules.display()));
    Ok(program)
}

/// Writes a script that can be run. By a process of its own: while ours has the file open for
/// writing, so has each child that another thread forks just then, and the kernel runs no such file
/// ("Text file busy").
///
/// # Panics
/// When it can't be written.
pub fn write_script(file: &Path, text: &str) {
    let mut install = Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(file).stdin(Stdio::piped());
    let mut install = install.spawn().expect("install runs");
    let written = install.stdin.take().expect("it is piped").write_all(text.as_bytes());
    written.expect("install reads");
    assert!(install.wait().expect("a child can be waited for").success(), "{}", file.display());
}

/// The newest of Debian's PostgreSQL servers.
pub fn postgres_bin() -> Result<PathBuf, Box<dyn Error>> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir("/usr/lib/postgresql")? {
        let entry = entry?;
        let bin = entry.path().join("bin");
        if let (Ok(version), true) = (entry.file_name().to_string_lossy().parse(), bin.join("postgres").exists()) {
            found.push((version, bin));
        }
    }
    found.into_iter().max().map(|(_, bin)| bin).ok_or_else(|| "no PostgreSQL server is installed".into())
}
