//! The rule: Patroni's status code is the verdict; the body may only veto it, never grant it. Where
//! an observation settles nothing, or nobody holds the lock, what was known before may stand
//! (`memory.rs`).
//!
//! `role` comes from `pg_is_in_recovery()` and knows nothing of the leader lock, the status comes
//! from the lock and knows nothing of Postgres (Patroni's `api.py`). Only both together mean a node
//! that takes writes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::endpoint::{Endpoint, Kind, Version};
use crate::patroni::body::{Body, Node};
use crate::patroni::{Failure, Observation};
use crate::probe::Probed;

/// Whether the node may take an endpoint's traffic, each with the reason in a few words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The node may take this endpoint's traffic.
    Serve(String),
    /// The node is healthy, but not for this endpoint.
    StandBy(String, Sessions),
    /// The node is good again and not back yet, for so long.
    Calm(String, Duration),
    /// Something is wrong.
    Fail(String),
    /// An operator holds the node back, whatever Patroni says.
    Held(String, Sessions),
}

/// What may become of the open sessions of a node that is to get no new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sessions {
    /// They are on the wrong node.
    Cut,
    /// They may stay until their clients end them.
    MayStay,
}

/// One observation judged without memory: the verdict that it suggests, and how much it settles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The verdict of one who remembers nothing.
    pub verdict: Verdict,
    /// What one who remembers may make of it.
    pub evidence: Evidence,
}

/// How much an observation settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// All: the verdict counts at once.
    Conclusive {
        /// Whether Patroni grants the endpoint to this node as the holder of the lock. None where
        /// the lock does not decide, or the observation does not tell.
        has_lock: Option<bool>,
    },
    /// Nothing: Patroni did not answer.
    Silence,
    /// Nothing but that Patroni is there: its own query failed (`unknown`). A crash of Postgres
    /// causes that, and so does a primary that is merely too busy.
    StateUnknown,
    /// This node is without the lock, as far as Patroni knows because another one has it. It may
    /// also have been started anew, and not have looked yet (`ha.py`, `is_leader`); or the answer
    /// may be torn, as the body is made up before the status (`do_GET`), and a lock that was lost
    /// in between is not yet missed in the body.
    WithoutLock,
    /// The same of a primary in a paused cluster, where it goes on without the lock. Either another
    /// node has it, or Patroni has just failed to renew its own (`process_healthy_cluster`,
    /// "continue to run as primary"), as with an etcd that shuts down. Then it does not look at the
    /// store again before it tells that nobody has it.
    WithoutLockInPause {
        /// When Patroni looked at the store last, in seconds of Unix time.
        looked: Option<u64>,
    },
    /// Granted, in a paused cluster. The answer may be torn here too. When Patroni has just failed
    /// to read the store, the body still names the former leader, and the status follows the role
    /// alone.
    GrantedInPause,
    /// Nobody holds the lock, as far as Patroni knows: it was lost a moment ago and nobody has it
    /// yet, or the store is away.
    Unlocked {
        /// Nobody takes it while the cluster is paused, but by an operator's hand.
        paused: bool,
    },
}

impl Verdict {
    /// Held for this reason, if one was given.
    pub fn held(why: &str, sessions: Sessions) -> Self {
        Verdict::Held(if why.is_empty() { "held".into() } else { format!("held: {why}") }, sessions)
    }

    /// A node with another role than the endpoint wants.
    pub fn stand_by(why: impl Into<String>) -> Self {
        Verdict::StandBy(why.into(), Sessions::Cut)
    }

    /// The verdict in one word, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Serve(_) => "serve",
            Verdict::StandBy(..) | Verdict::Calm(..) => "standby",
            Verdict::Fail(_) => "fail",
            Verdict::Held(..) => "held",
        }
    }

    /// The reason, in a few more.
    pub fn why(&self) -> &str {
        let (Verdict::Serve(why)
        | Verdict::StandBy(why, _)
        | Verdict::Calm(why, _)
        | Verdict::Fail(why)
        | Verdict::Held(why, _)) = self;
        why
    }

    /// What is told once, however long it lasts: a calm without what is left of it.
    pub fn without_countdown(&self) -> Self {
        match self {
            Verdict::Calm(why, _) => Verdict::StandBy(why.clone(), Sessions::MayStay),
            other => other.clone(),
        }
    }

    /// Cuts the reason to this many bytes at most.
    pub(crate) fn cut_why(&mut self, limit: usize) {
        let (Verdict::Serve(why)
        | Verdict::StandBy(why, _)
        | Verdict::Calm(why, _)
        | Verdict::Fail(why)
        | Verdict::Held(why, _)) = self;
        let end = (0..=limit).rev().find(|end| why.is_char_boundary(*end));
        why.truncate(end.unwrap_or_default());
    }
}

impl Judgement {
    fn conclusive(verdict: Verdict, has_lock: Option<bool>) -> Self {
        Judgement { verdict, evidence: Evidence::Conclusive { has_lock } }
    }

    /// Patroni did not answer, for this reason.
    pub fn silence(why: String) -> Self {
        Judgement { verdict: Verdict::Fail(why), evidence: Evidence::Silence }
    }

