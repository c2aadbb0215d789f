//! The commands and their options, as they are typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::values::{
    ABSENCES, CONFIG_FORMATS, DEADLINES, FALLBACKS, HOLDS, INTERVALS, OrNone, SocketPath, WAITS, duration, one_of,
};
use crate::commands::haproxy_config::ConfigFormat;
use crate::endpoint::Endpoint;
use crate::haproxy::config_text::Fallback;
use crate::haproxy::syntax::{Bind, haproxy_name};
use crate::view::View;

/// What a person may want of the program.
#[derive(Debug, Subcommand)]
pub(super) enum TypedCommand {
    /// Show what this node answers on each endpoint, and why
    ///
    /// Asks Patroni for each endpoint, or only for those that are named. Shows the status of
    /// Patroni's answer, the verdict, the reply in both formats, and the reason. `200 vetoed` means
    /// that the body of the answer spoke against the status. The first line also says whether the
    /// cluster is paused, whether it is in failsafe mode, and whether nobody holds the leader lock.
    /// In these cases the service may answer differently, because it remembers who held the lock. A
    /// second table shows the sockets and what each answers for. If Patroni can't be reached, the
    /// output says where to look.
    ///
    /// There is one request at a time. Each request may take 5s, and all together 10s. After a
    /// request without an answer there is no other. Lines have at most 80 characters, except for
    /// the first line. What can't be printed is shown as `?`. Colours are for terminals, and only
    /// if NO_COLOR is not set.
    #[command(after_long_help = "Exit status, as monitoring wants it:\n  \
        0  OK\n  \
        1  WARNING: the node is held, nobody holds the leader lock, the node has\n     \
        the lock and is still being promoted, or an endpoint gives an odd answer\n  \
        2  CRITICAL: Patroni does not answer, Postgres does not run, an endpoint\n     \
        that was named is broken, or the usage or configuration is wrong")]
    Explain(Explain),
    /// Write an HAProxy configuration for this cluster
    ///
    /// Asks Patroni for the members of its cluster and prints a commented configuration: a port for
    /// writes, a port for reads and a stats page. A member without a usable address is left out,
    /// and a comment says so. A name that HAProxy does not take is changed, and no two names become
    /// the same. --patroni may be repeated; the first Patroni that lists its members counts.
    #[command(after_long_help = "Exit status of --write, which prints one line:\n  \
        0  OK: the file is up to date, and HAProxy has it\n  \
        1  WARNING: the file is as it was, because no Patroni lists the members,\n     \
        the check refused the new file, or it can't be written\n  \
        2  CRITICAL: HAProxy may not have what is in the file, because the reload\n     \
        failed; or the usage or configuration is wrong")]
    HaproxyConfig(Box<HaproxyConfig>),
    /// Say by the exit status whether this node may take the traffic
    ///
    /// For jobs that must run on one node only, and for load balancers that run a command. Asks
    /// Patroni afresh: it needs no service, and nothing is remembered, so there is no grace. A hold
    /// counts. Any user may run it. Prints one line with the reason.
    #[command(after_long_help = "Exit status:\n  \
        0  the node may take the endpoint's traffic\n  \
        1  it may not: it stands by, or it is held\n  \
        2  Patroni does not answer, something is broken, or the usage or\n     \
        configuration is wrong (255 with --strict)")]
    Is(Is),
    /// Answer checks with MAINT or DRAIN until `release`
    ///
    /// The hold outlives restarts of the service and of the host. It needs root. A missing
    /// directory is created so that the service can read it, whatever the umask. A --hold-file that
    /// the service can't see is refused. A hold is a file: that of --on has the endpoint in its
    /// name. Of several holds on an endpoint, one with MAINT counts, and then the one that lasts
    /// longest.
    #[command(after_long_help = "Exit status:\n  \
        0  held, or listed, whether there is a hold or not\n  \
        1  not held: draining is refused, or the file can't be written\n  \
        2  wrong usage or configuration")]
    Hold(Hold),
    /// Show this host's clusters, and what to enable for each
    ///
    /// Reads Patroni's configurations and prints a script, which says in comments what answers for
    /// each cluster, and enables what is missing. Read it, then run it: `sudo patroni-check instances |
    /// sudo sh`. It changes no file that is there. What can't be read is told and not guessed.
    Instances(Instances),
    /// End holds
    ///
    /// Patroni decides again, from the next check on.
    Release(Release),
}

/// What `hold` may be told.
#[derive(Debug, Args)]
pub(super) struct Hold {
    /// Shown by HAProxy, the journal and explain
    #[arg(conflicts_with = "list")]
    pub(super) reason: Vec<String>,

