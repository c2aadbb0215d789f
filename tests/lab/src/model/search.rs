//! Tries what there is to try: every combination of up to three faults on a grid of times, then
//! random ones.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::agent::Rule;
use super::faults::{Fault, all, few};
use super::invariants::{Kind, Violation};
use super::world::World;
use super::{DEFAULTS, Ms, QUICK, Settings};

/// By then everybody has been asked, and each loop has gone round.
const FIRST: Ms = 3000;
/// The longest that a fault lasts, and what comes of it.
const AFTER: Ms = 45_000;

/// When the first fault comes: while the leader's loop sleeps; and about its round, which begins at
/// 4300 where `loop_wait` is 2 s and at 10,300 where it is 10 s, looks at the store, and then
/// renews its lock.
const BEGIN: [Ms; 6] = [FIRST, 4280, 4310, 4330, 10_310, 10_330];

/// From one fault to the next: at once, within the moment in which the lock is lost and taken,
/// within the grace, beyond it, around the end of the lease.
const GAPS: [Ms; 9] = [0, 40, 150, 700, 2500, 5200, 10_000, 17_900, 21_000];
const FEW_GAPS: [Ms; 4] = [40, 700, 5200, 19_900];

/// What is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    pub settings: Settings,
    /// Of the HAProxies' checks.
    pub phase: Ms,
    pub faults: Vec<(Ms, Fault)>,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { ttl, failsafe, pause, .. } = self.settings;
        write!(f, "ttl {ttl}{}{}", if failsafe { ", failsafe" } else { "" }, if pause { ", paused" } else { "" })?;
        self.faults.iter().try_for_each(|(at, fault)| write!(f, "; {at}: {fault}"))
    }
}

impl Scenario {
    /// Runs it to its end, or until an invariant is broken. Gives the longest time with two READY.
    pub fn run(&self, rule: Rule) -> Result<Ms, Violation> {
        self.run_in(&mut World::new(self.settings, rule, self.phase))
    }

    /// The same, with all that happened in words.
    pub fn tell(&self, rule: Rule) -> (Result<Ms, Violation>, Vec<String>) {
        let mut world = World::new(self.settings, rule, self.phase);
        world.trace = Some(Vec::new());
        let result = self.run_in(&mut world);
        (result, world.trace.unwrap_or_default())
    }

    fn run_in(&self, world: &mut World) -> Result<Ms, Violation> {
        let mut faults = self.faults.iter().peekable();
        let end = self.faults.last().map_or(FIRST, |(at, _)| *at) + AFTER;
        while world.now < end {
            while let Some((at, fault)) = faults.next_if(|(at, _)| *at <= world.now) {
                world.note(|| format!("{at:>7} {fault}"));
                fault.befall(world);
            }
            world.step()?;
        }
        Ok(world.invariants.longest_double)
    }
}

/// The clusters that are tried.
fn settings() -> [Settings; 4] {
    [QUICK, Settings { pause: true, ..QUICK }, Settings { failsafe: true, ..QUICK }, DEFAULTS]
}

/// How many combinations there are of one fault, of two, and of three of the few.
pub fn grid_size() -> (usize, usize) {
    let (all, few, clusters) = (all().len(), few().len(), settings().len() * BEGIN.len());
    let pairs = clusters * all * (1 + GAPS.len() * all);
    (pairs, pairs + clusters * few.pow(3) * FEW_GAPS.len().pow(2))
}

/// The first so many combinations, in an order in which each part of the grid has its turn soon.
pub fn grid(size: usize) -> impl Iterator<Item = Scenario> {
    // A prime that does not divide any size.
    (0..size).map(move |number| combination(number * 7_368_787 % size))
}

/// Takes one of so many choices off a number that stands for several.
fn choose(rest: &mut usize, from: usize) -> usize {
    let chosen = *rest % from;
    *rest /= from;
    chosen
}

/// One combination of the grid.
fn combination(number: usize) -> Scenario {
    let (all, few, settings) = (all(), few(), settings());
    let mut rest = number;
    let (pairs, _) = grid_size();
    let setting = |number| settings[number];
    if number < pairs {
        let (cluster, first) = (setting(choose(&mut rest, settings.len())), BEGIN[choose(&mut rest, BEGIN.len())]);
        let one = (first, all[choose(&mut rest, all.len())]);
        let faults = match choose(&mut rest, 1 + GAPS.len() * all.len()) {
            0 => vec![one],
            two => vec![one, (first + GAPS[(two - 1) % GAPS.len()], all[(two - 1) / GAPS.len()])],
        };
        return Scenario { settings: cluster, phase: 0, faults };
    }
    rest = number - pairs;
    let cluster = setting(choose(&mut rest, settings.len()));
    let mut at = BEGIN[choose(&mut rest, BEGIN.len())];
    let mut faults = Vec::new();
    for _ in 0..3 {
        faults.push((at, few[choose(&mut rest, few.len())]));
        at += FEW_GAPS[if faults.len() < 3 { choose(&mut rest, FEW_GAPS.len()) } else { 0 }];
    }
    Scenario { settings: cluster, phase: 0, faults }
}

/// Three faults at any time.
pub fn random(seed: u64) -> Scenario {
    let mut random = fastrand::Rng::with_seed(seed);
    let known = all();
    let mut faults: Vec<(Ms, Fault)> = (0..random.usize(1..=3))
        .map(|_| (FIRST + random.u64(0..2500) * 10, known[random.usize(0..known.len())]))
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    let settings = settings()[random.usize(0..4)];
    Scenario { settings, phase: random.u64(0..25) * 10, faults }
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Found {
    pub runs: usize,
    pub longest_double: Ms,
    /// The first of each kind, and how many there were.
    pub violations: BTreeMap<Kind, (usize, Scenario, Violation)>,
}

/// Tries scenarios on all cores until they, or the time, are over; with a broken rule, until that
/// is found out.
pub fn search(rule: Rule, scenarios: impl Iterator<Item = Scenario> + Send, limit: Duration) -> Found {
    let (start, scenarios, found) = (Instant::now(), Mutex::new(scenarios), Mutex::new(Found::default()));
    let runs = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let is_found = || rule != Rule::Real && !found.lock().expect("no panic").violations.is_empty();
                while start.elapsed() < limit && !is_found() {
                    let batch: Vec<Scenario> = scenarios.lock().expect("no panic").by_ref().take(16).collect();
                    if batch.is_empty() {
                        return;
                    }
                    for scenario in batch {
                        let result = scenario.run(rule);
                        runs.fetch_add(1, Ordering::Relaxed);
                        let mut found = found.lock().expect("no panic");
                        match result {
                            Ok(double) => found.longest_double = found.longest_double.max(double),
                            Err(violation) => {
                                let entry = found.violations.entry(violation.kind);
                                entry.or_insert((0, scenario, violation)).0 += 1;
                            }
                        }
                    }
                }
            });
        }
    });
    Found { runs: runs.into_inner(), ..found.into_inner().expect("no panic") }
}
