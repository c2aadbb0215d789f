//! The rule as a table.

use super::*;
use crate::patroni::body::{PatroniInfo, Tags};
use crate::patroni::{Answer, NoAnswer};

fn node(state: &str, role: &str) -> Node {
    Node { state: state.into(), role: role.into(), ..Node::default() }
}

fn judged(endpoint: &str, status: u16, body: Body) -> Judgement {
    judge(&endpoint.parse().unwrap(), &Ok(Answer { status, body, date: Some(1_000_000) }))
}

fn serve(why: &str) -> Verdict {
    Verdict::Serve(why.into())
}
fn stand_by(why: &str) -> Verdict {
    Verdict::stand_by(why)
}
/// A replica whose sessions may stay.
fn spare(why: &str) -> Verdict {
    Verdict::StandBy(why.into(), Sessions::MayStay)
}
fn fail(why: &str) -> Verdict {
    Verdict::Fail(why.into())
}

const LOCK_HERE: Evidence = Evidence::Conclusive { has_lock: Some(true) };
const LOCK_ELSEWHERE: Evidence = Evidence::Conclusive { has_lock: Some(false) };
const NO_MATTER: Evidence = Evidence::Conclusive { has_lock: None };
const UNLOCKED: Evidence = Evidence::Unlocked { paused: false };
const UNLOCKED_IN_PAUSE: Evidence = Evidence::Unlocked { paused: true };

#[test]
fn status_and_state_and_role_decide() {
    use Evidence::{StateUnknown, WithoutLock};
    let without = |role| stand_by(&format!("{role} without the leader lock"));
    let table = [
        // endpoint, status, state, role: verdict, evidence
        ("/primary", 200, "running", "primary", serve("primary"), LOCK_HERE),
        ("/primary", 200, "running", "master", serve("master"), LOCK_HERE),
        ("/primary", 503, "running", "replica", stand_by("replica"), LOCK_ELSEWHERE),
        ("/primary", 200, "running", "replica", stand_by("replica, being promoted"), LOCK_HERE),
        ("/primary", 200, "running", "standby_leader", stand_by("standby leader"), LOCK_HERE),
        ("/primary", 503, "running", "primary", without("primary"), WithoutLock),
        ("/standby-leader", 503, "running", "standby_leader", without("standby leader"), WithoutLock),
        ("/standby-leader", 503, "running", "replica", stand_by("replica"), LOCK_ELSEWHERE),
        ("/primary", 200, "running", "Primary", stand_by("Primary"), LOCK_HERE),
        ("/primary", 200, "running", " primary", stand_by(" primary"), LOCK_HERE),
        ("/primary", 200, "Running", "primary", fail("postgres: Running"), LOCK_HERE),
        ("/primary", 200, "stopping", "primary", fail("postgres: stopping"), LOCK_HERE),
        ("/primary", 200, "starting", "primary", fail("postgres: starting"), LOCK_HERE),
        ("/primary", 200, "crashed", "primary", fail("postgres: crashed"), LOCK_HERE),
        ("/primary", 503, "start failed", "replica", fail("postgres: start failed"), LOCK_ELSEWHERE),
        ("/primary", 503, "", "replica", fail("postgres: "), LOCK_ELSEWHERE),
        ("/primary", 200, "unknown", "primary", fail("postgres: state unknown"), StateUnknown),
        ("/primary", 503, "unknown", "primary", fail("postgres: state unknown"), WithoutLock),
        ("/primary", 503, "unknown", "replica", fail("postgres: state unknown"), WithoutLock),
        ("/replica", 503, "unknown", "replica", fail("postgres: state unknown"), StateUnknown),
        ("/master", 200, "running", "primary", serve("primary"), LOCK_HERE),
        ("/master", 200, "running", "replica", stand_by("replica, being promoted"), LOCK_HERE),
        ("/standby-leader", 200, "running", "standby_leader", serve("standby leader"), LOCK_HERE),
        // A standby cluster's leader just now, or a primary in a moment: of /leader nothing tells
        // the two apart.
        ("/standby-leader", 200, "running", "replica", stand_by("replica, being promoted"), LOCK_HERE),
        ("/leader", 200, "running", "replica", stand_by("replica, being promoted"), LOCK_HERE),
        ("/leader", 200, "running", "standby_leader", serve("standby leader"), LOCK_HERE),
        ("/standby-leader", 200, "unknown", "replica", fail("postgres: state unknown"), LOCK_HERE),
        ("/leader", 200, "unknown", "replica", fail("postgres: state unknown"), LOCK_HERE),
        ("/standby-leader", 200, "running", "master", stand_by("master"), LOCK_HERE),
        ("/replica", 200, "running", "replica", serve("replica"), NO_MATTER),
        ("/replica", 503, "running", "primary", stand_by("primary"), NO_MATTER),
        ("/replica", 200, "starting", "replica", fail("postgres: starting"), NO_MATTER),
        ("/read-only", 200, "running", "primary", serve("primary"), LOCK_HERE),
        ("/read-only", 503, "running", "primary", without("primary"), WithoutLock),
        ("/read-only", 200, "running", "replica", serve("replica"), LOCK_ELSEWHERE),
        ("/sync", 503, "running", "replica", spare("replica, not sync"), NO_MATTER),
        ("/sync", 503, "running", "primary", stand_by("primary"), NO_MATTER),
        ("/health", 200, "running", "replica", serve("replica"), NO_MATTER),
        ("/health", 503, "stopped", "replica", fail("postgres: stopped"), NO_MATTER),
    ];
    for (endpoint, status, state, role, verdict, evidence) in table {
        let got = judged(endpoint, status, Body::Node(node(state, role)));
        assert_eq!(got, Judgement { verdict, evidence }, "{endpoint} {status} {state} {role}");
    }
}

