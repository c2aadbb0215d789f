//! A long run on a booted Debian: clients check all the while that the service is restarted again
//! and again and a Patroni changes its role at random. No check is lost, each reply was true just
//! before it was asked for or since, and the program needs no more in the end than in the
//! beginning.
//!
//! `make test` runs a short one, `make soak` the long one: `SOAK_CHECKS` and `SOAK_RESTARTS`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use lab::agent::check;
use lab::fake_patroni::{FakePatroni, primary, replica};
use lab::machine::Machine;
use lab::{await_that, process};

/// The default of `--max-age`.
const MAX_AGE: Duration = Duration::from_millis(100);

const PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5555);
const CLIENTS: usize = 8;

mod a_long_run {
    use super::{Machine, run};
    #[test]
    fn bookworm() {
        if let Some(machine) = Machine::with_agent("bookworm") {
            run(&machine);
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Who Patroni said it was: since when, from just before it began to say so until it surely did.
struct History(Mutex<Vec<(Instant, Instant, bool)>>);

impl History {
    fn change(&self, patroni: &FakePatroni, is_primary: bool) {
        let mut changes = self.0.lock().unwrap();
        let before = Instant::now();
        patroni.now(if is_primary { primary() } else { replica() });
        changes.push((before, Instant::now(), is_primary));
    }

    /// Whether it could be heard at some time between these.
    fn said(&self, is_primary: bool, from: Instant, to: Instant) -> bool {
        let changes = self.0.lock().unwrap();
        let mut end = to;
        for (before, surely, said) in changes.iter().rev() {
            if end < from {
                break;
            }
            if *said == is_primary && *before <= to {
                return true;
            }
            end = *surely;
        }
        false
    }
}

/// Resident memory in kB, and descriptors, of the service's process.
fn footprint(machine: &Machine) -> (u64, usize) {
    let id = machine.sh("systemctl show -P MainPID patroni-check.service");
    let status = fs::read_to_string(machine.path(&format!("/proc/{id}/status"))).unwrap();
    (
        process::status_field(&status, "VmRSS").unwrap(),
        fs::read_dir(machine.path(&format!("/proc/{id}/fd"))).unwrap().count(),
    )
}

fn median(values: &[u64]) -> u64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    values[values.len() / 2]
}

fn run(machine: &Machine) {
    let (checks, restarts) = (number("SOAK_CHECKS", 20_000), number("SOAK_RESTARTS", 20));
    // The grace lets an older word stand, when a machine is too slow for the usual deadline.
    fs::write(machine.path("/etc/default/patroni-check"), "PATRONI_CHECK_DEADLINE=5s\n").unwrap();
    machine.sh("systemctl restart patroni-check.service");
    let patroni = machine.inside(|| FakePatroni::at("127.0.0.1:8008", replica()));
    let history = History(Mutex::default());
    history.change(&patroni, true);
    // The connection to the journal is opened for the first change of verdict, and kept.
    machine.inside(|| check(PORT));
    let (_, idle) = footprint(machine);
    let seed = fastrand::u64(..);
    println!("{checks} checks, {restarts} restarts, seed {seed}");
    let (made, done, pause) = (AtomicU64::new(0), AtomicBool::new(false), RwLock::new(()));
    let (ready, lost, untrue) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(Vec::new()));
    let client = || {
        while !done.load(Ordering::Relaxed) {
            let _busy = pause.read().unwrap();
            let from = Instant::now() - MAX_AGE;
            let reply = std::panic::catch_unwind(|| check(PORT));
            let to = Instant::now();
            made.fetch_add(1, Ordering::Relaxed);
            match reply.as_deref() {
                Ok(said @ ("READY UP # primary timeline 3\n" | "MAINT UP # replica timeline 3\n")) => {
                    let is_primary = said.starts_with("READY");
                    ready.fetch_add(u64::from(is_primary), Ordering::Relaxed);
                    if !history.said(is_primary, from, to) {
                        untrue.lock().unwrap().push(to - from);
                    }
                }
                other => {
                    println!("lost: {other:?}");
                    lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    };
    let fickle = || {
        let (mut random, mut is_primary) = (fastrand::Rng::with_seed(seed), true);
        while !done.load(Ordering::Relaxed) {
            is_primary = !is_primary;
            history.change(&patroni, is_primary);
            thread::sleep(Duration::from_millis(random.u64(1..300)));
        }
    };
    let mut footprints = Vec::new();
    machine.inside(|| {
        thread::scope(|scope| {
            (0..CLIENTS).for_each(|_| _ = scope.spawn(client));
            scope.spawn(fickle);
            // Without this the clients would go on for ever when something fails.
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for restart in 1..=restarts {
                    await_that("the next checks", || made.load(Ordering::Relaxed) >= checks * restart / restarts);
                    let quiet = pause.write().unwrap();
                    await_that("descriptors that are given back", || footprint(machine).1 <= idle);
                    footprints.push(footprint(machine).0);
                    drop(quiet);
                    machine.sh("systemctl restart patroni-check.service");
                }
            }));
            done.store(true, Ordering::Relaxed);
            worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    });
    let (made, ready, lost, untrue) =
        (made.into_inner(), ready.into_inner(), lost.into_inner(), untrue.into_inner().unwrap());
    println!("{made} checks, {ready} READY, {} changes of role, {lost} lost", history.0.lock().unwrap().len());
    println!("{} untrue; {} requests to Patroni", untrue.len(), patroni.requests().len());
    let tenth = footprints.len().div_ceil(10);
    let (first, last) = (median(&footprints[..tenth]), median(&footprints[footprints.len() - tenth..]));
    let peak = footprints.iter().max().unwrap();
    println!("{idle} descriptors after each life; {first} kB in the first tenth, {last} in the last, {peak} at most");
    assert!(made >= checks);
    // Two while one process follows another.
    assert!(patroni.most_in_flight() <= 2);
    assert_eq!((lost, untrue.len()), (0, 0));
    // Neither word is there by a default.
    assert!(ready > made / 20 && ready < made - made / 20);
    assert!(last <= first * 5 / 4);
}
