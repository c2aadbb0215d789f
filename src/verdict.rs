//! The rule: Patroni's status code is the verdict; the body may only veto it, never grant it.
//!
//! `role` comes from `pg_is_in_recovery()` and knows nothing of the leader lock, the status comes from the lock and
//! knows nothing of Postgres (Patroni's `api.py`). Only both together mean a node that takes writes.

use crate::endpoint::{Endpoint, Kind, Version};
use crate::node::{Body, Node};
use crate::patroni::{Answer, Failure, Observation};

/// What an observation means for an endpoint, each with the reason in a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The node may take this endpoint's traffic.
    Serve(String),
    /// The node is healthy, but not for this endpoint.
    StandBy(String),
    /// Something is wrong.
    Fail(String),
    /// An operator holds the node back, whatever Patroni says.
    Held(String),
}

/// Nothing was learnt about the node. An earlier verdict may stand for a while; without one this becomes the verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoNews {
    /// Patroni did not answer, for this reason.
    NoAnswer(String),
    /// A primary without the leader lock. That is news, unless Patroni was silent just before: then it may have been
    /// started anew, and not have looked at its lock yet (`ha.py`, `is_leader`).
    NoLock(String),
}

impl Verdict {
    /// Held for this reason, if one was given.
    pub fn held(why: &str) -> Self {
        Verdict::Held(if why.is_empty() { "held".into() } else { format!("held: {why}") })
    }

    /// The verdict in one word, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Serve(_) => "serve",
            Verdict::StandBy(_) => "standby",
            Verdict::Fail(_) => "fail",
            Verdict::Held(_) => "held",
        }
    }

    /// The reason, in a few more.
    pub fn why(&self) -> &str {
        let (Verdict::Serve(why) | Verdict::StandBy(why) | Verdict::Fail(why) | Verdict::Held(why)) = self;
        why
    }
}

impl From<NoNews> for Verdict {
    fn from(no_news: NoNews) -> Self {
        match no_news {
            NoNews::NoAnswer(why) => Verdict::Fail(why),
            NoNews::NoLock(why) => Verdict::StandBy(why),
        }
    }
}

/// Judges an observation.
///
/// # Errors
/// [`NoNews::NoAnswer`] where Patroni did not answer, or answered that its own query failed (`unknown`), which a crash of
/// Postgres causes, and so does an overloaded primary; [`NoNews::NoLock`] for a primary without the lock.
pub fn judge(endpoint: &Endpoint, observation: &Observation) -> Result<Verdict, NoNews> {
    let silence = |why: String| Err(NoNews::NoAnswer(why));
    let fail = |why: String| Ok(Verdict::Fail(why));
    let Answer { status, body } = match observation {
        Ok(answer) => answer,
        Err(Failure::NoAnswer(why)) => return silence(format!("patroni: {why}")),
        Err(Failure::NotHttp(why)) => return fail(format!("patroni: {why}")),
    };
    let node = match (status, endpoint.kind(), body) {
        (200, Kind::Probe, Body::Empty) => return Ok(Verdict::Serve(format!("patroni says yes to {endpoint}"))),
        (503, Kind::Probe, _) => return fail(format!("patroni says no to {endpoint}")),
        (200, Kind::Probe, _) => return fail("patroni: not a probe's answer".into()),
        (200 | 503, _, Body::Node(node)) => node,
        (200 | 503, _, Body::Unreadable(why)) => return fail(format!("patroni: {why}")),
        // Patroni sends head and body in two writes.
        (200 | 503, _, Body::Empty) => return silence("patroni: answer cut short".into()),
        (other, _, _) => return fail(format!("patroni: status {other}")),
    };
    if let Some(version) = too_old(endpoint, node) {
        let (major, minor, patch) = endpoint.since();
        return fail(format!("patroni {version} is too old for {endpoint}: needs {major}.{minor}.{patch}"));
    }
    match node.state.as_str() {
        "running" if *status == 200 && role_fits(endpoint, node) => Ok(Verdict::Serve(describe(node))),
        "running" if lacks_lock(endpoint, node) => {
            Err(NoNews::NoLock(format!("{} without the leader lock", node.role.replace('_', " "))))
        }
        "running" => Ok(Verdict::StandBy(stand_by(endpoint, node))),
        "unknown" => silence("postgres: state unknown".into()),
        other => fail(format!("postgres: {other}")),
    }
}

/// Whether this Patroni may mean something else by the endpoint, and which it is. Older ones answer 503 to what they
/// do not know, or, worse, 200 because they take it for another endpoint or ignore a parameter.
pub fn too_old<'a>(endpoint: &Endpoint, node: &'a Node) -> Option<&'a str> {
    let needed = endpoint.since();
    let version = node.patroni.version.as_deref().unwrap_or("(no version)");
    (needed > (0, 0, 0) && parse(version).is_none_or(|version| version < needed)).then_some(version)
}

fn parse(version: &str) -> Option<Version> {
    let mut parts = version.split('.').map(|part| {
        // 4.1.0rc1 and the like
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse::<u32>().ok()
    });
    Some((parts.next()??, parts.next().unwrap_or(Some(0))?, parts.next().unwrap_or(Some(0))?))
}

