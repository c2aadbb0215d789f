//! One run: chapter by chapter the events happen while clients check, and then each reply is judged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use lab::certificates::Authority;
use lab::fake_patroni::{Behaviour, FakePatroni};
use lab::tls_proxy::TlsProxy;
use lab::{await_that, recorded};
use rustls::ALL_VERSIONS;

use crate::acts::Span;
use crate::client::{Check, ask, checks};
use crate::events::{self, Event, PRIMARY, Saying, Silence};
use crate::oracle::{Hold, Oracle};
use crate::place::{Mode, Place};

/// One run, and what was seen.
pub struct Run<'a> {
    place: &'a dyn Place,
    random: Rng,
    recorded: Vec<String>,
    patroni: FakePatroni,
    tls: TlsProxy,
    authority: Authority,
    is_refusing: bool,
    /// The number of the newest saying.
    number: u32,
    hostile: Vec<JoinHandle<()>>,
    oracle: Oracle,
    start: Instant,
    chapters: u64,
    pub made: u64,
    /// By their first words.
    replies: BTreeMap<String, u64>,
    happened: BTreeMap<&'static str, u64>,
    lost: Vec<String>,
    /// Those in the hand of a process that was killed.
    cut_off: u64,
    pub untrue: Vec<String>,
    idle: usize,
    footprints: Vec<u64>,
}

impl<'a> Run<'a> {
    pub fn new(place: &'a dyn Place, seed: u64) -> Self {
        println!("{:?}: SOAK_SEED={seed}", place.mode());
        let authority = Authority::new("soak");
        let patroni = FakePatroni::new(Behaviour::Close);
        let issued = authority.sign("patroni", &["localhost"], |_| {});
        let tls = TlsProxy::new(patroni.address, &issued.certificate, &issued.key, ALL_VERSIONS, Duration::ZERO);
        place.start(&tls.url("localhost"), &authority.pem());
        let mut run = Run {
            place,
            random: Rng::with_seed(seed),
            recorded: answers(),
            patroni,
            tls,
            authority,
            is_refusing: false,
            number: 100_000,
            hostile: Vec::new(),
            oracle: Oracle::new(place.deadline()),
            start: Instant::now(),
            chapters: 0,
            made: 0,
            replies: BTreeMap::new(),
            happened: BTreeMap::new(),
            lost: Vec::new(),
            cut_off: 0,
            untrue: Vec::new(),
            idle: 0,
            footprints: Vec::new(),
        };
        run.says(&PRIMARY);
        await_that("READY", || ask(place.address(), false).is_ok_and(|reply| reply.starts_with("READY UP")));
        if place.mode() == Mode::Service {
            // The connection to the journal is opened for the first change of verdict, and kept.
            run.idle = place.footprint().1;
        }
        run
    }

    pub fn until(mut self, checks: u64) -> Self {
        while self.made < checks && self.untrue.is_empty() {
            self.chapter();
        }
        self
    }

