//! HAProxy's backends in `make faults`: Patroni's own templates, and what this project writes, word
//! by word but for the addresses.

use std::error::Error;
use std::process::Output;

use super::agents::{AgentPorts, Mode};
use super::recorder::{Backends, Traffic};
use super::{READ_BACKENDS, WRITE_BACKENDS};
use crate::haproxy::{DEFAULTS, listen, readme};
use crate::testbed::Testbed;

/// Patroni's template, for writes and for reads.
fn official(endpoint: &str) -> String {
    format!(
        "listen official
    bind :5000
    option httpchk OPTIONS {endpoint}
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
    server db1 192.0.2.1:5432 maxconn 100 check port 8008
"
    )
}

/// All of them.
pub fn sections(
    testbed: &Testbed,
    agents: &AgentPorts,
    [writes, reads]: [&Backends; 2],
) -> Result<String, Box<dyn Error>> {
    let cluster = &testbed.cluster;
    let [article, recommended] = &readme()[..] else { panic!("the README has two configurations") };
    let official_writes = official("/master");
    let [service, each_check] = [Mode::Service, Mode::EachCheck].map(|mode| agents.of(mode, Traffic::Writes));
    let reads_port = agents.of(Mode::Service, Traffic::Reads);
    let blocks = [(&official_writes, service), (article, service), (recommended, service), (recommended, each_check)];
    let mut sections: Vec<_> = WRITE_BACKENDS
        .into_iter()
        .zip(blocks)
        .map(|(name, (block, agent))| listen(cluster, agent, block, name, writes[name]))
        .collect();
    let [usual, recommended] = READ_BACKENDS;
    sections.push(listen(cluster, reads_port, &official("/replica"), usual, reads[usual]));
    let written = read_lines(testbed, reads_port, recommended, reads[recommended])?;
    sections.push(written);
    Ok(format!("{DEFAULTS}\n\n{}\n", sections.join("\n\n")))
}

/// What `haproxy-config` writes for reads, under this name, with this agent's port and a port of
/// ours.
pub fn read_lines(testbed: &Testbed, agent_port: u16, name: &str, port: u16) -> Result<String, Box<dyn Error>> {
    let Testbed { user, cluster, program, .. } = testbed;
    let member = cluster.members.first().ok_or("no member")?;
    let mut command = user.command_on(&member.host, program, "KILL");
    command.args(["haproxy-config", "--section", "--read-write", "none", "--name", "reads", "--fallback", "none"]);
    command.args(["--replica-port", &agent_port.to_string(), "--patroni", &cluster.url(member, "")]);
    command.args(["--read-only", &format!("127.0.0.1:{port}")]);
    let Output { status, stdout, stderr } = command.output()?;
    if !status.success() {
        return Err(format!("haproxy-config: {}", String::from_utf8_lossy(&stderr)).into());
    }
    Ok(String::from_utf8_lossy(&stdout).replace("listen reads_read_only", &format!("listen {name}")))
}
