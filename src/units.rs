//! The units that start us, as systemd knows them.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::cli::Options;

/// systemd answers in some milliseconds. One that hangs must not hold up a person.
const PATIENCE: Duration = Duration::from_secs(2);

/// Nothing that is asked for here comes near.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// A unit's properties.
pub struct Unit(String);

impl Unit {
    /// What a property has, a line for each value (`EnvironmentFiles=`, `Listen=`); none where systemd does not know it.
    pub fn values(&self, property: &str) -> impl Iterator<Item = &str> {
        self.0.lines().filter_map(move |line| line.strip_prefix(property)?.strip_prefix('='))
    }

    /// The value of a property that has one, empty where systemd does not know it.
    pub fn value(&self, property: &str) -> &str {
        self.values(property).next().unwrap_or_default()
    }

    /// The program in `ExecStart=`, and its arguments, as `systemctl show` prints them: without the quotes.
    pub fn command(&self) -> (&str, impl Iterator<Item = &str>) {
        let shown = self.value("ExecStart");
        let part =
            |name: &str| shown.split_once(name).and_then(|(_, rest)| rest.split_once(" ;")).unwrap_or_default().0;
        (part("path="), part("argv[]=").split(' ').skip(1))
    }

    /// Whether there is such a unit.
    pub fn is_loaded(&self) -> bool {
        self.value("LoadState") == "loaded"
    }
}

/// These units; none where there is no systemd.
///
/// # Errors
/// There is a systemd, and it does not answer.
pub fn show(units: &[&str], properties: &str) -> Result<Vec<Unit>, String> {
    let mut command = Command::new("systemctl");
    command.args(["show", "--all", "--no-pager", "-p", properties, "--"]).args(units);
    let text = run(command)?;
    Ok(text.split("\n\n").map(|unit| Unit(unit.to_owned())).collect())
}

/// The running systemd's version, as `systemctl --version` has it.
pub fn version() -> Option<u32> {
    let mut command = Command::new("systemctl");
    command.arg("--version");
    run(command).ok()?.split_whitespace().nth(1)?.parse().ok()
}

/// What a program prints, nothing where it is not there. Bounded in time and size.
fn run(mut command: Command) -> Result<String, String> {
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = started else { return Ok(String::new()) };
    let Some(output) = child.stdout.take() else { return Ok(String::new()) };
    let (printed, printing) = channel();
    let reader = thread::Builder::new().spawn(move || {
        let mut text = Vec::new();
        let _ = output.take(OUTPUT_LIMIT).read_to_end(&mut text);
        let _ = printed.send(text);
    });
    let text = reader.ok().and_then(|_| printing.recv_timeout(PATIENCE).ok());
    let _ = child.kill();
    let text =
        text.ok_or_else(|| format!("systemctl has not answered within {PATIENCE:?}; the units are not known"))?;
    let _ = child.wait();
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A socket unit that starts us.
pub struct Socket {
    /// Its name.
    pub unit: String,
    /// `active` or not.
    pub state: String,
    /// Where it listens.
    pub listen: String,
    /// What it is for, by its name, or with `accept` by its service.
    pub purpose: String,
    /// Whether there is a process for each connection.
    pub accept: bool,
}

/// The socket units that are ours, for `explain`; none where there is no systemd.
///
/// # Errors
/// A systemd that does not answer.
pub fn sockets(options: &Options) -> Result<Vec<Socket>, String> {
    // Shown although nobody uses them.
    let usual = ["patroni-check.socket", "patroni-check-replica.socket"];
    let properties = "Id,ActiveState,Listen,FileDescriptorName,Accept,Triggers,LoadState";
    let mut units = vec!["*.socket"];
    units.extend(usual);
    let mut sockets: Vec<Socket> = Vec::new();
    for unit in show(&units, properties)? {
        let id = unit.value("Id");
        let is_ours = id.starts_with("patroni-check") || unit.value("Triggers").starts_with("patroni-check");
        let is_idle = unit.value("ActiveState") == "inactive" && !usual.contains(&id);
        if !is_ours || is_idle || !unit.is_loaded() || sockets.iter().any(|socket| socket.unit == id) {
            continue;
        }
        let accept = unit.value("Accept") == "yes";
        // systemd forgets the name with Accept=yes.
        let name = if accept { endpoint_of_instances(id) } else { Some(unit.value("FileDescriptorName").to_owned()) };
        let purpose = options.purpose_named(name.as_deref().unwrap_or_default());
        let purpose = purpose.map_or_else(|e| e.to_string(), |purpose| purpose.to_string());
        sockets.push(Socket {
            unit: id.to_owned(),
            state: unit.value("ActiveState").to_owned(),
            listen: unit.values("Listen").collect::<Vec<_>>().join(" ").replace(" (Stream)", ""),
            purpose,
            accept,
        });
    }
    sockets.sort_by(|a, b| a.unit.len().cmp(&b.unit.len()).then_with(|| a.unit.cmp(&b.unit)));
    Ok(sockets)
}

/// What the service that a socket with Accept=yes starts for each connection, the template of its own name, is told to
/// answer for; none where that is the default endpoint.
fn endpoint_of_instances(socket: &str) -> Option<String> {
    let instance = format!("{}@explain.service", socket.trim_end_matches(".socket"));
    let units = show(&[&instance], "ExecStart").ok()?;
    endpoint_in(units.first()?)
}

/// `--endpoint` in `ExecStart=`.
fn endpoint_in(unit: &Unit) -> Option<String> {
    let (_, mut arguments) = unit.command();
    let found = arguments.find_map(|argument| match argument {
        "--endpoint" => Some(None),
        other => other.strip_prefix("--endpoint=").map(Some),
    });
    found?.or_else(|| arguments.next()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_in_a_command_line() {
        let shown = |arguments: &str| {
            endpoint_in(&Unit(format!(
                "ExecStart={{ path=/usr/bin/patroni-check ; argv[]=/usr/bin/patroni-check{arguments} ; ignore_errors=no ; }}"
            )))
        };
        assert_eq!(shown(" --endpoint /replica").as_deref(), Some("/replica"));
        assert_eq!(shown(" --cacert /a --endpoint=/sync --words plain").as_deref(), Some("/sync"));
        assert_eq!(shown(" --words plain"), None);
        assert_eq!(shown(" --endpoint"), None);
        assert_eq!(endpoint_in(&Unit(String::new())), None);
    }
}
