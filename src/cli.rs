//! The command line and its environment variables: options, defaults, and what can't be meant.

mod read;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use read::{absolute, duration, named, yes_or_no};

use crate::endpoint::Endpoint;
use crate::haproxy_config::HaproxyConfig;
use crate::hold::Hold;
use crate::invocation::Purpose;
use crate::patroni::{BaseUrl, Patroni, Tls};
use crate::reply::{OnFailure, OnStandby, Vocabulary, Words};
use crate::view::Limits;

/// With what a bug report should say: what was built in.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (systemd, agent-send, TLS, metrics)");

/// A check is answered before HAProxy gives up, and each one before the unit's TimeoutStopSec= is over.
pub const DEADLINES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(5);

/// So long after its demotion a node may be called READY, so not longer than the longest `agent-inter` that makes sense.
const MAX_AGES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(1);

/// What is left of the lock's lease at the least is `ttl - loop_wait - retry_timeout`, 10 s with Patroni's defaults, and without
/// the retries 20 s. A longer grace could keep a READY beyond it.
const GRACES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(20);

/// Where a hold is.
const HOLD_FILE: &str = "/etc/patroni-check/hold";

/// Answers HAProxy's agent-check on a Patroni host: READY or MAINT, and why
///
/// The socket to answer on is found, not chosen: listeners or a connection that systemd passes (patroni-check.socket), a
/// connection on standard input (inetd), --listen, or none, and then the reply goes to standard output.
#[derive(Debug, Clone, Parser)]
#[command(
    version = VERSION,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_long_help = "Each option can also be set in the environment, as PATRONI_CHECK_ and its name: \
    PATRONI_CHECK_ON_FAILURE=drain. An empty value is the default. The command line wins. The service's settings are in \
    /etc/default/patroni-check; the subcommands heed them, and what else its unit says.\n\n\
    Exit status: 0 answered or stopped in good order, 1 could not do its work, 2 wrong usage or configuration."
)]
pub struct Options {
    /// Patroni's REST API
    ///
    /// Its base address, http or https.
    #[arg(long, global = true, env = "PATRONI_CHECK_PATRONI", hide_env = true, value_name = "URL")]
    #[arg(default_value = "http://localhost:8008")]
    patroni: BaseUrl,

    /// Endpoint to answer for
    ///
    /// One of Patroni's health check endpoints, for sockets whose name (FileDescriptorName=) does not say. Parameters as in Patroni's manual: lag=, tag_NAME= and mode=.
    #[arg(long, env = "PATRONI_CHECK_ENDPOINT", hide_env = true, default_value = "/primary")]
    #[arg(value_parser = named::<Endpoint>)]
    endpoint: Endpoint,

    /// Further endpoints that agent-send may name
    ///
    /// May be repeated; in the environment they are separated by spaces. On an agent-send socket a check names its endpoint: that
    /// of another socket, --endpoint, or one of these.
    #[arg(long, env = "PATRONI_CHECK_ALSO", hide_env = true, value_name = "ENDPOINT", value_delimiter = ' ')]
    #[arg(value_parser = named::<Endpoint>)]
    also: Vec<Endpoint>,

    /// Bind a port ourselves
    ///
    /// May be repeated; in the environment they are separated by spaces. ADDR:PORT=NAME is for what NAME says:
    /// an endpoint, `agent-send` or `metrics`.
    #[arg(long, env = "PATRONI_CHECK_LISTEN", hide_env = true, value_name = "ADDR:PORT", value_delimiter = ' ')]
    listen: Vec<Listen>,

    /// `full`, or one `plain` word
    ///
    /// full: an administrative and an operational word, and the reason, as in `MAINT UP # replica streaming`. plain: READY
    /// or MAINT alone, as the Python script said it.
    #[arg(long, env = "PATRONI_CHECK_WORDS", hide_env = true, value_enum, default_value = "full")]
    #[arg(hide_possible_values = true)]
    words: Words,

