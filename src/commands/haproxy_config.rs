//! `patroni-check haproxy-config`: a configuration of HAProxy for the cluster that the local
//! Patroni is in.

use std::error::Error;
use std::io::{Write, stdout};
use std::path::Path;
use std::time::Duration;

use crate::config::{BadConfiguration, Config};
use crate::haproxy::config_json::config_json;
use crate::haproxy::config_text::{Choices, config_text};
use crate::text::printable;

/// A person waits no longer for the list of members.
const TIMEOUT: Duration = Duration::from_secs(10);

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

/// Asks the local Patroni for the members of its cluster, and prints a configuration of HAProxy for
/// them.
///
/// # Errors
/// Choices that do not go together, no list of members from Patroni, or a standard output that
/// takes no more.
pub fn run(config: &Config, choices: &Choices, format: ConfigFormat) -> Result<(), Box<dyn Error>> {
    choices.check().map_err(BadConfiguration)?;
    let client = config.client()?;
    let cluster = client.cluster_within(TIMEOUT);
    let cluster = cluster.map_err(|why| printable(&format!("{}/cluster: {why}", client.base())))?;
    let text = match format {
        ConfigFormat::Haproxy => config_text(&cluster, choices)?,
        ConfigFormat::Json => config_json(&cluster, choices)?,
    };
    Ok(stdout().write_all(text.as_bytes())?)
}

/// The admin socket, if nobody says where: in the first directory that is on this host, which may
/// be the one that HAProxy is on.
pub fn stats_socket() -> &'static str {
    let is_there = |socket: &&&str| Path::new(**socket).parent().is_some_and(Path::is_dir);
    STATS_SOCKETS.iter().find(is_there).unwrap_or(&STATS_SOCKETS[0])
}
