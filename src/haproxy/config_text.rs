//! A configuration of HAProxy for a cluster, commented, ready to run.
//!
//! Each line was tried: tests/haproxy.rs and tests/machines run what is made here, `make faults`
//! measures it.

use std::time::Duration;

use super::servers::{Server, servers};
use super::syntax::Bind;
use crate::patroni::body::Cluster;
use crate::text::printable;

/// What becomes of reads when no replica is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// They are refused.
    None,
    /// They go to the primary. Their sessions stay there.
    Keep,
    /// They go to the primary. Their sessions end when a replica is back.
    Cut,
}

/// What the configuration is to have.
#[derive(Debug, Clone)]
pub struct Choices {
    /// The port of patroni-check-http.socket on the hosts, where they are to be checked by HTTP.
    pub http_port: Option<u16>,
    /// The backends alone, without global, defaults and the stats page.
    pub section: bool,
    /// Backends' names begin with it.
    pub name: String,
    /// Where clients connect that write; no such backend without it.
    pub read_write: Option<Bind>,
    /// Where clients connect that read; no such backend without it.
    pub read_only: Option<Bind>,
    /// The port of patroni-check.socket on the hosts.
    pub agent_port: u16,
    /// How often HAProxy asks each agent.
    pub agent_inter: Duration,
    /// The port of patroni-check-replica.socket on the hosts.
    pub replica_port: u16,
    /// The port on the hosts that clients are sent to, if not the one that Patroni announces.
    pub server_port: Option<u16>,
    /// What becomes of reads when no replica is left.
    pub fallback: Fallback,
    /// Connections that the primary takes of them.
    pub fallback_maxconn: u32,
    /// Where the stats page is.
    pub stats: Option<Bind>,
    /// The path of HAProxy's admin socket.
    pub stats_socket: Option<String>,
    /// Connections that a server takes.
    pub maxconn: u32,
    /// The name of a resolvers section, by which servers' names are looked up again.
    pub resolvers: Option<String>,
}

impl Choices {
    /// Whether they go together: HAProxy itself would start, and serve clients at random.
    ///
    /// # Errors
    /// Those that do not, by the names of the options.
    pub fn check(&self) -> Result<(), String> {
        let stats = self.stats.as_ref().filter(|_| !self.section);
        let binds =
            [("--read-write", self.read_write.as_ref()), ("--read-only", self.read_only.as_ref()), ("--stats", stats)];
        let binds: Vec<_> = binds.into_iter().filter_map(|(option, bind)| Some((option, bind?))).collect();
        for (index, (one, bind)) in binds.iter().enumerate() {
            for (other, other_bind) in &binds[index + 1..] {
                if bind.is_same_port(other_bind) {
                    return Err(format!("{one} {bind} and {other} {other_bind} are the same port"));
                }
            }
        }
        match (&self.read_write, &self.read_only) {
            (None, None) => Err("--read-write none and --read-only none leave no backend".into()),
            (None, Some(_)) if self.http_port.is_some() && self.fallback != Fallback::None => {
                Err("--fallback with --http goes by the checks of the backend for writes, and --read-write is none"
                    .into())
            }
            (Some(_), Some(_)) if self.http_port.is_none() && self.agent_port == self.replica_port => Err(format!(
                "--agent-port and --replica-port are both {}: reads would go to the primary alone",
                self.agent_port
            )),
            _ => Ok(()),
        }
    }
}

/// The configuration as text.
///
/// # Errors
/// A cluster without a member that HAProxy could reach.
pub fn config_text(cluster: &Cluster, choices: &Choices) -> Result<String, String> {
    let servers = servers(cluster, choices.server_port)?;
    let lines: String = servers.iter().map(Server::line).collect();
    let mut text = String::new();
    if !choices.section {
        text += &head(cluster, choices);
    }
    if let Some(bind) = &choices.read_write {
        text += match choices.http_port {
            None => "# Writes. The primary is UP, and the replicas are in MAINT. DOWN means trouble.\n",
            Some(_) => {
                "# Writes. The primary is UP, and the replicas are DOWN. The hosts need patroni-check-http.socket.\n"
            }
        };
        text += &listen(choices, "read_write", bind, choices.agent_port);
        text += &lines;
    }
    if let Some(bind) = &choices.read_only {
        text += match choices.http_port {
            None => {
                "\n# Reads. The replicas are UP, and the primary is in MAINT. The hosts need patroni-check-replica.socket.\n"
            }
            Some(_) => {
                "\n# Reads. The replicas are UP, and the primary is DOWN. The hosts need PATRONI_CHECK_ALSO=/replica.\n"
            }
        };
        text += &listen(choices, "read_only", bind, choices.replica_port);
        text += &lines;
        text += &fallback(&servers, choices);
    }
    if let Some(bind) = choices.stats.as_ref().filter(|_| !choices.section) {
        text += &format!("\n{}", STATS.replace("BIND", &bind.to_string()));
    }
    Ok(text)
}

