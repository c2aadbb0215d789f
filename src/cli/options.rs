//! The options and their defaults, as they are typed. Of these texts `--help`, the manual page and
//! the settings file are made.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};

use super::subcommands::TypedCommand;
use super::values::{DEADLINES, FORMATS, Listen, absolute, duration, one_of, yes_or_no};
use crate::config::{HOLD_FILE, Instance, ListenerRole, PATRONI};
use crate::haproxy::reply::ReplyFormat;
use crate::patroni::BaseUrl;
use crate::probe::Target;
use crate::view::{self, OnFailure, OnStandby, View};

/// The version, and the features that are built in, for bug reports.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (systemd, agent-send, TLS, metrics)");

/// A demoted node may be called READY for this long, so not longer than the longest `agent-inter`
/// that makes sense.
const MAX_AGES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(1);

/// What is left of the lock's lease at the least is `ttl - loop_wait - retry_timeout`, 10 s with
/// Patroni's defaults, and without the retries 20 s. A longer grace could keep a READY beyond it.
const GRACES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(20);

/// Answers HAProxy's agent-check on a Patroni host: READY or MAINT, and why
///
/// The program looks for a socket to answer on and takes the first that it finds: the sockets that
/// systemd passes (patroni-check.socket), the ports of --listen, a connection on standard input
/// (inetd). If it finds none, it prints the reply.
#[derive(Debug, Parser)]
#[command(
    version = VERSION,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_long_help = "Each option can also be set in the environment. The variable is PATRONI_CHECK_ and the option's \
    name: PATRONI_CHECK_ON_FAILURE=drain. The command line wins over the environment. An empty value means the default. \
    A PATRONI_CHECK_ variable that is no option is an error. The service has its settings in \
    /etc/default/patroni-check. The commands use the settings of the service, too.\n\n\
    Exit status (`explain` has its own):\n  \
    0  answered, or stopped when asked to\n  \
    1  could not do its work\n  \
    2  wrong usage or configuration\n  \
    6  started as a service without a socket"
)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) settings: SettingOptions,

    /// What to do instead of answering checks
    #[command(subcommand)]
    pub(super) command: Option<TypedCommand>,
}

// No doc comment: clap would take it for what the program does.
#[derive(Debug, Args)]
pub(super) struct SettingOptions {
    /// One of several clusters on this host
    ///
    /// The name of an instance, such as `16-main`: its units are patroni-check-cluster@16-main, and its
    /// settings are in /etc/patroni-check/16-main.env. They must have --patroni, which has no default
    /// then. The default of --hold-file is /etc/patroni-check/16-main/hold then. The commands are about
    /// this instance. `patroni-check instances` shows what there is to enable.
    #[arg(long, global = true, env = "PATRONI_CHECK_INSTANCE", hide_env = true, value_name = "NAME")]
    #[arg(hide_short_help = true)]
    pub(super) instance: Option<Instance>,

    /// Patroni's REST API
    ///
    /// Its address: http or https, a host and a port, and nothing after the port.
    #[arg(long, global = true, env = "PATRONI_CHECK_PATRONI", hide_env = true, value_name = "URL")]
    #[arg(default_value = PATRONI, value_delimiter = ' ')]
    pub(super) patroni: Vec<BaseUrl>,

    /// Endpoint to answer for
    ///
    /// One of Patroni's health check endpoints, with the parameters of Patroni's manual: `lag=`,
    /// `replication_state=`, `tag_NAME=` and `mode=`. `replication_state=streaming` needs Patroni
    /// 3.0.4: the body of its answer tells, as no release knows the parameter.
    ///
    /// Options of this program may stand among the parameters, wherever an endpoint is written. They
    /// hold for this view alone, and Patroni does not get them: `on-standby=`, `on-failure=`, `calm=`
    /// and `probe=`, as in `/replica?lag=16MB&on-standby=drain&calm=10s`.
    ///
    /// Sockets that name their own endpoint (FileDescriptorName=) do not use it. For `/readiness` with parameters Patroni gets a second request, because the answer
    /// to the first does not tell Patroni's version.
    #[arg(long, env = "PATRONI_CHECK_ENDPOINT", hide_env = true, default_value = "/primary")]
    pub(super) endpoint: View,

    /// What a passed connection is for
    ///
    /// An endpoint, `agent-send` or `http`. This is for one process for each connection: systemd with
    /// Accept=yes and inetd do not pass the name of the socket. The default is --endpoint.
    #[arg(long, env = "PATRONI_CHECK_CONNECTION", hide_env = true, value_name = "ROLE")]
    #[arg(hide_short_help = true)]
    pub(super) connection: Option<ListenerRole>,

