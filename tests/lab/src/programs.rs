//! Programs that others made: where they are, and whom they run as.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::host::Host;

/// Whom the cluster's programs run as: us or, as PostgreSQL refuses root, Debian's `postgres`.
#[derive(Debug, Clone, Copy)]
pub struct Unprivileged {
    is_root: bool,
}

impl Unprivileged {
    pub fn new() -> Self {
        Unprivileged { is_root: rustix::process::geteuid().is_root() }
    }

    /// A command that gets a signal when we are gone, however that happened. It starts in `/`, as the user may not be able
    /// to enter our directory.
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

/// Patroni as a program: the one that is given or, of a directory of Python modules (tests/install-patroni), a copy that
/// PostgreSQL's user can read.
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
    fs::write(&program, format!("#!/bin/sh\nexport PYTHONPATH={}\n{exec}\n", modules.display()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(program)
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