    /// Nobody is there to take a client, for this reason. It ends the grace.
    pub fn nobody_there(why: String) -> Self {
        Judgement::conclusive(Verdict::Fail(why), None)
    }

    /// The same, by one who also knows what came of a probe. A probe speaks against a node where nobody
    /// is there, and never for one.
    pub fn after_probe(self, probed: Option<&Probed>) -> Self {
        let is_conclusive = matches!(self.evidence, Evidence::Conclusive { .. });
        match probed {
            Some(Probed::Gone(why)) if !is_conclusive || matches!(self.verdict, Verdict::Serve(_)) => {
                Judgement::nobody_there(why.clone())
            }
            _ => self,
        }
    }
}

/// Judges an observation.
pub fn judge(endpoint: &Endpoint, observation: &Observation) -> Judgement {
    let fail = |why: String| Judgement::conclusive(Verdict::Fail(why), None);
    let answer = match observation {
        Ok(answer) => answer,
        Err(Failure::NoAnswer(why)) => return Judgement::silence(format!("patroni: {why}")),
        Err(Failure::BadAnswer(what)) => return fail(format!("patroni: {what}")),
    };
    let yes = || Judgement::conclusive(Verdict::Serve(format!("patroni says yes to {endpoint}")), None);
    let is_probe = endpoint.kind() == Kind::Probe;
    let node = match (answer.status, &answer.body) {
        (503, _) if is_probe => return fail(format!("patroni says no to {endpoint}")),
        (200, Body::Empty) if is_probe && !endpoint.hides_version() => return yes(),
        (200, _) if is_probe && !endpoint.hides_version() => return fail("patroni: not a probe's answer".into()),
        (200 | 503, Body::Node(node)) => node,
        (200 | 503, Body::Unreadable(why)) => return fail(format!("patroni: {why}")),
        // Patroni sends head and body in two writes.
        (200 | 503, Body::Empty) => return Judgement::silence("patroni: answer cut short".into()),
        (other, _) => return fail(format!("patroni: status {other}")),
    };
    if let Some(version) = too_old(endpoint, node) {
        let (major, minor, patch) = endpoint.since();
        return fail(format!("patroni {version} is too old for {endpoint}: needs {major}.{minor}.{patch}"));
    }
    let is_200 = answer.status == 200;
    if is_probe {
        return yes();
    }
    let leads = endpoint.includes_leader() && is_leaders(endpoint, node);
    // What this says of the lock. A replica has none. In a pause a 200 may be by the role alone,
    // and a primary goes on at 503; where nobody leads a 503 says nothing of who led before.
    let has_lock = if !leads && !endpoint.is_for_one() {
        endpoint.includes_leader().then_some(false)
    } else if node.pause && (leads || is_200) || leads && !is_200 && node.cluster_unlocked {
        None
    } else {
        Some(is_200)
    };
    let nobody_has_it = node.cluster_unlocked && (node.pause || looked_just_now(answer.date, node));
    let unlocked = |verdict| Judgement { verdict, evidence: Evidence::Unlocked { paused: node.pause } };
    match node.state.as_str() {
        "running" if is_200 && role_fits(endpoint, node) && !fails_to_stream(endpoint, node) => {
            let verdict = Verdict::Serve(node.describe() + &node.cluster_flags());
            // Patroni goes by the role alone then (`do_GET`, "not cluster and pause"), on every
            // primary.
            match (leads && node.pause, node.cluster_unlocked) {
                (true, true) => unlocked(verdict),
                (true, false) => Judgement { verdict, evidence: Evidence::GrantedInPause },
                (false, _) => Judgement::conclusive(verdict, has_lock),
            }
        }
        "running" if leads && nobody_has_it => unlocked(Verdict::stand_by(node.describe() + &node.cluster_flags())),
        "running" if leads && !endpoint.has_tags() => {
            let without = format!("{} without the leader lock", node.role_text());
            if node.pause {
                let looked = node.dcs_last_seen;
                let verdict = Verdict::stand_by(without + ", paused");
                return Judgement { verdict, evidence: Evidence::WithoutLockInPause { looked } };
            }
            let verdict = Verdict::stand_by(without);
            if node.cluster_unlocked {
                // Its look is old, so it was neither started just now, nor is the answer torn.
                return Judgement::conclusive(verdict, Some(false));
            }
            Judgement { verdict, evidence: Evidence::WithoutLock }
        }
        "running" => {
            let sessions = if is_replica_for_reads(endpoint, node) { Sessions::MayStay } else { Sessions::Cut };
            let verdict = Verdict::StandBy(standby_reason(endpoint, answer.status, node), sessions);
            Judgement::conclusive(verdict, has_lock)
        }
        "unknown" => {
            let verdict = Verdict::Fail(format!("postgres: state unknown{}", known_bug_hint(node)));
            let fits = role_fits(endpoint, node);
            let is_elsewhere = !is_200 && !(fits && (nobody_has_it || node.pause));
            match endpoint.is_for_one() {
                // Patroni itself has made it a replica.
                true if is_200 && !fits => Judgement::conclusive(verdict, has_lock),
                true if is_elsewhere => Judgement { verdict, evidence: Evidence::WithoutLock },
                _ => Judgement { verdict, evidence: Evidence::StateUnknown },
            }
        }
        other => Judgement::conclusive(Verdict::Fail(format!("postgres: {other}")), has_lock),
    }
}

