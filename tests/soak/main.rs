//! A month in an hour: clients check all the while that everything happens which happens to a
//! service, at random from one seed. No check is lost, none is told anything untrue, and the
//! program needs no more in the end than in the beginning.
//!
//! `events.rs` says what happens, `place.rs` where, `client.rs` and `hostile.rs` who comes meanwhile.
//! `oracle.rs` says what each reply may have been, by what Patroni said (`acts.rs`) and the rule's
//! table in `rule.rs`, which is written anew.
//!
//! `make test` runs a short one, `make soak` the long one. `SOAK_CHECKS` and `SOAK_EACH_CHECKS` say
//! how many checks, `SOAK_SEED` which events.

mod acts;
mod client;
mod events;
mod hostile;
mod oracle;
mod place;
mod rule;
mod run;

use fastrand::Rng;
use lab::machine::Machine;
use lab::requires;

use place::{Bare, Booted, Mode, Place};
use run::{Run, answers};

#[test]
fn a_booted_debian() {
    let Some(machine) = Machine::with_agent("bookworm") else { return };
    for (mode, checks) in [(Mode::Service, "SOAK_CHECKS"), (Mode::EachCheck, "SOAK_EACH_CHECKS")] {
        machine.inside(|| run(&Booted { machine: &machine, mode }, number(checks, 1)));
    }
}

#[test]
fn this_machine() {
    if !requires(&["systemd-socket-activate", "target/release/patroni-check"]) {
        return;
    }
    for (mode, checks) in [(Mode::Service, "SOAK_BARE_CHECKS"), (Mode::EachCheck, "SOAK_BARE_EACH_CHECKS")] {
        run(&Bare::new(mode, &[], false), number(checks, 1));
    }
}

/// As many checks at least; none at all without one.
fn run(place: &dyn Place, checks: u64) {
    if checks > 0 {
        Run::new(place, seed()).until(checks).approve();
    }
}

/// Programs that are broken on purpose, or one in `SOAK_PROGRAM`: the oracle finds out.
#[test]
fn what_is_broken_is_found() {
    if !requires(&["target/release/patroni-check"]) {
        return;
    }
    // A short chapter, in which the service is restarted in a silence.
    const SEED: u64 = 37_873;
    const BROKEN: [(&[&str], bool); 3] = [(&["--grace", "1s"], false), (&["--max-age", "1s"], false), (&[], true)];
    for (options, is_forgetful) in BROKEN {
        let place = Bare::new(Mode::Service, options, is_forgetful);
        let mut run = Run::new(&place, SEED);
        run.chapter();
        println!("{options:?}, forgetful: {is_forgetful}: {} untrue of {}", run.untrue.len(), run.made);
        assert!(!run.untrue.is_empty());
    }
}

/// What happens by a seed, for whoever wants to read it.
#[test]
#[ignore = "it tries nothing"]
fn story() {
    for event in events::chapter(&mut Rng::with_seed(seed()), &answers()) {
        println!("{event:?}");
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// The short run does the same each time, and `make soak` something else each time.
fn seed() -> u64 {
    number("SOAK_SEED", 7)
}
