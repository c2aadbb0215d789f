//! The short faults run: a switchover, a crash of Postgres, a lost lock, a paused cluster with two
//! primaries, and a promotion after a boot, on the real cluster. The order of things, no two READY,
//! no session cut, in both modes; the times are `make faults`'s. And what becomes of readers' open
//! sessions.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use lab::agent::binary_path;
use lab::process_guard::{self, Network};
use lab::requires;

/// patroni-check's, each asked beside the other.
const MODES: [&str; 2] = ["service", "each check"];

/// A track of the report as (milliseconds, on).
fn track(value: &Value) -> Vec<(u64, bool)> {
    let changes = value.as_array().unwrap().iter();
    let mut track: Vec<_> =
        changes.map(|change| (change[0].as_u64().unwrap(), change[1].as_u64().unwrap() > 0)).collect();
    // From timeline to timeline is no change here.
    track.dedup_by_key(|(_, on)| *on);
    track
}

/// Two clusters at once are too much for two cores.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const NEEDS: [&str; 6] = ["patroni", "etcd", "haproxy", "postgresql", "setpriv", "systemd-socket-activate"];

#[test]
fn the_short_faults() {
    if !requires(&NEEDS) {
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults");
    let arguments = || {
        let what = ["patroni", "switchover", "postgres-killed", "key-deleted", "paused-split", "promotion-after-boot"];
        [binary_path().into(), out.clone().into()].into_iter().chain(what.map(OsString::from)).collect()
    };
    process_guard::run_test("the_short_faults", Network::Own, arguments, lab::faults::run);
    assert!(std::fs::read_to_string(out.join("switchover.svg")).unwrap().ends_with("</svg>\n"));
    assert!(std::fs::read_to_string(out.join("faults.md")).unwrap().contains("| planned switchover |"));
    let report = std::fs::read_to_string(out.join("faults.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let [switchover, crash, key_deleted, split, promotion] = report["faults"].as_array().unwrap().as_slice() else {
        panic!("{report}")
    };
    for fault in [switchover, crash, key_deleted, promotion] {
        for mode in MODES {
            assert_eq!(fault["two READY ms"][mode], 0, "{mode}: {fault}");
        }
    }

    let (old, new) = (switchover["primary before"].as_str().unwrap(), switchover["primary after"].as_str().unwrap());
    assert_ne!(old, new);
    for mode in MODES {
        for (name, node) in switchover["nodes"].as_object().unwrap() {
            let (fit, ready) = (track(&node["fit"]), track(&node["ready"][mode]));
            let on_off = |track: &[(u64, bool)]| track.iter().map(|(_, on)| *on).collect::<Vec<_>>();
            let wanted: &[bool] = match name {
                name if name == old => &[true, false],
                name if name == new => &[true],
                _ => &[],
            };
            assert_eq!((on_off(&fit), on_off(&ready)), (wanted.to_vec(), wanted.to_vec()), "{mode}, {name}: {node}");
        }
        let said = |name: &str| track(&switchover["nodes"][name]["ready"][mode]);
        assert!(
            said(old)[1].0 < said(new)[0].0,
            "{mode}: the new one was READY before the old one was not: {switchover}"
        );
    }

    // Patroni starts Postgres again in place; the word follows.
    let (old, new) = (crash["primary before"].as_str().unwrap(), crash["primary after"].as_str().unwrap());
    assert_eq!(old, new);
    for (name, node) in crash["nodes"].as_object().unwrap() {
        for mode in MODES {
            let said = track(&node["ready"][mode]);
            match name {
                name if name == old => {
                    assert!(said.iter().any(|(_, on)| !on), "{mode}: a crashed Postgres was READY: {crash}");
                    assert!(said.last().unwrap().1, "{mode}: never READY again: {crash}");
                }
                name => assert_eq!(said, [], "{mode}, {name}: {crash}"),
            }
        }
    }

    let none_is_cut = |fault: &Value| {
        for backend in ["recommended", "each_check"] {
            assert_eq!(fault["sessions cut"][backend], 0, "{backend}: {fault}");
        }
    };
    assert_eq!(key_deleted["primary before"], key_deleted["primary after"]);
    none_is_cut(key_deleted);
    // Chance decides which of the two has the key in the end.
    if split["primary before"] == split["primary after"] {
        none_is_cut(split);
    }
    for mode in MODES {
        let first = promotion["first word after promotion"][mode].as_str().unwrap();
        assert!(first.starts_with("READY UP"), "{mode}: {first}");
    }
}

/// What came of it through one backend.
struct Seen<'a>(&'a Value);

impl Seen<'_> {
    /// How often the replica's status changed, if it was nothing but UP and this.
    fn changes(&self, status: &str) -> usize {
        let statuses = self.0["statuses"].as_array().unwrap();
        assert!(statuses.iter().all(|is| is == "UP" || is == status), "{}", self.0);
        statuses.len() - 1
    }

    /// Whether all of the replica's open sessions were still there, or none. Nothing may befall those
    /// of other replicas.
    fn kept(&self) -> bool {
        assert_eq!(self.0["kept elsewhere"], self.0["of elsewhere"], "{}", self.0);
        assert!(self.0["kept"] == 0 || self.0["kept"] == self.0["of"], "{}", self.0);
        self.0["kept"] != 0
    }

    fn number(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap()
    }
}