    /// Broken: `maint`, `down`, `drain` or `silent`
    ///
    /// What a node says where something is wrong. By default maint for the primary and leader endpoints, for which one node is meant and the others stand by, broken or
    /// not; else down.
    #[arg(long, env = "PATRONI_CHECK_ON_FAILURE", hide_env = true, value_enum, value_name = "WORD")]
    #[arg(hide_possible_values = true)]
    on_failure: Option<OnFailure>,

    /// Not meant: `maint`, `drain` or `down`
    ///
    /// What a node says that is healthy, but not meant for this endpoint, as a replica for /primary. By default maint.
    #[arg(long, env = "PATRONI_CHECK_ON_STANDBY", hide_env = true, value_enum, value_name = "WORD")]
    #[arg(hide_possible_values = true)]
    on_standby: Option<OnStandby>,

    /// Answer each check within this
    ///
    /// 5s at most. Keep it below HAProxy's agent-inter.
    #[arg(long, env = "PATRONI_CHECK_DEADLINE", hide_env = true, value_name = "DURATION", default_value = "80ms")]
    #[arg(value_parser = |text: &str| duration(text, &DEADLINES))]
    deadline: Duration,

    /// So old may Patroni's word be
    ///
    /// A check is answered from what Patroni said if it was asked at most this long before the check: 1s at most, as a node may be called READY for so long after its demotion. So Patroni is asked at most ten times a second for an endpoint.
    #[arg(long, env = "PATRONI_CHECK_MAX_AGE", hide_env = true, value_name = "DURATION", default_value = "100ms")]
    #[arg(value_parser = |text: &str| duration(text, &MAX_AGES))]
    max_age: Duration,

    /// Patroni silent: its word stands
    ///
    /// While Patroni does not answer, or says that nobody holds the leader lock, its last word stands until it is this old: 20s at most, 0s for none. In a paused cluster that nobody leads it stands for as long as that lasts. Keep it below what is left of the lock's lease at the least, or two nodes may be READY: Patroni's ttl - loop_wait - retry_timeout, 10s where `patronictl show-config` shows 30, 10 and 10, its defaults.
    #[arg(long, env = "PATRONI_CHECK_GRACE", hide_env = true, value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = |text: &str| duration(text, &GRACES))]
    grace: Duration,

    /// PEM file of the authorities for Patroni's certificate, or of itself [default: the system's]
    #[arg(
        long,
        global = true,
        env = "PATRONI_CHECK_CACERT",
        hide_env = true,
        value_name = "FILE",
        hide_short_help = true
    )]
    cacert: Option<PathBuf>,

    /// PEM file of our certificate, for restapi.verify_client: required
    #[arg(
        long,
        global = true,
        env = "PATRONI_CHECK_CERT",
        hide_env = true,
        value_name = "FILE",
        hide_short_help = true
    )]
    cert: Option<PathBuf>,

    /// PEM file of its key
    #[arg(
        long,
        global = true,
        env = "PATRONI_CHECK_KEY",
        hide_env = true,
        value_name = "FILE",
        hide_short_help = true
    )]
    key: Option<PathBuf>,

    /// Take any certificate from Patroni
    #[arg(long, global = true, env = "PATRONI_CHECK_INSECURE", hide_env = true, hide_short_help = true)]
    #[arg(value_parser = yes_or_no)]
    insecure: bool,

    /// Say MAINT on every endpoint while this file is there
    ///
    /// `patroni-check hold` makes it, `patroni-check release` removes it. On this host's own disks, and where the service can look: not in /tmp, a home directory, or one that others can't enter.
    #[arg(long, global = true, env = "PATRONI_CHECK_HOLD_FILE", hide_env = true, value_name = "FILE")]
    #[arg(default_value = HOLD_FILE, hide_short_help = true, value_parser = absolute)]
    hold_file: PathBuf,

    /// What to do instead of answering checks
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What a person may want of the program.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show what this node answers on each endpoint, and why
    Explain(Explain),
    /// Write an HAProxy configuration for this cluster
    HaproxyConfig(HaproxyConfig),
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
#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// These endpoints only
    #[arg(value_name = "ENDPOINT")]
    pub endpoints: Vec<Endpoint>,

    /// For scripts
    #[arg(long)]
    pub json: bool,
}

