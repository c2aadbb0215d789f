//! `patroni-check haproxy-config`: a configuration of HAProxy for the cluster that Patroni is in.

pub mod write;

use std::error::Error;
use std::io::{Write as _, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{BadConfiguration, Config};
use crate::haproxy::config_json::config_json;
use crate::haproxy::config_text::{Choices, config_text};
use crate::patroni::Client;
use crate::patroni::body::Cluster;
use crate::text::printable;
use write::Write;

/// A person waits no longer for the list of members.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A host that is gone takes no connection, and then the next one is asked.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Where packages have HAProxy's admin socket: Debian's, RHEL's.
const STATS_SOCKETS: [&str; 2] = ["/run/haproxy/admin.sock", "/var/lib/haproxy/stats"];

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigFormat {
    /// A configuration.
    Haproxy,
    /// What a template makes one of.
    Json,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Order {
    /// What is to be in it.
    pub choices: Choices,
    /// What is printed, if it is printed.
    pub format: ConfigFormat,
    /// What is to be kept up to date.
    pub write: Option<Write>,
}

/// Asks Patroni for the members of its cluster, and prints a configuration of HAProxy for them or
/// keeps one up to date.
///
/// # Errors
/// Choices that do not go together, no list of members from Patroni, or a standard output that
/// takes no more.
pub fn run(config: &Config, order: &Order) -> Result<ExitCode, Box<dyn Error>> {
    order.choices.check().map_err(BadConfiguration)?;
    let clients = config.clients_within(CONNECT_TIMEOUT)?;
    if let Some(write) = &order.write {
        let (status, line) = write::run(write, &order.choices, || members(&clients));
        // What is done is done, whether anybody reads of it or not.
        let _ = writeln!(stdout(), "{}", printable(&line));
        return Ok(ExitCode::from(status));
    }
    let cluster = members(&clients)?;
    let text = match order.format {
        ConfigFormat::Haproxy => config_text(&cluster, &order.choices)?,
        ConfigFormat::Json => config_json(&cluster, &order.choices)?,
    };
    stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What the first Patroni says that lists any members.
fn members(clients: &[Client]) -> Result<Cluster, String> {
    let mut why = Vec::new();
    for client in clients {
        match client.cluster_within(TIMEOUT) {
            Ok(cluster) if cluster.members.is_empty() => why.push(format!("{}/cluster: no members", client.base())),
            Ok(cluster) => return Ok(cluster),
            Err(failure) => why.push(format!("{}/cluster: {failure}", client.base())),
        }
    }
    Err(printable(&why.join("; ")))
}

/// The admin socket, if nobody says where: in the first directory that is on this host, which may
/// be the one that HAProxy is on.
pub fn stats_socket() -> &'static str {
    let is_there = |socket: &&&str| Path::new(**socket).parent().is_some_and(Path::is_dir);
    STATS_SOCKETS.iter().find(is_there).unwrap_or(&STATS_SOCKETS[0])
}
