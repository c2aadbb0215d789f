//! The rule in a model of a cluster (`tests/model`), for a minute; `make simulate` takes an hour. And the model itself, beside
//! what real Patronis said in the same moments.

#[path = "model/mod.rs"]
mod model;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use model::agent::Rule;
use model::faults::Fault::{self, *};
use model::rest_api::Says;
use model::world::World;
use model::{LEADER, Ms, QUICK, Settings};

#[test]
fn the_rule_holds_and_each_broken_one_is_found() {
    let mut simulate = Command::new(env!("CARGO"));
    // In a debug build it would try a tenth of it.
    simulate.args(["run", "--release", "--quiet", "--locked", "--example", "simulate", "--", "60"]);
    let done = simulate.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).output().unwrap();
    let printed = String::from_utf8_lossy(&done.stdout);
    println!("{printed}");
    assert!(done.status.success(), "{printed}{}", String::from_utf8_lossy(&done.stderr));
    assert!(printed.contains("random, from seed "), "{printed}");
}

/// Status, state, role, and the flags.
type Answer = (u16, String, String, [bool; 3]);

/// What a real Patroni 4.1.5 answered to `/primary` in a moment.
fn recorded(moment: &str) -> BTreeSet<Answer> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/4.1.5.http");
    let text = fs::read_to_string(file).unwrap();
    let title = format!("{moment} /primary\n");
    let answers = text.split("=== ").filter_map(|section| section.strip_prefix(title.as_str()));
    let read = |answer: &str| {
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        let flag = |name: &str| body[name] == true;
        let flags = [flag("pause"), flag("cluster_unlocked"), flag("failsafe_mode_is_active")];
        (status, body["state"].as_str().unwrap().to_owned(), body["role"].as_str().unwrap().to_owned(), flags)
    };
    answers.map(read).collect()
}

/// What the model's answers in a story, whole ones and torn ones, wherever in the round of the loop the first fault comes.
fn modelled(moment: &Moment) -> BTreeSet<Answer> {
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
        let (real, model, moment) = (recorded(moment.name), modelled(&moment), moment.name);
        assert!(!real.is_empty(), "{moment}");
        let missing: Vec<_> = real.difference(&model).collect();
        assert!(missing.is_empty(), "{moment}: the model never says {missing:?}");
        let invented: Vec<_> = model.difference(&real).filter(|answer| !too_short.contains(answer)).collect();
        assert!(invented.is_empty(), "{moment}: the model alone says {invented:?}");
    }
}
