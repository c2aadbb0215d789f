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
    /// What it is for, by its name, or with `accept` by its service.
    pub purpose: String,
    /// Whether there is a process for each connection.
    pub accept: bool,
}

/// The socket units that are ours, as systemd knows them; none where there is no systemd.
pub fn sockets(options: &Options) -> Vec<Socket> {
    // Shown although nobody uses them.
    let usual = ["patroni-check.socket", "patroni-check-replica.socket"];
    let properties = "Id,ActiveState,Listen,FileDescriptorName,Accept,Triggers,LoadState";
    let output = Command::new("systemctl")
        .args(["show", "--all", "*.socket", "-p", properties])
        .args(usual)
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
        let is_idle = values("ActiveState") == "inactive" && !usual.contains(&id.as_str());
        if !is_ours || is_idle || values("LoadState") != "loaded" || sockets.iter().any(|socket| socket.unit == id) {
            continue;
        }
        let accept = values("Accept") == "yes";
        // systemd forgets the name with Accept=yes.
        let name = if accept { endpoint_of_instances(&id) } else { Some(values("FileDescriptorName")) };
        let purpose = options.purpose_named(name.as_deref().unwrap_or_default());
        let purpose = purpose.map_or_else(|e| e.to_string(), |purpose| purpose.to_string());
        sockets.push(Socket {
            unit: id,
            state: values("ActiveState"),
            listen: values("Listen").replace(" (Stream)", ""),
            purpose,
            accept,
        });
    }
    sockets.sort_by(|a, b| a.unit.len().cmp(&b.unit.len()).then_with(|| a.unit.cmp(&b.unit)));
    sockets
}

/// What the service that a socket with Accept=yes starts for each connection, the template of its own name, is told to
/// answer for; none where that is the default endpoint.
fn endpoint_of_instances(socket: &str) -> Option<String> {
    let instance = format!("{}@explain.service", socket.trim_end_matches(".socket"));
    let mut show = Command::new("systemctl");
    show.args(["show", "-P", "ExecStart", &instance]).stdin(Stdio::null()).stderr(Stdio::null());
    endpoint_in(&String::from_utf8_lossy(&show.output().ok()?.stdout))
}

/// `--endpoint` in `ExecStart=`, as `systemctl show` prints it: between `argv[]=` and a semicolon.
fn endpoint_in(exec_start: &str) -> Option<String> {
    let arguments = exec_start.split_once("argv[]=")?.1.split(" ; ").next()?;
    let mut arguments = arguments.split(' ');
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
            endpoint_in(&format!(
                "{{ path=/usr/bin/patroni-check ; argv[]=/usr/bin/patroni-check{arguments} ; ignore_errors=no ; }}"
            ))
        };
        assert_eq!(shown(" --endpoint /replica").as_deref(), Some("/replica"));
        assert_eq!(shown(" --cacert /a --endpoint=/sync --words plain").as_deref(), Some("/sync"));
        assert_eq!(shown(" --words plain"), None);
        assert_eq!(shown(" --endpoint"), None);
        assert_eq!(endpoint_in(""), None);
    }
}