    /// More endpoints that a check may name
    ///
    /// On an agent-send socket and on an http socket each check names an endpoint. It may be the
    /// endpoint of another socket, the one of --endpoint, or one of these. The option may be repeated,
    /// 64 times at most. In the environment the endpoints are separated by spaces:
    /// `/replica?lag=16MB /sync`.
    #[arg(long, env = "PATRONI_CHECK_ALSO", hide_env = true, value_name = "ENDPOINT", value_delimiter = ' ')]
    #[arg(hide_short_help = true)]
    pub(super) also: Vec<View>,

    /// Listen on this address and port
    ///
    /// Use this on a host without systemd, such as a container. It has no effect if systemd passes
    /// sockets. `ADDR:PORT=NAME` says what the port is for: an endpoint, `agent-send`, `http` or `metrics`.
    /// The option may be repeated, 64 times at most. In the environment the ports are separated by
    /// spaces: `127.0.0.1:5555 127.0.0.1:5556=/replica`.
    #[arg(long, env = "PATRONI_CHECK_LISTEN", hide_env = true, value_name = "ADDR:PORT", value_delimiter = ' ')]
    pub(super) listen: Vec<Listen>,

    /// Reply format: full or plain
    ///
    /// `full` is an administrative word, an operational word and the reason: `MAINT UP # replica
    /// streaming`. `plain` is one word, such as `READY` or `MAINT`, byte for byte as the Python
    /// script sent it.
    #[arg(long, env = "PATRONI_CHECK_WORDS", hide_env = true, default_value = "full")]
    #[arg(hide_possible_values = true, value_parser = one_of(FORMATS))]
    pub(super) words: ReplyFormat,

    /// Reply if broken: maint, down, drain or silent
    ///
    /// This is the reply if something is wrong with the node or with its Patroni. The default
    /// depends on the endpoint. For `/primary`, `/master`, `/read-write`, `/leader` and
    /// `/standby-leader` it is `maint`: only one node of the cluster serves there, and all others
    /// stand by, broken or not. For all other endpoints it is `down`. With `silent` nothing is
    /// sent, and HAProxy keeps the last state. With `--words=plain` the default is always `maint`,
    /// and `down` is refused, because no plain word ends a DOWN.
    #[arg(long, env = "PATRONI_CHECK_ON_FAILURE", hide_env = true, value_name = "WORD")]
    #[arg(hide_possible_values = true, value_parser = one_of(OnFailure::ALL))]
    pub(super) on_failure: Option<OnFailure>,

    /// Reply on standby: maint, drain or down
    ///
    /// This is the reply of a healthy node that does not serve the endpoint, such as a replica for
    /// `/primary`. The default is `maint`. With `--words=plain`, `down` is refused.
    ///
    /// `drain` is for reads: a replica that only lags too far behind, is tagged away, does not stream
    /// or is calming down gets no new sessions and keeps its old ones. Any other node is `maint`, such
    /// as one that became the primary. Endpoints that one node serves refuse it.
    #[arg(long, env = "PATRONI_CHECK_ON_STANDBY", hide_env = true, value_name = "WORD")]
    #[arg(hide_possible_values = true, value_parser = one_of(OnStandby::ALL))]
    pub(super) on_standby: Option<OnStandby>,

    /// Keep a replica away this long
    ///
    /// A replica that was away comes back only after so long a time of good answers. It goes away at
    /// once. This is for the endpoints for reads; 1h at most, and 0s means at once. It does not count
    /// at the first answer, when nothing is remembered. If all replicas were away, as after a failover,
    /// there is none for so long.
    #[arg(long, env = "PATRONI_CHECK_CALM", hide_env = true, value_name = "DURATION", default_value = "0s")]
    #[arg(hide_short_help = true, value_parser = view::calm)]
    pub(super) calm: Duration,

    /// Probe Postgres or PgBouncer here
    ///
    /// Beside each question to Patroni, see whether anybody is there to take a client: the directory
    /// and port of a Unix socket, such as Debian's `/var/run/postgresql:5432`, or an IP address and a port. If
    /// the port refuses, the node is not READY at once, whatever Patroni says. If there is no answer,
    /// Patroni's word counts alone. It never makes a node READY, and leaves no line in any log.
    ///
    /// `probe=6432` in a view names another port in the same directory, and `probe=none` no probe.
    #[arg(long, env = "PATRONI_CHECK_PROBE", hide_env = true, value_name = "SOCKET", hide_short_help = true)]
    pub(super) probe: Option<Target>,

    /// Answer each check within this time
    ///
    /// 5s at most. Keep it below HAProxy's agent-inter, because HAProxy drops a late answer.
    #[arg(long, env = "PATRONI_CHECK_DEADLINE", hide_env = true, value_name = "DURATION", default_value = "80ms")]
    #[arg(value_parser = |text: &str| duration(text, &DEADLINES))]
    pub(super) deadline: Duration,