/// A socket to bind, and what it is for where it does not answer for the default endpoint.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Where to bind.
    pub address: SocketAddr,
    /// What stands after the `=`.
    pub purpose: Option<Purpose>,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, purpose) = match text.split_once('=') {
            Some((address, purpose)) => (address, Some(named(purpose)?)),
            None => (text, None),
        };
        let address =
            address.parse().map_err(|_| "write an IP address and a port, like 127.0.0.1:5555 or [::]:5555")?;
        Ok(Listen { address, purpose })
    }
}

/// Wrong usage or configuration: one line for the operator, exit status 2.
#[derive(Debug)]
pub struct BadConfiguration(
    /// What is wrong, and what would be right.
    pub String,
);

impl fmt::Display for BadConfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadConfiguration {}

impl Options {
    /// What the operator should know of these options.
    pub fn warning(&self) -> Option<String> {
        let who = &self.patroni;
        self.insecure.then(|| format!("--insecure: whoever answers at {who} is taken for Patroni"))
    }

    /// The endpoints that a check may name by agent-send, beside those of the sockets.
    pub fn named(&self) -> impl Iterator<Item = &Endpoint> {
        std::iter::once(&self.endpoint).chain(&self.also)
    }

    /// The endpoint to answer for where nothing else is said.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What a socket of this name is for: the default endpoint, unless the name is one that means something.
    ///
    /// # Errors
    /// A name that begins with `/` and is no known endpoint.
    pub fn purpose_named(&self, name: &str) -> Result<Purpose, BadConfiguration> {
        match name.parse::<Purpose>() {
            Err(e) if name.starts_with('/') => Err(BadConfiguration(format!("FileDescriptorName={name}: {e}"))),
            Err(_) => Ok(Purpose::Endpoint(self.endpoint.clone())),
            Ok(purpose) => Ok(purpose),
        }
    }

    /// The sockets to bind ourselves, each with what it is for.
    pub fn listen(&self) -> impl Iterator<Item = (SocketAddr, Purpose)> {
        let default = || Purpose::Endpoint(self.endpoint.clone());
        self.listen.iter().map(move |listen| (listen.address, listen.purpose.clone().unwrap_or_else(default)))
    }

    /// Patroni, as these options reach it.
    ///
    /// # Errors
    /// A certificate file that can't be used.
    pub fn patroni(&self) -> Result<Patroni, BadConfiguration> {
        let tls = Tls {
            cacert: self.cacert.clone(),
            identity: self.cert.clone().zip(self.key.clone()),
            insecure: self.insecure,
        };
        Patroni::new(self.patroni.clone(), tls, self.deadline).map_err(BadConfiguration)
    }

    /// The words for an endpoint.
    ///
    /// # Errors
    /// Words that do not go together.
    pub fn vocabulary(&self, endpoint: &Endpoint) -> Result<Vocabulary, BadConfiguration> {
        self.vocabulary_of(endpoint, self.words)
    }

    /// The same of other words than those of the options.
    ///
    /// # Errors
    /// Words that do not go together.
    pub fn vocabulary_of(&self, endpoint: &Endpoint, words: Words) -> Result<Vocabulary, BadConfiguration> {
        Vocabulary::new(endpoint, words, self.on_standby, self.on_failure).map_err(BadConfiguration)
    }

    /// The hold that keeps the node back, if there is one.
    pub fn hold(&self) -> Hold {
        Hold::new(self.hold_file.clone())
    }

    /// How long things may take and last.
    pub fn limits(&self) -> Limits {
        Limits { deadline: self.deadline, max_age: self.max_age, grace: self.grace }
    }
}