    /// Let open sessions stay: DRAIN in place of MAINT
    ///
    /// HAProxy opens no new sessions. It is refused on an endpoint for one node, such as /primary,
    /// that this node serves, and if Patroni does not say that it does not serve it. Without --on
    /// this is asked of /primary, /leader and /standby-leader. On these endpoints a node that does
    /// not serve them answers MAINT in any case.
    #[arg(long, conflicts_with = "list")]
    pub(super) drain: bool,

    /// Only on this endpoint
    ///
    /// Without parameters it means all views of this path, by any of its names, whatever their
    /// parameters. With parameters it means exactly those. It may be given several times.
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "list")]
    pub(super) on: Vec<Endpoint>,

    /// End by itself after this time, such as 2h
    ///
    /// 1s to 366d. The time at which the hold ends is fixed by this, and shown wherever the hold is
    /// shown. A clock that is set ahead meanwhile does not end it early. After a reboot of the host
    /// the clock alone decides.
    #[arg(long = "for", value_name = "DURATION", conflicts_with = "list")]
    #[arg(value_parser = |text: &str| duration(text, &HOLDS))]
    pub(super) lasting: Option<Duration>,

    /// Drain whatever this node serves
    #[arg(long, requires = "drain")]
    pub(super) force: bool,

    /// List the holds, and change nothing
    ///
    /// Also those that are over, and files beside them with names that are no endpoint's.
    #[arg(long)]
    pub(super) list: bool,
}

/// Of what `instances` tells.
#[derive(Debug, Args)]
pub(super) struct Instances {
    /// Further configurations of Patroni, beside /etc/patroni/*.yml
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
}

/// What `release` may be told.
#[derive(Debug, Args)]
pub(super) struct Release {
    /// Only the hold on this endpoint
    ///
    /// As it was given to `hold`. It may be given several times. Without it all holds end.
    #[arg(long, value_name = "ENDPOINT")]
    pub(super) on: Vec<Endpoint>,
}

/// What `explain` may be told.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// Only these endpoints
    #[arg(value_name = "ENDPOINT")]
    pub(super) views: Vec<View>,

    /// Print JSON, for scripts
    #[arg(long)]
    pub(super) json: bool,

    /// Only try the service's settings
    ///
    /// Checks what the service checks when it starts, its certificate files and the names of its
    /// sockets, too. Asks nobody, and prints one line. The exit status is 0 if the service would start,
    /// and 2 if it would not.
    #[arg(long, conflicts_with_all = ["views", "json"])]
    pub(super) settings: bool,
}

/// What the configuration should have.
#[derive(Debug, Args)]
pub(super) struct HaproxyConfig {
    /// Use HTTP checks instead of the agent-check
    ///
    /// For who can't use the agent-check. The hosts need patroni-check-http.socket. A replica is DOWN
    /// in the backend for writes, and not in MAINT.
    #[arg(long)]
    pub(super) http: bool,

    /// Format: haproxy or json
    ///
    /// `json` is for templates: each member with its host and port, a name that HAProxy takes, and the
    /// ports of its agents.
    #[arg(long, default_value = "haproxy", hide_possible_values = true, hide_short_help = true)]
    #[arg(value_parser = one_of(CONFIG_FORMATS))]
    pub(super) format: ConfigFormat,

    /// The port of the HTTP checks
    ///
    /// The port of patroni-check-http.socket on the database hosts.
    #[arg(long, value_name = "PORT", default_value = "5559", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) http_port: u16,

    /// Print only the backends
    ///
    /// Leave out the sections global and defaults and the stats page, for a configuration that has
    /// its own.
    #[arg(long)]
    pub(super) section: bool,

    /// Prefix of the backends' names
    ///
    /// The names are `NAME_read_write` and `NAME_read_only`.
    #[arg(long, default_value = "postgres", value_parser = haproxy_name)]
    pub(super) name: String,

    /// Where writing clients connect
    ///
    /// `ADDR:PORT`, or `:PORT` for all addresses, or `none` for no such backend.
    #[arg(long, value_name = "BIND", default_value = ":5000")]
    pub(super) read_write: OrNone<Bind>,

    /// Where reading clients connect
    ///
    /// `ADDR:PORT`, or `:PORT` for all addresses, or `none` for no such backend.
    #[arg(long, value_name = "BIND", default_value = ":5001")]
    pub(super) read_only: OrNone<Bind>,

    /// The agent's port for writes
    ///
    /// The port of patroni-check.socket on the database hosts.
    #[arg(long, value_name = "PORT", default_value = "5555", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) agent_port: u16,

    /// The agent's port for reads
    ///
    /// The port of patroni-check-replica.socket on the database hosts.
    #[arg(long, value_name = "PORT", default_value = "5556", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) replica_port: u16,

    /// How often HAProxy asks each agent
    ///
    /// HAProxy 2.2 to 2.5 need 300ms: there an answer of the agent takes 200ms, and with the default
    /// none counts. 1m at most.
    #[arg(long, value_name = "DURATION", default_value = "100ms", hide_short_help = true)]
    #[arg(value_parser = |text: &str| duration(text, &INTERVALS))]
    pub(super) agent_inter: Duration,

