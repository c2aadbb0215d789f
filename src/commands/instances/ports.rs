//! Whose the ports of this host are, and which are free for whom.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::commands::listening::listeners;
use crate::file::read_at_most;
use crate::systemd::socket_units::ports_of_sockets;

/// Where the administrator has units and their drop-ins.
const UNITS: &str = "/etc/systemd/system";

/// No unit comes near.
const FILE_LIMIT: u64 = 64 << 10;

/// Ports, each with the socket units that have it. What is no socket unit's has no name.
#[derive(Default)]
pub(super) struct Ports(BTreeMap<u16, BTreeSet<String>>);

impl Ports {
    /// Those of this host: of who listens, and of who will.
    pub(super) fn find() -> Self {
        let mut ports = Ports::default();
        let sockets = ports_of_sockets();
        let active: BTreeSet<_> = sockets.iter().filter(|socket| socket.is_active).map(|socket| socket.port).collect();
        for listener in listeners().filter(|listener| !active.contains(&listener.port())) {
            ports.take(listener.port(), "");
        }
        for socket in &sockets {
            ports.take(socket.port, &socket.unit);
        }
        for (unit, port) in on_disk(Path::new(UNITS)) {
            ports.take(port, &unit);
        }
        ports
    }

    pub(super) fn take(&mut self, port: u16, unit: &str) {
        self.0.entry(port).or_default().insert(unit.to_owned());
    }

    /// Whether nobody else has it.
    pub(super) fn is_free(&self, port: u16, unit: &str) -> bool {
        self.0.get(&port).is_none_or(|units| units.iter().all(|other| other == unit))
    }

    /// What a socket unit has.
    pub(super) fn of(&self, unit: &str) -> Option<u16> {
        self.0.iter().find_map(|(port, units)| units.contains(unit).then_some(*port))
    }
}

/// The ports of the socket units here, and of their drop-ins: systemd does not tell of those that
/// are not loaded.
fn on_disk(directory: &Path) -> Vec<(String, u16)> {
    let list = |directory: &Path| {
        let entries = directory.read_dir().into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let mut found: BTreeMap<String, Vec<u16>> = BTreeMap::new();
    // A unit is before its drop-ins.
    for path in list(directory) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (unit, files) = match name.strip_suffix(".d") {
            Some(unit) => (unit, list(&path)),
            None => (&*name, vec![path.clone()]),
        };
        if !unit.ends_with(".socket") {
            continue;
        }
        let ports = found.entry(unit.to_owned()).or_default();
        for file in files {
            let text = read_at_most(&file, FILE_LIMIT).unwrap_or_default();
            for line in String::from_utf8_lossy(&text).lines() {
                let Some((_, value)) = line.split_once('=').filter(|(key, _)| key.trim() == "ListenStream") else {
                    continue;
                };
                match value.trim() {
                    "" => ports.clear(),
                    value => ports.extend(value.rsplit(':').next().and_then(|port| port.parse::<u16>().ok())),
                }
            }
        }
    }
    found.into_iter().flat_map(|(unit, ports)| ports.into_iter().map(move |port| (unit.clone(), port))).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_ports_of_sockets_that_do_not_run_are_on_disk() {
        let directory = tempfile::TempDir::new().unwrap();
        let write = |name: &str, text: &str| {
            let file = directory.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("patroni-check-16-main.socket", "[Socket]\nListenStream=5565\nAccept=yes\n");
        write("patroni-check-cluster@16-main.socket.d/port.conf", "[Socket]\nListenStream=10.0.0.1:5555\n");
        write("patroni-check-cluster@17-x.socket.d/a.conf", "[Socket]\nListenStream=1\n");
        write("patroni-check-cluster@17-x.socket.d/b.conf", "[Socket]\n ListenStream = \n ListenStream = [::]:7777 \n");
        write("x.service", "ListenStream=3\n");
        write("y.socket", "ListenStream=/run/y\n");
        let found = on_disk(directory.path());
        let found: Vec<_> = found.iter().map(|(unit, port)| (unit.as_str(), *port)).collect();
        assert_eq!(
            found,
            [
                ("patroni-check-16-main.socket", 5565),
                ("patroni-check-cluster@16-main.socket", 5555),
                ("patroni-check-cluster@17-x.socket", 7777)
            ]
        );
        assert_eq!(on_disk(&directory.path().join("none")), []);
    }

    #[test]
    fn a_port_is_free_for_the_unit_that_has_it() {
        let mut ports = Ports::default();
        ports.take(1, "a");
        ports.take(2, "");
        ports.take(3, "b");
        ports.take(3, "c");
        let free = |unit: &str| (1..=4).filter(|port| ports.is_free(*port, unit)).collect::<Vec<_>>();
        assert_eq!((free("a"), free("b"), ports.of("b"), ports.of("x")), (vec![1, 4], vec![4], Some(3), None));
    }
}
