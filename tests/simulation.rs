//! The model of a cluster (`tests/lab/src/model`), beside what real Patronis said in the same
//! moments. The rule in it is `make simulate`, of which `make test` runs a minute: in a debug build
//! it would take ten.

use std::collections::BTreeSet;

use lab::http::Answer;
use lab::model::agent::Rule;
use lab::model::faults::Fault::{self, *};
use lab::model::rest_api::Says;
use lab::model::search::Scenario;
use lab::model::world::World;
use lab::model::{LEADER, Ms, QUICK, Settings};
use lab::recorded;

/// Status, state, role, and the flags.
type Said = (u16, String, String, [bool; 3]);

/// What a real Patroni 4.1.5 answered to `/primary` in a moment.
fn said(moment: &str) -> BTreeSet<Said> {
    let read = |answer: Vec<u8>| {
        let Answer { status, body } = Answer::read(&answer).unwrap();
        let flags = ["pause", "cluster_unlocked", "failsafe_mode_is_active"].map(|name| body[name] == true);
        (status, body["state"].as_str().unwrap().to_owned(), body["role"].as_str().unwrap().to_owned(), flags)
    };
    recorded::answers("4.1.5", moment, "/primary").into_iter().map(read).collect()
}

/// What the model's answers in a story, whole ones and torn ones, wherever in the round of the loop
/// the first fault comes.
fn modelled(moment: &Moment) -> BTreeSet<Said> {
    let Moment { settings, node, faults, from, to, .. } = *moment;
    let mut answers = BTreeSet::new();
    for offset in (0..QUICK.loop_wait).step_by(50) {
        let mut world = World::new(settings, Rule::Real, 0);
        let mut faults = faults.iter().peekable();
        let mut before: Option<Says> = None;
        while world.now < to + offset {
            while let Some((_, fault)) = faults.next_if(|(at, _)| at + offset <= world.now) {
                fault.befall(&mut world);
            }
            // The invariants are not what is asked here.
            let _ = world.step();
            let patroni = &world.patronis[node];
            if world.now < from + offset || !patroni.listens(world.now) || patroni.is_frozen(world.now) {
                before = None;
                continue;
            }
            let says = patroni.says(world.now);
            let torn = before.take().map(|body| body.torn(&says));
            for says in [Some(says.clone()), torn].into_iter().flatten() {
                let flags = [says.pause, says.unlocked, says.failsafe];
                answers.insert((says.status, says.state.to_owned(), says.role.to_owned(), flags));
            }
            before = Some(says);
        }
    }
    answers
}

/// A moment of the recordings, and how the model gets there.
struct Moment<'a> {
    name: &'static str,
    settings: Settings,
    node: usize,
    faults: &'a [(Ms, Fault)],
    from: Ms,
    to: Ms,
}

#[test]
fn the_model_says_what_a_real_patroni_said() {
    let paused = Settings { pause: true, ..QUICK };
    let failsafe = Settings { failsafe: true, ..QUICK };
    let other = LEADER + 1;
    let split = [(3000, PromotedByHand(other)), (6000, StoreFrozen(30_000))];
    let moment = |name, settings, node, faults, from, to| Moment { name, settings, node, faults, from, to };
    let moments = [
        moment("key-deleted", QUICK, LEADER, &[(3000, KeyDeleted)], 2900, 4000),
        moment("failsafe", failsafe, LEADER, &[(3000, StoreFrozen(30_000))], 2900, 32_900),
        moment("failsafe-replica", failsafe, other, &[(3000, StoreFrozen(30_000))], 2900, 32_900),
        moment("failsafe-back", failsafe, LEADER, &[(3000, StoreFrozen(30_000))], 32_900, 37_000),
        moment("paused-cut-off", paused, LEADER, &[(3000, StoreFrozen(30_000))], 2900, 32_900),
        moment("paused-back", paused, LEADER, &[(3000, StoreFrozen(30_000))], 32_900, 36_000),
        moment("paused-split-old", paused, LEADER, &split, 5900, 35_900),
        moment("paused-split-new", paused, other, &split, 5900, 35_900),
        moment("just-started", QUICK, LEADER, &[(3000, PatroniKilled(LEADER, 2000))], 2900, 8000),
        moment("etcd-gone-demoted", QUICK, LEADER, &[(3000, StoreDown(30_000))], 2900, 30_000),
        moment("overtaken", QUICK, LEADER, &[(3000, PatroniFrozen(LEADER, 30_000))], 2900, 40_000),
    ];
    // Torn, or over too soon to be recorded.
    let too_short = [
        (200, "running", "primary", [false, true, false]),
        (503, "running", "primary", [false, true, false]),
        (503, "stopping", "primary", [false, true, false]),
        (503, "stopped", "demoted", [false, true, false]),
    ];
    let too_short = too_short.map(|(status, state, role, flags)| (status, state.to_owned(), role.to_owned(), flags));
    for moment in moments {
        let (real, model, moment) = (said(moment.name), modelled(&moment), moment.name);
        let missing: Vec<_> = real.difference(&model).collect();
        assert!(missing.is_empty(), "{moment}: the model never says {missing:?}");
        let invented: Vec<_> = model.difference(&real).filter(|answer| !too_short.contains(answer)).collect();
        assert!(invented.is_empty(), "{moment}: the model alone says {invented:?}");
    }
}

/// The key is deleted, and within the moment in which the primary would take it again its host is
/// cut off. Another node has the lock two seconds later.
#[test]
fn a_lock_that_was_lost_before_a_cut_is_not_believed_in_until_another_node_is_up() {
    let another = LEADER + 1;
    for second in (23_500..24_500).step_by(100) {
        let faults = vec![
            (4310, MembersCut(LEADER, another, 30_000)),
            (second, KeyDeleted),
            (second + 10, StoreCut(LEADER, 30_000)),
        ];
        let scenario = Scenario { settings: QUICK, phase: 0, faults };
        scenario.run(Rule::Real).unwrap_or_else(|broken| panic!("{scenario}: {broken}"));
    }
}