/// The veto by role. A node that is being promoted holds the lock, says 200, and still is a replica; Patroni 1.6 says
/// 200 to `/primary` on a standby cluster's leader, and to `/standby-leader` on an ordinary one.
fn role_fits(endpoint: &Endpoint, node: &Node) -> bool {
    let role = node.role.as_str();
    match endpoint.kind() {
        Kind::Primary => matches!(role, "primary" | "master"),
        Kind::Leader => matches!(role, "primary" | "master" | "standby_leader"),
        // Its role is still `replica` for a moment after it took the lock, as `do_GET` allows.
        Kind::StandbyLeader => matches!(role, "standby_leader" | "replica"),
        Kind::Reads | Kind::Health | Kind::Probe => true,
    }
}

fn describe(node: &Node) -> String {
    let mut text = node.role.replace('_', " ");
    if let Some(state) = &node.replication_state {
        text = format!("{text} {state}");
    } else if let Some(timeline) = node.timeline {
        text = format!("{text} timeline {timeline}");
    }
    text
}

/// Whether a node that is not to serve has the role of one that holds the lock.
fn lacks_lock(endpoint: &Endpoint, node: &Node) -> bool {
    match endpoint.kind() {
        Kind::Primary | Kind::Leader => role_fits(endpoint, node),
        Kind::StandbyLeader => node.role == "standby_leader",
        Kind::Reads | Kind::Health | Kind::Probe => false,
    }
}

