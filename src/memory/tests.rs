//! What is remembered, and for how long, as stories.

mod calm;
mod pause;

use std::time::Duration;

use super::*;

/// A memory with a grace of 5 s, and observations each of which takes a millisecond.
struct Story {
    memory: Memory,
    start: Moment,
}

impl Story {
    fn new() -> Self {
        Story::with_grace(5000)
    }

    fn with_grace(grace: u64) -> Self {
        let ms = Duration::from_millis;
        let limits = Limits { deadline: ms(500), max_age: ms(100), grace: ms(grace) };
        Story { memory: Memory::new(limits), start: Moment::default() }
    }

    fn at(&mut self, ms: u64, judgement: Judgement) -> Verdict {
        self.took(ms, 1, judgement)
    }

    /// The same answer twice.
    fn confirmed(&mut self, ms: u64, judgement: Judgement) -> Verdict {
        self.at(ms, judgement.clone());
        assert!(self.memory.is_recheck_pending());
        self.at(ms + 2, judgement)
    }

    fn took(&mut self, ms: u64, duration: u64, judgement: Judgement) -> Verdict {
        let began = self.start + Duration::from_millis(ms);
        let now = began + Duration::from_millis(duration);
        let judgement = self.memory.learn(now, began, judgement);
        self.end_of_process();
        self.memory.verdict(now, &judgement)
    }

    /// What one knows who remembers only what was written.
    fn end_of_process(&mut self) {
        let written = serde_json::to_string(&self.memory).unwrap();
        let limits = self.memory.limits();
        self.memory = serde_json::from_str::<Memory>(&written).unwrap().within(limits);
    }
}

fn serve() -> Verdict {
    Verdict::Serve("primary".into())
}
fn stand_by() -> Verdict {
    Verdict::stand_by("primary")
}
fn just_back() -> Verdict {
    Verdict::Fail("patroni: just back from a silence; asked again".into())
}
fn conclusive(verdict: Verdict, has_lock: bool) -> Judgement {
    Judgement { verdict, evidence: Evidence::Conclusive { has_lock: Some(has_lock) } }
}
fn holds() -> Judgement {
    conclusive(serve(), true)
}
fn replica() -> Judgement {
    conclusive(Verdict::stand_by("replica"), false)
}
fn refused() -> Judgement {
    Judgement::silence("patroni: connection refused".into())
}
fn unknown() -> Judgement {
    Judgement { verdict: Verdict::Fail("postgres: state unknown".into()), evidence: Evidence::StateUnknown }
}
fn without_lock() -> Judgement {
    Judgement { verdict: stand_by(), evidence: Evidence::WithoutLock }
}
fn unlocked() -> Judgement {
    Judgement { verdict: stand_by(), evidence: Evidence::Unlocked { paused: false } }
}
fn in_pause(verdict: Verdict) -> Judgement {
    Judgement { verdict, evidence: Evidence::Unlocked { paused: true } }
}

#[test]
fn while_nothing_is_learnt_the_last_conclusive_verdict_stands_for_the_grace() {
    for inconclusive in [refused(), unknown()] {
        let mut story = Story::new();
        assert_eq!(story.at(0, inconclusive.clone()), inconclusive.verdict, "there is none");
        let mut story = Story::new();
        assert_eq!(story.at(0, holds()), serve());
        assert_eq!(story.at(1000, inconclusive.clone()), serve());
        assert_eq!(story.at(4990, inconclusive.clone()), serve());
        assert_eq!(story.at(5000, inconclusive.clone()), inconclusive.verdict);
        let stopping = Verdict::Fail("postgres: stopping".into());
        assert_eq!(story.at(6000, conclusive(stopping.clone(), true)), stopping);
        assert_eq!(story.at(7000, inconclusive), stopping);
    }
}

#[test]
fn a_lock_that_was_lost_to_nobody_counts_as_held_for_the_grace() {
    let mut story = Story::new();
    assert_eq!(story.at(0, unlocked()), stand_by(), "nothing is known");
    assert_eq!(story.at(100, holds()), serve());
    assert_eq!(story.at(1000, unlocked()), serve());
    assert_eq!(story.at(1200, refused()), serve());
    assert_eq!(story.at(5090, unlocked()), serve());
    assert_eq!(story.at(5101, unlocked()), stand_by());
    assert_eq!(story.at(5200, holds()), serve(), "no silence, no doubt");
    // Postgres was restarted meanwhile; what counts is who had the lock.
    assert_eq!(story.at(6000, conclusive(Verdict::Fail("postgres: starting".into()), true)).word(), "fail");
    assert_eq!(story.at(6100, unlocked()), serve());
}

