//! Patroni's health check endpoints and their parameters: what may be asked, and since which
//! version.
//!
//! Patroni answers 503 to a path that it does not know and ignores a parameter that it does not
//! understand, so a slip of the pen would read as "standby" for ever, or as "any lag will do".
//! Everything not known here is refused.

mod query;

use std::fmt;
use std::str::FromStr;

use query::{bytes, decoded, format_bytes, is_query_text};

/// A version of Patroni: major, minor, patch.
pub type Version = (u32, u32, u32);

/// What a node must be to take an endpoint's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Writes: the primary that holds the leader lock.
    Primary,
    /// The holder of the leader lock, a standby cluster's included.
    Leader,
    /// The holder of the leader lock of a standby cluster.
    StandbyLeader,
    /// Reads, with a status that depends on role, lag and tags.
    Reads,
    /// Postgres runs, in whichever role.
    Health,
    /// Kubernetes' probes, which Patroni answers with a bare status line and no body.
    Probe,
}

struct Known {
    path: &'static str,
    kind: Kind,
    /// The first version that means by it what newer ones do. Older ones answer 503, or worse, 200
    /// for another reason.
    since: Version,
}

const fn known(path: &'static str, kind: Kind, since: Version) -> Known {
    Known { path, kind, since }
}

/// The one probe with parameters.
const READINESS: &str = "/readiness";

/// From Patroni's `docs/rest_api.rst` and `api.py`, `RestApiHandler.do_GET`.
const KNOWN: [Known; 19] = [
    known("/primary", Kind::Primary, (0, 0, 0)),
    known("/master", Kind::Primary, (0, 0, 0)),
    // Up to 1.5 unknown, as are /read-only and /health: 503.
    known("/read-write", Kind::Primary, (1, 6, 0)),
    // Up to 2.0 the same as /primary: 503 on a standby cluster's leader.
    known("/leader", Kind::Leader, (2, 1, 0)),
    known("/standby-leader", Kind::StandbyLeader, (0, 0, 0)),
    known("/standby_leader", Kind::StandbyLeader, (0, 0, 0)),
    known("/replica", Kind::Reads, (0, 0, 0)),
    known("/read-only", Kind::Reads, (1, 6, 0)),
    known("/sync", Kind::Reads, (0, 0, 0)),
    known("/synchronous", Kind::Reads, (0, 0, 0)),
    known("/async", Kind::Reads, (0, 0, 0)),
    known("/asynchronous", Kind::Reads, (0, 0, 0)),
    // Up to 2.1.4 taken for /read-only: 200 on any replica.
    known("/read-only-sync", Kind::Reads, (2, 1, 5)),
    known("/read-only-synchronous", Kind::Reads, (2, 1, 5)),
    // Up to 3.3 unknown, so 503.
    known("/quorum", Kind::Reads, (4, 0, 0)),
    // Up to 3.3 taken for /read-only: 200 on any replica.
    known("/read-only-quorum", Kind::Reads, (4, 0, 0)),
    known("/health", Kind::Health, (1, 6, 0)),
    known(READINESS, Kind::Probe, (2, 0, 0)),
    known("/liveness", Kind::Probe, (2, 0, 0)),
];

/// `lag=` came with 2.0 and `tag_NAME=` with 2.1; older versions ignore them and say 200.
const LAG_SINCE: Version = (2, 0, 0);
const TAG_SINCE: Version = (2, 1, 0);

/// `lag=` and `mode=` of `/readiness`; older versions ignore them and say 200 for any replica that
/// runs.
const READINESS_PARAMETERS_SINCE: Version = (4, 1, 0);

/// The body says whether a replica streams from this version on (`postgresql/__init__.py`,
/// `replication_state_from_parameters`).
const REPLICATION_STATE_SINCE: Version = (3, 0, 4);