    /// Reuse Patroni's answer this long
    ///
    /// Patroni is asked again only if its last answer is older than this. The age counts from the
    /// moment when Patroni was asked. 1s at most, because a node may be called READY for this long
    /// after its demotion. With the default, Patroni is asked at most ten times a second for each
    /// endpoint.
    #[arg(long, env = "PATRONI_CHECK_MAX_AGE", hide_env = true, value_name = "DURATION", default_value = "100ms")]
    #[arg(value_parser = |text: &str| duration(text, &MAX_AGES))]
    pub(super) max_age: Duration,

    /// Keep the verdict if Patroni is silent
    ///
    /// If Patroni does not answer, or says that nobody holds the leader lock, the last verdict
    /// stands until it is this old. 20s at most; 0s means no grace. In a paused cluster without a
    /// leader the last verdict stands for as long as that state lasts.
    ///
    /// Keep the grace below Patroni's `ttl - loop_wait - retry_timeout`, because the leader's lease
    /// is sure to last only this long. With a longer grace two nodes may be READY at once.
    /// `patronictl show-config` shows the three values. Patroni's defaults are 30, 10 and 10, which
    /// leave 10s.
    #[arg(long, env = "PATRONI_CHECK_GRACE", hide_env = true, value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = |text: &str| duration(text, &GRACES))]
    pub(super) grace: Duration,

    /// Trust these authorities for Patroni
    ///
    /// A PEM file with the authorities that sign Patroni's certificate, or with that certificate
    /// itself, such as a self-signed one. The host name and the dates of the certificate are
    /// checked in both cases. The default is the system's authorities.
    #[arg(
        long,
        global = true,
        env = "PATRONI_CHECK_CACERT",
        hide_env = true,
        value_name = "FILE",
        hide_short_help = true
    )]
    pub(super) cacert: Option<PathBuf>,

    /// Our certificate for Patroni
    ///
    /// A PEM file, for `restapi.verify_client: required`. Intermediate certificates follow ours in
    /// the same file. It needs --key.
    #[arg(
        long,
        global = true,
        env = "PATRONI_CHECK_CERT",
        hide_env = true,
        value_name = "FILE",
        hide_short_help = true
    )]
    pub(super) cert: Option<PathBuf>,

    /// Key of our certificate
    ///
    /// A PEM file. The key must not be encrypted. It needs --cert.
    #[arg(
        long,
        global = true,
        env = "PATRONI_CHECK_KEY",
        hide_env = true,
        value_name = "FILE",
        hide_short_help = true
    )]
    pub(super) key: Option<PathBuf>,

    /// Accept any certificate from Patroni
    ///
    /// The service and the commands warn about it when they start. In the environment the value is
    /// `yes` or `no`, in any form that systemd takes.
    #[arg(long, global = true, env = "PATRONI_CHECK_INSECURE", hide_env = true, hide_short_help = true)]
    #[arg(value_parser = yes_or_no)]
    pub(super) insecure: bool,

    /// Answer MAINT or DRAIN while this file exists
    ///
    /// `patroni-check hold` creates the file, and `patroni-check release` removes it. Anything with
    /// this name counts, even a directory or a broken symbolic link. A place where the service is
    /// not allowed to look counts, too. The first line of the file is the reason, 200 bytes at
    /// most. Lines below it may say `drain`, and `until 2026-11-28T14:00:00Z`; other lines mean
    /// nothing. A line of these that can't be read never ends a hold.
    ///
    /// A hold of one endpoint is a file beside it, with the endpoint in its name: `hold.replica`, or
    /// `hold.replica?lag=16777216` for these parameters alone.
    ///
    /// Put the file on a local disk, because the checks look for it, and a network file system may
    /// hang. Put it where the service can see it: not in /tmp, /var/tmp or a home directory, and
    /// not in a directory that is closed to other users.
    #[arg(long, global = true, env = "PATRONI_CHECK_HOLD_FILE", hide_env = true, value_name = "FILE")]
    #[arg(default_value = HOLD_FILE, hide_short_help = true, value_parser = absolute)]
    pub(super) hold_file: PathBuf,

    /// Which of these nobody has set.
    #[arg(skip)]
    pub(super) unset: Unset,
}

/// Options that nobody has set, of those whose default an instance does not share.
#[derive(Debug, Default, Clone)]
pub(super) struct Unset {
    pub(super) patroni: bool,
    pub(super) hold_file: bool,
    /// Of `PORTS`.
    pub(super) ports: Vec<&'static str>,
}

/// The options of `haproxy-config` that are ports of our sockets.
pub(super) const PORTS: [&str; 3] = ["agent_port", "replica_port", "http_port"];

impl SettingOptions {
    /// Where the hold is.
    pub(super) fn hold_file(&self) -> PathBuf {
        let of_instance = self.instance.as_ref().filter(|_| self.unset.hold_file).map(Instance::hold_file);
        of_instance.unwrap_or_else(|| self.hold_file.clone())
    }
}
