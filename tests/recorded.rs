//! What real Patronis of several versions said, replayed byte for byte: every endpoint on a primary
//! and on a replica, a switchover, and a crash of Postgres.

use std::time::Duration;

use patroni_check::clock::Moment;
use patroni_check::config::Limits;
use patroni_check::endpoint::{Endpoint, Version};
use patroni_check::memory::Memory;
use patroni_check::patroni::{Client, Tls};
use patroni_check::verdict::{Evidence, Judgement, Verdict, judge};

use lab::fake_patroni::{Behaviour, FakePatroni};
use lab::recorded::{self, Section};

/// What the real client and the rule make of an answer.
fn judged(section: &Section) -> Judgement {
    let fake = FakePatroni::new(Behaviour::Send(section.answer.clone()));
    let patroni = Client::new(fake.url().parse().unwrap(), Tls::default(), Duration::from_secs(30)).unwrap();
    let endpoint: Endpoint = section.endpoint.parse().unwrap();
    judge(&endpoint, &patroni.get(&endpoint))
}

/// The same in one word. In brackets: it is inconclusive, and what was known before may stand.
fn replay(section: &Section) -> &'static str {
    let Judgement { verdict, evidence } = judged(section);
    match (evidence, verdict) {
        (Evidence::Conclusive { .. }, Verdict::Serve(_)) => "Serve",
        (Evidence::Conclusive { .. }, Verdict::StandBy(..)) => "StandBy",
        (Evidence::Conclusive { .. }, Verdict::Fail(_)) => "Fail",
        (Evidence::Conclusive { .. }, Verdict::Held(..) | Verdict::Calm(..)) => "Held",
        (Evidence::Silence, _) => "(silence)",
        (Evidence::StateUnknown, _) => "(unknown)",
        (Evidence::WithoutLock | Evidence::WithoutLockInPause { .. }, _) => "(without)",
        (Evidence::GrantedInPause, _) => "(granted)",
        (Evidence::Unlocked { paused: false }, _) => "(unlocked)",
        (Evidence::Unlocked { paused: true }, Verdict::Serve(_)) => "(paused-200)",
        (Evidence::Unlocked { paused: true }, _) => "(paused-503)",
    }
}

/// Endpoint, the first version that means it so, on the primary, on an asynchronous replica.
const HEALTHY: [(&str, Version, &str, &str); 19] = [
    ("/primary", (0, 0, 0), "Serve", "StandBy"),
    ("/master", (0, 0, 0), "Serve", "StandBy"),
    ("/read-write", (1, 6, 0), "Serve", "StandBy"),
    ("/leader", (2, 1, 0), "Serve", "StandBy"),
    ("/standby-leader", (0, 0, 0), "StandBy", "StandBy"),
    ("/replica", (0, 0, 0), "StandBy", "Serve"),
    ("/replica?lag=1048576", (2, 0, 0), "StandBy", "Serve"),
    ("/replica?tag_zone=a", (2, 1, 0), "StandBy", "StandBy"),
    ("/read-only", (1, 6, 0), "Serve", "Serve"),
    ("/sync", (0, 0, 0), "StandBy", "StandBy"),
    ("/synchronous", (0, 0, 0), "StandBy", "StandBy"),
    ("/async", (0, 0, 0), "StandBy", "Serve"),
    ("/asynchronous", (0, 0, 0), "StandBy", "Serve"),
    ("/read-only-sync", (2, 1, 5), "Serve", "StandBy"),
    ("/quorum", (4, 0, 0), "StandBy", "StandBy"),
    ("/read-only-quorum", (4, 0, 0), "Serve", "StandBy"),
    ("/health", (1, 6, 0), "Serve", "Serve"),
    ("/readiness", (2, 0, 0), "Serve", "Serve"),
    ("/liveness", (2, 0, 0), "Serve", "Serve"),
];

#[test]
fn every_endpoint_on_a_healthy_cluster() {
    for (version, sections) in recorded::all() {
        let numbers: Vec<u32> = version.split('.').map(|number| number.parse().unwrap()).collect();
        let is = (numbers[0], numbers[1], numbers[2]);
        for (endpoint, since, on_primary, on_replica) in HEALTHY {
            for (node, verdict) in [("primary", on_primary), ("replica", on_replica)] {
                let section = sections.iter().find(|section| section.node == node && section.endpoint == endpoint);
                let section = section.unwrap_or_else(|| panic!("{version}: no {node} {endpoint}"));
                // An older one means something else by it, mostly 200 for any replica.
                let expected = if is < since { "Fail" } else { verdict };
                assert_eq!(replay(section), expected, "{version}: {node} {endpoint}");
            }
        }
    }
}

