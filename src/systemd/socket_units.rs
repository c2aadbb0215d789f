//! The socket units that start us, for `explain`.

use super::units::{Unit, show};
use crate::config::Config;

/// A socket unit that starts us.
pub(crate) struct SocketUnit {
    pub(crate) unit: String,
    /// `active` or not.
    pub(crate) state: String,
    pub(crate) listen: String,
    /// What the socket is for: by its FileDescriptorName=, with Accept=yes by its service's
    /// --endpoint.
    pub(crate) role: String,
    /// Whether there is a process for each connection.
    pub(crate) accept: bool,
}

/// The socket units that are ours, for `explain`; none where there is no systemd.
///
/// # Errors
/// A systemd that does not answer.
pub(crate) fn socket_units(config: &Config) -> Result<Vec<SocketUnit>, String> {
    // Shown although nobody uses them.
    let usual = ["patroni-check.socket", "patroni-check-replica.socket"];
    let properties = "Id,ActiveState,Listen,FileDescriptorName,Accept,Triggers,LoadState";
    let mut units = vec!["*.socket"];
    units.extend(usual);
    let mut sockets: Vec<SocketUnit> = Vec::new();
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
        let role = config.role_named(name.as_deref().unwrap_or_default());
        let role = role.map_or_else(|e| e.to_string(), |role| role.to_string());
        sockets.push(SocketUnit {
            unit: id.to_owned(),
            state: unit.value("ActiveState").to_owned(),
            listen: unit.values("Listen").collect::<Vec<_>>().join(" ").replace(" (Stream)", ""),
            role,
            accept,
        });
    }
    sockets.sort_by(|a, b| a.unit.len().cmp(&b.unit.len()).then_with(|| a.unit.cmp(&b.unit)));
    Ok(sockets)
}

/// What the service that a socket with Accept=yes starts for each connection, the template of its
/// own name, is told to answer for; none where that is the default endpoint.
fn endpoint_of_instances(socket: &str) -> Option<String> {
    let instance = format!("{}@explain.service", socket.trim_end_matches(".socket"));
    let units = show(&[&instance], "ExecStart").ok()?;
    endpoint_in(units.first()?)
}

/// `--endpoint` or `--connection` in `ExecStart=`, whichever comes first.
fn endpoint_in(unit: &Unit) -> Option<String> {
    let (_, mut arguments) = unit.command();
    let found = arguments.find_map(|argument| match argument {
        "--endpoint" | "--connection" => Some(None),
        other => other.strip_prefix("--endpoint=").or(other.strip_prefix("--connection=")).map(Some),
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
        assert_eq!(shown(" --words plain --connection http").as_deref(), Some("http"));
        assert_eq!(shown(" --words plain"), None);
        assert_eq!(shown(" --endpoint"), None);
        assert_eq!(endpoint_in(&Unit(String::new())), None);
    }
}
