//! The options and their defaults, as they are typed. Of these texts `--help`, the manual page and the settings file are made.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::values::{Listen, OrNone, SocketPath, absolute, duration, named, one_of, yes_or_no};
use crate::config::HOLD_FILE;
use crate::endpoint::Endpoint;
use crate::haproxy::reply::{OnFailure, OnStandby, ReplyFormat};
use crate::haproxy::syntax::{Bind, haproxy_name};
use crate::patroni::BaseUrl;

/// With what a bug report should say: what was built in.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (systemd, agent-send, TLS, metrics)");

/// A check is answered before HAProxy gives up, and each one before the unit's TimeoutStopSec= is over.
pub const DEADLINES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(5);

/// So long after its demotion a node may be called READY, so not longer than the longest `agent-inter` that makes sense.
const MAX_AGES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(1);

/// What is left of the lock's lease at the least is `ttl - loop_wait - retry_timeout`, 10 s with Patroni's defaults, and without
/// the retries 20 s. A longer grace could keep a READY beyond it.
const GRACES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(20);

/// Answers HAProxy's agent-check on a Patroni host: READY or MAINT, and why
///
/// The socket to answer on is found, not chosen: listeners or a connection that systemd passes (patroni-check.socket), a
/// connection on standard input (inetd), --listen, or none, and then the reply goes to standard output.
#[derive(Debug, Parser)]
#[command(
    version = VERSION,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_long_help = "Each option can also be set in the environment, as PATRONI_CHECK_ and its name: \
    PATRONI_CHECK_ON_FAILURE=drain. An empty value is the default. The command line wins. The service's settings are in \
    /etc/default/patroni-check; the subcommands heed them, and what else its unit says.\n\n\
    Exit status: 0 answered or stopped in good order, 1 could not do its work, 2 wrong usage or configuration."
)]
pub(super) struct Options {
    /// Patroni's REST API
    ///
    /// Its base address, http or https.
    #[arg(long, global = true, env = "PATRONI_CHECK_PATRONI", hide_env = true, value_name = "URL")]
    #[arg(default_value = "http://localhost:8008")]
    pub(super) patroni: BaseUrl,

    /// Endpoint to answer for
    ///
    /// One of Patroni's health check endpoints, for sockets whose name (FileDescriptorName=) does not say. Parameters as in Patroni's manual: lag=, tag_NAME= and mode=.
    #[arg(long, env = "PATRONI_CHECK_ENDPOINT", hide_env = true, default_value = "/primary")]
    #[arg(value_parser = named::<Endpoint>)]
    pub(super) endpoint: Endpoint,

    /// Further endpoints that agent-send may name
    ///
    /// May be repeated; in the environment they are separated by spaces. On an agent-send socket a check names its endpoint: that
    /// of another socket, --endpoint, or one of these.
    #[arg(long, env = "PATRONI_CHECK_ALSO", hide_env = true, value_name = "ENDPOINT", value_delimiter = ' ')]
    #[arg(value_parser = named::<Endpoint>)]
    pub(super) also: Vec<Endpoint>,

    /// Bind a port ourselves
    ///
    /// May be repeated; in the environment they are separated by spaces. ADDR:PORT=NAME is for what NAME says:
    /// an endpoint, `agent-send` or `metrics`.
    #[arg(long, env = "PATRONI_CHECK_LISTEN", hide_env = true, value_name = "ADDR:PORT", value_delimiter = ' ')]
    pub(super) listen: Vec<Listen>,

    /// `full`, or one `plain` word
    ///
    /// full: an administrative and an operational word, and the reason, as in `MAINT UP # replica streaming`. plain: READY
    /// or MAINT alone, as the Python script said it.
    #[arg(long, env = "PATRONI_CHECK_WORDS", hide_env = true, default_value = "full")]
    #[arg(hide_possible_values = true, value_parser = one_of(&ReplyFormat::NAMED))]
    pub(super) words: ReplyFormat,

    /// Broken: `maint`, `down`, `drain` or `silent`
    ///
    /// What a node says where something is wrong. By default maint for the primary and leader endpoints, for which one node is meant and the others stand by, broken or
    /// not; else down.
    #[arg(long, env = "PATRONI_CHECK_ON_FAILURE", hide_env = true, value_name = "WORD")]
    #[arg(hide_possible_values = true, value_parser = one_of(&OnFailure::NAMED))]
    pub(super) on_failure: Option<OnFailure>,

    /// Not meant: `maint`, `drain` or `down`
    ///
    /// What a node says that is healthy, but not meant for this endpoint, as a replica for /primary. By default maint.
    #[arg(long, env = "PATRONI_CHECK_ON_STANDBY", hide_env = true, value_name = "WORD")]
    #[arg(hide_possible_values = true, value_parser = one_of(&OnStandby::NAMED))]
    pub(super) on_standby: Option<OnStandby>,

    /// Answer each check within this
    ///
    /// 5s at most. Keep it below HAProxy's agent-inter.
    #[arg(long, env = "PATRONI_CHECK_DEADLINE", hide_env = true, value_name = "DURATION", default_value = "80ms")]
    #[arg(value_parser = |text: &str| duration(text, &DEADLINES))]
    pub(super) deadline: Duration,

    /// So old may Patroni's word be
    ///
    /// A check is answered from what Patroni said if it was asked at most this long before the check: 1s at most, as a node may be called READY for so long after its demotion. So Patroni is asked at most ten times a second for an endpoint.
    #[arg(long, env = "PATRONI_CHECK_MAX_AGE", hide_env = true, value_name = "DURATION", default_value = "100ms")]
    #[arg(value_parser = |text: &str| duration(text, &MAX_AGES))]
    pub(super) max_age: Duration,