/// Where an older Patroni says 200 to what it does not know, or ignores.
const FAIL_OPEN: [(&str, &str); 8] = [
    ("1.6.5", "/replica?lag=1048576"),
    ("1.6.5", "/replica?tag_zone=a"),
    ("1.6.5", "/read-only-sync"),
    ("1.6.5", "/read-only-quorum"),
    ("2.0.2", "/replica?tag_zone=a"),
    ("2.0.2", "/read-only-sync"),
    ("2.1.7", "/read-only-quorum"),
    ("3.3.11", "/read-only-quorum"),
];

#[test]
fn where_an_older_patroni_fails_open_we_do_not() {
    let recorded = recorded::all();
    for (version, endpoint) in FAIL_OPEN {
        let (_, sections) = recorded.iter().find(|(recorded, _)| recorded == version).unwrap();
        let section = sections.iter().find(|section| section.node == "replica" && section.endpoint == endpoint);
        let section = section.unwrap();
        assert!(section.answer.starts_with(b"HTTP/1.0 200 "), "{version} {endpoint} is no trap");
        assert_eq!(replay(section), "Fail", "{version} {endpoint}");
    }
}

#[test]
fn a_switchover_and_a_crash_as_they_went() {
    for (version, sections) in recorded::all() {
        let went = |node: &str| {
            let sections = sections.iter().filter(|section| section.node == node);
            sections.map(replay).collect::<Vec<_>>().join(" ")
        };
        // running, stopping (200!), stopped, starting, a replica
        assert_eq!(went("switchover-old"), "Serve Fail Fail Fail StandBy", "{version}");
        // a replica, one that is being promoted (200!), the primary
        assert_eq!(went("switchover-new"), "StandBy StandBy Serve", "{version}");
        // running, unknown (200!), crashed (200!), starting (200!), and up to 3.0 in recovery
        // meanwhile
        let crash = went("crash");
        // 1.6.5 was not caught crashed.
        assert!(
            ["Serve (unknown) Fail Fail", "Serve (unknown) Fail Fail StandBy", "Serve (unknown) Fail StandBy"]
                .contains(&&*crash),
            "{version}: {crash}"
        );
    }
}

/// What each answer in a moment of the leader lock is by itself: those that must be there, and
/// those that may, because chance tore an answer, or had it that this node or the other one took
/// the key.
const MOMENTS: [(&str, &[&str], &[&str]); 22] = [
    ("key-deleted", &["Serve", "(unlocked)"], &["(without)"]),
    ("failsafe", &["Serve"], &[]),
    ("failsafe-replica", &["StandBy"], &[]),
    ("failsafe-back", &["Serve", "(unlocked)"], &[]),
    ("failsafe-back-restarted", &["Serve"], &[]),
    ("paused", &["Serve", "(granted)"], &[]),
    ("paused-cut-off", &["(granted)", "(paused-200)"], &[]),
    ("paused-cut-off-replica", &["StandBy"], &[]),
    ("paused-back", &["(paused-200)", "(paused-503)", "(granted)"], &[]),
    ("paused-back-restarted", &["(paused-200)", "(granted)"], &[]),
    ("paused-just-started", &["(granted)", "(without)"], &[]),
    ("paused-split-other-holds", &["StandBy", "(without)"], &[]),
    ("paused-split-old", &["(granted)", "(paused-200)"], &[]),
    ("paused-split-new", &["(without)", "(paused-200)"], &["(granted)"]),
    ("paused-split-back-old", &["(paused-200)"], &["(paused-503)", "(without)", "(granted)"]),
    ("paused-split-back-new", &["(paused-200)"], &["(paused-503)", "(without)", "(granted)"]),
    ("just-started", &["Serve", "(without)"], &[]),
    ("just-started-replica", &["StandBy"], &[]),
    ("etcd-gone-demoted", &["Serve", "Fail", "StandBy"], &[]),
    ("etcd-gone-replica", &["StandBy"], &[]),
    ("etcd-back-demoted", &["StandBy", "Serve"], &[]),
    ("overtaken", &["Serve", "(without)"], &["Fail", "StandBy"]),
];

