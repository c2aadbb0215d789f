//! `patroni-check haproxy-config`: a configuration of HAProxy for the cluster that the local
//! Patroni is in.

use std::error::Error;
use std::io::{Write, stdout};
use std::time::Duration;

use crate::config::{BadConfiguration, Config};
use crate::haproxy::config_text::{Choices, config_text};
use crate::text::printable;

/// A person waits no longer for the list of members.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks the local Patroni for the members of its cluster, and prints a configuration of HAProxy for
/// them.
///
/// # Errors
/// Choices that do not go together, no list of members from Patroni, or a standard output that
/// takes no more.
pub fn run(config: &Config, choices: &Choices) -> Result<(), Box<dyn Error>> {
    choices.check().map_err(BadConfiguration)?;
    let client = config.client()?;
    let cluster = client.cluster_within(TIMEOUT);
    let cluster = cluster.map_err(|why| printable(&format!("{}/cluster: {why}", client.base())))?;
    Ok(stdout().write_all(config_text(&cluster, choices)?.as_bytes())?)
}