    /// Where clients are sent on each host
    ///
    /// The port of PgBouncer, for instance. The default is the port that Patroni announces for
    /// Postgres.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) server_port: Option<u16>,

    /// If no replica is left: none, keep or cut
    ///
    /// With `keep` and `cut` reads go to the primary then. With `keep` their sessions stay there until
    /// they end; with `cut` they end when a replica is back. With `none` the backend for reads has no
    /// server then. The default is `keep`, and `none` if nothing tells the primary: with --http and
    /// --read-write none.
    #[arg(long, value_name = "WORD", hide_possible_values = true, value_parser = one_of(FALLBACKS))]
    pub(super) fallback: Option<Fallback>,

    /// Most connections to the primary that --fallback makes
    #[arg(long, value_name = "NUMBER", default_value = "20", hide_short_help = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) fallback_maxconn: u32,

    /// Keep this file up to date
    ///
    /// For a timer on the hosts of HAProxy. The file is replaced if the members or the options have
    /// changed, and HAProxy takes it; then HAProxy is reloaded. It is written under another name in the
    /// same directory, and keeps its mode and its owner. A file that is there already must be one that
    /// was written so. An error and a list without some members take nothing away. --help tells the exit
    /// status.
    #[arg(long, value_name = "FILE", requires_all = ["check", "reload"], conflicts_with = "format")]
    pub(super) write: Option<PathBuf>,

    /// Command that checks the file
    ///
    /// The shell runs it, with the name of the new file at its end: `haproxy -c -f`, or
    /// `haproxy -c -f /etc/haproxy/haproxy.cfg -f` with --section.
    #[arg(long, value_name = "COMMAND", requires = "write", hide_short_help = true)]
    pub(super) check: Option<String>,

    /// Command that reloads HAProxy
    ///
    /// The shell runs it, such as `systemctl reload haproxy`. If it fails, the next run tries again.
    #[arg(long, value_name = "COMMAND", requires = "write", hide_short_help = true)]
    pub(super) reload: Option<String>,

    /// Keep an absent member this long
    ///
    /// A member that Patroni does not list any more leaves the file after so long a time. 30d at most.
    #[arg(long, value_name = "DURATION", default_value = "1h", requires = "write", hide_short_help = true)]
    #[arg(value_parser = |text: &str| duration(text, &ABSENCES))]
    pub(super) leave_after: Duration,

    /// Where the stats page is
    ///
    /// `ADDR:PORT`, or `:PORT` for all addresses, or `none` for no stats page.
    #[arg(long, value_name = "BIND", default_value = "127.0.0.1:7000")]
    pub(super) stats: OrNone<Bind>,

    /// Admin socket
    ///
    /// The path of HAProxy's admin socket, or `none`. HAProxy does not start if the directory is
    /// missing. Debian's package makes /run/haproxy, RHEL's /var/lib/haproxy; a container's image
    /// has neither. The default is /run/haproxy/admin.sock, and /var/lib/haproxy/stats on a host that
    /// has only the second directory. The state for a reload is kept in the same directory.
    #[arg(long, value_name = "PATH")]
    pub(super) stats_socket: Option<OrNone<SocketPath>>,

    /// Most connections to a server
    ///
    /// HAProxy queues further connections.
    #[arg(long, value_name = "NUMBER", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) maxconn: u32,

    /// Resolve servers' names while HAProxy runs
    ///
    /// The name of the resolvers section that is written for this.
    #[arg(long, value_name = "NAME", value_parser = haproxy_name)]
    pub(super) resolvers: Option<String>,
}

/// What `is` may be told.
#[derive(Debug, Args)]
pub(super) struct Is {
    /// One of Patroni's health check endpoints, such as /primary
    #[arg(value_name = "ENDPOINT")]
    pub(super) view: View,

    /// Print nothing if the answer is yes or no
    #[arg(long)]
    pub(super) quiet: bool,

    /// Wait this long for a yes
    ///
    /// Asks again, ten times a second at most, until the status is 0 or this time is over. A request
    /// that Patroni does not answer is waited for and not repeated. 1h at most.
    #[arg(long, value_name = "DURATION", default_value = "0s", hide_default_value = true)]
    #[arg(value_parser = |text: &str| duration(text, &WAITS))]
    pub(super) wait: Duration,

    /// Wait this long for Patroni's answer
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    #[arg(value_parser = |text: &str| duration(text, &DEADLINES))]
    pub(super) deadline: Duration,

    /// Exit with 255 instead of 2
    ///
    /// systemd's ExecCondition= takes 1 to 254 for "skip", and 255 for "failed".
    #[arg(long)]
    pub(super) strict: bool,
}
