//! A view: one endpoint, what Patroni last said of it, and the checks that wait to hear it. No sockets, and time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::memory::Memory;
use crate::verdict::{Judgement, Verdict};

/// How long things may take and last.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A check is answered within this.
    pub deadline: Duration,
    /// An observation answers checks that arrive up to this long after it began.
    pub max_age: Duration,
    /// While observations are inconclusive, the last conclusive verdict stands until its observation is this old.
    pub grace: Duration,
}

/// The state of one view, for checks of any kind `C`. At most one request to Patroni is in flight.
///
/// An observation's age counts from when its request began: a Patroni that was frozen after it had made up its mind says
/// 200 half a minute late.
#[derive(Debug)]
pub struct View<C> {
    limits: Limits,
    /// The newest observation: when its request began, and what it means.
    latest: Option<(Instant, Judgement)>,
    memory: Memory,
    /// When the request in flight began.
    fetch: Option<Instant>,
    /// In order of arrival.
    waiting: VecDeque<(Instant, C)>,
}

impl<C> View<C> {
    /// A view that has seen nothing yet.
    pub fn new(limits: Limits) -> Self {
        View { limits, latest: None, memory: Memory::new(limits), fetch: None, waiting: VecDeque::new() }
    }

    /// A check that arrived just now, or a moment ago if it took a moment to say what it asks about. It is given back with
    /// its verdict if there is one fresh enough; otherwise it waits.
    pub fn arrive(&mut self, now: Instant, arrived: Instant, check: C) -> Option<(C, Verdict)> {
        if let Some((began, judgement)) = &self.latest {
            if *began + self.limits.max_age >= arrived {
                return Some((check, self.memory.verdict(now, judgement)));
            }
        }
        let place = self.waiting.partition_point(|(earlier, _)| *earlier <= arrived);
        self.waiting.insert(place, (arrived, check));
        None
    }

    /// Whether a request to Patroni is to begin now, and notes that it does: somebody waits, and none is in flight.
    pub fn begin_fetch(&mut self, now: Instant) -> bool {
        let begin = self.fetch.is_none() && !self.waiting.is_empty();
        if begin {
            self.fetch = Some(now);
        }
        begin
    }

    /// The request in flight has ended. Gives the checks that it answers: all that had arrived when it began, and those
    /// for which it is fresh enough. An answer that is to be confirmed answers none; those who wait cause another request.
    pub fn observed(&mut self, now: Instant, judgement: Judgement) -> Vec<(C, Verdict)> {
        let Some(began) = self.fetch.take() else { return Vec::new() };
        // It comes too late for those who wait: the host was stopped meanwhile, or this loop.
        let mut answered = if self.memory.is_late(now, began) { self.overdue(now) } else { Vec::new() };
        let judgement = self.memory.learn(now, began, judgement);
        if self.memory.is_unconfirmed() {
            return answered;
        }
        let verdict = self.memory.verdict(now, &judgement);
        self.latest = Some((began, judgement));
        let last = began + self.limits.max_age;
        answered.extend(self.take_waiting(|arrived| arrived <= last, &verdict));
        answered
    }

    /// The checks whose deadline has come, with what can be said without waiting longer.
    pub fn overdue(&mut self, now: Instant) -> Vec<(C, Verdict)> {
        if self.next_deadline().is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        let deadline = self.limits.deadline;
        let late = Judgement::silence(format!("patroni: no answer within {deadline:?}"));
        let verdict = self.memory.verdict(now, &late);
        self.take_waiting(|arrived| arrived + deadline <= now, &verdict)
    }