#[test]
fn where_nobody_holds_the_lock_what_was_before_may_stand() {
    use Evidence::{GrantedInPause, StateUnknown, WithoutLock};
    let unlocked = || Node { cluster_unlocked: true, ..Node::default() };
    let paused = || Node { pause: true, ..unlocked() };
    let known_in_pause = || Node { pause: true, ..Node::default() };
    let without_in_pause = stand_by("primary without the leader lock, paused");
    let in_pause = |looked| Evidence::WithoutLockInPause { looked };
    let failsafe = || Node { failsafe_mode_is_active: true, ..unlocked() };
    let seen = |before: u64| Node { dcs_last_seen: Some(1_000_000 - before), ..unlocked() };
    let seen_in_pause = |before: u64| Node { pause: true, ..seen(before) };
    let nobody = "primary, nobody holds the lock";
    let nobody_in_pause = "primary, nobody holds the lock, paused";
    let untold = stand_by("replica, nobody holds the lock");
    let without = stand_by("primary without the leader lock");
    let unknown = fail("postgres: state unknown");
    let table = [
        ("/primary", 503, "running primary", unlocked(), stand_by(nobody), UNLOCKED),
        ("/primary", 200, "running primary", unlocked(), serve(nobody), LOCK_HERE),
        ("/primary", 200, "running primary", failsafe(), serve(&format!("{nobody}, failsafe")), LOCK_HERE),
        ("/primary", 503, "running primary", failsafe(), stand_by(&format!("{nobody}, failsafe")), UNLOCKED),
        ("/primary", 200, "running primary", paused(), serve(nobody_in_pause), UNLOCKED_IN_PAUSE),
        ("/primary", 503, "running primary", paused(), stand_by(nobody_in_pause), UNLOCKED_IN_PAUSE),
        (
            "/leader",
            200,
            "running standby_leader",
            paused(),
            serve(&nobody_in_pause.replace("primary", "standby leader")),
            UNLOCKED_IN_PAUSE,
        ),
        ("/primary", 200, "running primary", known_in_pause(), serve("primary, paused"), GrantedInPause),
        ("/primary", 503, "running primary", known_in_pause(), without_in_pause.clone(), in_pause(None)),
        (
            "/primary",
            503,
            "running primary",
            Node { dcs_last_seen: Some(7), ..known_in_pause() },
            without_in_pause,
            in_pause(Some(7)),
        ),
        ("/replica", 200, "running replica", known_in_pause(), serve("replica, paused"), NO_MATTER),
        ("/read-only", 503, "running primary", unlocked(), stand_by(nobody), UNLOCKED),
        ("/read-only", 200, "running primary", paused(), serve(nobody_in_pause), UNLOCKED_IN_PAUSE),
        // A look that may be two seconds old says nothing of who has taken the lock since.
        ("/primary", 503, "running primary", seen(0), stand_by(nobody), UNLOCKED),
        ("/primary", 503, "running primary", seen(1), stand_by(nobody), UNLOCKED),
        ("/primary", 503, "running primary", seen(2), without.clone(), LOCK_ELSEWHERE),
        ("/primary", 503, "running primary", seen(1_000_000), stand_by(nobody), UNLOCKED),
        ("/primary", 503, "running primary", seen_in_pause(30), stand_by(nobody_in_pause), UNLOCKED_IN_PAUSE),
        // Only a running Postgres with a leader's role may go on.
        ("/primary", 503, "running replica", unlocked(), untold.clone(), LOCK_ELSEWHERE),
        ("/primary", 503, "starting primary", unlocked(), fail("postgres: starting"), NO_MATTER),
        ("/primary", 200, "starting primary", known_in_pause(), fail("postgres: starting"), NO_MATTER),
        ("/primary", 200, "running replica", paused(), stand_by("replica, nobody holds the lock, paused"), NO_MATTER),
        ("/primary", 503, "starting replica", paused(), fail("postgres: starting"), LOCK_ELSEWHERE),
        ("/primary", 503, "unknown primary", unlocked(), unknown.clone(), StateUnknown),
        ("/primary", 503, "unknown primary", seen(2), unknown.clone(), WithoutLock),
        ("/primary", 503, "unknown demoted", unlocked(), unknown.clone(), WithoutLock),
        ("/primary", 503, "unknown primary", known_in_pause(), unknown.clone(), StateUnknown),
        ("/primary", 200, "unknown replica", Node::default(), unknown.clone(), LOCK_HERE),
        ("/primary", 503, "starting primary", known_in_pause(), fail("postgres: starting"), NO_MATTER),
        ("/primary", 200, "unknown primary", paused(), unknown, StateUnknown),
        ("/replica", 200, "running replica", unlocked(), serve("replica, nobody holds the lock"), NO_MATTER),
        ("/replica", 503, "running primary", paused(), stand_by(nobody_in_pause), NO_MATTER),
    ];
    for (endpoint, status, state_and_role, about, verdict, evidence) in table {
        let (state, role) = state_and_role.split_once(' ').unwrap();
        let patroni = PatroniInfo { version: Some("4.1.5".into()), ..PatroniInfo::default() };
        let node = Node { state: state.into(), role: role.into(), patroni, ..about };
        let got = judged(endpoint, status, Body::Node(node.clone()));
        assert_eq!(got, Judgement { verdict, evidence }, "{endpoint} {status} {node:?}");
    }
}

