//! The socket units that start us, as systemd knows them, for `explain`.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::cli::Options;

/// systemctl itself waits for 25 s for a systemd that does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A unit has some 300 bytes.
const LIMIT: u64 = 1 << 20;

/// A socket unit that starts us.
pub struct Socket {
    /// Its name.
    pub unit: String,
    /// `active` or not.
    pub state: String,
    /// Where it listens.
    pub listen: String,
    /// What its name says that it is for.
    pub purpose: String,
    /// Whether there is a process for each connection.
    pub accept: bool,
}

/// The socket units that are ours, as systemd knows them; none where there is no systemd.
///
/// # Errors
/// A systemd that does not answer.
pub fn sockets(options: &Options) -> Result<Vec<Socket>, String> {
    let properties = "Id,ActiveState,Listen,FileDescriptorName,Accept,Triggers,LoadState";
    let text = systemctl(&[
        "show",
        "--all",
        "*.socket",
        "patroni-check.socket",
        "patroni-check-replica.socket",
        "-p",
        properties,
    ])?;
    let mut sockets: Vec<Socket> = Vec::new();
    for unit in text.split("\n\n") {
        let values = |name: &str| {
            let prefix = format!("{name}=");
            unit.lines().filter_map(move |line| line.strip_prefix(&prefix)).collect::<Vec<_>>().join(" ")
        };
        let id = values("Id");
        let is_ours = id.starts_with("patroni-check") || values("Triggers").starts_with("patroni-check");
        if !is_ours || values("LoadState") != "loaded" || sockets.iter().any(|socket| socket.unit == id) {
            continue;
        }
        let name = values("FileDescriptorName");
        let purpose = options.purpose_named(&name).map_or_else(|e| e.to_string(), |purpose| purpose.to_string());
        sockets.push(Socket {
            unit: id,
            state: values("ActiveState"),
            listen: values("Listen").replace(" (Stream)", ""),
            purpose,
            accept: values("Accept") == "yes",
        });
    }
    sockets.sort_by(|a, b| a.unit.len().cmp(&b.unit.len()).then_with(|| a.unit.cmp(&b.unit)));
    Ok(sockets)
}

/// What systemctl prints; nothing where there is none.
fn systemctl(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("systemctl");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return Ok(String::new()) };
    let (printed, printing) = channel();
    let stdout = child.stdout.take();
    let read = move || {
        let mut text = Vec::new();
        let is_read = stdout.is_some_and(|stdout| stdout.take(LIMIT).read_to_end(&mut text).is_ok());
        is_read && printed.send(text).is_ok()
    };
    // Without a thread for it there is nothing to wait for.
    let _ = thread::Builder::new().spawn(read);
    let text = printing.recv_timeout(PATIENCE);
    // It has printed all, or is not waited for any longer.
    let _ = child.kill();
    let _ = child.wait();
    let text =
        text.map_err(|_| format!("systemctl has not answered within {PATIENCE:?}; socket units are not shown."))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