    /// Some events while clients check, and then a look at what came of it.
    pub fn chapter(&mut self) {
        let events = events::chapter(&mut self.random, &self.recorded);
        let (place, done) = (self.place, AtomicBool::new(false));
        let checks = thread::scope(|scope| {
            let clients: Vec<_> = (0..place.clients())
                .map(|client| {
                    scope.spawn({
                        let done = &done;
                        move || checks(place, client, done)
                    })
                })
                .collect();
            // Without this the clients would go on for ever when something fails.
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                events.iter().for_each(|event| self.perform(event));
            }));
            done.store(true, Ordering::Relaxed);
            let checks: Vec<Check> = clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
            worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            checks
        });
        self.hostile.drain(..).for_each(|crowd| crowd.join().expect("hostile clients"));
        self.untrue.extend(self.oracle.judge(&checks));
        self.count(&checks);
        if place.mode() == Mode::Service {
            let idle = self.idle;
            await_that("descriptors that are given back", || place.footprint().1 <= idle);
            self.footprints.push(place.footprint().0);
        }
    }

    fn count(&mut self, checks: &[Check]) {
        self.chapters += 1;
        self.made += checks.len() as u64;
        for check in checks {
            match &check.reply {
                Ok(reply) => {
                    let words = reply.split(" #").next().unwrap_or_default();
                    *self.replies.entry(words.to_owned()).or_default() += 1;
                }
                Err(_) if self.oracle.may_be_lost(check) => self.cut_off += 1,
                Err(why) => self.lost.push(format!("{why} after {:?}", check.ended - check.began)),
            }
        }
    }

    fn perform(&mut self, event: &Event) {
        let place = self.place;
        let name = match event {
            Event::Says(saying, time) => {
                self.says(saying);
                thread::sleep(*time);
                saying.kind()
            }
            Event::Hold { drain, seconds } => {
                self.number += 1;
                let number = self.number.to_string();
                let time = seconds.map(|seconds| format!("{seconds}s"));
                let mut arguments = vec!["hold"];
                arguments.extend(drain.then_some("--drain"));
                arguments.extend(drain.then_some("--force"));
                arguments.extend(time.iter().flat_map(|time| ["--for", time]));
                arguments.push(&number);
                let (span, ()) = Span::of(|| place.command(&arguments));
                let time = seconds.map(Duration::from_secs);
                self.oracle.holds(span, Some(Hold { number: self.number, drain: *drain, time }));
                "holds"
            }
            Event::Release => {
                let (span, ()) = Span::of(|| place.command(&["release"]));
                self.oracle.holds(span, None);
                return;
            }
            Event::Restart if place.mode() == Mode::EachCheck => return,
            Event::Restart => {
                place.restart();
                "restarts"
            }
            Event::Crash => {
                let (span, ()) = Span::of(|| place.crash());
                self.oracle.killed(span);
                "crashes"
            }
            Event::Upgrade => {
                place.upgrade();
                "upgrades"
            }
            Event::JournalStalls(time) => {
                if !place.stall_journal(*time) {
                    return;
                }
                "stalls of the journal"
            }
            Event::HostSleeps(seconds) => {
                let (span, has_slept) = Span::of(|| place.restart_after_sleep(*seconds));
                if !has_slept {
                    return;
                }
                self.oracle.slept(span);
                "clock steps"
            }
            Event::RenewsCertificate => {
                let issued = self.authority.sign("patroni", &["localhost"], |_| {});
                self.tls.renew(&issued.certificate, &issued.key);
                "renewed certificates"
            }
            Event::Hostile(hostile) => {
                // Where each is a process, there is room for 48 of one address.
                let count = if place.mode() == Mode::Service { 200 } else { 20 };
                let addresses = std::iter::once(place.address()).chain(place.http()).collect();
                self.hostile.push(hostile.come(count, addresses));
                "crowds of hostile clients"
            }
        };
        *self.happened.entry(name).or_default() += 1;
    }

    fn says(&mut self, saying: &Saying) {
        self.number += 1;
        let (behaviour, delay, said) = saying.play(self.number);
        let refuses = *saying == Saying::Silent(Silence::Refused);
        let was_refusing = std::mem::replace(&mut self.is_refusing, refuses);
        let (span, ()) = Span::of(|| {
            self.patroni.delay(delay);
            self.patroni.now(behaviour);
            match (was_refusing, refuses) {
                (false, true) => self.tls.close(),
                (true, false) => self.tls.open(),
                _ => {}
            }
        });
        self.oracle.says(span, said);
    }

    /// # Panics
    /// When it is not as it should be.
    pub fn approve(self) {
        let mode = self.place.mode();
        println!(
            "{mode:?}: {} checks in {} chapters, {:?}: {:?}",
            self.made,
            self.chapters,
            self.start.elapsed(),
            self.replies
        );
        println!("{:?}; {} requests to Patroni", self.happened, self.patroni.requests().len());
        let (lost, untrue, strict) = (self.lost.len(), self.untrue.len(), self.oracle.strict * 100 / self.made);
        println!(
            "{lost} lost, {} cut off by kills, {untrue} untrue; one reply alone was right for {strict} %",
            self.cut_off
        );
        self.untrue.iter().take(3).for_each(|untrue| println!("{untrue}"));
        self.lost.iter().take(10).for_each(|lost| println!("lost: {lost}"));
        assert_eq!((lost, untrue), (0, 0));
        let crashes = self.happened.get("crashes").copied().unwrap_or_default();
        assert!(self.cut_off <= crashes * self.place.clients() as u64);
        // No word is there by a default.
        let words = if self.chapters < 5 { &[][..] } else { &["READY UP", "MAINT UP", "MAINT DOWN"] };
        for words in words {
            assert!(self.replies.get(*words).is_some_and(|count| *count > self.made / 50), "few {words}");
        }
        if mode == Mode::Service {
            let tenth = self.footprints.len().div_ceil(10);
            let (first, last) = self.footprints.split_at(tenth);
            let last = if last.len() < tenth { last } else { &last[last.len() - tenth..] };
            let (first, last) = (median(first), median(if last.is_empty() { first } else { last }));
            let peak = self.footprints.iter().max().expect("some");
            println!(
                "{} descriptors after each chapter; {first} kB in the first tenth, {last} in the last, {peak} at most",
                self.idle
            );
            assert!(last <= first * 5 / 4);
        }
    }
}

/// What real Patronis said, always in the same order.
pub fn answers() -> Vec<String> {
    let mut versions = recorded::all();
    versions.sort_by(|(a, _), (b, _)| a.cmp(b));
    let sections = versions.into_iter().flat_map(|(_, sections)| sections);
    let sections = sections.filter(|section| section.endpoint == "/primary");
    sections.map(|section| String::from_utf8(section.answer).expect("text")).collect()
}

fn median(values: &[u64]) -> u64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    values[values.len() / 2]
}