#[test]
fn an_answer_that_patroni_would_not_send_is_a_failure() {
    let unreadable = || Body::Unreadable("not JSON".into());
    let primary = || Body::Node(node("running", "primary"));
    let table = [
        ("/primary", 200, unreadable(), fail("patroni: not JSON")),
        ("/primary", 503, unreadable(), fail("patroni: not JSON")),
        ("/primary", 200, Body::Empty, fail("patroni: answer cut short")),
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
        let got = judged(endpoint, status, body.clone());
        // Patroni sends head and body in two writes.
        let evidence =
            if status == 200 && endpoint == "/primary" && body == Body::Empty { Evidence::Silence } else { NO_MATTER };
        assert_eq!(got, Judgement { verdict, evidence }, "{endpoint} {status} {body:?}");
    }
}

#[test]
fn silence_is_inconclusive_and_garbage_is_not() {
    let primary = "/primary".parse().unwrap();
    let refused = Failure::NoAnswer(NoAnswer::ConnectionRefused);
    assert_eq!(judge(&primary, &Err(refused)), Judgement::silence("patroni: connection refused".into()));
    let garbage = Failure::BadAnswer("not HTTP".into());
    assert_eq!(judge(&primary, &Err(garbage)), Judgement::conclusive(fail("patroni: not HTTP"), None));
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
        ("/health", Some("1.5.6"), false),
        ("/read-only", Some("1.5.6"), false),
        ("/read-only", Some("1.6.0"), true),
        ("/read-only-synchronous", Some("2.1.4"), false),
        ("/read-only-synchronous", Some("2.1.5"), true),
        ("/read-only-quorum", None, false),
        ("/read-only-sync", Some("nonsense"), false),
        ("/replica?lag=1MB", None, false),
        ("/replica?tag_a=b", None, false),
        // Whatever older ones say to these, it is not 200.
        ("/quorum", None, true),
        ("/health", None, true),
        ("/read-only", Some("nonsense"), true),
        ("/replica", None, true),
    ];
    for (endpoint, version, good) in table {
        let about = PatroniInfo { version: version.map(Into::into), ..PatroniInfo::default() };
        let body = Body::Node(Node { patroni: about, ..node("running", "standby_leader") });
        let verdict = judged(endpoint, 200, body).verdict;
        assert_eq!(matches!(verdict, Verdict::Serve(_)), good, "{endpoint} {version:?}: {verdict:?}");
        assert_eq!(matches!(verdict, Verdict::Fail(_)), !good, "{endpoint} {version:?}: {verdict:?}");
    }
    let about = PatroniInfo { version: Some("3.3.11".into()), ..PatroniInfo::default() };
    let body = Body::Node(Node { patroni: about, ..node("running", "replica") });
    assert_eq!(judged("/quorum", 200, body).verdict, fail("patroni 3.3.11 is too old for /quorum: needs 4.0.0"));
}

