//! What a configuration of HAProxy is made of, for templates.

use serde_json::json;

use super::config_text::Choices;
use super::servers::servers;
use crate::patroni::body::Cluster;
use crate::text::ascii;

/// The members as JSON, over several lines.
///
/// # Errors
/// A cluster without a member that HAProxy could reach.
pub fn config_json(cluster: &Cluster, choices: &Choices) -> Result<String, String> {
    let (mut members, mut left_out) = (Vec::new(), Vec::new());
    for server in servers(cluster, choices.server_port)? {
        match server.address {
            Ok((host, port)) => members.push(json!({
                "name": server.member,
                "server": server.name,
                "host": host,
                "port": port,
                "agent_port": choices.agent_port,
                "replica_port": choices.replica_port,
                "http_port": choices.http_port,
            })),
            Err(why) => left_out.push(json!({ "name": server.member, "why": why })),
        }
    }
    let all = json!({ "scope": cluster.scope, "members": members, "left_out": left_out });
    Ok(ascii(&format!("{all:#}\n")))
}
