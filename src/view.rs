//! A view: one endpoint, what Patroni last said of it, and the checks that wait to hear it. Knows time, but no sockets.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::verdict::{NoAnswer, Verdict};

/// How long things may take and last.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A check is answered within this.
    pub deadline: Duration,
    /// An observation answers checks that arrive up to this long after it began.
    pub max_age: Duration,
    /// While Patroni does not answer, the last verdict stands until its observation is this old.
    pub grace: Duration,
}

/// The state of one view, for checks of any kind `C`. At most one request to Patroni is in flight.
///
/// An observation's age counts from when its request began: a Patroni that was frozen after it had made up its mind says
/// 200 half a minute late.
#[derive(Debug)]
pub struct View<C> {
    limits: Limits,
    /// The newest observation: when its request began, and the reason if it was no answer.
    latest: Option<(Instant, Option<NoAnswer>)>,
    /// The newest one that was news.
    news: Option<(Instant, Verdict)>,
    /// When the request in flight began.
    fetch: Option<Instant>,
    /// In order of arrival.
    waiting: VecDeque<(Instant, C)>,
}

impl<C> View<C> {
    /// A view that has seen nothing yet.
    pub fn new(limits: Limits) -> Self {
        View { limits, latest: None, news: None, fetch: None, waiting: VecDeque::new() }
    }

    /// A check arrives. It is given back with its verdict if there is one fresh enough; otherwise it waits.
    pub fn arrive(&mut self, now: Instant, check: C) -> Option<(C, Verdict)> {
        if let Some((began, no_answer)) = &self.latest {
            if *began + self.limits.max_age >= now {
                let no_answer = no_answer.clone();
                return Some((check, self.verdict(now, no_answer)));
            }
        }
        self.waiting.push_back((now, check));
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
    /// for which it is fresh enough.
    pub fn observed(&mut self, now: Instant, found: Result<Verdict, NoAnswer>) -> Vec<(C, Verdict)> {
        let Some(began) = self.fetch.take() else { return Vec::new() };
        let no_answer = match found {
            Ok(verdict) => {
                self.news = Some((began, verdict));
                None
            }
            Err(no_answer) => Some(no_answer),
        };
        self.latest = Some((began, no_answer.clone()));
        let verdict = self.verdict(now, no_answer);
        let last = began + self.limits.max_age;
        self.take_waiting(|arrived| arrived <= last, &verdict)
    }

    /// The checks whose deadline has come, with what can be said without waiting longer.
    pub fn overdue(&mut self, now: Instant) -> Vec<(C, Verdict)> {
        if self.next_deadline().is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        let deadline = self.limits.deadline;
        let verdict = self.verdict(now, Some(NoAnswer(format!("patroni: no answer within {deadline:?}"))));
        self.take_waiting(|arrived| arrived + deadline <= now, &verdict)
    }

    /// When the next check becomes overdue.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|(arrived, _)| *arrived + self.limits.deadline)
    }

    /// The number of checks that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// No answer is not news: the last verdict stands until its observation is `grace` old. The leader lock of a Patroni
    /// that stopped renewing it lives longer, so nobody else can be primary yet.
    fn verdict(&self, now: Instant, no_answer: Option<NoAnswer>) -> Verdict {
        match (&self.news, no_answer) {
            (Some((_, verdict)), None) => verdict.clone(),
            (Some((began, verdict)), Some(_)) if now < *began + self.limits.grace => verdict.clone(),
            (_, no_answer) => no_answer.unwrap_or_else(|| NoAnswer("patroni: not asked yet".into())).into(),
        }
    }