#[test]
fn a_probe_with_parameters_is_judged_by_its_status_and_the_version_beside_it() {
    let of = |version: &str| {
        let about = PatroniInfo { version: Some(version.into()), ..PatroniInfo::default() };
        Body::Node(Node { patroni: about, ..node("running", "replica") })
    };
    let with = "/readiness?lag=1024&mode=write";
    let yes = || serve(&format!("patroni says yes to {with}"));
    let table = [
        (with, 200, of("4.1.0"), yes()),
        (with, 200, of("4.0.9"), fail(&format!("patroni 4.0.9 is too old for {with}: needs 4.1.0"))),
        (
            with,
            200,
            Body::Node(node("running", "replica")),
            fail(&format!("patroni (no version) is too old for {with}: needs 4.1.0")),
        ),
        (with, 200, Body::Empty, fail("patroni: answer cut short")),
        (with, 200, Body::Unreadable("not JSON".into()), fail("patroni: not JSON")),
        (with, 503, Body::Empty, fail(&format!("patroni says no to {with}"))),
        ("/readiness", 200, of("4.1.0"), fail("patroni: not a probe's answer")),
    ];
    for (endpoint, status, body, verdict) in table {
        assert_eq!(judged(endpoint, status, body.clone()).verdict, verdict, "{endpoint} {status} {body:?}");
    }
}

