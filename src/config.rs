//! The settings as they are meant, whichever way they were given. What depends on files or on an
//! endpoint is checked when it is used.

mod instance;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::endpoint::Kind;
use crate::haproxy::reply::{ReplyFormat, ReplyPolicy};
use crate::hold::Holds;
use crate::observe::Subject;
use crate::patroni::{BaseUrl, Client, Tls};
use crate::probe::Target;
use crate::view::{OnFailure, OnStandby, Probing, View};

pub use instance::{HOLD_FILE, Instance};

/// Where Patroni is, unless the settings say otherwise.
pub const PATRONI: &str = "http://localhost:8008";

/// Where the service leaves what it knows (`RuntimeDirectory=` in its unit).
pub const RUNTIME_DIRECTORY: &str = "/run/patroni-check";

/// What a socket is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerRole {
    /// Checks of one view.
    View(View),
    /// Checks that name their view themselves (HAProxy's `agent-send`).
    AgentSend,
    /// Checks by HTTP.
    Http,
    /// Prometheus.
    Metrics,
}

impl FromStr for ListenerRole {
    type Err = String;

    /// Reads a socket's name, or what stands behind the `=` of `--listen`.
    ///
    /// # Errors
    /// One line that says what is wrong and what is known.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "agent-send" => Ok(ListenerRole::AgentSend),
            "http" => Ok(ListenerRole::Http),
            "metrics" => Ok(ListenerRole::Metrics),
            view => Ok(ListenerRole::View(view.parse()?)),
        }
    }
}

impl fmt::Display for ListenerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenerRole::View(view) => view.fmt(f),
            ListenerRole::AgentSend => f.write_str("agent-send"),
            ListenerRole::Http => f.write_str("http"),
            ListenerRole::Metrics => f.write_str("metrics"),
        }
    }
}

/// How long things may take and last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// A check is answered within this.
    pub deadline: Duration,
    /// An observation answers checks that arrive up to this long after it began.
    pub max_age: Duration,
    /// While observations are inconclusive, the last conclusive verdict stands until its
    /// observation is this old.
    pub grace: Duration,
}

/// Wrong usage or configuration: one line for the operator, which says what is wrong and what would
/// be right. Exit status 2.
#[derive(Debug)]
pub struct BadConfiguration(pub String);

impl fmt::Display for BadConfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadConfiguration {}

/// All settings. `docs/guide.md` explains each from the operator's side.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which of several clusters on this host; none where there is one.
    pub instance: Option<Instance>,
    /// Where Patroni's REST API is.
    pub patroni: BaseUrl,
    /// Other Patronis of the cluster, which only `haproxy-config` asks.
    pub others: Vec<BaseUrl>,
    /// How TLS is spoken with it, where it is https.
    pub tls: Tls,
    /// The view of sockets whose name does not say one.
    pub view: View,
    /// The role of a passed connection whose name does not say one; the default view's without it.
    pub connection: Option<ListenerRole>,
    /// Further views that a check may name by agent-send or HTTP.
    pub also: Vec<View>,
    /// The sockets to bind ourselves.
    pub listen: Vec<(SocketAddr, ListenerRole)>,
    /// How replies are written.
    pub format: ReplyFormat,
    /// The reply of a healthy node that does not serve the endpoint; `maint` without it.
    pub on_standby: Option<OnStandby>,
    /// The reply of a broken node; the endpoint's default without it.
    pub on_failure: Option<OnFailure>,
    /// How long a node that was away has to be good before it is back, on the endpoints for reads.
    pub calm: Duration,
    /// Where clients connect on this host, to be probed; nowhere without it.
    pub probe: Option<Target>,
    /// How long things may take and last.
    pub limits: Limits,
    /// Where the file of a hold is. Those of single views are beside it.
    pub hold_file: PathBuf,
    /// Where a process leaves what it knows for the next one; nowhere without it.
    pub runtime_directory: Option<PathBuf>,
}

impl Config {
    /// A warning about settings that are valid and dangerous.
    pub fn warning(&self) -> Option<String> {
        let who = &self.patroni;
        let insecure = self.tls.insecure;
        insecure
            .then(|| format!("--insecure: the certificate is not checked, and any server at {who} counts as Patroni"))
    }