fn stand_by(endpoint: &Endpoint, node: &Node) -> String {
    let is_primary = matches!(node.role.as_str(), "primary" | "master");
    match endpoint.kind() {
        Kind::Reads if node.tags.noloadbalance => format!("{} noloadbalance", describe(node)),
        Kind::Reads if endpoint.is_filtered() && !is_primary => format!("{} but not {endpoint}", describe(node)),
        _ => describe(node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{About, Tags};

    fn node(state: &str, role: &str) -> Node {
        Node { state: state.into(), role: role.into(), ..Node::default() }
    }

    fn judged(endpoint: &str, status: u16, body: Body) -> Result<Verdict, NoNews> {
        judge(&endpoint.parse().unwrap(), &Ok(Answer { status, body }))
    }

    fn serve(why: &str) -> Result<Verdict, NoNews> {
        Ok(Verdict::Serve(why.into()))
    }
    fn stand_by(why: &str) -> Result<Verdict, NoNews> {
        Ok(Verdict::StandBy(why.into()))
    }
    fn fail(why: &str) -> Result<Verdict, NoNews> {
        Ok(Verdict::Fail(why.into()))
    }
    fn none(why: &str) -> Result<Verdict, NoNews> {
        Err(NoNews::NoAnswer(why.into()))
    }

    fn no_lock(why: &str) -> Result<Verdict, NoNews> {
        Err(NoNews::NoLock(why.into()))
    }

    #[test]
    fn status_and_state_and_role_decide() {
        let table = [
            // endpoint, status, state, role: verdict
            ("/primary", 200, "running", "primary", serve("primary")),
            ("/primary", 200, "running", "master", serve("master")),
            ("/primary", 503, "running", "replica", stand_by("replica")),
            ("/primary", 200, "running", "replica", stand_by("replica")),
            ("/primary", 200, "running", "standby_leader", stand_by("standby leader")),
            ("/primary", 503, "running", "primary", no_lock("primary without the leader lock")),
            ("/standby-leader", 503, "running", "standby_leader", no_lock("standby leader without the leader lock")),
            ("/standby-leader", 503, "running", "replica", stand_by("replica")),
            ("/primary", 200, "running", "Primary", stand_by("Primary")),
            ("/primary", 200, "running", " primary", stand_by(" primary")),
            ("/primary", 200, "Running", "primary", fail("postgres: Running")),
            ("/primary", 200, "stopping", "primary", fail("postgres: stopping")),
            ("/primary", 200, "starting", "primary", fail("postgres: starting")),
            ("/primary", 200, "crashed", "primary", fail("postgres: crashed")),
            ("/primary", 503, "start failed", "replica", fail("postgres: start failed")),
            ("/primary", 503, "", "replica", fail("postgres: ")),
            ("/primary", 200, "unknown", "primary", none("postgres: state unknown")),
            ("/primary", 503, "unknown", "replica", none("postgres: state unknown")),
            ("/master", 200, "running", "primary", serve("primary")),
            ("/read-write", 200, "running", "replica", stand_by("replica")),
            ("/standby-leader", 200, "running", "standby_leader", serve("standby leader")),
            ("/standby-leader", 200, "running", "replica", serve("replica")),
            ("/standby-leader", 200, "running", "master", stand_by("master")),
            ("/replica", 200, "running", "replica", serve("replica")),
            ("/replica", 503, "running", "primary", stand_by("primary")),
            ("/replica", 200, "starting", "replica", fail("postgres: starting")),
            ("/read-only", 200, "running", "primary", serve("primary")),
            ("/sync", 503, "running", "replica", stand_by("replica")),
            ("/health", 200, "running", "replica", serve("replica")),
            ("/health", 503, "stopped", "replica", fail("postgres: stopped")),
        ];
        for (endpoint, status, state, role, verdict) in table {
            let got = judged(endpoint, status, Body::Node(node(state, role)));
            assert_eq!(got, verdict, "{endpoint} {status} {state} {role}");
        }
    }

    #[test]
    fn an_answer_that_patroni_would_not_send_is_a_failure() {
        let unreadable = || Body::Unreadable("not JSON".into());
        let primary = || Body::Node(node("running", "primary"));
        let table = [
            ("/primary", 200, unreadable(), fail("patroni: not JSON")),
            ("/primary", 503, unreadable(), fail("patroni: not JSON")),
            ("/primary", 200, Body::Empty, none("patroni: answer cut short")),
            ("/primary", 404, unreadable(), fail("patroni: status 404")),
            ("/primary", 302, primary(), fail("patroni: status 302")),
            ("/primary", 201, primary(), fail("patroni: status 201")),
            ("/primary", 500, primary(), fail("patroni: status 500")),
            ("/liveness", 200, Body::Empty, serve("patroni says yes to /liveness")),
            ("/readiness", 503, Body::Empty, fail("patroni says no to /readiness")),
            ("/readiness", 200, unreadable(), fail("patroni: not a probe's answer")),
            // 1.6, which does not know it
            ("/readiness", 503, primary(), fail("patroni says no to /readiness")),
            ("/liveness", 500, Body::Empty, fail("patroni: status 500")),
        ];
        for (endpoint, status, body, verdict) in table {
            assert_eq!(judged(endpoint, status, body.clone()), verdict, "{endpoint} {status} {body:?}");
        }
    }

    #[test]
    fn only_silence_is_no_news() {
        let primary = "/primary".parse().unwrap();
        let refused = Failure::NoAnswer("connection refused".into());
        assert_eq!(judge(&primary, &Err(refused)), none("patroni: connection refused"));
        let garbage = Failure::NotHttp("not HTTP".into());
        assert_eq!(judge(&primary, &Err(garbage)), fail("patroni: not HTTP"));
    }

    #[test]
    fn an_endpoint_that_fails_open_on_an_older_patroni_needs_the_newer_one() {
        let table = [
            ("/read-only-sync", Some("2.1.4"), false),
            ("/read-only-sync", Some("2.1.5"), true),
            ("/read-only-quorum", Some("3.3.11"), false),
            ("/quorum", Some("4.0"), true),
            ("/quorum", Some("4.1.0rc1"), true),
            ("/replica?lag=1MB", Some("1.6.5"), false),
            ("/replica?lag=1MB", Some("2.0.0"), true),
            ("/replica?tag_a=b", Some("2.0.2"), false),
            ("/leader", Some("2.0.2"), false),
            ("/quorum", None, false),
            ("/quorum", Some("nonsense"), false),
            ("/replica", None, true),
        ];
        for (endpoint, version, good) in table {
            let about = About { version: version.map(Into::into), ..About::default() };
            let body = Body::Node(Node { patroni: about, ..node("running", "standby_leader") });
            let verdict = judged(endpoint, 200, body).unwrap();
            assert_eq!(matches!(verdict, Verdict::Serve(_)), good, "{endpoint} {version:?}: {verdict:?}");
            assert_eq!(matches!(verdict, Verdict::Fail(_)), !good, "{endpoint} {version:?}: {verdict:?}");
        }
        let about = About { version: Some("3.3.11".into()), ..About::default() };
        let body = Body::Node(Node { patroni: about, ..node("running", "replica") });
        assert_eq!(judged("/quorum", 200, body), fail("patroni 3.3.11 is too old for /quorum: needs 4.0.0"));
    }

    #[test]
    fn the_reason_tells_what_the_node_is() {
        let primary = Node { timeline: Some(3), ..node("running", "primary") };
        assert_eq!(judged("/primary", 200, Body::Node(primary)), serve("primary timeline 3"));
        let about = || About { version: Some("4.0.6".into()), ..About::default() };
        let primary = Node { patroni: about(), ..node("running", "primary") };
        assert_eq!(judged("/leader", 503, Body::Node(primary)), no_lock("primary without the leader lock"));
        let streaming = || Node {
            timeline: Some(3),
            replication_state: Some("streaming".into()),
            patroni: about(),
            ..node("running", "replica")
        };
        assert_eq!(judged("/primary", 503, Body::Node(streaming())), stand_by("replica streaming"));
        let tagged = Node { tags: Tags { noloadbalance: true, ..Tags::default() }, ..streaming() };
        assert_eq!(judged("/replica", 503, Body::Node(tagged)), stand_by("replica streaming noloadbalance"));
        let lagging = judged("/replica?lag=1kB", 503, Body::Node(streaming()));
        assert_eq!(lagging, stand_by("replica streaming but not /replica?lag=1024"));
    }
}