#[test]
fn a_state_that_only_one_version_says_for_ever_names_it() {
    let of = |version: &str| {
        let about = PatroniInfo { version: Some(version.into()), ..PatroniInfo::default() };
        judged("/primary", 200, Body::Node(Node { patroni: about, ..node("unknown", "primary") }))
    };
    let named = "postgres: state unknown (a fault of Patroni 3.2.0 if it stays: upgrade or restart Patroni)";
    assert_eq!(of("3.2.0"), Judgement { verdict: fail(named), evidence: Evidence::StateUnknown });
    // Both words before it, and nothing in it that would be replaced or cut off.
    assert!(format!("MAINT DOWN # {named}\n").len() <= 120 && !named.contains([',', '#', '"']));
    for version in ["3.1.2", "3.2.1", "3.2.0.1", "4.1.5"] {
        assert_eq!(of(version).verdict, fail("postgres: state unknown"), "{version}");
    }
}

#[test]
fn the_reason_tells_what_the_node_is() {
    let primary = Node { timeline: Some(3), ..node("running", "primary") };
    assert_eq!(judged("/primary", 200, Body::Node(primary)).verdict, serve("primary timeline 3"));
    let about = || PatroniInfo { version: Some("4.0.6".into()), ..PatroniInfo::default() };
    let primary = Node { patroni: about(), ..node("running", "primary") };
    assert_eq!(judged("/leader", 503, Body::Node(primary)).verdict, stand_by("primary without the leader lock"));
    let streaming = || Node {
        timeline: Some(3),
        replication_state: Some("streaming".into()),
        patroni: about(),
        ..node("running", "replica")
    };
    assert_eq!(judged("/primary", 503, Body::Node(streaming())).verdict, stand_by("replica streaming"));
    let tagged = Node { tags: Tags { noloadbalance: true }, ..streaming() };
    assert_eq!(judged("/replica", 503, Body::Node(tagged)).verdict, spare("replica streaming, tagged noloadbalance"));
    let table = [
        ("/replica", "replica streaming"),
        ("/replica?lag=1kB", "replica streaming, lag over 1kB"),
        ("/read-only?lag=1025", "replica streaming, lag over 1025B"),
        ("/replica?lag=0", "replica streaming, lag over 0B"),
        ("/replica?tag_zone=a", "replica streaming, not tagged zone=a"),
        (
            "/replica?tag_a=1&tag_tag_b=2&lag=16MB",
            "replica streaming, lag over 16MB or not tagged a=1 or not tagged tag_b=2",
        ),
        ("/sync", "replica streaming, not sync"),
        ("/asynchronous?lag=1TB", "replica streaming, not async or lag over 1TB"),
        ("/read-only-synchronous", "replica streaming, not sync"),
        ("/quorum", "replica streaming, not quorum"),
        // Patroni itself says so, once it knows the parameter.
        ("/replica?replication_state=streaming&lag=1MB", "replica streaming, lag over 1MB"),
    ];
    for (endpoint, why) in table {
        let node = Node { patroni: PatroniInfo { version: Some("4.0.6".into()), ..about() }, ..streaming() };
        assert_eq!(judged(endpoint, 503, Body::Node(node)).verdict, spare(why), "{endpoint}");
    }
}