    /// Whether sockets in these roles can be answered on.
    ///
    /// # Errors
    /// What keeps the service from starting.
    pub(crate) fn check<'a>(
        &'a self,
        roles: impl IntoIterator<Item = &'a ListenerRole>,
    ) -> Result<(), BadConfiguration> {
        self.client()?;
        for role in roles {
            let (own, listed) = match role {
                ListenerRole::View(view) => (Some(view), None),
                ListenerRole::AgentSend | ListenerRole::Http => (None, Some(self.listed_views())),
                ListenerRole::Metrics => (None, None),
            };
            for view in own.into_iter().chain(listed.into_iter().flatten()) {
                self.reply_policy(view)?;
            }
        }
        self.fallback_policy().map(drop)
    }

    /// The views that a check may name by agent-send or HTTP, beside those of the sockets.
    pub fn listed_views(&self) -> impl Iterator<Item = &View> {
        std::iter::once(&self.view).chain(&self.also)
    }

    /// The role of a listener with this name: the default view's, if the name says none.
    ///
    /// # Errors
    /// A name that begins with `/` and is no known endpoint.
    pub fn role_named(&self, name: &str) -> Result<ListenerRole, BadConfiguration> {
        Ok(role_said_by(name)?.unwrap_or_else(|| self.default_role()))
    }

    /// The role of a passed connection with this name. systemd passes no name of its own with
    /// Accept=yes, and inetd passes none at all, so the settings may say it.
    ///
    /// # Errors
    /// A name that begins with `/` and is no known endpoint.
    pub(crate) fn connection_role(&self, name: &str) -> Result<ListenerRole, BadConfiguration> {
        let said = role_said_by(name)?.or_else(|| self.connection.clone());
        Ok(said.unwrap_or_else(|| self.default_role()))
    }

    fn default_role(&self) -> ListenerRole {
        ListenerRole::View(self.view.clone())
    }

    /// What this view looks at.
    pub fn subject(&self, view: &View) -> Subject {
        let probe = match view.probe {
            Some(Probing::No) => None,
            Some(Probing::Port(port)) => Some(Target::beside(self.probe.as_ref(), port.get())),
            None => self.probe.clone(),
        };
        let endpoint = view.endpoint.clone();
        let own = view.probe.filter(|_| probe != self.probe);
        let name = View { probe: own, ..View::from(endpoint.clone()) }.to_string();
        Subject { endpoint, probe, name }
    }

    /// A client of Patroni's REST API.
    ///
    /// # Errors
    /// A certificate file that can't be used.
    pub fn client(&self) -> Result<Client, BadConfiguration> {
        self.client_within(self.limits.deadline)
    }

    /// The same for one who waits this long.
    pub(crate) fn client_within(&self, deadline: Duration) -> Result<Client, BadConfiguration> {
        self.client_of(&self.patroni, deadline)
    }

    /// The same of each Patroni that there is to ask.
    pub(crate) fn clients_within(&self, deadline: Duration) -> Result<Vec<Client>, BadConfiguration> {
        std::iter::once(&self.patroni).chain(&self.others).map(|base| self.client_of(base, deadline)).collect()
    }

    fn client_of(&self, base: &BaseUrl, deadline: Duration) -> Result<Client, BadConfiguration> {
        Client::new(base.clone(), self.tls.clone(), deadline).map_err(BadConfiguration)
    }

    /// How verdicts on a view are replied.
    ///
    /// # Errors
    /// Settings that do not go together.
    pub fn reply_policy(&self, view: &View) -> Result<ReplyPolicy, BadConfiguration> {
        self.reply_policy_in(self.format, view)
    }

    /// Like [`Config::reply_policy`], in this format.
    ///
    /// # Errors
    /// Settings that do not go together.
    pub fn reply_policy_in(&self, format: ReplyFormat, view: &View) -> Result<ReplyPolicy, BadConfiguration> {
        let (on_standby, on_failure) = (view.on_standby.or(self.on_standby), view.on_failure.or(self.on_failure));
        let policy = ReplyPolicy::new(&view.endpoint, format, on_standby, on_failure);
        policy.map_err(|why| BadConfiguration(format!("{view}: {why}")))
    }

    /// How a failure is replied to a check that names no view. Nothing stands by there.
    ///
    /// # Errors
    /// Settings that do not go together.
    pub(crate) fn fallback_policy(&self) -> Result<ReplyPolicy, BadConfiguration> {
        let view = View { on_standby: Some(OnStandby::Maint), ..self.view.clone() };
        self.reply_policy(&view)
    }

    /// How long a node that was away has to be good before this view calls it back.
    pub fn calm(&self, view: &View) -> Duration {
        let is_for_reads = view.endpoint.kind() == Kind::Reads;
        view.calm.unwrap_or(if is_for_reads { self.calm } else { Duration::ZERO })
    }

    /// The holds, whether there are any or not.
    pub fn holds(&self) -> Holds {
        Holds::new(self.hold_file.clone())
    }
}

/// What a socket's name says of its role. A name that begins with `/` is meant for an endpoint.
fn role_said_by(name: &str) -> Result<Option<ListenerRole>, BadConfiguration> {
    match name.parse::<ListenerRole>() {
        Err(e) if name.starts_with('/') => Err(BadConfiguration(format!("FileDescriptorName={name}: {e}"))),
        said => Ok(said.ok()),
    }
}
