//! `patroni-check haproxy-config`: a configuration of HAProxy for this cluster, commented, ready to run.
//!
//! Each line was tried: tests/haproxy.rs and tests/machines run what is printed here, `make faults` measures it.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::Args;

use crate::cli::Options;
use crate::node::{Cluster, Member};

/// Asks the local Patroni for the members of its cluster and prints a configuration of HAProxy for them.
#[derive(Debug, Clone, Args)]
pub struct HaproxyConfig {
    /// The backends alone, without global, defaults and the stats page
    #[arg(long)]
    pub section: bool,

    /// Beginning of the backends' names
    #[arg(long, default_value = "postgres", value_parser = haproxy_name)]
    pub name: String,

    /// Where clients connect that write, as ADDR:PORT or :PORT
    #[arg(long, value_name = "BIND", default_value = ":5000", value_parser = haproxy_bind)]
    pub read_write: String,

    /// Where clients connect that read; `none` for no such backend
    #[arg(long, value_name = "BIND", default_value = ":5001", value_parser = haproxy_bind)]
    pub read_only: String,

    /// Port of patroni-check.socket on the database hosts
    #[arg(long, value_name = "PORT", default_value = "5555")]
    pub agent_port: u16,

    /// Port of patroni-check-replica.socket there
    #[arg(long, value_name = "PORT", default_value = "5556")]
    pub replica_port: u16,

    /// Where the stats page is; `none` for none
    #[arg(long, value_name = "BIND", default_value = "127.0.0.1:7000", value_parser = haproxy_bind)]
    pub stats: String,

    /// Connections that a server takes
    #[arg(long, value_name = "NUMBER", default_value = "100")]
    pub maxconn: u32,

    /// Look servers' names up again while HAProxy runs, by a resolvers section of this name
    #[arg(long, value_name = "NAME", value_parser = haproxy_name)]
    pub resolvers: Option<String>,
}

/// A name that HAProxy takes (its configuration manual, 2.3).
fn haproxy_name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let is_good = !text.is_empty() && text.chars().all(good);
    if is_good { Ok(text.into()) } else { Err("letters, digits and -_.: make a name for HAProxy".into()) }
}

/// `none`, or an address and port to bind.
fn haproxy_bind(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.:[]*@".contains(c);
    let is_good = text == "none" || matches!(port, Some(Ok(1..))) && text.chars().all(good);
    if is_good { Ok(text.into()) } else { Err("write it like :5000, 192.0.2.1:5000 or none".into()) }
}

/// Prints the configuration.
///
/// # Errors
/// No list of members from Patroni, or a standard output that takes no more.
pub fn print(options: &Options, what: &HaproxyConfig) -> Result<(), Box<dyn std::error::Error>> {
    let cluster = options.patroni()?.cluster()?;
    Ok(std::io::stdout().write_all(configuration(&cluster, what)?.as_bytes())?)
}

/// The text.
///
/// # Errors
/// A cluster without a member that has an address, or with one that no HAProxy could take.
pub fn configuration(cluster: &Cluster, what: &HaproxyConfig) -> Result<String, String> {
    let mut text = String::new();
    if !what.section {
        text += &format!("# For {}, by patroni-check {}.\n", of(cluster), env!("CARGO_PKG_VERSION"));
        text += HEAD;
        if let Some(name) = &what.resolvers {
            text += &format!("\n# The name servers of /etc/resolv.conf.\nresolvers {name}\n    parse-resolv-conf\n");
        }
        text += "\n";
    }
    let servers = servers(cluster)?;
    if what.read_write != "none" {
        text += &format!(
            "# Writes. The primary is UP, replicas are in MAINT, and DOWN means trouble.\n{}",
            listen(what, "read_write", &what.read_write, what.agent_port, &servers)
        );
    }
    if what.read_only != "none" {
        text += &format!(
            "\n# Reads. Replicas are UP, the primary is in MAINT. Needs patroni-check-replica.socket on the hosts.\n{}",
            listen(what, "read_only", &what.read_only, what.replica_port, &servers)
        );
    }
    if !what.section && what.stats != "none" {
        text += &format!("\n{}", STATS.replace("BIND", &what.stats));
    }
    Ok(text)
}

const HEAD: &str = "# haproxy -c -f FILE checks it; systemctl reload haproxy puts it in force.
global
    log /dev/log local0
    user haproxy
    group haproxy
    stats socket /run/haproxy/admin.sock mode 660 level admin
    # The first checks of all servers come at once and not spread over their interval: the primary is found sooner.
    max-spread-checks 50

defaults
    log global
    mode tcp
    option tcplog
    # Clients and servers that vanished are noticed.
    option clitcpka
    option srvtcpka
    timeout connect 2s
    # PostgreSQL sessions may be idle for long.
    timeout client 24h
    timeout server 24h
    timeout queue 10s
";

const STATS: &str = "# Who is UP, MAINT or DOWN: a page for people, and with ;csv behind its address for programs.
listen stats
    bind BIND
    mode http
    option httplog
    timeout client 10s
    timeout server 10s
    stats enable
    stats uri /
    stats refresh 2s
";