    /// Patroni silent: its word stands
    ///
    /// While Patroni does not answer, or says that nobody holds the leader lock, its last word stands until it is this old: 20s at most, 0s for none. In a paused cluster that nobody leads it stands for as long as that lasts. Keep it below what is left of the lock's lease at the least, or two nodes may be READY: Patroni's ttl - loop_wait - retry_timeout, 10s where `patronictl show-config` shows 30, 10 and 10, its defaults.
    #[arg(long, env = "PATRONI_CHECK_GRACE", hide_env = true, value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = |text: &str| duration(text, &GRACES))]
    pub(super) grace: Duration,

    /// PEM file of the authorities for Patroni's certificate, or of itself [default: the system's]
    #[arg(
        long,
        global = true,
        env = "PATRONI_CHECK_CACERT",
        hide_env = true,
        value_name = "FILE",
        hide_short_help = true
    )]
    pub(super) cacert: Option<PathBuf>,

    /// PEM file of our certificate, for restapi.verify_client: required
    #[arg(
        long,
        global = true,
        env = "PATRONI_CHECK_CERT",
        hide_env = true,
        value_name = "FILE",
        hide_short_help = true
    )]
    pub(super) cert: Option<PathBuf>,

    /// PEM file of its key
    #[arg(
        long,
        global = true,
        env = "PATRONI_CHECK_KEY",
        hide_env = true,
        value_name = "FILE",
        hide_short_help = true
    )]
    pub(super) key: Option<PathBuf>,

    /// Take any certificate from Patroni
    #[arg(long, global = true, env = "PATRONI_CHECK_INSECURE", hide_env = true, hide_short_help = true)]
    #[arg(value_parser = yes_or_no)]
    pub(super) insecure: bool,

    /// Say MAINT on every endpoint while this file is there
    ///
    /// `patroni-check hold` makes it, `patroni-check release` removes it. On this host's own disks, and where the service can look: not in /tmp, a home directory, or one that others can't enter.
    #[arg(long, global = true, env = "PATRONI_CHECK_HOLD_FILE", hide_env = true, value_name = "FILE")]
    #[arg(default_value = HOLD_FILE, hide_short_help = true, value_parser = absolute)]
    pub(super) hold_file: PathBuf,

    /// What to do instead of answering checks
    #[command(subcommand)]
    pub(super) command: Option<TypedCommand>,
}

/// What a person may want of the program.
#[derive(Debug, Subcommand)]
pub(super) enum TypedCommand {
    /// Show what this node answers on each endpoint, and why
    Explain(Explain),
    /// Write an HAProxy configuration for this cluster
    HaproxyConfig(Box<HaproxyConfig>),
    /// Say MAINT from now on, across restarts, until `release`
    Hold {
        /// Why; HAProxy, the journal and `explain` show it
        reason: Vec<String>,
    },
    /// End a hold
    Release,
}

/// Asks the local Patroni once for each endpoint and shows what HAProxy would be told.
///
/// Exit status, as monitoring checks want it: 0 all is well, 1 held by an operator or something is odd, 2 Patroni or
/// Postgres is broken, or an endpoint that was named is.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// These endpoints only
    #[arg(value_name = "ENDPOINT")]
    pub(super) endpoints: Vec<Endpoint>,

    /// For scripts
    #[arg(long)]
    pub(super) json: bool,
}

/// Asks the local Patroni for the members of its cluster and prints a configuration of HAProxy for them.
#[derive(Debug, Args)]
pub(super) struct HaproxyConfig {
    /// The backends alone, without global, defaults and the stats page
    #[arg(long)]
    pub(super) section: bool,

    /// Backends' names begin with it
    #[arg(long, default_value = "postgres", value_parser = haproxy_name)]
    pub(super) name: String,

    /// Where clients connect that write, as ADDR:PORT or :PORT
    #[arg(long, value_name = "BIND", default_value = ":5000")]
    pub(super) read_write: OrNone<Bind>,

    /// Where clients connect that read; `none` for no such backend
    #[arg(long, value_name = "BIND", default_value = ":5001")]
    pub(super) read_only: OrNone<Bind>,

    /// Port of patroni-check.socket there
    #[arg(long, value_name = "PORT", default_value = "5555", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) agent_port: u16,

    /// And of patroni-check-replica.socket
    #[arg(long, value_name = "PORT", default_value = "5556", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) replica_port: u16,

    /// Where the stats page is; `none` for none
    #[arg(long, value_name = "BIND", default_value = "127.0.0.1:7000")]
    pub(super) stats: OrNone<Bind>,

    /// HAProxy's admin socket, or `none`
    ///
    /// HAProxy does not start where the directory is not there: Debian's package makes /run/haproxy, RHEL's /var/lib/haproxy, a
    /// container's image neither.
    #[arg(long, value_name = "PATH", default_value = "/run/haproxy/admin.sock")]
    pub(super) stats_socket: OrNone<SocketPath>,

    /// Connections that a server takes
    #[arg(long, value_name = "NUMBER", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) maxconn: u32,

    /// Look servers' names up again while HAProxy runs, by a resolvers section of this name
    #[arg(long, value_name = "NAME", value_parser = haproxy_name)]
    pub(super) resolvers: Option<String>,
}
