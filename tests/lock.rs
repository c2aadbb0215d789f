//! What HAProxy is told while nobody holds the leader lock: the binary, on a fake Patroni that
//! replays what a real Patroni 4.1.5 said.

use lab::agent::Agent;
use lab::fake_patroni::{Behaviour, FakePatroni, node};

/// What Patroni answered to `/primary` in a moment, in the order in which it came.
fn recorded(moment: &str) -> Vec<Vec<u8>> {
    lab::recorded::answers("4.1.5", moment, "/primary")
}

/// The words of so many checks, each from an observation of its own, on a Patroni that answers in
/// turn.
fn told(patroni: &FakePatroni, agent: &Agent, answers: &[Vec<u8>]) -> Vec<String> {
    let before = patroni.requests().len();
    patroni.now(Behaviour::InTurn(answers.to_vec()));
    let mut lines = Vec::new();
    while patroni.requests().len() < before + answers.len() {
        lines.push(agent.check().trim_end().to_owned());
    }
    lines
}

fn agent(patroni: &FakePatroni) -> Agent {
    // A deadline that no machine is too slow for.
    Agent::listening(&["--patroni", &patroni.url(), "--max-age", "0s", "--deadline", "5s", "--grace", "20s"])
}

#[test]
fn a_primary_that_goes_on_is_ready_all_the_time_and_the_reason_says_why() {
    let table = [
        ("key-deleted", &["nobody holds the lock"][..]),
        ("failsafe", &["failsafe", "nobody holds the lock failsafe"]),
        ("failsafe-back", &["nobody holds the lock failsafe"]),
        ("paused-cut-off", &["paused", "nobody holds the lock paused"]),
        ("paused-back", &["nobody holds the lock paused"]),
    ];
    for (moment, reasons) in table {
        let patroni = FakePatroni::new(node(200, "running", "primary"));
        let agent = agent(&patroni);
        assert_eq!(agent.check(), "READY UP # primary timeline 3\n");
        let lines = told(&patroni, &agent, &recorded(moment));
        for line in &lines {
            assert!(line.starts_with("READY UP # primary timeline "), "{moment}: {line}");
        }
        for reason in reasons {
            assert!(lines.iter().any(|line| line.ends_with(reason)), "{moment}: no {reason:?} in {lines:?}");
        }
    }
}

#[test]
fn of_two_primaries_in_a_pause_the_one_that_never_had_the_lock_stays_out() {
    let patroni = FakePatroni::new(node(503, "running", "replica"));
    let agent = agent(&patroni);
    assert_eq!(agent.check(), "MAINT UP # replica timeline 3\n");
    let answers = recorded("paused-split-new");
    // This one is in it: from before the store was lost, with the status from after it.
    let torn = |answer: &[u8]| {
        let answer = String::from_utf8_lossy(answer);
        answer.starts_with("HTTP/1.0 200") && !answer.contains("cluster_unlocked")
    };
    assert!(answers.iter().any(|answer| torn(answer)));
    for line in told(&patroni, &agent, &answers) {
        assert!(line.starts_with("MAINT UP # primary "), "{line}");
    }
}

#[test]
fn an_answer_that_contradicts_all_before_is_asked_once_more_and_no_check_waits_for_another() {
    let held = || recorded("key-deleted").remove(0);
    let Behaviour::Send(elsewhere) = node(503, "running", "primary") else { unreachable!() };
    let patroni = FakePatroni::new(Behaviour::Send(held()));
    let agent = agent(&patroni);
    assert!(agent.check().starts_with("READY UP"));
    // Torn: the one check takes two requests.
    patroni.now(Behaviour::InTurn(vec![elsewhere.clone(), held()]));
    assert!(agent.check().starts_with("READY UP"));
    assert_eq!(patroni.requests().len(), 3);
    // The lock is with another node: so does this one, and the next takes one.
    patroni.now(Behaviour::Send(elsewhere));
    for requests in [5, 6] {
        assert_eq!(agent.check(), "MAINT UP # primary without the leader lock\n");
        assert_eq!(patroni.requests().len(), requests);
    }
    assert_eq!(patroni.most_in_flight(), 1);
}
