//! What `explain` asks of Patroni, in which order and for how long, and where to look when it does
//! not answer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::commands::listening::listeners;
use crate::endpoint::Endpoint;
use crate::patroni::body::Node;
use crate::patroni::{Client, Failure, NoAnswer, Observation};

/// A person waits longer than HAProxy.
const TIMEOUT: Duration = Duration::from_secs(5);

/// All requests together take no longer than this.
const TIMEOUT_OF_ALL: Duration = Duration::from_secs(10);

/// How far a member is behind the leader.
pub(super) enum Lag {
    Bytes(u64),
    Unknown,
}

/// One request at a time. After one that was not answered there is no other, as it may still keep
/// one of Patroni's five workers.
pub(super) struct Requests<'a> {
    client: &'a Client,
    end: Instant,
    /// What is said in place of an answer from now on.
    silent: Option<Failure>,
}

impl<'a> Requests<'a> {
    pub(super) fn to(client: &'a Client) -> Self {
        Requests { client, end: Instant::now() + TIMEOUT_OF_ALL, silent: None }
    }

    pub(super) fn observe(&mut self, endpoint: &Endpoint) -> Observation {
        let client = self.client;
        self.ask(&endpoint.to_string(), |limit| client.get_within(endpoint, Instant::now(), limit))
    }

    fn ask<T>(&mut self, what: &str, ask: impl FnOnce(Duration) -> Result<T, Failure>) -> Result<T, Failure> {
        if let Some(silent) = &self.silent {
            return Err(silent.clone());
        }
        let start = Instant::now();
        let left = self.end.saturating_duration_since(start).min(TIMEOUT);
        let limit = Duration::from_millis(left.as_millis().try_into().unwrap_or_default());
        if limit.is_zero() {
            return Err(NoAnswer::Other(format!("not asked: explain takes {TIMEOUT_OF_ALL:?} at most")).into());
        }
        let found = ask(limit);
        if start.elapsed() >= limit {
            self.silent = Some(NoAnswer::Other(format!("not asked: Patroni did not answer {what}")).into());
        }
        found
    }

    /// How far this member is behind the leader, by its own name in the cluster; nothing for the
    /// leader itself.
    pub(super) fn lag(&mut self, node: &Node) -> Option<Lag> {
        let name = node.patroni.name.as_ref()?;
        let client = self.client;
        let cluster = self.ask("/cluster", |limit| client.cluster_within(limit)).ok()?;
        match cluster.members.into_iter().find(|member| member.name == *name)?.lag {
            Value::Null => None,
            lag => Some(lag.as_u64().map_or(Lag::Unknown, Lag::Bytes)),
        }
    }

    /// Where to look if a request was not answered. `failure` is there if none was.
    pub(super) fn hints(&mut self, failure: Option<&Failure>) -> Vec<String> {
        let mut hints = Vec::new();
        if self.silent.is_some() {
            hints.push(
                "Patroni accepted the connection and does not answer. See its log. It may be waiting for Postgres."
                    .into(),
            );
        }
        let Some(failure) = failure else { return hints };
        let base = self.client.base();
        let other = self.client.in_the_other_scheme();
        if let Ok(probe) = "/liveness".parse::<Endpoint>() {
            let found = self.ask("", |limit| other.get_within(&probe, Instant::now(), limit));
            if found.is_ok() {
                hints.push(format!("Something answers at {}: set PATRONI_CHECK_PATRONI to that.", other.base()));
            }
        }
        let listeners: Vec<_> = listeners().filter(|address| address.port() == base.port()).collect();
        match failure {
            Failure::NoAnswer(NoAnswer::Tls(_)) => hints.push(
                "Patroni's certificate must fit the host name and --cacert. If Patroni asks for ours \
                 (restapi.verify_client), set --cert and --key."
                    .into(),
            ),
            Failure::NoAnswer(NoAnswer::ConnectionRefused) if listeners.is_empty() => {
                let port = base.port();
                hints.push(format!(
                    "Nothing on this host listens at port {port}. Is Patroni running (systemctl status patroni)? Its \
                     address is restapi.listen in its configuration (/etc/patroni); if it is another one, set \
                     PATRONI_CHECK_PATRONI."
                ));
            }
            Failure::NoAnswer(NoAnswer::ConnectionRefused | NoAnswer::ConnectTimeout) if !listeners.is_empty() => {
                let addresses: Vec<_> = listeners.iter().map(SocketAddr::to_string).collect();
                hints.push(format!(
                    "On this host something listens at {}: set PATRONI_CHECK_PATRONI to that.",
                    addresses.join(" and ")
                ));
            }
            _ => {}
        }
        hints
    }
}