#[test]
fn a_lock_that_another_node_has_is_lost_at_once() {
    let mut story = Story::new();
    story.at(0, holds());
    assert_eq!(story.confirmed(100, without_lock()), stand_by());
    assert_eq!(story.at(200, unlocked()), stand_by(), "what is lost does not come back by itself");
    assert_eq!(story.at(300, refused()), stand_by());
    let mut story = Story::new();
    story.at(0, holds());
    story.at(100, unlocked());
    assert_eq!(story.confirmed(200, without_lock()), stand_by());
    assert_eq!(story.at(210, without_lock()), stand_by());
    assert!(!story.memory.is_recheck_pending());
    story.at(300, holds());
    story.at(400, unknown());
    assert_eq!(story.confirmed(500, without_lock()), stand_by(), "Patroni was there all the time");
    let mut story = Story::new();
    assert_eq!(story.at(0, without_lock()), stand_by(), "of one that never had it nothing is to be confirmed");
    let failed = Judgement { verdict: Verdict::Fail("postgres: state unknown".into()), ..without_lock() };
    story.at(100, holds());
    assert_eq!(story.confirmed(200, failed.clone()), failed.verdict);
}

#[test]
fn without_a_second_answer_what_was_known_stands_for_two_seconds() {
    let mut story = Story::new();
    story.at(0, holds());
    story.at(100, without_lock());
    assert_eq!(story.at(200, refused()), serve());
    assert_eq!(story.at(2000, without_lock()), serve());
    assert_eq!(story.at(2100, without_lock()), stand_by());
    assert_eq!(story.at(2200, refused()).word(), "fail");
    assert_eq!(story.at(2300, without_lock()), stand_by(), "nothing brings it back");
    let has_lock = Judgement { verdict: serve(), evidence: Evidence::GrantedInPause };
    let mut story = Story::new();
    story.at(0, replica());
    story.at(100, has_lock);
    assert_eq!(story.at(200, refused()).word(), "standby");
}

#[test]
fn a_patroni_that_comes_and_goes_makes_no_word_come_and_go() {
    let mut story = Story::new();
    story.at(0, holds());
    let mut words: Vec<_> = (1..70)
        .map(|turn| story.at(turn * 100, if turn % 6 < 3 { refused() } else { without_lock() }))
        .map(|verdict| verdict.word())
        .collect();
    words.dedup_by_key(|word| *word == "serve");
    assert_eq!(words.len(), 2, "{words:?}");
}

#[test]
fn a_torn_answer_is_asked_again() {
    let mut story = Story::new();
    story.at(0, holds());
    for after in [unlocked(), holds(), in_pause(stand_by())] {
        story.at(100, without_lock());
        assert!(story.memory.is_recheck_pending());
        assert_eq!(story.at(110, after), serve());
        assert!(!story.memory.is_recheck_pending());
    }
}

#[test]
fn a_patroni_that_was_started_anew_may_not_have_looked_at_its_lock_yet() {
    let mut story = Story::new();
    story.at(0, holds());
    assert_eq!(story.at(1000, refused()), serve());
    assert_eq!(story.at(2000, without_lock()), serve());
    assert_eq!(story.at(3900, without_lock()), serve());
    assert_eq!(story.confirmed(4000, without_lock()), stand_by(), "its first round is over");
    let mut story = Story::new();
    story.at(0, holds());
    assert_eq!(story.at(4800, refused()), serve());
    assert_eq!(story.at(4900, without_lock()), serve());
    assert_eq!(story.at(5001, without_lock()), stand_by(), "the last word is 5 s old");
    story.at(6000, holds());
    story.at(6100, refused());
    story.at(6200, unlocked());
    assert_eq!(story.confirmed(6300, without_lock()), stand_by(), "it has looked, and somebody took the lock");
}

