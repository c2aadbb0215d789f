//! `make simulate`: the rule in a model of a cluster, under every combination of up to three faults
//! on a grid of times, then under random ones until the time is over. First the rule is broken on
//! purpose, which must be found. `simulate SECONDS [SEED]`; `simulate tell SEED` tells one story.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use lab::model::agent::{BROKEN, Rule};
use lab::model::search::{Found, Scenario, grid, grid_size, random, search};

/// A broken rule is found in seconds; a slow machine takes longer.
const FOUND_WITHIN: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &String| text.parse::<u64>().expect("a number");
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tell", seed] => {
            tell(&random(seed.parse().expect("a seed")), Rule::Real);
            ExitCode::SUCCESS
        }
        [_] | [_, _] => simulate(number(&arguments[0]), arguments.get(1).map_or(1, number)),
        _ => {
            eprintln!("usage: simulate SECONDS [SEED] | simulate tell SEED");
            ExitCode::FAILURE
        }
    }
}

fn simulate(seconds: u64, seed: u64) -> ExitCode {
    let mut is_good = true;
    let (pairs, triples) = grid_size();
    println!("broken on purpose:");
    for rule in BROKEN {
        let found = search(rule, grid(pairs), FOUND_WITHIN);
        match found.violations.values().next() {
            Some((_, scenario, violation)) => {
                println!("  {rule:?}: found in run {}: {scenario}\n    {violation}", found.runs);
            }
            None => {
                println!("  {rule:?}: NOT FOUND in {} runs", found.runs);
                is_good = false;
            }
        }
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let left = || end.saturating_duration_since(Instant::now());
    // Each of the two gets its share.
    let on_grid = search(Rule::Real, grid(triples), left() * 7 / 10);
    is_good &= report(&format!("up to three faults, {} of {triples} combinations", on_grid.runs), &on_grid);
    let seeds = (seed..).map(random);
    is_good &= report(&format!("random, from seed {seed}"), &search(Rule::Real, seeds, left()));
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(what: &str, found: &Found) -> bool {
    println!("{what}: {} runs, two READY without an excuse for {} ms at most", found.runs, found.longest_double);
    for (kind, (count, scenario, violation)) in &found.violations {
        println!("{kind:?}, {count} times; the first: {scenario}\n  {violation}");
        tell(scenario, Rule::Real);
    }
    found.violations.is_empty()
}

fn tell(scenario: &Scenario, rule: Rule) {
    let (result, story) = scenario.tell(rule);
    println!("{scenario}");
    story.iter().for_each(|line| println!("  {line}"));
    println!("  {}", result.map_or_else(|broken| broken.to_string(), |_| "all held".into()));
}
