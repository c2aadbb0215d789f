//! The socket units that start us, as systemd knows them, for `explain`.

use std::process::{Command, Stdio};

use crate::cli::Options;

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
pub fn sockets(options: &Options) -> Vec<Socket> {
    let properties = "Id,ActiveState,Listen,FileDescriptorName,Accept,Triggers,LoadState";
    let output = Command::new("systemctl")
        .args(["show", "--all", "*.socket", "patroni-check.socket", "patroni-check-replica.socket", "-p", properties])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let Ok(output) = output else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout);
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
    sockets
}
