//! What is meant by what was typed.

use std::path::PathBuf;

use super::options::Options;
use super::subcommands::{Explain, HaproxyConfig, Hold, Instances, Is, Release, TypedCommand};
use crate::commands::haproxy_config::write::Write;
use crate::commands::haproxy_config::{self, stats_socket};
use crate::commands::hold::Order;
use crate::commands::is::Question;
use crate::config::{BadConfiguration, Config, Limits};
use crate::endpoint::Endpoint;
use crate::haproxy::config_text::{Choices, Fallback};
use crate::patroni::Tls;
use crate::view::View;

/// What is meant by a command line, its environment and, for a person, the service's settings.
#[derive(Debug)]
pub struct CommandLine {
    /// The settings.
    pub config: Config,
    /// What to do instead of answering checks.
    pub command: Option<Command>,
}

/// What to do instead of answering checks.
#[derive(Debug)]
pub enum Command {
    /// Show what this node answers.
    Explain {
        /// On these views, or on all endpoints.
        views: Vec<View>,
        /// For programs.
        json: bool,
    },
    /// Say whether the service would start with its settings.
    TrySettings,
    /// Write a configuration of HAProxy.
    HaproxyConfig(Box<haproxy_config::Order>),
    /// Say by the exit status whether this node may take the traffic.
    Is(Question),
    /// Begin a hold.
    Hold(Order),
    /// Show what holds there are.
    ListHolds,
    /// Show the clusters of this host, and what to enable for them.
    Instances {
        /// Further configurations, beside those in Patroni's directory.
        files: Vec<PathBuf>,
    },
    /// End holds.
    Release {
        /// On these endpoints, or all.
        on: Vec<Endpoint>,
    },
}

impl TryFrom<Options> for CommandLine {
    type Error = BadConfiguration;

    fn try_from(Options { settings, command }: Options) -> Result<Self, BadConfiguration> {
        let hold_file = settings.hold_file();
        let mut patronis = settings.patroni.into_iter();
        let patroni = patronis.next().ok_or_else(|| BadConfiguration("--patroni: no address".into()))?;
        let others: Vec<_> = patronis.collect();
        if !others.is_empty() && !matches!(command, Some(TypedCommand::HaproxyConfig(_))) {
            return Err(BadConfiguration("--patroni: only haproxy-config asks more than one".into()));
        }
        let default = settings.endpoint.clone();
        let listen = settings.listen.into_iter().map(|listen| (listen.address, listen.role_or(&default))).collect();
        let config = Config {
            instance: settings.instance,
            patroni,
            others,
            tls: Tls {
                cacert: settings.cacert,
                identity: settings.cert.zip(settings.key),
                insecure: settings.insecure,
            },
            view: settings.endpoint,
            connection: settings.connection,
            also: settings.also,
            listen,
            format: settings.words,
            on_standby: settings.on_standby,
            on_failure: settings.on_failure,
            calm: settings.calm,
            probe: settings.probe,
            limits: Limits { deadline: settings.deadline, max_age: settings.max_age, grace: settings.grace },
            hold_file,
            runtime_directory: None,
        };
        Ok(CommandLine { config, command: command.map(Command::from) })
    }
}

impl TypedCommand {
    /// Whether it is about the cluster of one service, by its settings.
    pub(super) fn is_of_one_cluster(&self) -> bool {
        !matches!(self, TypedCommand::Instances(_))
    }
}

impl From<TypedCommand> for Command {
    fn from(typed: TypedCommand) -> Self {
        match typed {
            TypedCommand::Explain(Explain { settings: true, .. }) => Command::TrySettings,
            TypedCommand::Explain(Explain { views, json, settings: _ }) => Command::Explain { views, json },
            TypedCommand::HaproxyConfig(typed) => Command::HaproxyConfig(Box::new((*typed).into())),
            TypedCommand::Is(Is { view, quiet, wait, deadline, strict }) => {
                Command::Is(Question { view, quiet, wait, deadline, strict })
            }
            TypedCommand::Hold(Hold { list: true, .. }) => Command::ListHolds,
            TypedCommand::Hold(Hold { reason, drain, on, lasting, force, list: _ }) => {
                Command::Hold(Order { on, drain, lasting, force, reason: reason.join(" ") })
            }
            TypedCommand::Instances(Instances { files }) => Command::Instances { files },
            TypedCommand::Release(Release { on }) => Command::Release { on },
        }
    }
}

impl From<HaproxyConfig> for haproxy_config::Order {
    fn from(typed: HaproxyConfig) -> Self {
        // With HTTP checks it is the backend for writes that knows the primary.
        let is_primary_known = !typed.http || typed.read_write.0.is_some();
        let fallback = if is_primary_known { Fallback::Keep } else { Fallback::None };
        let format = typed.format;
        let write = match (typed.write, typed.check, typed.reload) {
            (Some(file), Some(check), Some(reload)) => {
                Some(Write { file, check, reload, leave_after: typed.leave_after })
            }
            _ => None,
        };
        let choices = Choices {
            http_port: typed.http.then_some(typed.http_port),
            section: typed.section,
            name: typed.name,
            read_write: typed.read_write.0,
            read_only: typed.read_only.0,
            agent_port: typed.agent_port,
            agent_inter: typed.agent_inter,
            replica_port: typed.replica_port,
            server_port: typed.server_port,
            fallback: typed.fallback.unwrap_or(fallback),
            fallback_maxconn: typed.fallback_maxconn,
            stats: typed.stats.0,
            stats_socket: match typed.stats_socket {
                Some(given) => given.0.map(|path| path.0),
                None => Some(stats_socket().to_owned()),
            },
            maxconn: typed.maxconn,
            resolvers: typed.resolvers,
        };
        haproxy_config::Order { choices, format, write }
    }
}