fn listen(what: &HaproxyConfig, view: &str, bind: &str, agent_port: u16, servers: &[(String, String)]) -> String {
    let resolvers = what.resolvers.as_ref().map_or_else(String::new, |name| {
        format!(
            "    # A name that has no address yet, or another one now, is looked up again.\n    \
             default-server resolvers {name} init-addr last,libc,none\n"
        )
    });
    let mut text = format!(
        "listen {name}_{view}
    bind {bind}
    mode tcp
    # A connection that is refused is refused, and not held for a second and tried at the same server once more.
    retries 0
    # Only what the agent can't tell: is it there? What it says is read in the agent check.
    option tcp-check
    tcp-check expect rstring ^(READY|MAINT|DRAIN)
    # disabled: at a start of HAProxy no server takes a client before its agent has said READY.
    default-server disabled check port {agent_port} inter 1s fall 3 rise 1
    default-server agent-check agent-port {agent_port} agent-inter 100ms on-marked-down shutdown-sessions maxconn {maxconn}
{resolvers}",
        name = what.name,
        maxconn = what.maxconn,
    );
    if view == "read_only" {
        text = text.replacen("    mode tcp\n", "    mode tcp\n    balance leastconn\n", 1);
    }
    for (name, address) in servers {
        // Writing to a String does not fail.
        let _ = writeln!(text, "    server {name} {address}");
    }
    text
}

fn of(cluster: &Cluster) -> String {
    let clean = |name: &String| name.chars().filter(|c| !c.is_control()).collect::<String>();
    cluster.scope.as_ref().map_or("a Patroni cluster".into(), |scope| format!("the Patroni cluster {}", clean(scope)))
}

/// Names and addresses of the members, in the order of their names: it changes with no switchover.
fn servers(cluster: &Cluster) -> Result<Vec<(String, String)>, String> {
    let mut members: Vec<&Member> = cluster.members.iter().collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let mut servers: Vec<(String, String)> = Vec::new();
    for member in members {
        let (Some(host), Some(port)) = (&member.host, member.port) else { continue };
        let name: String = member
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_.:".contains(c) { c } else { '_' })
            .collect();
        if servers.iter().any(|(taken, _)| *taken == name) {
            return Err(format!("two members would both be {name:?} in HAProxy"));
        }
        let is_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        if !is_v6 && (host.is_empty() || !host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))) {
            return Err(format!("member {name}: {host:?} is no address"));
        }
        servers.push((name, if is_v6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") }));
    }
    if servers.is_empty() {
        Err("no member of the cluster has said where its Postgres listens".into())
    } else {
        Ok(servers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        what: HaproxyConfig,
    }

    fn config(members: &str, arguments: &[&str]) -> Result<String, String> {
        let cluster = serde_json::from_str(&format!(r#"{{"scope":"demo\nglobal","members":[{members}]}}"#)).unwrap();
        configuration(&cluster, &Line::parse_from([&["haproxy-config"], arguments].concat()).what)
    }

    const DB2: &str = r#"{"name":"db2","role":"replica","state":"streaming","host":"192.0.2.2","port":5432,"lag":0}"#;
    const DB1: &str = r#"{"name":"db1","role":"leader","state":"running","host":"192.0.2.1","port":5432}"#;

    #[test]
    fn the_readme_has_the_lines_that_are_printed() {
        let text = config(&format!("{DB2},{DB1}"), &["--section", "--read-only", "none"]).unwrap();
        let lines = text.split_once('\n').unwrap().1;
        assert!(include_str!("../README.md").contains(lines), "{lines}");
    }

    #[test]
    fn what_is_asked_for_is_there() {
        let text = config(DB1, &[]).unwrap();
        assert!(text.starts_with("# For the Patroni cluster demoglobal, by"));
        assert!(text.contains("\nglobal\n") && text.contains("\nlisten stats\n") && text.contains("agent-port 5556"));
        let text = config(DB1, &["--name", "pg", "--agent-port", "1", "--read-write", "[::1]:7", "--resolvers", "dns"]);
        let text = text.unwrap();
        for line in
            ["listen pg_read_write", "bind [::1]:7", "agent-port 1 ", "\nresolvers dns\n", "server resolvers dns "]
        {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
        let text = config(DB1, &["--section", "--read-write", "none", "--maxconn", "7"]).unwrap();
        assert!(!text.contains("read_write") && !text.contains("global") && text.contains("maxconn 7\n"), "{text}");
    }

    #[test]
    fn members_are_servers_that_haproxy_can_read() {
        let odd = r#"{"name":"b 1\"","role":"replica","state":"x","host":"2001:db8::1","port":1}"#;
        let text = config(odd, &["--section"]).unwrap();
        assert!(text.contains("    server b_1_ [2001:db8::1]:1\n"), "{text}");
        let evil = r#"{"name":"a","role":"replica","state":"x","host":"1.2.3.4:1\nlisten x","port":1}"#;
        config(evil, &[]).unwrap_err();
        config(r#"{"name":"a","role":"uninitialized","state":"starting"}"#, &[]).unwrap_err();
        config("", &[]).unwrap_err();
        config(&format!("{DB1},{DB1}"), &[]).unwrap_err();
    }
}