/// A health check endpoint with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    path: &'static str,
    kind: Kind,
    since: Version,
    /// The greatest replication lag that is still good, in bytes.
    lag: Option<u64>,
    /// Which lag counts for `/readiness`: `apply`, or `write`.
    mode: Option<&'static str>,
    /// `replication_state=streaming`. Patroni's releases up to 4.1 ignore it, so it is not sent; the
    /// rule reads the body.
    must_stream: bool,
    /// `tag_NAME=VALUE`, as it stands in the query.
    tags: Vec<String>,
}

impl Endpoint {
    /// All that Patroni has, without parameters.
    pub fn all() -> impl Iterator<Item = Endpoint> {
        KNOWN.iter().map(Endpoint::plain)
    }

    fn plain(known: &Known) -> Endpoint {
        Endpoint {
            path: known.path,
            kind: known.kind,
            since: known.since,
            lag: None,
            mode: None,
            must_stream: false,
            tags: Vec::new(),
        }
    }

    /// What a node must be to take this endpoint's traffic.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether at most one member of a cluster is meant, so that all others stand by in normal
    /// operation.
    pub fn is_for_one(&self) -> bool {
        matches!(self.kind, Kind::Primary | Kind::Leader | Kind::StandbyLeader)
    }

    /// Whether the holder of the leader lock serves it: alone, or beside the replicas.
    pub fn includes_leader(&self) -> bool {
        self.is_for_one() || self.path.starts_with("/read-only")
    }

    /// Whether the answer depends on tags, a leader's too.
    pub fn has_tags(&self) -> bool {
        !self.tags.is_empty()
    }

    /// Whether a replica must stream from its primary.
    pub fn must_stream(&self) -> bool {
        self.must_stream
    }

    /// Whether the answer depends on more than role and state: on lag or on tags.
    fn is_filtered(&self) -> bool {
        self.lag.is_some() || self.mode.is_some() || !self.tags.is_empty()
    }

