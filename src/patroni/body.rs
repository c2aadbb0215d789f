//! What the body of Patroni's answer says of its node, and what `/cluster` lists.
//!
//! What a verdict rests on is read strictly: where it is there twice, or is of another type, the
//! whole body is unreadable. All else may be whatever it likes, as tags are the operator's own;
//! what can't be read of it is as if it were not there.

use std::borrow::Cow;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

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
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Node {
    /// `running`, or one of an open set: `starting`, `stopping`, `crashed` … and `unknown`, which
    /// is no state of Postgres but Patroni saying that its own query failed.
    pub state: String,
    /// `primary` (from 4.0; `master` before), `replica`, `standby_leader`, `demoted`,
    /// `uninitialized` …
    pub role: String,
    /// The timeline; a replica may not know it.
    #[serde(default, deserialize_with = "if_readable")]
    pub timeline: Option<u64>,
    /// A replica's `streaming` or `in archive recovery`, from 3.0.4.
    #[serde(default, deserialize_with = "if_plain")]
    pub replication_state: Option<String>,
    /// The cluster is paused: no automatic failover.
    #[serde(default)]
    pub pause: bool,
    /// As far as this Patroni knows nobody holds the leader lock: the key is gone, or the store
    /// could not be read, or what was read of it is older than `ttl`.
    #[serde(default)]
    pub cluster_unlocked: bool,
    /// The store is away, and the leader goes on by the consent of all members, from 3.0.
    #[serde(default, deserialize_with = "if_readable")]
    pub failsafe_mode_is_active: bool,
    /// When Patroni read the store last, in seconds of Unix time by the clock of its host, from
    /// 2.1.5. What is no such number says nothing, and vetoes nothing.
    #[serde(default, deserialize_with = "if_readable")]
    pub dcs_last_seen: Option<u64>,
    /// Which Patroni this is.
    #[serde(default, deserialize_with = "if_readable")]
    pub patroni: PatroniInfo,
    /// What the node was tagged with.
    #[serde(default, deserialize_with = "if_readable")]
    pub tags: Tags,
}

impl Node {
    /// Whether this is the primary, whatever its Patroni calls it.
    pub(crate) fn is_primary(&self) -> bool {
        matches!(self.role.as_str(), "primary" | "master")
    }

    /// Whether this has the role of a node that holds the lock.
    pub(crate) fn is_leader(&self) -> bool {
        self.is_primary() || self.role == "standby_leader"
    }

    /// The role, for people.
    pub(crate) fn role_text(&self) -> String {
        self.role.replace('_', " ")
    }

    /// The node in a few words.
    pub(crate) fn describe(&self) -> String {
        let role = self.role_text();
        match (&self.replication_state, self.timeline) {
            (Some(state), _) => format!("{role} {state}"),
            (None, Some(timeline)) => format!("{role} timeline {timeline}"),
            (None, None) => role,
        }
    }

    /// What an operator should know of the cluster beside it.
    pub(crate) fn cluster_flags(&self) -> String {
        let all = [
            (self.cluster_unlocked, ", nobody holds the lock"),
            (self.pause, ", paused"),
            (self.failsafe_mode_is_active, ", failsafe"),
        ];
        all.into_iter().filter(|(is_so, _)| *is_so).map(|(_, text)| text).collect()
    }
}

/// The `patroni` object of the body.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct PatroniInfo {
    /// Patroni's version, such as `4.0.6`.
    #[serde(default, deserialize_with = "if_plain")]
    pub version: Option<String>,
    /// The member's name in its cluster, from 3.1.
    #[serde(default, deserialize_with = "if_readable")]
    pub name: Option<String>,
}

/// The `tags` object of the body.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Tags {
    /// A replica that is not to serve reads. Patroni takes any value here for what Python takes it
    /// for.
    #[serde(default, deserialize_with = "is_set")]
    pub noloadbalance: bool,
}

/// What `/cluster` lists (Patroni's `utils.py`, `cluster_as_json`).
#[derive(Debug, Clone, Deserialize)]
pub struct Cluster {
    /// The cluster's name, from 3.1.
    #[serde(default, deserialize_with = "if_readable")]
    pub scope: Option<String>,
    /// All who have registered themselves.
    #[serde(deserialize_with = "each_if_readable")]
    pub members: Vec<Member>,
}

