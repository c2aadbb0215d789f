//! What the body of Patroni's answer says of its node.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The body of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Nothing, as with `/readiness` and `/liveness`.
    Empty,
    /// What Patroni says of its node.
    Node(Node),
    /// Something that no Patroni sends, and why not.
    Unreadable(String),
}

/// What the body of a health check says of the node (Patroni's `api.py`, `get_postgresql_status`).
///
/// Where a duplicate or a wrong type could change a verdict the whole body is unreadable.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Node {
    /// `running`, or one of an open set: `starting`, `stopping`, `crashed` … and `unknown`, which is no state of
    /// Postgres but Patroni saying that its own query failed.
    pub state: String,
    /// `primary` (from 4.0; `master` before), `replica`, `standby_leader`, `demoted`, `uninitialized` …
    pub role: String,
    /// The timeline; a replica may not know it.
    #[serde(default)]
    pub timeline: Option<u64>,
    /// A replica's `streaming` or `in archive recovery`, from 3.0.4.
    #[serde(default)]
    pub replication_state: Option<String>,
    /// The cluster is paused: no automatic failover.
    #[serde(default)]
    pub pause: bool,
    /// As far as this Patroni knows nobody holds the leader lock: the key is gone, or the store could not be read, or what was
    /// read of it is older than `ttl`.
    #[serde(default)]
    pub cluster_unlocked: bool,
    /// The store is away, and the leader goes on by the consent of all members, from 3.0.
    #[serde(default)]
    pub failsafe_mode_is_active: bool,
    /// When Patroni read the store last, in seconds of Unix time by the clock of its host, from 2.1.5.
    #[serde(default, deserialize_with = "seconds")]
    pub dcs_last_seen: Option<u64>,
    /// Which Patroni this is.
    #[serde(default)]
    pub patroni: About,
    /// What the node was tagged with.
    #[serde(default)]
    pub tags: Tags,
    #[serde(flatten)]
    pub(crate) others: Others,
}

impl Node {
    /// Whether a text in it is none that Patroni sends, and may be meant for those who read logs.
    fn is_odd(&self) -> bool {
        let others = [&self.replication_state, &self.patroni.version];
        let texts = others.into_iter().flatten().chain([&self.state, &self.role]);
        texts.into_iter().any(|text| text.len() > 64 || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')))
    }
}

/// Whatever else is there. That there may be something makes the whole an object: for a struct without it serde takes an
/// array as well, and skips what is nested to any depth.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Others {}

/// The `patroni` object of the body.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct About {
    /// Patroni's version, such as `4.0.6`.
    #[serde(default)]
    pub version: Option<String>,
    /// The member's name in its cluster, from 3.1.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(flatten)]
    pub(crate) others: Others,
}

/// The `tags` object of the body.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Tags {
    /// A replica that is not to serve reads. Patroni takes any value here for what Python takes it for.
    #[serde(default, deserialize_with = "is_set")]
    pub noloadbalance: bool,
    #[serde(flatten)]
    pub(crate) others: Others,
}

/// What `/cluster` lists (Patroni's `utils.py`, `cluster_as_json`).
#[derive(Debug, Clone, Deserialize)]
pub struct Cluster {
    /// The cluster's name, from 3.1.
    #[serde(default)]
    pub scope: Option<String>,
    /// All who have registered themselves.
    pub members: Vec<Member>,
}

/// A member, as it has registered itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// `leader`, `replica`, `sync_standby` and so on.
    pub role: String,
    /// What it says of its Postgres.
    pub state: String,
    /// Where its Postgres listens; not there before it has said so.
    #[serde(default)]
    pub host: Option<String>,
    /// Its port there.
    #[serde(default)]
    pub port: Option<u16>,
    /// Its replication lag in bytes, `unknown`, or nothing for the leader.
    #[serde(default)]
    pub lag: Value,
}

fn is_set<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    Ok(!matches!(Value::deserialize(value)?, Value::Null | Value::Bool(false)))
}

