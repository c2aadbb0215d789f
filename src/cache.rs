//! The cache of one endpoint: request coalescing, max-age and grace (Varnish's words). No sockets,
//! and time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::config::Limits;
use crate::memory::Memory;
use crate::verdict::{Judgement, Verdict};

/// What is known of an endpoint, and the checks, of any kind `C`, that wait to be told. At most one
/// request to Patroni is in flight.
///
/// An observation's age counts from when its request began: a Patroni that was frozen after it had
/// made up its mind says 200 half a minute late.
#[derive(Debug)]
pub struct Cache<C> {
    memory: Memory,
    /// When the request in flight began.
    fetch: Option<Moment>,
    /// In order of arrival.
    waiting: VecDeque<(Moment, C)>,
}

impl<C> Cache<C> {
    /// Nothing is known yet.
    pub fn new(limits: Limits) -> Self {
        Cache::remembering(Memory::new(limits))
    }

    /// What was learnt before is known.
    pub fn remembering(memory: Memory) -> Self {
        Cache { memory, fetch: None, waiting: VecDeque::new() }
    }

    /// What is known, for those who come later.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// In place of a fetch: another process has found this. Gives the checks for which it is fresh
    /// enough; those that still wait cause another fetch.
    pub fn found_by_another(&mut self, now: Moment, memory: Memory) -> Vec<(C, Verdict)> {
        self.fetch = None;
        if memory.is_newer_than(&self.memory) {
            self.memory = memory;
        }
        self.memory.latest_verdict(now).map_or_else(Vec::new, |(began, verdict)| self.take_fresh(began, &verdict))
    }

    /// A check that arrives. It is given back with its verdict if there is one fresh enough;
    /// otherwise it waits.
    pub fn look_up_or_wait(&mut self, now: Moment, check: C) -> Option<(C, Verdict)> {
        if let Some(verdict) = self.memory.fresh_verdict(now) {
            return Some((check, verdict));
        }
        self.waiting.push_back((now, check));
        None
    }

    /// Begins a fetch if a check waits and none is in flight. If so, the caller has to ask Patroni
    /// now.
    pub fn begin_fetch(&mut self, now: Moment) -> bool {
        let begin = self.fetch.is_none() && !self.waiting.is_empty();
        if begin {
            self.fetch = Some(now);
        }
        begin
    }

    /// Whether a request is in flight.
    pub fn is_fetching(&self) -> bool {
        self.fetch.is_some()
    }

    /// The request in flight has ended. Gives the checks that it answers: all that had arrived when
    /// it began, and those for which it is fresh enough. An answer that is to be confirmed answers
    /// none; those who wait cause another request.
    pub fn fetch_completed(&mut self, now: Moment, judgement: Judgement) -> Vec<(C, Verdict)> {
        let Some(began) = self.fetch.take() else { return Vec::new() };
        let mut answered = Vec::new();
        if self.memory.is_stale(now.since_by_boot(began)) {
            // It comes too late for those who wait: the host was stopped meanwhile, or this loop.
            answered = self.take_expired(now);
        } else if self.memory.is_stale(now.since(began)) {
            // The wall clock was set, or a virtual machine was stopped, and the answer may be from
            // before: those who wait cause another request. A clock that is set must not cut
            // sessions.
            return answered;
        }
        let judgement = self.memory.learn(now, began, judgement);
        if self.memory.is_recheck_pending() {
            return answered;
        }
        let verdict = self.memory.verdict(now, &judgement);
        answered.extend(self.take_fresh(began, &verdict));
        answered
    }

    /// The checks whose deadline has come, with what can be said without waiting longer.
    pub fn take_expired(&mut self, now: Moment) -> Vec<(C, Verdict)> {
        if self.time_left(now).is_none_or(|left| !left.is_zero()) {
            return Vec::new();
        }
        let deadline = self.memory.limits().deadline;
        let verdict = self.verdict_without_answer(now);
        self.take_waiting(|arrived| now.since_by_boot(arrived) >= deadline, &verdict)
    }