/// A primary that finds the lock free takes it, or is demoted, in the same round of its loop
/// (`ha.py`, `process_unhealthy_cluster`), so one that says for longer that it is free has not been
/// able to look. Another one may have it two seconds later (`fetch_node_status`). In seconds; both
/// times are whole ones, so a look is believed for less than this.
const FRESH_LOOK: u64 = 2;

/// Whether Patroni has just looked at the store, by the clock of its host. Where it does not say
/// when it did, it may have.
fn looked_just_now(date: Option<u64>, node: &Node) -> bool {
    let seen = node.dcs_last_seen.filter(|seen| *seen > 0);
    date.zip(seen).is_none_or(|(now, seen)| now < seen.saturating_add(FRESH_LOOK))
}

/// The version of a Patroni that is too old for this endpoint. Older ones answer 503 to what they
/// do not know or, worse, 200, because they take it for another endpoint or ignore a parameter. If
/// Patroni tells no version, it counts as too old only for endpoints that an old one may answer
/// with 200 by mistake.
pub(crate) fn too_old<'a>(endpoint: &Endpoint, node: &'a Node) -> Option<&'a str> {
    let version = node.patroni.version.as_deref().unwrap_or("(no version)");
    let is_too_old = parse_version(version).map_or(endpoint.fails_open(), |version| version < endpoint.since());
    is_too_old.then_some(version)
}

fn parse_version(version: &str) -> Option<Version> {
    let mut parts = version.split('.').map(|part| {
        // 4.1.0rc1 and the like
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse::<u32>().ok()
    });
    Some((parts.next()??, parts.next().unwrap_or(Some(0))?, parts.next().unwrap_or(Some(0))?))
}

/// The veto by role. A node that is being promoted holds the lock, says 200, and still is a
/// replica; Patroni 1.6 says 200 to `/primary` on a standby cluster's leader, and to
/// `/standby-leader` on an ordinary one.
///
/// A standby cluster's leader is called `replica` as well for a moment after it took the lock, and
/// `do_GET` says 200 to it. Of `/leader` the body does not tell it from a node that is being
/// promoted, which takes no writes yet. So neither `/leader` nor `/standby-leader` takes it for the
/// leader before its role says so. (With the tag `nostream` it never does.)
fn role_fits(endpoint: &Endpoint, node: &Node) -> bool {
    match endpoint.kind() {
        Kind::Primary => node.is_primary(),
        Kind::Leader => node.is_leader(),
        Kind::StandbyLeader => node.role == "standby_leader",
        Kind::Reads | Kind::Health | Kind::Probe => true,
    }
}

/// Whether Patroni grants the lock to a node whose Postgres is still in recovery. In a pause it may
/// stay so.
pub(crate) fn is_being_promoted(endpoint: &Endpoint, status: u16, node: &Node) -> bool {
    endpoint.is_for_one() && status == 200 && node.state == "running" && node.role == "replica" && !node.pause
}

/// After a restart of Postgres this one may go on with a connection that is gone (fixed in 3.2.1).
fn known_bug_hint(node: &Node) -> &'static str {
    let is_faulty = node.patroni.version.as_deref() == Some("3.2.0");
    if is_faulty { " (a fault of Patroni 3.2.0 if it stays: upgrade or restart Patroni)" } else { "" }
}

/// Whether a node has the role of one that holds the lock.
fn is_leaders(endpoint: &Endpoint, node: &Node) -> bool {
    match endpoint.kind() {
        Kind::StandbyLeader => node.role == "standby_leader",
        Kind::Primary => role_fits(endpoint, node),
        _ => node.is_leader(),
    }
}

fn is_replica_for_reads(endpoint: &Endpoint, node: &Node) -> bool {
    endpoint.kind() == Kind::Reads && node.role == "replica"
}

/// The veto by `replication_state=streaming`. As in Patroni's `do_GET` (in no release yet), it is
/// for replicas only.
fn fails_to_stream(endpoint: &Endpoint, node: &Node) -> bool {
    endpoint.must_stream() && node.role == "replica" && node.replication_state.as_deref() != Some("streaming")
}

fn standby_reason(endpoint: &Endpoint, status: u16, node: &Node) -> String {
    let why = if is_being_promoted(endpoint, status, node) {
        "being promoted".to_owned()
    } else if !is_replica_for_reads(endpoint, node) {
        String::new()
    } else if node.tags.noloadbalance {
        "tagged noloadbalance".to_owned()
    } else if fails_to_stream(endpoint, node) {
        "not streaming".to_owned()
    } else {
        endpoint.replica_requirements()
    };
    let comma = if why.is_empty() { "" } else { ", " };
    format!("{}{comma}{why}{}", node.describe(), node.cluster_flags())
}

#[cfg(test)]
mod tests;