    /// When the next check becomes overdue.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|(arrived, _)| *arrived + self.limits.deadline)
    }

    /// Whether nobody waits, for Patroni neither.
    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.fetch.is_none()
    }

    /// The number of checks that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn take_waiting(&mut self, answered: impl Fn(Instant) -> bool, verdict: &Verdict) -> Vec<(C, Verdict)> {
        let count = self.waiting.iter().take_while(|(arrived, _)| answered(*arrived)).count();
        self.waiting.drain(..count).map(|(_, check)| (check, verdict.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Evidence;

    struct Clock(Instant);

    impl Clock {
        fn at(&self, ms: u64) -> Instant {
            self.0 + Duration::from_millis(ms)
        }
    }

    /// Deadline 500 ms, max-age 100 ms, grace 5 s.
    fn view() -> (View<u32>, Clock) {
        let ms = Duration::from_millis;
        (View::new(Limits { deadline: ms(500), max_age: ms(100), grace: ms(5000) }), Clock(Instant::now()))
    }

    fn arrive(view: &mut View<u32>, at: Instant, check: u32) -> Option<(u32, Verdict)> {
        view.arrive(at, at, check)
    }

    fn serve() -> Verdict {
        Verdict::Serve("primary".into())
    }
    fn refused() -> Judgement {
        Judgement::silence("patroni: connection refused".into())
    }
    fn just_back() -> Verdict {
        Verdict::Fail("patroni: just back from a silence; asked again".into())
    }
    fn late() -> Verdict {
        Verdict::Fail("patroni: no answer within 500ms".into())
    }
    fn found(verdict: Verdict) -> Judgement {
        Judgement { verdict, evidence: Evidence::Conclusive { granted: Some(true) } }
    }

    #[test]
    fn one_request_answers_all_that_wait_and_those_soon_after() {
        let (mut view, clock) = view();
        assert!(!view.begin_fetch(clock.at(0)), "nobody asked");
        assert_eq!(arrive(&mut view, clock.at(0), 1), None);
        assert_eq!(arrive(&mut view, clock.at(0), 2), None);
        assert!(view.begin_fetch(clock.at(0)));
        assert_eq!(arrive(&mut view, clock.at(20), 3), None);
        assert!(!view.begin_fetch(clock.at(20)), "one in flight");
        assert_eq!(view.observed(clock.at(50), found(serve())), [(1, serve()), (2, serve()), (3, serve())]);
        assert_eq!(arrive(&mut view, clock.at(100), 4), Some((4, serve())));
        assert!(!view.begin_fetch(clock.at(100)));
        assert_eq!(arrive(&mut view, clock.at(101), 5), None);
        assert!(view.begin_fetch(clock.at(101)));
    }

    #[test]
    fn an_observation_that_began_too_long_before_a_check_does_not_answer_it() {
        let (mut view, clock) = view();
        arrive(&mut view, clock.at(0), 1);
        assert!(view.begin_fetch(clock.at(0)));
        arrive(&mut view, clock.at(150), 2);
        assert_eq!(view.observed(clock.at(200), found(serve())), [(1, serve())]);
        assert_eq!(view.waiting(), 1);
        assert!(view.begin_fetch(clock.at(200)));
        let stand_by = Verdict::StandBy("replica".into());
        assert_eq!(view.observed(clock.at(210), found(stand_by.clone())), [(2, stand_by)]);
    }

    #[test]
    fn a_check_is_answered_at_its_deadline_and_the_request_goes_on() {
        let (mut view, clock) = view();
        arrive(&mut view, clock.at(0), 1);
        arrive(&mut view, clock.at(10), 2);
        assert!(view.begin_fetch(clock.at(10)));
        assert_eq!(view.next_deadline(), Some(clock.at(500)));
        assert_eq!(view.overdue(clock.at(499)), []);
        assert_eq!(view.overdue(clock.at(500)), [(1, late())]);
        assert_eq!(view.overdue(clock.at(510)), [(2, late())]);
        arrive(&mut view, clock.at(520), 3);
        assert!(!view.begin_fetch(clock.at(520)), "the first is still in flight");
    }

    #[test]
    fn while_patroni_is_silent_each_check_is_answered_and_the_last_verdict_stands() {
        let (mut view, clock) = view();
        arrive(&mut view, clock.at(0), 1);
        view.begin_fetch(clock.at(0));
        view.observed(clock.at(5), found(serve()));
        // refused at once
        arrive(&mut view, clock.at(1000), 2);
        view.begin_fetch(clock.at(1000));
        assert_eq!(view.observed(clock.at(1001), refused()), [(2, serve())]);
        assert_eq!(arrive(&mut view, clock.at(1050), 3), Some((3, serve())), "from the same observation");
        // hanging
        arrive(&mut view, clock.at(4400), 4);
        view.begin_fetch(clock.at(4400));
        assert_eq!(view.overdue(clock.at(4900)), [(4, serve())]);
        arrive(&mut view, clock.at(4500), 5);
        assert_eq!(view.overdue(clock.at(5000)), [(5, late())], "the last word is 5 s old");
        assert_eq!(view.observed(clock.at(5100), refused()), []);
        arrive(&mut view, clock.at(6000), 6);
        view.begin_fetch(clock.at(6000));
        assert_eq!(view.observed(clock.at(6001), refused()), [(6, refused().verdict)]);
    }

    /// One check and one request, which takes a millisecond.
    fn check(view: &mut View<u32>, clock: &Clock, at: u64, judgement: Judgement) -> Verdict {
        assert_eq!(arrive(view, clock.at(at), 0), None);
        assert!(view.begin_fetch(clock.at(at)));
        let mut answered = view.observed(clock.at(at + 1), judgement);
        assert_eq!(answered.len(), 1);
        answered.remove(0).1
    }

    #[test]
    fn an_answer_that_is_to_be_confirmed_costs_one_more_request_and_no_wrong_word() {
        let without_lock =
            || Judgement { verdict: Verdict::StandBy("primary".into()), evidence: Evidence::WithoutLock };
        let (mut view, clock) = view();
        check(&mut view, &clock, 0, found(serve()));
        arrive(&mut view, clock.at(1000), 1);
        assert!(view.begin_fetch(clock.at(1000)));
        assert_eq!(view.observed(clock.at(1010), without_lock()), []);
        assert!(view.begin_fetch(clock.at(1010)), "asked again at once");
        assert_eq!(view.observed(clock.at(1020), without_lock()), [(1, without_lock().verdict)]);
        assert!(!view.begin_fetch(clock.at(1020)));
        // Where the second answer does not come in time the last word stands.
        check(&mut view, &clock, 2000, found(serve()));
        arrive(&mut view, clock.at(3000), 2);
        view.begin_fetch(clock.at(3000));
        assert_eq!(view.observed(clock.at(3010), without_lock()), []);
        view.begin_fetch(clock.at(3010));
        assert_eq!(view.overdue(clock.at(3500)), [(2, serve())]);
    }

    #[test]
    fn a_check_that_takes_a_moment_to_speak_is_as_old_as_its_arrival() {
        let (mut view, clock) = view();
        arrive(&mut view, clock.at(20), 1);
        assert_eq!(view.arrive(clock.at(30), clock.at(0), 2), None);
        assert_eq!(view.overdue(clock.at(500)), [(2, late())]);
        assert!(view.begin_fetch(clock.at(510)));
        view.observed(clock.at(511), found(serve()));
        assert_eq!(view.arrive(clock.at(630), clock.at(610), 3), Some((3, serve())));
    }

    #[test]
    fn a_check_that_waited_while_the_host_was_stopped_is_not_answered_from_before() {
        let (mut view, clock) = view();
        check(&mut view, &clock, 0, found(serve()));
        arrive(&mut view, clock.at(1000), 1);
        view.begin_fetch(clock.at(1000));
        assert_eq!(view.observed(clock.at(26_000), found(serve())), [(1, late())]);
        assert_eq!(check(&mut view, &clock, 26_001, found(serve())), just_back());
    }

    #[test]
    fn a_late_answer_is_as_old_as_its_request() {
        let (mut view, clock) = view();
        arrive(&mut view, clock.at(0), 1);
        view.begin_fetch(clock.at(0));
        view.overdue(clock.at(500));
        view.observed(clock.at(29_000), found(serve()));
        assert_eq!(arrive(&mut view, clock.at(29_001), 2), None, "too old to answer from");
        view.begin_fetch(clock.at(29_001));
        assert_eq!(view.observed(clock.at(29_002), found(serve())), [(2, just_back())], "nor does it end the doubt");
        assert_eq!(check(&mut view, &clock, 29_200, found(serve())), serve());
    }
}