    /// The path without its parameters, and one for all names that Patroni has for it.
    pub fn group(&self) -> &'static str {
        match self.path {
            "/master" | "/read-write" => "/primary",
            "/standby_leader" => "/standby-leader",
            "/synchronous" => "/sync",
            "/asynchronous" => "/async",
            "/read-only-synchronous" => "/read-only-sync",
            path => path,
        }
    }

    /// The names of a group.
    pub fn names_of(group: &str) -> impl Iterator<Item = &'static str> {
        KNOWN.iter().filter(move |known| Endpoint::plain(known).group() == group).map(|known| known.path)
    }

    /// Why Patroni may say no of a replica that is running, in a few words; nothing where only its
    /// role can be the reason.
    pub fn replica_requirements(&self) -> String {
        let kind = match self.group() {
            "/sync" | "/read-only-sync" => Some("not sync".to_owned()),
            "/async" => Some("not async".to_owned()),
            "/quorum" | "/read-only-quorum" => Some("not quorum".to_owned()),
            _ => None,
        };
        let lag = self.lag.map(|lag| format!("lag over {}", format_bytes(lag)));
        let tags = self.tags.iter().map(|tag| format!("not tagged {}", tag.strip_prefix("tag_").unwrap_or(tag)));
        kind.into_iter().chain(lag).chain(tags).collect::<Vec<_>>().join(" or ")
    }

    /// What Patroni is sent.
    pub fn request_path(&self) -> String {
        self.text(false)
    }

    fn text(&self, with_ours: bool) -> String {
        let lag = self.lag.map(|bytes| format!("lag={bytes}"));
        let mode = self.mode.map(|mode| format!("mode={mode}"));
        let ours = (with_ours && self.must_stream).then(|| "replication_state=streaming".to_owned());
        let parameters: Vec<_> = lag.into_iter().chain(mode).chain(ours).chain(self.tags.clone()).collect();
        let mark = if parameters.is_empty() { "" } else { "?" };
        format!("{}{mark}{}", self.path, parameters.join("&"))
    }

    /// Whether the answer is a probe's, with a status and no body, and yet the version of Patroni
    /// matters, which it does not tell.
    pub fn hides_version(&self) -> bool {
        self.kind == Kind::Probe && self.is_filtered()
    }

    /// The first version of Patroni that answers this endpoint, parameters included, as the manual
    /// says.
    pub fn since(&self) -> Version {
        if self.hides_version() {
            return READINESS_PARAMETERS_SINCE;
        }
        let lag = self.lag.map_or((0, 0, 0), |_| LAG_SINCE);
        let tags = self.tags.first().map_or((0, 0, 0), |_| TAG_SINCE);
        let streaming = if self.must_stream { REPLICATION_STATE_SINCE } else { (0, 0, 0) };
        self.since.max(lag).max(tags).max(streaming)
    }

    /// Whether an older Patroni may say 200 to it, because it takes it for another endpoint or
    /// ignores a parameter.
    pub fn fails_open(&self) -> bool {
        self.is_filtered() || self.must_stream || self.path.starts_with("/read-only-")
    }

    fn add(&mut self, parameter: &str) -> Result<(), String> {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let path = self.path;
        if name == "lag" {
            if self.kind != Kind::Reads && path != READINESS {
                return Err(format!("{path} has no parameter lag; the endpoints for reads have it, such as /replica"));
            }
            if self.lag.replace(bytes(value)?).is_some() {
                return Err("lag is given twice; Patroni would use the first only".into());
            }
        } else if name == "mode" {
            if path != READINESS {
                return Err(format!("{path} has no parameter mode; {READINESS} has it"));
            }
            let Some(known) = ["apply", "write"].into_iter().find(|known| *known == value) else {
                return Err(format!("mode={value}: a mode is apply or write; Patroni would take this one for apply"));
            };
            if self.mode.replace(known).is_some() {
                return Err("mode is given twice; Patroni would use the first only".into());
            }
        } else if name == "replication_state" {
            if self.kind != Kind::Reads {
                return Err(format!(
                    "{path} has no parameter {name}; the endpoints for reads have it, such as /replica"
                ));
            }
            if value != "streaming" {
                return Err(format!("{name}={value}: write {name}=streaming, there is no other"));
            }
            if std::mem::replace(&mut self.must_stream, true) {
                return Err(format!("{name} is given twice"));
            }
        } else if name.len() > "tag_".len() && name.starts_with("tag_") {
            if !matches!(self.kind, Kind::Reads | Kind::Health) {
                return Err(format!("Patroni ignores tags on {path}"));
            }
            if value.is_empty() {
                return Err(format!("{name} has no value; Patroni would ignore it"));
            }
            if !is_query_text(name) || !is_query_text(value) {
                return Err(format!("{parameter:?}: write letters, digits and -._~ as they are, and all else as %XX"));
            }
            let is_same = |tag: &String| tag.split_once('=').is_some_and(|(other, _)| decoded(other) == decoded(name));
            if self.tags.iter().any(is_same) {
                return Err(format!("{name} is given twice; Patroni would use the first only"));
            }
            self.tags.push(parameter.to_owned());
        } else {
            return Err(format!(
                "{name:?} is no parameter of Patroni's health checks; they have lag, replication_state, tag_NAME and mode, \
                 and a view has on-standby, on-failure, calm and probe"
            ));
        }
        Ok(())
    }
}

impl FromStr for Endpoint {
    type Err = String;

    /// Reads an endpoint as Patroni's manual writes it, such as `/replica?lag=16MB&tag_zone=a`.
    ///
    /// # Errors
    /// One line that says what is wrong and what is known, for anything that a Patroni could
    /// misread or ignore.
    fn from_str(text: &str) -> Result<Self, String> {
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        let Some(found) = KNOWN.iter().find(|known| known.path == path) else {
            let names: Vec<_> = KNOWN.iter().map(|known| known.path).collect();
            return Err(format!("no such health check endpoint; Patroni has: {}", names.join(" ")));
        };
        let mut endpoint = Endpoint::plain(found);
        for parameter in query.into_iter().flat_map(|query| query.split('&')) {
            endpoint.add(parameter)?;
        }
        Ok(endpoint)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(true))
    }
}

#[cfg(test)]
mod tests;