    fn take_waiting(&mut self, answered: impl Fn(Instant) -> bool, verdict: &Verdict) -> Vec<(C, Verdict)> {
        let count = self.waiting.iter().take_while(|(arrived, _)| answered(*arrived)).count();
        self.waiting.drain(..count).map(|(_, check)| (check, verdict.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn serve() -> Verdict {
        Verdict::Serve("primary".into())
    }
    fn refused() -> NoAnswer {
        NoAnswer("patroni: connection refused".into())
    }
    fn late() -> Verdict {
        Verdict::Fail("patroni: no answer within 500ms".into())
    }

    #[test]
    fn one_request_answers_all_that_wait_and_those_soon_after() {
        let (mut view, clock) = view();
        assert!(!view.begin_fetch(clock.at(0)), "nobody asked");
        assert_eq!(view.arrive(clock.at(0), 1), None);
        assert_eq!(view.arrive(clock.at(0), 2), None);
        assert!(view.begin_fetch(clock.at(0)));
        assert_eq!(view.arrive(clock.at(20), 3), None);
        assert!(!view.begin_fetch(clock.at(20)), "one in flight");
        assert_eq!(view.observed(clock.at(50), Ok(serve())), [(1, serve()), (2, serve()), (3, serve())]);
        assert_eq!(view.arrive(clock.at(100), 4), Some((4, serve())));
        assert!(!view.begin_fetch(clock.at(100)));
        assert_eq!(view.arrive(clock.at(101), 5), None);
        assert!(view.begin_fetch(clock.at(101)));
    }

    #[test]
    fn an_observation_that_began_too_long_before_a_check_does_not_answer_it() {
        let (mut view, clock) = view();
        view.arrive(clock.at(0), 1);
        assert!(view.begin_fetch(clock.at(0)));
        view.arrive(clock.at(150), 2);
        assert_eq!(view.observed(clock.at(200), Ok(serve())), [(1, serve())]);
        assert_eq!(view.waiting(), 1);
        assert!(view.begin_fetch(clock.at(200)));
        let stand_by = Verdict::StandBy("replica".into());
        assert_eq!(view.observed(clock.at(210), Ok(stand_by.clone())), [(2, stand_by)]);
    }

    #[test]
    fn a_check_is_answered_at_its_deadline_and_the_request_goes_on() {
        let (mut view, clock) = view();
        view.arrive(clock.at(0), 1);
        view.arrive(clock.at(10), 2);
        assert!(view.begin_fetch(clock.at(10)));
        assert_eq!(view.next_deadline(), Some(clock.at(500)));
        assert_eq!(view.overdue(clock.at(499)), []);
        assert_eq!(view.overdue(clock.at(500)), [(1, late())]);
        assert_eq!(view.overdue(clock.at(510)), [(2, late())]);
        view.arrive(clock.at(520), 3);
        assert!(!view.begin_fetch(clock.at(520)), "the first is still in flight");
    }

    #[test]
    fn silence_is_no_news_until_the_last_word_is_as_old_as_the_grace() {
        let (mut view, clock) = view();
        view.arrive(clock.at(0), 1);
        view.begin_fetch(clock.at(0));
        view.observed(clock.at(5), Ok(serve()));
        // refused at once
        view.arrive(clock.at(1000), 2);
        view.begin_fetch(clock.at(1000));
        assert_eq!(view.observed(clock.at(1001), Err(refused())), [(2, serve())]);
        assert_eq!(view.arrive(clock.at(1050), 3), Some((3, serve())), "from the same observation");
        // hanging
        view.arrive(clock.at(4400), 4);
        view.begin_fetch(clock.at(4400));
        assert_eq!(view.overdue(clock.at(4900)), [(4, serve())]);
        view.arrive(clock.at(4500), 5);
        assert_eq!(view.overdue(clock.at(5000)), [(5, late())], "the last word is 5 s old");
        assert_eq!(view.observed(clock.at(5100), Err(refused())), []);
        view.arrive(clock.at(6000), 6);
        view.begin_fetch(clock.at(6000));
        assert_eq!(view.observed(clock.at(6001), Err(refused())), [(6, refused().into())]);
    }

    #[test]
    fn without_an_earlier_word_silence_counts_at_once_and_a_failure_is_news() {
        let (mut view, clock) = view();
        view.arrive(clock.at(0), 1);
        view.begin_fetch(clock.at(0));
        assert_eq!(view.observed(clock.at(1), Err(refused())), [(1, refused().into())]);
        view.arrive(clock.at(200), 2);
        view.begin_fetch(clock.at(200));
        assert_eq!(view.observed(clock.at(201), Ok(serve())), [(2, serve())]);
        let stopping = Verdict::Fail("postgres: stopping".into());
        view.arrive(clock.at(400), 3);
        view.begin_fetch(clock.at(400));
        assert_eq!(view.observed(clock.at(401), Ok(stopping.clone())), [(3, stopping)]);
    }

    #[test]
    fn a_late_answer_is_as_old_as_its_request() {
        let (mut view, clock) = view();
        view.arrive(clock.at(0), 1);
        view.begin_fetch(clock.at(0));
        view.overdue(clock.at(500));
        view.observed(clock.at(29_000), Ok(serve()));
        assert_eq!(view.arrive(clock.at(29_001), 2), None, "too old to answer from");
        view.begin_fetch(clock.at(29_001));
        assert_eq!(view.observed(clock.at(29_002), Err(refused())), [(2, refused().into())], "and to stand");
    }
}