#[test]
fn a_silence_after_the_lock_was_missed_is_two_seconds_of_grace() {
    let mut story = Story::new();
    story.at(0, holds());
    story.at(50, unlocked());
    story.at(100, unlocked());
    assert_eq!(story.at(2000, refused()), serve());
    assert_eq!(story.at(2050, unknown()), serve(), "Patroni is there");
    assert_eq!(story.at(2100, refused()).word(), "fail");
    assert_eq!(story.at(2150, unlocked()), stand_by(), "nothing brings it back but the lock");
    story.at(2200, holds());
    assert_eq!(story.at(2300, holds()), serve());
    assert_eq!(story.at(6000, refused()), serve(), "the lock is here again");
}

#[test]
fn after_a_silence_longer_than_the_grace_one_yes_is_not_enough() {
    let mut story = Story::new();
    story.at(0, holds());
    assert_eq!(story.at(4000, refused()), serve());
    assert_eq!(story.at(4200, holds()), serve(), "a shorter one is forgotten");
    assert_eq!(story.at(9300, refused()), refused().verdict);
    assert_eq!(story.at(9500, holds()), just_back());
    assert_eq!(story.at(9700, holds()), serve());
    assert_eq!(story.at(20_000, refused()), refused().verdict);
    assert_eq!(story.took(20_200, 29_000, holds()), just_back());
    assert_eq!(story.at(49_400, holds()), just_back(), "a late answer does not end the doubt");
    assert_eq!(story.at(49_600, holds()), serve());
}

#[test]
fn whatever_tells_of_the_lock_ends_the_doubt_and_reads_know_none() {
    let fail = conclusive(Verdict::Fail("postgres: starting".into()), false);
    let garbage = Judgement { verdict: refused().verdict, evidence: Evidence::Conclusive { has_lock: None } };
    let mut story = Story::new();
    story.at(0, refused());
    story.at(200, garbage);
    assert_eq!(story.at(400, holds()), just_back(), "garbage tells nothing of the lock");
    for known in [replica(), fail] {
        let mut story = Story::new();
        story.at(0, refused());
        assert_eq!(story.at(200, known.clone()), known.verdict);
        assert_eq!(story.at(400, holds()), serve(), "the first check after a promotion");
    }
    let reads =
        Judgement { verdict: Verdict::Serve("replica".into()), evidence: Evidence::Conclusive { has_lock: None } };
    let mut story = Story::new();
    story.at(0, refused());
    assert_eq!(story.at(200, reads.clone()), reads.verdict);
}

#[test]
fn an_answer_that_takes_a_moment_leaves_no_doubt_and_a_replica_has_none() {
    let mut story = Story::new();
    assert_eq!(story.took(0, 900, holds()), serve(), "it was overdue, and Patroni was there");
    // /read-only, of which a replica has no lock.
    let replica = conclusive(Verdict::Serve("replica".into()), false);
    let mut story = Story::new();
    story.at(0, refused());
    assert_eq!(story.at(200, replica.clone()), replica.verdict);
    assert_eq!(story.at(400, holds()), serve(), "promoted");
}

#[test]
fn a_node_that_stands_by_stands_by_through_a_silence() {
    let mut story = Story::new();
    story.at(0, holds());
    story.at(100, unlocked());
    assert_eq!(story.confirmed(200, without_lock()), stand_by());
    assert_eq!(story.at(4000, refused()), stand_by());
}

#[test]
fn what_is_known_is_told_and_is_of_its_moment() {
    let ms = Duration::from_millis;
    let mut story = Story::new();
    assert_eq!((story.memory.conclusive(), story.memory.lock_was_here()), (None, None));
    story.at(1000, holds());
    let (earlier, start) = (story.memory.clone(), story.start);
    assert_eq!((earlier.conclusive(), earlier.lock_was_here()), (Some((start + ms(1000), &serve())), Some(true)));
    story.at(1100, replica());
    let memory = &story.memory;
    assert_eq!(memory.lock_was_here(), Some(false));
    assert_eq!((memory.is_newer_than(&earlier), earlier.is_newer_than(memory)), (true, false));
    assert!(!memory.is_newer_than(&memory.clone()), "what began at once knows no more");
    let is_future = |at| memory.is_of_the_future(start + ms(at));
    assert_eq!((is_future(1099), is_future(1100)), (true, false), "it may be of this moment");
    assert_eq!((memory.is_stale(ms(5000)), memory.is_stale(ms(5001))), (false, true));
    let presence = Presence::Away.good(start + ms(1200), false, ms(5000));
    let memory = Memory { presence, ..memory.clone() };
    assert!(memory.is_of_the_future(start + ms(1199)), "a run of good answers goes on then");
}