#[test]
fn a_replica_that_must_stream_and_does_not_stands_by() {
    let of = |version: &str| PatroniInfo { version: Some(version.into()), ..PatroniInfo::default() };
    let replica = |state: Option<&str>| Node {
        replication_state: state.map(str::to_owned),
        patroni: of("3.0.4"),
        ..node("running", "replica")
    };
    let primary = |version: &str| Node { patroni: of(version), ..node("running", "primary") };
    let old = Node { patroni: of("3.0.3"), ..replica(Some("streaming")) };
    let too_old =
        |version: &str, endpoint: &str| fail(&format!("patroni {version} is too old for {endpoint}: needs 3.0.4"));
    let (replicas, all) = ("/replica?replication_state=streaming", "/read-only?replication_state=streaming");
    let leading = Node { role: "standby_leader".into(), ..replica(Some("in archive recovery")) };
    let in_recovery = "replica in archive recovery, not streaming";
    let table = [
        (replicas, 200, replica(Some("streaming")), serve("replica streaming")),
        (replicas, 200, replica(Some("in archive recovery")), spare(in_recovery)),
        (replicas, 503, replica(Some("in archive recovery")), spare(in_recovery)),
        (replicas, 200, replica(Some("starting")), spare("replica starting, not streaming")),
        (replicas, 200, replica(None), spare("replica, not streaming")),
        (replicas, 503, primary("4.1.5"), stand_by("primary")),
        (all, 200, replica(None), spare("replica, not streaming")),
        // A leader streams from nobody, or from another cluster.
        (all, 200, primary("4.1.5"), serve("primary")),
        (all, 200, leading, serve("standby leader in archive recovery")),
        (replicas, 200, old, too_old("3.0.3", replicas)),
        (replicas, 200, node("running", "replica"), too_old("(no version)", replicas)),
        (all, 200, primary("3.0.2"), too_old("3.0.2", all)),
        ("/replica", 200, replica(None), serve("replica")),
        (replicas, 200, Node { state: "starting".into(), ..replica(None) }, fail("postgres: starting")),
    ];
    for (endpoint, status, node, verdict) in table {
        let body = Body::Node(node);
        assert_eq!(judged(endpoint, status, body.clone()).verdict, verdict, "{endpoint} {status} {body:?}");
    }
}

#[test]
fn only_a_running_replica_may_keep_its_sessions() {
    let table = [
        ("/replica", "running", "replica", Some(Sessions::MayStay)),
        ("/async", "running", "replica", Some(Sessions::MayStay)),
        ("/replica", "running", "primary", Some(Sessions::Cut)),
        ("/replica", "running", "standby_leader", Some(Sessions::Cut)),
        ("/replica", "running", "demoted", Some(Sessions::Cut)),
        ("/read-only", "running", "primary", Some(Sessions::Cut)),
        ("/primary", "running", "replica", Some(Sessions::Cut)),
        ("/replica", "stopping", "replica", None),
        ("/replica", "unknown", "replica", None),
    ];
    for (endpoint, state, role, sessions) in table {
        let got = match judged(endpoint, 503, Body::Node(node(state, role))).verdict {
            Verdict::StandBy(_, sessions) => Some(sessions),
            _ => None,
        };
        assert_eq!(got, sessions, "{endpoint} {state} {role}");
    }
}

#[test]
fn a_probe_speaks_against_a_node_and_never_for_one() {
    use Evidence::{GrantedInPause, StateUnknown, WithoutLock};
    let of = |verdict, evidence| Judgement { verdict, evidence };
    let silent = || Judgement::silence("patroni: connection refused".into());
    let gone = || Some(Probed::Gone("postgres: connection refused".into()));
    let refused = || Judgement { verdict: fail("postgres: connection refused"), evidence: NO_MATTER };
    let vetoed = [
        of(serve("primary"), LOCK_HERE),
        of(serve("replica streaming"), NO_MATTER),
        of(serve("primary, paused"), GrantedInPause),
        of(fail("postgres: state unknown"), StateUnknown),
        of(stand_by("primary without the leader lock"), WithoutLock),
        of(stand_by("primary, nobody holds the lock"), UNLOCKED),
        silent(),
    ];
    let kept = [
        of(stand_by("replica streaming"), LOCK_ELSEWHERE),
        of(fail("postgres: starting"), LOCK_HERE),
        of(fail("patroni: status 500"), NO_MATTER),
    ];
    for judgement in vetoed.iter() {
        assert_eq!(judgement.clone().after_probe(gone().as_ref()), refused(), "{judgement:?}");
    }
    for judgement in kept.iter() {
        assert_eq!(&judgement.clone().after_probe(gone().as_ref()), judgement);
    }
    for probed in [None, Some(Probed::Answers), Some(Probed::Inconclusive("postgres: no answer to the probe".into()))] {
        for judgement in vetoed.iter().chain(&kept) {
            assert_eq!(&judgement.clone().after_probe(probed.as_ref()), judgement);
        }
    }
}