    /// All that wait, where they can't wait longer.
    pub fn take_all(&mut self, now: Moment) -> Vec<(C, Verdict)> {
        let verdict = self.verdict_without_answer(now);
        self.take_waiting(|_| true, &verdict)
    }

    fn verdict_without_answer(&self, now: Moment) -> Verdict {
        let deadline = self.memory.limits().deadline;
        self.memory.verdict(now, &Judgement::silence(format!("patroni: no answer within {deadline:?}")))
    }

    /// How long until the deadline of the next check.
    pub fn time_left(&self, now: Moment) -> Option<Duration> {
        let (arrived, _) = self.waiting.front()?;
        Some(self.memory.limits().deadline.saturating_sub(now.since_by_boot(*arrived)))
    }

    /// The number of checks that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The checks that an observation of that time is fresh enough for.
    fn take_fresh(&mut self, began: Moment, verdict: &Verdict) -> Vec<(C, Verdict)> {
        let max_age = self.memory.limits().max_age;
        self.take_waiting(|arrived| arrived.since(began) <= max_age, verdict)
    }

    fn take_waiting(&mut self, answered: impl Fn(Moment) -> bool, verdict: &Verdict) -> Vec<(C, Verdict)> {
        let count = self.waiting.iter().take_while(|(arrived, _)| answered(*arrived)).count();
        self.waiting.drain(..count).map(|(_, check)| (check, verdict.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Evidence;

    struct Clock(Moment);

    impl Clock {
        fn at(&self, ms: u64) -> Moment {
            self.0 + Duration::from_millis(ms)
        }
    }

    /// Deadline 500 ms, max-age 100 ms, grace 5 s.
    fn cache() -> (Cache<u32>, Clock) {
        let ms = Duration::from_millis;
        (Cache::new(Limits { deadline: ms(500), max_age: ms(100), grace: ms(5000) }), Clock(Moment::now()))
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
        Judgement { verdict, evidence: Evidence::Conclusive { has_lock: Some(true) } }
    }

    #[test]
    fn one_request_answers_all_that_wait_and_those_soon_after() {
        let (mut cache, clock) = cache();
        assert!(!cache.begin_fetch(clock.at(0)), "nobody asked");
        assert_eq!(cache.look_up_or_wait(clock.at(0), 1), None);
        assert_eq!(cache.look_up_or_wait(clock.at(0), 2), None);
        assert!(cache.begin_fetch(clock.at(0)));
        assert_eq!(cache.look_up_or_wait(clock.at(20), 3), None);
        assert!(!cache.begin_fetch(clock.at(20)), "one in flight");
        assert_eq!(cache.fetch_completed(clock.at(50), found(serve())), [(1, serve()), (2, serve()), (3, serve())]);
        assert_eq!(cache.look_up_or_wait(clock.at(100), 4), Some((4, serve())));
        assert!(!cache.begin_fetch(clock.at(100)));
        assert_eq!(cache.look_up_or_wait(clock.at(101), 5), None);
        assert!(cache.begin_fetch(clock.at(101)));
    }

    #[test]
    fn an_observation_that_began_too_long_before_a_check_does_not_answer_it() {
        let (mut cache, clock) = cache();
        cache.look_up_or_wait(clock.at(0), 1);
        assert!(cache.begin_fetch(clock.at(0)));
        cache.look_up_or_wait(clock.at(150), 2);
        assert_eq!(cache.waiting(), 2);
        assert_eq!(cache.fetch_completed(clock.at(200), found(serve())), [(1, serve())]);
        assert_eq!(cache.waiting(), 1);
        assert!(cache.begin_fetch(clock.at(200)));
        let stand_by = Verdict::stand_by("replica");
        assert_eq!(cache.fetch_completed(clock.at(210), found(stand_by.clone())), [(2, stand_by)]);
    }

    #[test]
    fn a_check_is_answered_at_its_deadline_and_the_request_goes_on() {
        let (mut cache, clock) = cache();
        cache.look_up_or_wait(clock.at(0), 1);
        cache.look_up_or_wait(clock.at(10), 2);
        assert!(cache.begin_fetch(clock.at(10)));
        assert_eq!(cache.time_left(clock.at(10)), Some(Duration::from_millis(490)));
        assert_eq!(cache.take_expired(clock.at(499)), []);
        assert_eq!(cache.take_expired(clock.at(500)), [(1, late())]);
        assert_eq!(cache.take_expired(clock.at(510)), [(2, late())]);
        cache.look_up_or_wait(clock.at(520), 3);
        assert!(!cache.begin_fetch(clock.at(520)), "the first is still in flight");
    }

    #[test]
    fn while_patroni_is_silent_each_check_is_answered_and_the_last_verdict_stands() {
        let (mut cache, clock) = cache();
        cache.look_up_or_wait(clock.at(0), 1);
        cache.begin_fetch(clock.at(0));
        cache.fetch_completed(clock.at(5), found(serve()));
        // refused at once
        cache.look_up_or_wait(clock.at(1000), 2);
        cache.begin_fetch(clock.at(1000));
        assert_eq!(cache.fetch_completed(clock.at(1001), refused()), [(2, serve())]);
        assert_eq!(cache.look_up_or_wait(clock.at(1050), 3), Some((3, serve())), "from the same observation");
        // hanging
        cache.look_up_or_wait(clock.at(4400), 4);
        cache.begin_fetch(clock.at(4400));
        assert_eq!(cache.take_expired(clock.at(4900)), [(4, serve())]);
        cache.look_up_or_wait(clock.at(4500), 5);
        assert_eq!(cache.take_expired(clock.at(5000)), [(5, late())], "the last word is 5 s old");
        assert_eq!(cache.fetch_completed(clock.at(5100), refused()), []);
        cache.look_up_or_wait(clock.at(6000), 6);
        cache.begin_fetch(clock.at(6000));
        assert_eq!(cache.fetch_completed(clock.at(6001), refused()), [(6, refused().verdict)]);
    }

    /// One check and one request, which takes a millisecond.
    fn check(cache: &mut Cache<u32>, clock: &Clock, at: u64, judgement: Judgement) -> Verdict {
        assert_eq!(cache.look_up_or_wait(clock.at(at), 0), None);
        assert!(cache.begin_fetch(clock.at(at)));
        let mut answered = cache.fetch_completed(clock.at(at + 1), judgement);
        assert_eq!(answered.len(), 1);
        answered.remove(0).1
    }

    #[test]
    fn an_answer_that_is_to_be_confirmed_costs_one_more_request_and_no_wrong_word() {
        let without_lock = || Judgement { verdict: Verdict::stand_by("primary"), evidence: Evidence::WithoutLock };
        let (mut cache, clock) = cache();
        check(&mut cache, &clock, 0, found(serve()));
        cache.look_up_or_wait(clock.at(1000), 1);
        assert!(cache.begin_fetch(clock.at(1000)));
        assert_eq!(cache.fetch_completed(clock.at(1010), without_lock()), []);
        assert!(cache.begin_fetch(clock.at(1010)), "asked again at once");
        assert_eq!(cache.fetch_completed(clock.at(1020), without_lock()), [(1, without_lock().verdict)]);
        assert!(!cache.begin_fetch(clock.at(1020)));
        // Where the second answer does not come in time the last word stands.
        check(&mut cache, &clock, 2000, found(serve()));
        cache.look_up_or_wait(clock.at(3000), 2);
        cache.begin_fetch(clock.at(3000));
        assert_eq!(cache.fetch_completed(clock.at(3010), without_lock()), []);
        cache.begin_fetch(clock.at(3010));
        assert_eq!(cache.take_expired(clock.at(3500)), [(2, serve())]);
    }

    #[test]
    fn a_check_that_waited_while_the_host_was_stopped_is_not_answered_from_before() {
        let (mut cache, clock) = cache();
        check(&mut cache, &clock, 0, found(serve()));
        cache.look_up_or_wait(clock.at(1000), 1);
        cache.begin_fetch(clock.at(1000));
        assert_eq!(cache.fetch_completed(clock.at(26_000), found(serve())), [(1, late())]);
        assert_eq!(check(&mut cache, &clock, 26_001, found(serve())), just_back());
    }

    #[test]
    fn a_word_from_before_a_sleep_stands_no_longer_and_answers_nobody() {
        let slept = |moment: Moment| moment + Duration::from_secs(60);
        let stopped = |moment: Moment| Moment { wall: moment.wall + Duration::from_secs(60), ..moment };
        for after in [&slept as &dyn Fn(Moment) -> Moment, &stopped] {
            let (mut cache, clock) = cache();
            check(&mut cache, &clock, 0, found(serve()));
            assert_eq!(cache.look_up_or_wait(clock.at(50), 1), Some((1, serve())), "no sleep");
            assert_eq!(cache.look_up_or_wait(after(clock.at(60)), 2), None, "a word from before the sleep");
            cache.begin_fetch(after(clock.at(60)));
            assert_eq!(
                cache.fetch_completed(after(clock.at(70)), refused()),
                [(2, refused().verdict)],
                "nor has it any grace"
            );
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_costs_a_request_and_no_word() {
        let hour = Duration::from_secs(3600);
        let forward = |moment: Moment| Moment { wall: moment.wall + hour, ..moment };
        let (mut cache, clock) = cache();
        let start = clock.at(0) + hour;
        assert_eq!(cache.look_up_or_wait(start, 1), None);
        assert!(cache.begin_fetch(start));
        assert_eq!(cache.fetch_completed(forward(start), found(serve())), [], "asked before it was set");
        assert!(cache.begin_fetch(forward(start)));
        assert_eq!(cache.fetch_completed(forward(start), found(serve())), [(1, serve())]);
        // Back again: what was learnt meanwhile seems to come from the future, and ages by the
        // other clock.
        let later = start + Duration::from_millis(200);
        assert_eq!(cache.look_up_or_wait(later, 2), None);
        assert!(cache.begin_fetch(later));
        assert_eq!(cache.fetch_completed(later, refused()), [(2, serve())]);
        let last = start + Duration::from_secs(6);
        cache.look_up_or_wait(last, 3);
        cache.begin_fetch(last);
        assert_eq!(cache.fetch_completed(last, refused()), [(3, refused().verdict)]);
    }

    #[test]
    fn a_late_answer_is_as_old_as_its_request() {
        let (mut cache, clock) = cache();
        cache.look_up_or_wait(clock.at(0), 1);
        cache.begin_fetch(clock.at(0));
        cache.take_expired(clock.at(500));
        cache.fetch_completed(clock.at(29_000), found(serve()));
        assert_eq!(cache.look_up_or_wait(clock.at(29_001), 2), None, "too old to answer from");
        cache.begin_fetch(clock.at(29_001));
        assert_eq!(
            cache.fetch_completed(clock.at(29_002), found(serve())),
            [(2, just_back())],
            "nor does it end the doubt"
        );
        assert_eq!(check(&mut cache, &clock, 29_200, found(serve())), serve());
    }

    #[test]
    fn what_another_process_has_found_answers_those_for_whom_it_is_fresh() {
        let (mut cache, clock) = cache();
        let (mut other, _) = self::cache();
        check(&mut other, &clock, 50, found(serve()));
        cache.look_up_or_wait(clock.at(0), 1);
        assert!(cache.begin_fetch(clock.at(0)));
        cache.look_up_or_wait(clock.at(200), 2);
        assert_eq!(cache.found_by_another(clock.at(200), other.memory().clone()), [(1, serve())]);
        assert!(!cache.is_fetching() && cache.begin_fetch(clock.at(200)) && cache.is_fetching());
        let stand_by = Verdict::stand_by("replica");
        assert_eq!(cache.fetch_completed(clock.at(210), found(stand_by.clone())), [(2, stand_by.clone())]);
        // One that knows less teaches nothing.
        cache.look_up_or_wait(clock.at(400), 3);
        assert_eq!(cache.found_by_another(clock.at(400), other.memory().clone()), []);
        assert_eq!(cache.memory().conclusive(), Some((clock.at(200), &stand_by)));
    }
}
