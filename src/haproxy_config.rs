//! `patroni-check haproxy-config`: a configuration of HAProxy for this cluster, commented, ready to run.
//!
//! Each line was tried: tests/haproxy.rs and tests/machines run what is printed here, `make faults` measures it.

mod servers;

use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use clap::Args;

use crate::cli::{BadConfiguration, Options};
use crate::node::Cluster;
use crate::reply::printable;
use servers::servers;

/// A person waits no longer for the list of members.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the configuration should have.
#[derive(Debug, Clone, Args)]
pub struct HaproxyConfig {
    /// Print only the backends
    ///
    /// Leave out the sections global and defaults and the stats page, for a configuration that has its own.
    #[arg(long)]
    pub section: bool,

    /// Prefix of the backends' names
    ///
    /// The names are `NAME_read_write` and `NAME_read_only`.
    #[arg(long, default_value = "postgres", value_parser = haproxy_name)]
    pub name: String,

    /// Where writing clients connect
    ///
    /// `ADDR:PORT`, or `:PORT` for all addresses, or `none` for no such backend.
    #[arg(long, value_name = "BIND", default_value = ":5000", value_parser = haproxy_bind)]
    pub read_write: String,

    /// Where reading clients connect
    ///
    /// `ADDR:PORT`, or `:PORT` for all addresses, or `none` for no such backend.
    #[arg(long, value_name = "BIND", default_value = ":5001", value_parser = haproxy_bind)]
    pub read_only: String,

    /// The agent's port for writes
    ///
    /// The port of patroni-check.socket on the database hosts.
    #[arg(long, value_name = "PORT", default_value = "5555", value_parser = clap::value_parser!(u16).range(1..))]
    pub agent_port: u16,

    /// The agent's port for reads
    ///
    /// The port of patroni-check-replica.socket on the database hosts.
    #[arg(long, value_name = "PORT", default_value = "5556", value_parser = clap::value_parser!(u16).range(1..))]
    pub replica_port: u16,

    /// Where the stats page is
    ///
    /// `ADDR:PORT`, or `:PORT` for all addresses, or `none` for no stats page.
    #[arg(long, value_name = "BIND", default_value = "127.0.0.1:7000", value_parser = haproxy_bind)]
    pub stats: String,

    /// Admin socket
    ///
    /// The path of HAProxy's admin socket, or `none`. HAProxy does not start if the directory is missing. Debian's package
    /// makes /run/haproxy, RHEL's /var/lib/haproxy; a container's image has neither.
    #[arg(long, value_name = "PATH", default_value = "/run/haproxy/admin.sock", value_parser = socket_path)]
    pub stats_socket: String,

    /// Most connections to a server
    ///
    /// HAProxy queues further connections.
    #[arg(long, value_name = "NUMBER", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    pub maxconn: u32,

    /// Resolve servers' names while HAProxy runs
    ///
    /// The name of the resolvers section that is written for this.
    #[arg(long, value_name = "NAME", value_parser = haproxy_name)]
    pub resolvers: Option<String>,
}

/// A name that HAProxy takes (its configuration manual, 2.3).
fn haproxy_name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let is_good = !text.is_empty() && text.chars().all(good);
    if is_good {
        Ok(text.into())
    } else {
        Err("HAProxy takes only letters, digits and the characters -_.: in a name".into())
    }
}

/// `none`, or an address and port to bind.
fn haproxy_bind(text: &str) -> Result<String, String> {
    let is_good = text == "none" || address_and_port(text).is_some();
    if is_good { Ok(text.into()) } else { Err("write it like :5000, 192.0.2.1:5000, [::1]:5000 or none".into()) }
}

/// Its two parts. The address is empty for all of them, whichever way HAProxy writes that.
fn address_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = match bare.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => "",
        Ok(_) => bare,
        Err(_) if host == "*" => "",
        Err(_) if host.is_empty() || is_host_name(host) => host,
        Err(_) => return None,
    };
    Some((host, port.parse().ok().filter(|port| *port > 0)?))
}

fn is_host_name(text: &str) -> bool {
    let labels = text.strip_suffix('.').unwrap_or(text).split('.');
    let is_good =
        |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    text.len() <= 253 && { labels }.all(is_good)
}

/// `none`, or the path of a Unix socket. HAProxy takes 97 bytes of it.
fn socket_path(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "/-_.:@+".contains(c);
    let is_path = text.starts_with('/') && !text.ends_with('/') && text.len() <= 97 && text.chars().all(good);
    let is_good = is_path || text == "none";
    if is_good { Ok(text.into()) } else { Err("an absolute path of at most 97 plain characters, or none".into()) }
}

impl HaproxyConfig {
    /// Whether the options go together: HAProxy itself would start, and serve clients at random.
    ///
    /// # Errors
    /// Options that do not.
    pub fn check(&self) -> Result<(), BadConfiguration> {
        let stats = if self.section { "none" } else { &*self.stats };
        let binds = [("--read-write", &*self.read_write), ("--read-only", &*self.read_only), ("--stats", stats)];
        for (i, (one, bind)) in binds.iter().enumerate() {
            for (other, other_bind) in binds.iter().skip(i + 1) {
                let both = address_and_port(bind).zip(address_and_port(other_bind));
                let clash =
                    |((a, m), (b, n)): ((&str, _), (&str, _))| m == n && (a == b || a.is_empty() || b.is_empty());
                if both.is_some_and(clash) {
                    return Err(BadConfiguration(format!("{one} {bind} and {other} {other_bind} are the same port")));
                }
            }
        }
        match (&*self.read_write, &*self.read_only) {
            ("none", "none") => Err(BadConfiguration("--read-write none and --read-only none leave no backend".into())),
            ("none", _) | (_, "none") => Ok(()),
            _ if self.agent_port == self.replica_port => Err(BadConfiguration(format!(
                "--agent-port and --replica-port are both {}: reads would go to the primary alone",
                self.agent_port
            ))),
            _ => Ok(()),
        }
    }
}