/// In a pause without its store Patroni 2.0 goes by what it has read last, and its body does not
/// tell.
const TELLS_OF_THE_STORE: &str = "2.1";

#[test]
fn the_moments_of_the_leader_lock() {
    for (version, sections) in recorded::all() {
        let is_old = &*version < TELLS_OF_THE_STORE;
        for (moment, must, may) in MOMENTS {
            let answers: Vec<_> = sections
                .iter()
                .filter(|section| section.node == moment && section.endpoint == "/primary")
                .map(replay)
                .collect();
            // 1.6.5 was not recorded, and failsafe mode came with 3.0.
            let is_there = !is_old || !moment.starts_with("paused-") && version != "1.6.5";
            if !is_there || &*version < "3" && moment.starts_with("failsafe") {
                continue;
            }
            for word in must {
                assert!(answers.contains(word), "{version} {moment}: no {word} in {answers:?}");
            }
            for word in &answers {
                assert!(must.contains(word) || may.contains(word), "{version} {moment}: {word} in {answers:?}");
            }
        }
    }
}

/// What HAProxy is told in the course of several moments, one after the other: each new word. In
/// those in brackets Patroni is killed after its first answer, which is also its last one.
fn told(sections: &[Section], moments: &[&str]) -> Vec<&'static str> {
    let ms = Duration::from_millis;
    let limits = Limits { deadline: ms(80), max_age: ms(100), grace: ms(5000) };
    let mut memory = Memory::new(limits);
    let mut now = Moment::default();
    let (mut all, mut words) = (Vec::new(), Vec::new());
    for moment in moments {
        let (name, is_killed) = match moment.strip_prefix('(') {
            Some(name) => (name.trim_end_matches(')'), true),
            None => (*moment, false),
        };
        let in_moment = |section: &&Section| section.node == name && section.endpoint == "/primary";
        let mut answers: Vec<_> = sections.iter().filter(in_moment).map(judged).collect();
        if is_killed {
            answers.insert(1, Judgement::silence("patroni: connection refused".into()));
            answers.push(answers[0].clone());
        }
        all.extend(answers);
    }
    // It stays with the last one.
    all.extend(all.last().cloned());
    for judgement in all {
        now = now + ms(100);
        let judgement = memory.learn(now, now, judgement);
        if !memory.is_recheck_pending() {
            words.push(memory.verdict(now, &judgement).word());
        }
    }
    words.dedup();
    words
}

#[test]
fn who_had_the_lock_goes_on_through_all_of_them() {
    for (version, sections) in recorded::all().into_iter().filter(|(version, _)| &**version >= TELLS_OF_THE_STORE) {
        let goes_on: [&[&str]; 5] = [
            &["key-deleted", "primary"],
            &["failsafe", "failsafe-back", "failsafe-back-restarted"],
            &["paused", "paused-cut-off", "paused-back", "paused-back-restarted", "(paused-just-started)"],
            &["(just-started)"],
            &["paused", "paused-split-old"],
        ];
        for moments in goes_on {
            // Patroni 2 has no failsafe mode.
            let words = told(&sections, &[&["primary"], moments].concat());
            assert_eq!(words, ["serve"], "{version} {moments:?}");
        }
        let stays_out = ["paused-split-other-holds", "paused-split-new"];
        assert_eq!(told(&sections, &stays_out), ["standby"], "{version}");
        // Then chance decides which of the two has the key. No word but the last one is another.
        let has_key = |node: &str| {
            let back = format!("unpaused-split-{node}");
            sections.iter().any(|section| section.node == back && replay(section) == "Serve")
        };
        assert_ne!(has_key("old"), has_key("new"), "{version}");
        let old = told(&sections, &["paused", "paused-split-old", "paused-split-back-old"]);
        assert_eq!(old, if has_key("old") { vec!["serve"] } else { vec!["serve", "standby"] }, "{version}");
        let new = told(&sections, &[stays_out[0], stays_out[1], "paused-split-back-new"]);
        assert_eq!(new, if has_key("new") { vec!["standby", "serve"] } else { vec!["standby"] }, "{version}");
        assert_eq!(told(&sections, &["etcd-gone-demoted"]), ["serve", "fail", "standby"], "{version}");
        let overtaken = told(&sections, &["overtaken"]);
        assert!(overtaken[0] == "serve" && !overtaken[1..].contains(&"serve"), "{version}: {overtaken:?}");
    }
}
