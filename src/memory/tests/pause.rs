//! Stories of a paused cluster.

use super::*;

#[test]
fn in_a_paused_cluster_who_had_the_lock_goes_on_and_who_had_it_not_stays_out() {
    let mut story = Story::new();
    story.at(0, holds());
    for second in 1..3600 {
        let verdict = if second % 7 == 0 { stand_by() } else { serve() };
        assert_eq!(story.at(second * 1000, in_pause(verdict)), serve());
    }
    assert_eq!(story.at(3_600_000, refused()), serve(), "an hour later a silence has its grace");
    assert_eq!(story.at(3_601_000, unlocked()), serve(), "and so has the end of the pause");
    assert_eq!(story.at(3_700_000, refused()).word(), "fail");
    assert_eq!(story.at(3_700_100, in_pause(serve())), just_back());
    assert_eq!(story.at(3_700_200, in_pause(serve())), serve());
    // Promoted by hand.
    for known in
        [replica(), conclusive(stand_by(), false), conclusive(Verdict::Fail("postgres: starting".into()), false)]
    {
        let mut story = Story::new();
        story.at(0, known);
        assert_eq!(story.at(1_000_000, in_pause(serve())), stand_by());
        assert_eq!(story.at(1_010_000, refused()).word(), "fail");
        assert_eq!(story.at(1_020_000, in_pause(serve())), stand_by());
        assert_eq!(story.at(1_030_000, holds()), serve());
        assert_eq!(story.at(2_000_000, in_pause(serve())), serve());
    }
    // Of those who know nothing the status decides, and only a 200 is remembered.
    let mut story = Story::new();
    assert_eq!(story.at(0, in_pause(stand_by())), stand_by());
    assert_eq!(story.at(100, in_pause(serve())), serve());
    assert_eq!(story.at(200, refused()), serve());
    assert_eq!(story.at(300, in_pause(stand_by())), serve());
}

#[test]
fn in_a_pause_a_lock_that_was_not_here_is_believed_at_the_second_time() {
    let has_lock = || Judgement { verdict: serve(), evidence: Evidence::GrantedInPause };
    let mut story = Story::new();
    assert_eq!(story.at(0, has_lock()), serve(), "nothing is known that it contradicts");
    let mut story = Story::new();
    story.at(0, replica());
    // Torn: the store was lost between the body and the status.
    story.at(100, has_lock());
    assert!(story.memory.is_recheck_pending());
    assert_eq!(story.at(102, in_pause(serve())), stand_by());
    assert_eq!(story.confirmed(200, has_lock()), serve());
    assert_eq!(story.at(1000, in_pause(serve())), serve());
}

#[test]
fn in_a_pause_a_patroni_that_failed_to_renew_its_lock_goes_on_until_it_looks_again() {
    let without = |looked| Judgement { verdict: stand_by(), evidence: Evidence::WithoutLockInPause { looked } };
    let mut story = Story::new();
    story.at(0, holds());
    for second in 1..20 {
        assert_eq!(story.at(second * 1000, without(Some(7))), serve());
    }
    assert_eq!(story.at(20_000, in_pause(serve())), serve());
    assert_eq!(story.at(22_000, refused()), serve());
    story.at(31_000, holds());
    assert_eq!(story.at(31_100, without(Some(40))), serve());
    assert_eq!(story.confirmed(31_200, without(Some(41))), stand_by(), "it has looked again");
    // Where another node may have taken it, as it was free, it is believed at the second time.
    let mut story = Story::new();
    story.at(0, holds());
    story.at(100, in_pause(serve()));
    assert_eq!(story.confirmed(200, without(Some(7))), stand_by());
    let mut story = Story::new();
    story.at(0, holds());
    story.at(100, in_pause(serve()));
    assert_eq!(story.confirmed(200, without(None)), stand_by());
    // One that does not tell when it looked has the grace.
    let mut story = Story::new();
    story.at(0, holds());
    assert_eq!(story.at(4900, without(None)), serve());
    assert_eq!(story.at(5000, without(None)), stand_by());
    let mut story = Story::new();
    story.at(0, replica());
    assert_eq!(story.at(100, without(Some(7))), stand_by());
    let mut story = Story::new();
    story.at(0, holds());
    assert_eq!(story.confirmed(5100, without(Some(7))), stand_by(), "it may have looked meanwhile");
    let mut story = Story::new();
    story.at(0, holds());
    story.at(100, refused());
    assert_eq!(story.at(200, without(Some(7))), serve(), "just started");
    assert_eq!(story.confirmed(2200, without(Some(7))), stand_by());
}

#[test]
fn without_a_grace_a_pause_lasts_as_long_as_with_one() {
    let without = || Judgement { verdict: stand_by(), evidence: Evidence::WithoutLockInPause { looked: Some(7) } };
    let mut story = Story::with_grace(0);
    story.at(0, holds());
    assert_eq!(story.at(300, without()), serve());
    assert_eq!(story.at(600, in_pause(serve())), serve());
    assert_eq!(story.at(1_000_000, in_pause(serve())), serve());
    assert_eq!(story.at(1_000_100, refused()).word(), "fail");
    assert_eq!(story.at(1_000_200, unlocked()), stand_by());
}
