//! The command line and its environment variables: options, defaults, and what can't be meant.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;

use crate::endpoint::Endpoint;
use crate::patroni::{BaseUrl, Patroni, Tls};
use crate::reply::{OnFailure, OnStandby, Vocabulary, Words};
use crate::view::Limits;

/// The usual lease of Patroni's leader lock, `ttl - loop_wait`, outlives a primary by this; a longer grace could keep a
/// READY beyond it.
const GRACE_LIMIT: Duration = Duration::from_secs(20);

/// Within these a check is answered before HAProxy gives up, and at all.
const DEADLINES: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(30);

/// Answers HAProxy's agent-check on a Patroni host: READY on the primary, MAINT on a replica.
///
/// The socket to answer on is found, not chosen: listeners or a connection that systemd passes (patroni-check.socket),
/// a connection on standard input (inetd), --listen, or none, and then the reply goes to standard output.
#[derive(Debug, Clone, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "Each option can also be set in the environment, as \
    PATRONI_CHECK_ and its name: PATRONI_CHECK_ON_FAILURE=drain.\nExit status: 0 answered or stopped in good order, 1 \
    could not do its work, 2 wrong usage or configuration."
)]
pub struct Options {
    /// Base address of Patroni's REST API
    #[arg(long, env = "PATRONI_CHECK_PATRONI", hide_env = true, value_name = "URL")]
    #[arg(default_value = "http://localhost:8008")]
    patroni: BaseUrl,

    /// Patroni health check endpoint to answer for, where a socket's name does not say
    #[arg(long, env = "PATRONI_CHECK_ENDPOINT", hide_env = true, default_value = "/primary")]
    endpoint: Endpoint,

    /// Bind a socket ourselves; ADDR:PORT=/ENDPOINT gives it its endpoint. May be repeated
    #[arg(long, env = "PATRONI_CHECK_LISTEN", hide_env = true, value_name = "ADDR:PORT", value_delimiter = ' ')]
    listen: Vec<Listen>,

    /// Words to use
    #[arg(long, env = "PATRONI_CHECK_WORDS", hide_env = true, value_enum, default_value = "full")]
    words: Words,

    /// What a broken node says [default: maint for the primary and leader endpoints, else down]
    #[arg(long, env = "PATRONI_CHECK_ON_FAILURE", hide_env = true, value_enum, value_name = "WORD")]
    on_failure: Option<OnFailure>,

    /// What a healthy node says that is not meant for the endpoint [default: maint]
    #[arg(long, env = "PATRONI_CHECK_ON_STANDBY", hide_env = true, value_enum, value_name = "WORD")]
    on_standby: Option<OnStandby>,

    /// Answer each check within this
    #[arg(long, env = "PATRONI_CHECK_DEADLINE", hide_env = true, value_name = "DURATION", default_value = "200ms")]
    #[arg(value_parser = humantime::parse_duration)]
    deadline: Duration,

    /// Answer from what Patroni said, if it was asked at most this long before the check
    #[arg(long, env = "PATRONI_CHECK_MAX_AGE", hide_env = true, value_name = "DURATION", default_value = "100ms")]
    #[arg(value_parser = humantime::parse_duration)]
    max_age: Duration,

    /// While Patroni does not answer, let its last word stand until it is this old (at most 20s)
    #[arg(long, env = "PATRONI_CHECK_GRACE", hide_env = true, value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = humantime::parse_duration)]
    grace: Duration,

    /// PEM file of the authorities for Patroni's certificate [default: the system's]
    #[arg(long, env = "PATRONI_CHECK_CACERT", hide_env = true, value_name = "FILE")]
    cacert: Option<PathBuf>,

    /// PEM file of our certificate, for restapi.verify_client: required
    #[arg(long, env = "PATRONI_CHECK_CERT", hide_env = true, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// PEM file of its key
    #[arg(long, env = "PATRONI_CHECK_KEY", hide_env = true, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// Take any certificate from Patroni
    #[arg(long, env = "PATRONI_CHECK_INSECURE", hide_env = true)]
    insecure: bool,
}

/// A socket to bind, and the endpoint it answers for where it has one of its own.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Where to bind.
    pub address: SocketAddr,
    /// The endpoint after the `=`.
    pub endpoint: Option<Endpoint>,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, endpoint) = match text.split_once('=') {
            Some((address, endpoint)) => (address, Some(endpoint.parse()?)),
            None => (text, None),
        };
        let address =
            address.parse().map_err(|_| "write an IP address and a port, like 127.0.0.1:5555 or [::]:5555")?;
        Ok(Listen { address, endpoint })
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
    /// Reads command line and environment. `--help` and `--version` print and end the program.
    ///
    /// # Errors
    /// Anything that can't be meant.
    pub fn read() -> Result<Self, BadConfiguration> {
        let options = Options::try_parse().map_err(|e| match e.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => e.exit(),
            _ => BadConfiguration(one_line(&e.to_string())),
        })?;
        let bad = |what: String| Err(BadConfiguration(what));
        if !DEADLINES.contains(&options.deadline) {
            return bad(format!("--deadline {:?} is out of range: 1ms to 30s", options.deadline));
        }
        if options.grace > GRACE_LIMIT {
            return bad(format!("--grace {:?} is too long: 20s at most", options.grace));
        }
        options.vocabulary(&options.endpoint)?;
        if options.insecure {
            eprintln!("patroni-check: --insecure: whoever answers at {} is taken for Patroni", options.patroni);
        }
        Ok(options)
    }

    /// The default endpoint, or the one that a socket's name gives: a name that begins with `/`.
    ///
    /// # Errors
    /// A name that begins with `/` and is no known endpoint.
    pub fn endpoint_named(&self, name: &str) -> Result<Endpoint, BadConfiguration> {
        if !name.starts_with('/') {
            return Ok(self.endpoint.clone());
        }
        name.parse().map_err(|e| BadConfiguration(format!("FileDescriptorName={name}: {e}")))
    }

    /// The sockets to bind ourselves, each with its endpoint.
    pub fn listen(&self) -> impl Iterator<Item = (SocketAddr, Endpoint)> {
        self.listen.iter().map(|listen| (listen.address, listen.endpoint.as_ref().unwrap_or(&self.endpoint).clone()))
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
        Vocabulary::new(endpoint, self.words, self.on_standby, self.on_failure).map_err(BadConfiguration)
    }

    /// How long things may take and last.
    pub fn limits(&self) -> Limits {
        Limits { deadline: self.deadline, max_age: self.max_age, grace: self.grace }
    }
}

/// The first paragraph of clap's message, without its line breaks.
fn one_line(message: &str) -> String {
    let paragraph = message.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = paragraph.split_whitespace().collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}