/// A member, as it has registered itself.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Member {
    /// Its name. Empty where it can't be read.
    #[serde(default, deserialize_with = "if_readable")]
    pub name: String,
    /// Where its Postgres listens; not there before it has said so.
    #[serde(default, deserialize_with = "if_readable")]
    pub host: Option<String>,
    /// Its port there.
    #[serde(default, deserialize_with = "if_readable")]
    pub port: Option<u16>,
    /// Its replication lag in bytes, `unknown`, or nothing for the leader.
    #[serde(default, deserialize_with = "if_readable")]
    pub lag: Value,
}

/// What the verdict does not need: its default where it is not what it should be.
fn if_readable<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(value: D) -> Result<T, D::Error> {
    Ok(read_or_default(<&RawValue>::deserialize(value)?))
}

fn each_if_readable<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<Member>, D::Error> {
    Ok(<Vec<&RawValue>>::deserialize(list)?.into_iter().map(read_or_default).collect())
}

fn read_or_default<T: DeserializeOwned + Default>(raw: &RawValue) -> T {
    read_object(raw.get()).unwrap_or_default()
}

/// serde would take a list for a struct as well, field by field; Patroni has nowhere a list where
/// we look for something.
fn read_object<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    if json.trim_start().starts_with('[') { None } else { serde_json::from_str(json).ok() }
}

/// A text that is no more than it should be. Others may be meant for those who read logs.
fn if_plain<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    Ok(if_readable::<D, Option<String>>(value)?.filter(|text| is_plain(text)))
}

fn is_plain(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn is_set<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    Ok(!matches!(<&RawValue>::deserialize(value)?.get(), "null" | "false"))
}

/// What stands between two words of JSON.
const DELIMITERS: [char; 11] = ['{', '}', '[', ']', ':', ',', '"', ' ', '\t', '\r', '\n'];

/// What Python's `json` writes for the floats that JSON does not know: YAML's `.nan` and `.inf` in
/// a tag.
const NOT_FINITE: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// The body as JSON: each word of `NOT_FINITE` is a number that no type holds, and everything else
/// is as it was.
fn json(body: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(body).ok()?;
    // As nearly all are. It takes a fifth of the time of what follows.
    if serde_json::from_str::<IgnoredAny>(text).is_ok() {
        return Some(text.into());
    }
    let mut json = String::with_capacity(text.len());
    let mut in_string = false;
    for piece in text.split_inclusive(DELIMITERS) {
        let word = piece.trim_end_matches(DELIMITERS);
        let end = piece.strip_prefix(word).unwrap_or_default();
        json += match word {
            word if in_string => word,
            word if NOT_FINITE.contains(&word) => "1e999",
            // Cut short in one of them: then let it be cut short in a word that JSON knows.
            word if end.is_empty() && NOT_FINITE.iter().any(|whole| whole.starts_with(word)) => "t",
            word => word,
        };
        json += end;
        if end == "\"" {
            let is_escaped = (word.len() - word.trim_end_matches('\\').len()) % 2 == 1;
            in_string = !in_string || is_escaped;
        }
    }
    Some(json.into())
}

impl Body {
    /// Reads a body. None for one that stops in mid-word: it was cut short, which says nothing
    /// about the node.
    pub fn read(body: &[u8]) -> Option<Body> {
        let unreadable = |why: &str| Some(Body::Unreadable(why.into()));
        if body.is_empty() {
            return Some(Body::Empty);
        }
        let Some(json) = json(body) else { return unreadable("not JSON") };
        match serde_json::from_str::<IgnoredAny>(&json) {
            Err(e) if e.is_eof() => return None,
            Err(_) => return unreadable("not JSON"),
            Ok(_) => {}
        }
        match read_object::<Node>(&json) {
            None => unreadable("not a health check's JSON"),
            Some(node) if is_plain(&node.state) && is_plain(&node.role) => Some(Body::Node(node)),
            Some(_) => unreadable("no state or role that a Patroni has"),
        }
    }
}

impl Cluster {
    /// Reads `/cluster`. None for anything that is no list of members.
    pub fn read(body: &[u8]) -> Option<Cluster> {
        read_object(&json(body)?)
    }
}

#[cfg(test)]
mod tests;