/// Prints the configuration.
///
/// # Errors
/// Options that do not go together, no list of members from Patroni, or a standard output that takes no more.
pub fn print(options: &Options, what: &HaproxyConfig) -> Result<(), Box<dyn std::error::Error>> {
    what.check()?;
    let patroni = options.patroni()?;
    let cluster = patroni.cluster_within(PATIENCE);
    let cluster = cluster.map_err(|why| printable(&format!("{}/cluster: {why}", patroni.base())))?;
    Ok(std::io::stdout().write_all(configuration(&cluster, what)?.as_bytes())?)
}

/// The text.
///
/// # Errors
/// A cluster without a member that HAProxy could reach.
pub fn configuration(cluster: &Cluster, what: &HaproxyConfig) -> Result<String, String> {
    let mut text = String::new();
    if !what.section {
        text += &format!("# For {}, by patroni-check {}.\n", of(cluster), env!("CARGO_PKG_VERSION"));
        text += &match &*what.stats_socket {
            "none" => HEAD.replace("SOCKET", ""),
            path => HEAD.replace("SOCKET", &STATS_SOCKET.replace("PATH", path)),
        };
        if let Some(name) = &what.resolvers {
            text += &format!("\n# The name servers of /etc/resolv.conf.\nresolvers {name}\n    parse-resolv-conf\n");
        }
        text += "\n";
    }
    let servers = servers(cluster)?.concat();
    if what.read_write != "none" {
        text += &format!(
            "# Writes. The primary is UP, and the replicas are in MAINT. DOWN means trouble.\n{}",
            listen(what, "read_write", &what.read_write, what.agent_port, &servers)
        );
    }
    if what.read_only != "none" {
        text += &format!(
            "\n# Reads. The replicas are UP, and the primary is in MAINT. The hosts need patroni-check-replica.socket.\n{}",
            listen(what, "read_only", &what.read_only, what.replica_port, &servers)
        );
    }
    if !what.section && what.stats != "none" {
        text += &format!("\n{}", STATS.replace("BIND", &what.stats));
    }
    Ok(text)
}

const HEAD: &str = "# Check this file with haproxy -c -f FILE, then activate it with systemctl reload haproxy.
global
    log /dev/log local0
    user haproxy
    group haproxy
SOCKET    # The first checks of all servers start within 50 ms. By default they are spread over the interval of the checks,
    # and the primary is found later.
    max-spread-checks 50

defaults
    log global
    mode tcp
    option tcplog
    # Keepalive packets find clients and servers that have vanished.
    option clitcpka
    option srvtcpka
    timeout connect 2s
    # Sessions of PostgreSQL may be idle for a long time.
    timeout client 24h
    timeout server 24h
    timeout queue 10s
";

const STATS_SOCKET: &str =
    "    # HAProxy does not start if the directory of this socket is missing. Debian's package makes /run/haproxy, RHEL's
    # /var/lib/haproxy, a container's image neither. The option --stats-socket names another path.
    stats socket PATH mode 660 level admin
";

const STATS: &str =
    "# A page that shows the state of each server. With ;csv at the end of its address it is for programs.
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

fn listen(what: &HaproxyConfig, view: &str, bind: &str, agent_port: u16, servers: &str) -> String {
    let resolvers = what.resolvers.as_ref().map_or_else(String::new, |name| {
        format!(
            "    # HAProxy starts even if a name has no address yet, and looks up names again while it runs.\n    \
             default-server resolvers {name} init-addr last,libc,none\n"
        )
    });
    let mut text = format!(
        "listen {name}_{view}
    bind {bind}
    mode tcp
    # If a server refuses a connection, the client is told at once. By default HAProxy waits a second and tries the same
    # server again.
    retries 0
    # This check only finds out whether the agent answers. What the agent says counts in the agent check.
    option tcp-check
    tcp-check expect rstring ^(READY|MAINT|DRAIN)
    # disabled: when HAProxy starts, a server takes no client until its agent has said READY.
    default-server disabled check port {agent_port} inter 1s fall 3 rise 1
    default-server agent-check agent-port {agent_port} agent-inter 100ms on-marked-down shutdown-sessions maxconn {maxconn}
{resolvers}",
        name = what.name,
        maxconn = what.maxconn,
    );
    if view == "read_only" {
        text = text.replacen("    mode tcp\n", "    mode tcp\n    balance leastconn\n", 1);
    }
    text + servers
}

fn of(cluster: &Cluster) -> String {
    let named = |scope: &String| format!("the Patroni cluster {}", printable(scope));
    cluster.scope.as_ref().map_or("a Patroni cluster".into(), named)
}

#[cfg(test)]
mod tests;
