//! A replica that was away and is good again.

use super::*;
use crate::verdict::Sessions;

const CALM: Duration = Duration::from_secs(10);

fn good() -> Judgement {
    Judgement { verdict: Verdict::Serve("replica streaming".into()), evidence: NO_MATTER }
}
fn lags() -> Judgement {
    let verdict = Verdict::StandBy("replica streaming, lag over 16MB".into(), Sessions::MayStay);
    Judgement { verdict, evidence: NO_MATTER }
}
fn stopped() -> Judgement {
    Judgement { verdict: Verdict::Fail("postgres: stopped".into()), evidence: NO_MATTER }
}
fn refused() -> Judgement {
    Judgement::silence("patroni: connection refused".into())
}

const NO_MATTER: Evidence = Evidence::Conclusive { has_lock: None };

/// What a view with a calm of 10 s says: `serve`, `calm in 7s` in whole seconds, or what it is.
fn said(story: &mut Story, ms: u64, judgement: Judgement) -> String {
    said_late(story, ms, 0, judgement)
}

fn said_late(story: &mut Story, ms: u64, took: u64, judgement: Judgement) -> String {
    let verdict = story.took(ms, took, judgement);
    let now = story.start + Duration::from_millis(ms + took);
    match story.memory.after_calm(now, CALM, verdict) {
        Verdict::Calm(why, left) => {
            assert_eq!(why, "replica streaming, calm");
            format!("calm {}", left.as_millis())
        }
        verdict => verdict.word().to_owned(),
    }
}

#[test]
fn away_at_once_and_back_after_so_long_a_time_of_good_answers() {
    let mut story = Story::new();
    let table = [
        (0, good(), "serve"),
        (1000, lags(), "standby"),
        (1500, good(), "calm 10000"),
        (4500, good(), "calm 7000"),
        (5000, stopped(), "fail"),
        (5500, good(), "calm 10000"),
        (10_500, good(), "calm 5000"),
        (15_499, good(), "calm 1"),
        (15_500, good(), "serve"),
        (99_000, good(), "serve"),
    ];
    for (ms, judgement, expected) in table {
        assert_eq!(said(&mut story, ms, judgement), expected, "at {ms}");
    }
}

#[test]
fn the_first_answer_of_one_who_remembers_nothing_is_believed() {
    assert_eq!(said(&mut Story::new(), 0, good()), "serve");
    let mut story = Story::new();
    assert_eq!(said(&mut story, 0, refused()), "fail");
    assert_eq!(said(&mut story, 100, good()), "serve", "Patroni's first answer");
    let mut story = Story::new();
    assert_eq!(said(&mut story, 0, stopped()), "fail");
    assert_eq!(said(&mut story, 100, good()), "calm 10000", "it is no first answer");
    // A first request that takes longer than a check waits is none that anybody was told of before.
    assert_eq!(said_late(&mut Story::new(), 0, 2000, good()), "serve");
}

#[test]
fn a_silence_within_the_grace_is_no_absence_and_a_longer_one_is() {
    let mut story = Story::new();
    assert_eq!(said(&mut story, 0, good()), "serve");
    assert_eq!(said(&mut story, 1000, refused()), "serve");
    assert_eq!(said(&mut story, 4900, good()), "serve");
    assert_eq!(said(&mut story, 9900, refused()), "fail");
    assert_eq!(said(&mut story, 10_000, good()), "calm 10000");
    // In a calm a silence stops nothing, unless it lasts.
    assert_eq!(said(&mut story, 12_000, refused()), "calm 8000");
    assert_eq!(said(&mut story, 14_000, good()), "calm 6000");
    assert_eq!(said(&mut story, 19_100, refused()), "fail");
}

#[test]
fn an_answer_that_came_after_all_who_waited_were_told_of_a_silence_is_a_return() {
    let mut story = Story::new();
    assert_eq!(said(&mut story, 0, good()), "serve");
    // Within the grace the last word was told.
    assert_eq!(said_late(&mut story, 1000, 3000, good()), "serve");
    // From 6 s on it was not.
    assert_eq!(said_late(&mut story, 5000, 4000, good()), "calm 10000");
    let mut story = Story::with_grace(0);
    assert_eq!(said(&mut story, 0, good()), "serve");
    assert_eq!(said_late(&mut story, 1000, 500, good()), "serve", "all who waited are told of it");
    assert_eq!(said_late(&mut story, 2000, 600, good()), "calm 10000");
}

#[test]
fn a_wall_clock_that_is_set_ends_no_calm() {
    let mut story = Story::new();
    said(&mut story, 0, lags());
    assert_eq!(said(&mut story, 1000, good()), "calm 10000");
    story.start.wall += Duration::from_secs(7200);
    assert_eq!(said(&mut story, 2000, good()), "calm 9000");
    story.start.wall -= Duration::from_secs(3600);
    assert_eq!(said(&mut story, 3000, good()), "calm 8000");
}

#[test]
fn a_time_in_which_nobody_asked_is_no_time_of_good_answers() {
    let mut story = Story::new();
    assert_eq!(said(&mut story, 0, lags()), "standby");
    assert_eq!(said(&mut story, 1000, good()), "calm 10000");
    assert_eq!(said(&mut story, 6000, good()), "calm 5000");
    // Nobody asks for an hour.
    assert_eq!(said(&mut story, 3_600_000, good()), "calm 10000");
    for step in 1..=2 {
        said(&mut story, 3_600_000 + 5000 * step, good());
    }
    assert_eq!(said(&mut story, 3_610_100, good()), "serve");
    // Who was back stays so, whoever asks not.
    assert_eq!(said(&mut story, 7_200_000, good()), "serve");
    assert_eq!(said(&mut story, 7_200_500, lags()), "standby");
    assert_eq!(said(&mut story, 7_201_000, good()), "calm 10000");
}

#[test]
fn a_view_without_calm_does_not_wait() {
    let mut story = Story::new();
    said(&mut story, 0, lags());
    let verdict = story.at(1000, good());
    let now = story.start + Duration::from_millis(1001);
    assert_eq!(story.memory.after_calm(now, Duration::ZERO, verdict), good().verdict);
}

#[test]
fn three_hundred_changes_become_two() {
    let mut story = Story::new();
    let mut told = vec![said(&mut story, 0, good())];
    for step in 1..=600 {
        let judgement = if step % 2 == 0 { good() } else { lags() };
        told.push(said(&mut story, 2000 * step, judgement));
    }
    for step in 1..=12 {
        told.push(said(&mut story, 1_200_000 + 1000 * step, good()));
    }
    let serves: Vec<_> = told.iter().map(|told| told == "serve").collect();
    assert_eq!(serves.windows(2).filter(|pair| pair[0] != pair[1]).count(), 2);
}