#[test]
fn what_becomes_of_open_sessions() {
    if !requires(&NEEDS) {
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sessions");
    let arguments = || {
        let what = ["patroni", "replica-lags", "replica-promoted", "replica-held", "replica-flaps"];
        [binary_path().into(), out.clone().into()].into_iter().chain(what.map(OsString::from)).collect()
    };
    process_guard::run_test("what_becomes_of_open_sessions", Network::Own, arguments, lab::faults::run);
    let report = std::fs::read_to_string(out.join("faults.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let results = report["sessions"].as_array().unwrap().iter();
    let results: Vec<Vec<_>> =
        results.map(|result| result["backends"].as_array().unwrap().iter().map(Seen).collect()).collect();
    let [lags, promoted, held, flaps] = results.as_slice() else { panic!("{report}") };

    let [plain, maint, drain] = lags.as_slice() else { panic!("{report}") };
    assert_eq!((plain.changes("UP"), plain.kept(), plain.number("new") > 0), (0, true, true));
    assert_eq!((maint.changes("MAINT"), maint.kept(), maint.number("new")), (2, false, 0));
    assert_eq!((drain.changes("DRAIN (agent)"), drain.kept(), drain.number("new")), (2, true, 0));

    // A session that stays on what is the primary now is what `on-marked-down` is there for.
    let [without, with] = promoted.as_slice() else { panic!("{report}") };
    assert_eq!((without.changes("MAINT"), without.kept(), without.number("new")), (1, true, 0));
    assert_eq!((with.changes("MAINT"), with.kept(), with.number("new")), (1, false, 0));

    let [at_once, gently] = held.as_slice() else { panic!("{report}") };
    assert_eq!((at_once.changes("MAINT"), at_once.kept(), at_once.number("new")), (2, false, 0));
    assert_ne!(at_once.number("errors"), 0, "no client was at work");
    assert_eq!((gently.changes("DRAIN (agent)"), gently.kept(), gently.number("new")), (2, true, 0));
    assert_eq!(gently.number("errors"), 0);

    let [at_once, drain, calm, both] = flaps.as_slice() else { panic!("{report}") };
    assert_eq!((at_once.changes("MAINT") >= 10, at_once.kept(), at_once.number("errors") > 0), (true, false, true));
    assert_eq!((drain.changes("DRAIN (agent)") >= 10, drain.kept(), drain.number("errors")), (true, true, 0));
    assert_eq!((calm.changes("MAINT"), calm.kept()), (2, false));
    assert_eq!((both.changes("DRAIN (agent)"), both.kept(), both.number("errors")), (2, true, 0));
}
