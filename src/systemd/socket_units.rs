//! The socket units that start us, for `explain`.

use super::units::{Unit, show};
use crate::config::{Config, Instance};

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

/// The units that are not those of an instance. A service may run behind a socket of the
/// administrator's own.
const PLAIN: [&str; 6] = [
    "patroni-check.socket",
    "patroni-check-replica.socket",
    "patroni-check-agent-send.socket",
    "patroni-check-http.socket",
    "patroni-check-metrics.socket",
    "patroni-check.service",
];

/// The socket units that are ours, or those of the instance, for `explain`; none where there is no
/// systemd.
///
/// # Errors
/// A systemd that does not answer.
pub(crate) fn socket_units(config: &Config) -> Result<Vec<SocketUnit>, String> {
    let instance = config.instance.as_ref();
    // Shown although nobody uses them.
    let usual = match instance {
        Some(instance) => ["", "-replica"].map(|which| instance.socket(which)),
        None => [PLAIN[0], PLAIN[1]].map(str::to_owned),
    };
    let properties = "Id,ActiveState,Listen,FileDescriptorName,Accept,Triggers,LoadState";
    let mut units = vec!["*.socket"];
    units.extend(usual.iter().map(String::as_str));
    let mut sockets: Vec<SocketUnit> = Vec::new();
    for unit in show(&units, properties)? {
        let id = unit.value("Id");
        let is_idle = unit.value("ActiveState") == "inactive" && !usual.iter().any(|usual| usual == id);
        if !is_of(&unit, instance) || is_idle || !unit.is_loaded() || sockets.iter().any(|socket| socket.unit == id) {
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
            listen: listen(&unit),
            role,
            accept,
        });
    }
    sockets.sort_by(|a, b| a.unit.len().cmp(&b.unit.len()).then_with(|| a.unit.cmp(&b.unit)));
    Ok(sockets)
}

/// Whether it starts the service of this instance, or the one that is none.
fn is_of(unit: &Unit, instance: Option<&Instance>) -> bool {
    let (id, triggers) = (unit.value("Id"), unit.value("Triggers"));
    match instance {
        Some(instance) => triggers == instance.service(),
        None if triggers.starts_with("patroni-check-cluster@") => false,
        None => id.starts_with("patroni-check") || triggers.starts_with("patroni-check"),
    }
}

/// Whether one of the units that are not those of an instance runs, or will after a boot.
pub(crate) fn is_plain_in_use() -> bool {
    let units = show(&PLAIN, "Id,ActiveState,UnitFileState").unwrap_or_default();
    let is_used = |unit: &Unit| unit.value("ActiveState") == "active" || unit.value("UnitFileState") == "enabled";
    units.iter().filter(|unit| PLAIN.contains(&unit.value("Id"))).any(is_used)
}

/// The instances of this host, by their names: those with settings, and those that systemd has units
/// of, whose settings may be elsewhere.
///
/// # Errors
/// The directory with the settings can't be listed.
pub(crate) fn instances() -> Result<Vec<Instance>, String> {
    // A systemd that does not answer is told where the settings are read.
    let units = show(&["patroni-check-cluster*@*.socket", "patroni-check-cluster@*.service"], "Id,LoadState");
    let units = units.unwrap_or_default();
    let name = |unit: &Unit| {
        let (_, name) = unit.value("Id").strip_prefix("patroni-check-cluster")?.split_once('@')?;
        name.rsplit_once('.')?.0.parse().ok()
    };
    let mut all = Instance::with_settings()?;
    all.extend(units.iter().filter(|unit| unit.is_loaded()).filter_map(name));
    all.sort();
    all.dedup();
    Ok(all)
}

/// The ports of an instance's sockets, by the options of `haproxy-config`.
pub(crate) fn ports(instance: &Instance) -> Vec<(&'static str, u16)> {
    let options = [("", "agent_port"), ("-replica", "replica_port"), ("-http", "http_port")];
    let names = options.map(|(which, _)| instance.socket(which));
    let units = show(&names.each_ref().map(String::as_str), "Id,Listen").unwrap_or_default();
    let port = |name: &String| units.iter().find(|unit| unit.value("Id") == *name).and_then(port_of);
    options.iter().zip(&names).filter_map(|((_, option), name)| Some((*option, port(name)?))).collect()
}

/// The sockets of an instance that are open, or of what is none, with where they listen.
pub(crate) fn open_sockets(instance: Option<&Instance>) -> Vec<String> {
    let units = show(&["*.socket"], "Id,ActiveState,Listen,Triggers").unwrap_or_default();
    let ours = units.iter().filter(|unit| unit.value("ActiveState") == "active" && is_of(unit, instance));
    ours.map(|unit| format!("{} at {}", unit.value("Id"), listen(unit))).collect()
}

/// A port of a socket unit.
pub(crate) struct SocketPort {
    pub(crate) unit: String,
    pub(crate) port: u16,
    pub(crate) is_active: bool,
}

/// The ports of all socket units that systemd has loaded.
pub(crate) fn ports_of_sockets() -> Vec<SocketPort> {
    let units = show(&["*.socket"], "Id,ActiveState,Listen").unwrap_or_default();
    let ports = |unit: &Unit| {
        let of = |port| SocketPort {
            unit: unit.value("Id").to_owned(),
            port,
            is_active: unit.value("ActiveState") == "active",
        };
        unit.values("Listen").filter_map(port_in).map(of).collect::<Vec<_>>()
    };
    units.iter().flat_map(ports).collect()
}

fn listen(unit: &Unit) -> String {
    unit.values("Listen").collect::<Vec<_>>().join(" ").replace(" (Stream)", "")
}

/// The first port that a socket unit listens at.
fn port_of(unit: &Unit) -> Option<u16> {
    unit.values("Listen").find_map(port_in)
}

fn port_in(listen: &str) -> Option<u16> {
    listen.strip_suffix(" (Stream)")?.rsplit_once(':')?.1.parse().ok()
}

/// The names of the active sockets that systemd passes to this service when it starts it; none for a
/// template, whose instances are passed one connection each.
///
/// # Errors
/// A systemd that does not answer.
pub(crate) fn passed_names(service: &str) -> Result<Option<Vec<String>>, String> {
    if service.contains("@.") {
        return Ok(None);
    }
    let units = show(&["*.socket"], "ActiveState,FileDescriptorName,Accept,Triggers")?;
    let is_passed = |unit: &&Unit| {
        unit.value("ActiveState") == "active"
            && unit.value("Accept") == "no"
            && unit.value("Triggers").split(' ').any(|triggered| triggered == service)
    };
    Ok(Some(units.iter().filter(is_passed).map(|unit| unit.value("FileDescriptorName").to_owned()).collect()))
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