/// What stands before the backends.
fn head(cluster: &Cluster, choices: &Choices) -> String {
    let (global, defaults) = match &choices.stats_socket {
        Some(path) => {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            (STATS_SOCKET.replace("PATH", path).replace("DIRECTORY", directory), LOAD_STATE)
        }
        None => (String::new(), ""),
    };
    let resolvers = choices.resolvers.as_ref().map_or_else(String::new, |name| {
        format!("\n# The name servers of /etc/resolv.conf.\nresolvers {name}\n    parse-resolv-conf\n")
    });
    format!(
        "# For {}, by patroni-check haproxy-config.\n{}{resolvers}\n",
        describe(cluster),
        HEAD.replace("GLOBAL", &global).replace("DEFAULTS", defaults)
    )
}

/// The servers that take reads when no replica is left: the primary, under other names.
fn fallback(servers: &[Server], choices: &Choices) -> String {
    let maxconn = choices.fallback_maxconn;
    let sessions = match choices.fallback {
        Fallback::None => return String::new(),
        Fallback::Keep => "stay there",
        Fallback::Cut => "end",
    };
    let default = match choices.http_port {
        None => format!("port {port} agent-port {port}", port = choices.agent_port),
        Some(_) => "no-check".to_owned(),
    };
    let is_taken = |suffix: &str| {
        servers.iter().any(|one| servers.iter().any(|other| format!("{}{suffix}", one.name) == other.name))
    };
    let mut suffix = "_primary".to_owned();
    while is_taken(&suffix) {
        suffix += "_";
    }
    let lines = servers.iter().filter_map(|server| {
        let (name, address) = (&server.name, server.address().ok()?);
        let track =
            choices.http_port.map_or_else(String::new, |_| format!(" track {}_read_write/{name}", choices.name));
        Some(format!("    server {name}{suffix} {address}{track}\n"))
    });
    format!(
        "    # backup: if no replica is left, reads go to the primary. When a replica is back, its sessions {sessions}.
    default-server {default} maxconn {maxconn} backup
{}",
        lines.collect::<String>()
    )
}

const HEAD: &str = "# Check this file with haproxy -c -f FILE, then activate it with systemctl reload haproxy.
global
    log /dev/log local0
    user haproxy
    group haproxy
GLOBAL    # The first checks of all servers start within 50 ms. By default they are spread over the interval of the checks,
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
DEFAULTS";

const STATS_SOCKET: &str =
    "    # HAProxy does not start if the directory of this socket is missing. Debian's package makes /run/haproxy, RHEL's
    # /var/lib/haproxy, a container's image neither. The option --stats-socket names another path.
    stats socket PATH mode 660 level admin
    # What a reload begins with, so that it refuses no connection. A drop-in for haproxy.service writes it before each reload:
    # haproxy-reload.conf in the examples of patroni-check. Without it HAProxy says that there is no such file, and goes on.
    server-state-file DIRECTORY/server-state
";

const LOAD_STATE: &str = "    load-server-state-from-file global\n";

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

/// A backend of one kind of traffic, up to its servers.
fn listen(choices: &Choices, view: &str, bind: &Bind, agent_port: u16) -> String {
    let resolvers = choices.resolvers.as_ref().map_or_else(String::new, |name| {
        format!(
            "    # HAProxy starts even if a name has no address yet, and looks up names again while it runs.\n    \
             default-server resolvers {name} init-addr last,libc,none\n"
        )
    });
    let maxconn = choices.maxconn;
    let checks = match choices.http_port {
        Some(port) => http_checks(view, port, maxconn),
        None => agent_checks(agent_port, choices.agent_inter, maxconn),
    };
    let cut = if view == "read_only" && choices.fallback == Fallback::Cut {
        "    default-server on-marked-up shutdown-backup-sessions\n"
    } else {
        ""
    };
    let balance = if view == "read_only" { "    balance leastconn\n" } else { "" };
    format!(
        "listen {name}_{view}
    bind {bind}
    mode tcp
{balance}    # If a server refuses a connection, the client is told at once. By default HAProxy waits a second and tries the same
    # server again.
    retries 0
{checks}{cut}{resolvers}",
        name = choices.name,
    )
}

fn agent_checks(port: u16, inter: Duration, maxconn: u32) -> String {
    let inter = inter.as_millis();
    format!(
        "    # This check only finds out whether the agent answers. What the agent says counts in the agent check.
    option tcp-check
    tcp-check expect rstring ^(READY|MAINT|DRAIN)
    # disabled: when HAProxy starts, a server takes no client until its agent has said READY.
    default-server disabled check port {port} inter 1s fall 3 rise 1
    default-server agent-check agent-port {port} agent-inter {inter}ms on-marked-down shutdown-sessions maxconn {maxconn}
"
    )
}

fn http_checks(view: &str, port: u16, maxconn: u32) -> String {
    let endpoint = if view == "read_only" { "/replica" } else { "/primary" };
    format!(
        "    # 200 if the host may take this traffic, 503 if not. So a host that stands by is DOWN here.
    option httpchk GET {endpoint}
    http-check expect status 200
    default-server check port {port} inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions maxconn {maxconn}
"
    )
}

fn describe(cluster: &Cluster) -> String {
    let named = |scope: &String| format!("the Patroni cluster {}", printable(scope));
    cluster.scope.as_ref().map_or("a Patroni cluster".into(), named)
}

#[cfg(test)]
mod tests;
