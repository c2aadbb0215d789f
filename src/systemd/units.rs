//! Units, as `systemctl show` tells of them.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// systemd answers in some milliseconds. One that hangs must not hold up a person.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Nothing that is asked for here comes near.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// A unit's properties.
pub(super) struct Unit(pub(super) String);

impl Unit {
    /// What a property has, a line for each value (`EnvironmentFiles=`, `Listen=`); none where
    /// systemd does not know it.
    pub(super) fn values(&self, property: &str) -> impl Iterator<Item = &str> {
        self.0.lines().filter_map(move |line| line.strip_prefix(property)?.strip_prefix('='))
    }

    /// The value of a property that has one, empty where systemd does not know it.
    pub(super) fn value(&self, property: &str) -> &str {
        self.values(property).next().unwrap_or_default()
    }

    /// The program in `ExecStart=`, and its arguments, as `systemctl show` prints them: without the
    /// quotes.
    pub(super) fn command(&self) -> (&str, impl Iterator<Item = &str>) {
        let shown = self.value("ExecStart");
        let part =
            |name: &str| shown.split_once(name).and_then(|(_, rest)| rest.split_once(" ;")).unwrap_or_default().0;
        (part("path="), part("argv[]=").split(' ').skip(1))
    }

    /// Whether there is such a unit.
    pub(super) fn is_loaded(&self) -> bool {
        self.value("LoadState") == "loaded"
    }
}

/// These units; none where there is no systemd.
///
/// # Errors
/// There is a systemd, and it does not answer.
pub(super) fn show(units: &[&str], properties: &str) -> Result<Vec<Unit>, String> {
    let mut command = Command::new("systemctl");
    command.args(["show", "--all", "--no-pager", "-p", properties, "--"]).args(units);
    let text = run(command)?;
    Ok(text.split("\n\n").map(|unit| Unit(unit.to_owned())).collect())
}

/// The running systemd's version, as `systemctl --version` has it.
pub(super) fn version() -> Option<u32> {
    let mut command = Command::new("systemctl");
    command.arg("--version");
    run(command).ok()?.split_whitespace().nth(1)?.parse().ok()
}

/// What a program prints, nothing where it is not there. Bounded in time and size.
fn run(mut command: Command) -> Result<String, String> {
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = started else { return Ok(String::new()) };
    let Some(output) = child.stdout.take() else { return Ok(String::new()) };
    let (output_tx, output_rx) = channel();
    let reader = thread::Builder::new().spawn(move || {
        let mut text = Vec::new();
        let _ = output.take(OUTPUT_LIMIT).read_to_end(&mut text);
        let _ = output_tx.send(text);
    });
    let text = reader.ok().and_then(|_| output_rx.recv_timeout(TIMEOUT).ok());
    let _ = child.kill();
    let text = text.ok_or_else(|| format!("systemctl has not answered within {TIMEOUT:?}; the units are not known"))?;
    let _ = child.wait();
    Ok(String::from_utf8_lossy(&text).into_owned())
}