/// A number of seconds. What is none says nothing, and vetoes nothing.
fn seconds<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    Ok(Value::deserialize(value)?.as_u64())
}

impl Body {
    /// Reads a body. None for one that stops in mid-word: it was cut short, which says nothing about the node.
    pub fn read(body: &[u8]) -> Option<Body> {
        if body.is_empty() {
            return Some(Body::Empty);
        }
        match serde_json::from_slice::<Node>(body) {
            Ok(node) if node.is_odd() => Some(Body::Unreadable("no state or role that a Patroni has".into())),
            Ok(node) => Some(Body::Node(node)),
            Err(e) if e.is_eof() => None,
            Err(_) if serde_json::from_slice::<IgnoredAny>(body).is_err() => Some(Body::Unreadable("not JSON".into())),
            Err(_) => Some(Body::Unreadable("not a health check's JSON".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_a_node_or_nothing_or_unreadable_or_cut_short() {
        let node = |state: &str, role: &str| Node { state: state.into(), role: role.into(), ..Node::default() };
        let unreadable = |why: &str| Some(Body::Unreadable(why.into()));
        let table = [
            ("", Some(Body::Empty)),
            (r#"{"state":"running","role":"primary"}"#, Some(Body::Node(node("running", "primary")))),
            (r#"{"role":"replica","state":"starting","new":[{}]}"#, Some(Body::Node(node("starting", "replica")))),
            (r#"{"state":"running","role":"pri"#, None),
            ("<html>", unreadable("not JSON")),
            (r#"{"state":"running","role":"primary"}}"#, unreadable("not JSON")),
            ("[]", unreadable("not a health check's JSON")),
            (r#"["running","primary"]"#, unreadable("not a health check's JSON")),
            (r#"{"state":"running","role":"primary","tags":[true]}"#, unreadable("not a health check's JSON")),
            (r#"{"state":"running"}"#, unreadable("not a health check's JSON")),
            (r#"{"state":"running","role":7}"#, unreadable("not a health check's JSON")),
            (r#"{"state":"running","role":"a","role":"primary"}"#, unreadable("not a health check's JSON")),
            (r#"{"state":"running","role":"\u001b[31m"}"#, unreadable("no state or role that a Patroni has")),
            (r#"{"state":"running","role":"é"}"#, unreadable("no state or role that a Patroni has")),
        ];
        for (body, expected) in table {
            assert_eq!(Body::read(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn who_holds_the_lock_is_read_as_patroni_writes_it() {
        let node = |more: &str| match Body::read(format!(r#"{{"state":"running","role":"primary"{more}}}"#).as_bytes())
        {
            Some(Body::Node(node)) => {
                Some((node.pause, node.cluster_unlocked, node.failsafe_mode_is_active, node.dcs_last_seen))
            }
            _ => None,
        };
        let table = [
            ("", Some((false, false, false, None))),
            (r#","pause":true,"cluster_unlocked":true"#, Some((true, true, false, None))),
            (
                r#","failsafe_mode_is_active":true,"dcs_last_seen":1795487980"#,
                Some((false, false, true, Some(1_795_487_980))),
            ),
            (r#","pause":"true""#, None),
            (r#","cluster_unlocked":null"#, None),
            (r#","cluster_unlocked":true,"cluster_unlocked":false"#, None),
            (r#","dcs_last_seen":null"#, Some((false, false, false, None))),
            (r#","dcs_last_seen":-1.5"#, Some((false, false, false, None))),
        ];
        for (more, expected) in table {
            assert_eq!(node(more), expected, "{more}");
        }
    }

    #[test]
    fn a_tag_may_have_any_value() {
        for (value, is_set) in [("true", true), ("false", false), ("null", false), (r#""yes""#, true), ("[1]", true)] {
            let body = format!(r#"{{"state":"running","role":"replica","tags":{{"noloadbalance":{value}}}}}"#);
            let Some(Body::Node(node)) = Body::read(body.as_bytes()) else { panic!("{body}") };
            assert_eq!(node.tags.noloadbalance, is_set, "{value}");
        }
    }
}
