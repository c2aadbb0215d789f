//! A view: one endpoint, what Patroni last said of it, and the checks that wait to hear it. Knows time, but no sockets.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::verdict::{NoNews, Verdict};

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
    /// The newest observation: when its request began, and what it was if it was no news.
    latest: Option<(Instant, Option<NoNews>)>,
    /// The newest one that was news.
    news: Option<(Instant, Verdict)>,
    /// Patroni was silent for longer than the grace.
    doubt: bool,
    /// When the request in flight began.
    fetch: Option<Instant>,
    /// In order of arrival.
    waiting: VecDeque<(Instant, C)>,
}

impl<C> View<C> {
    /// A view that has seen nothing yet.
    pub fn new(limits: Limits) -> Self {
        View { limits, latest: None, news: None, doubt: false, fetch: None, waiting: VecDeque::new() }
    }

    /// A check that arrived just now, or a moment ago if it took a moment to say what it asks about. It is given back with
    /// its verdict if there is one fresh enough; otherwise it waits.
    pub fn arrive(&mut self, now: Instant, arrived: Instant, check: C) -> Option<(C, Verdict)> {
        if let Some((began, no_news)) = &self.latest {
            if *began + self.limits.max_age >= arrived {
                let no_news = no_news.clone();
                return Some((check, self.verdict(now, no_news)));
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
    /// for which it is fresh enough.
    pub fn observed(&mut self, now: Instant, found: Result<Verdict, NoNews>) -> Vec<(C, Verdict)> {
        let Some(began) = self.fetch.take() else { return Vec::new() };
        let was_silent = matches!(self.latest, Some((_, Some(_))));
        let found = match found {
            Err(NoNews::NoLock(why)) if !was_silent => Ok(Verdict::StandBy(why)),
            // The lock may have gone to another node in the silence and come back just now, and that node's agent says
            // READY for another max-age; or the answer is as old as the silence.
            Ok(Verdict::Serve(_)) if self.doubt => {
                self.doubt = now > began + self.limits.grace.max(self.limits.deadline);
                Ok(Verdict::Fail("patroni: just back from a silence; asked again".into()))
            }
            found => found,
        };
        let no_news = match found {
            Ok(verdict) => {
                self.news = Some((began, verdict));
                None
            }
            Err(no_news) => Some(no_news),
        };
        self.latest = Some((began, no_news.clone()));
        let verdict = self.verdict(now, no_news);
        let last = began + self.limits.max_age;
        self.take_waiting(|arrived| arrived <= last, &verdict)
    }

    /// The checks whose deadline has come, with what can be said without waiting longer.
    pub fn overdue(&mut self, now: Instant) -> Vec<(C, Verdict)> {
        if self.next_deadline().is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        let deadline = self.limits.deadline;
        let late = NoNews::NoAnswer(format!("patroni: no answer within {deadline:?}"));
        let verdict = self.verdict(now, Some(late));
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

    /// No answer is not news: the last verdict stands until its observation is `grace` old. The leader lock of a Patroni
    /// that stopped renewing it lives longer, so nobody else can be primary yet.
    fn verdict(&mut self, now: Instant, no_news: Option<NoNews>) -> Verdict {
        match (&self.news, no_news) {
            (Some((_, verdict)), None) => verdict.clone(),
            (Some((began, verdict)), Some(_)) if now < *began + self.limits.grace => verdict.clone(),
            (_, no_news) => {
                self.doubt = true;
                no_news.unwrap_or_else(|| NoNews::NoAnswer("patroni: not asked yet".into())).into()
            }
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

    fn arrive(view: &mut View<u32>, at: Instant, check: u32) -> Option<(u32, Verdict)> {
        view.arrive(at, at, check)
    }

    fn serve() -> Verdict {
        Verdict::Serve("primary".into())
    }
    fn refused() -> NoNews {
        NoNews::NoAnswer("patroni: connection refused".into())
    }
    fn no_lock() -> NoNews {
        NoNews::NoLock("primary without the leader lock".into())
    }
    fn just_back() -> Verdict {
        Verdict::Fail("patroni: just back from a silence; asked again".into())
    }
    fn late() -> Verdict {
        Verdict::Fail("patroni: no answer within 500ms".into())
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
        assert_eq!(view.observed(clock.at(50), Ok(serve())), [(1, serve()), (2, serve()), (3, serve())]);
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
        assert_eq!(view.observed(clock.at(200), Ok(serve())), [(1, serve())]);
        assert_eq!(view.waiting(), 1);
        assert!(view.begin_fetch(clock.at(200)));
        let stand_by = Verdict::StandBy("replica".into());
        assert_eq!(view.observed(clock.at(210), Ok(stand_by.clone())), [(2, stand_by)]);
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
    fn silence_is_no_news_until_the_last_word_is_as_old_as_the_grace() {
        let (mut view, clock) = view();
        arrive(&mut view, clock.at(0), 1);
        view.begin_fetch(clock.at(0));
        view.observed(clock.at(5), Ok(serve()));
        // refused at once
        arrive(&mut view, clock.at(1000), 2);
        view.begin_fetch(clock.at(1000));
        assert_eq!(view.observed(clock.at(1001), Err(refused())), [(2, serve())]);
        assert_eq!(arrive(&mut view, clock.at(1050), 3), Some((3, serve())), "from the same observation");
        // hanging
        arrive(&mut view, clock.at(4400), 4);
        view.begin_fetch(clock.at(4400));
        assert_eq!(view.overdue(clock.at(4900)), [(4, serve())]);
        arrive(&mut view, clock.at(4500), 5);
        assert_eq!(view.overdue(clock.at(5000)), [(5, late())], "the last word is 5 s old");
        assert_eq!(view.observed(clock.at(5100), Err(refused())), []);
        arrive(&mut view, clock.at(6000), 6);
        view.begin_fetch(clock.at(6000));
        assert_eq!(view.observed(clock.at(6001), Err(refused())), [(6, refused().into())]);
    }

    /// One check and one request, which takes a millisecond.
    fn check(view: &mut View<u32>, clock: &Clock, at: u64, found: Result<Verdict, NoNews>) -> Verdict {
        assert_eq!(arrive(view, clock.at(at), 0), None);
        assert!(view.begin_fetch(clock.at(at)));
        let mut answered = view.observed(clock.at(at + 1), found);
        assert_eq!(answered.len(), 1);
        answered.remove(0).1
    }

    #[test]
    fn without_an_earlier_word_silence_counts_at_once_and_a_failure_is_news() {
        let (mut view, clock) = view();
        assert_eq!(check(&mut view, &clock, 0, Err(refused())), refused().into());
        assert_eq!(check(&mut view, &clock, 200, Ok(serve())), just_back());
        assert_eq!(check(&mut view, &clock, 400, Ok(serve())), serve());
        let stopping = Verdict::Fail("postgres: stopping".into());
        assert_eq!(check(&mut view, &clock, 600, Ok(stopping.clone())), stopping);
        assert_eq!(check(&mut view, &clock, 800, Ok(serve())), serve());
    }

    #[test]
    fn a_primary_without_the_lock_is_news_unless_patroni_was_silent_just_before() {
        let (mut view, clock) = view();
        check(&mut view, &clock, 0, Ok(serve()));
        assert_eq!(check(&mut view, &clock, 1000, Err(refused())), serve());
        assert_eq!(check(&mut view, &clock, 2000, Err(no_lock())), serve());
        assert_eq!(check(&mut view, &clock, 3000, Err(no_lock())), serve());
        assert_eq!(check(&mut view, &clock, 5001, Err(no_lock())), no_lock().into(), "the last word is 5 s old");
        let (mut view, clock) = self::view();
        check(&mut view, &clock, 0, Ok(serve()));
        assert_eq!(check(&mut view, &clock, 1000, Err(no_lock())), no_lock().into());
        assert_eq!(check(&mut view, &clock, 2000, Err(no_lock())), no_lock().into());
    }

    #[test]
    fn after_a_silence_longer_than_the_grace_one_yes_is_not_enough() {
        let (mut view, clock) = view();
        check(&mut view, &clock, 0, Ok(serve()));
        assert_eq!(check(&mut view, &clock, 4000, Err(refused())), serve());
        assert_eq!(check(&mut view, &clock, 4200, Ok(serve())), serve(), "a shorter one is forgotten");
        assert_eq!(check(&mut view, &clock, 9300, Err(refused())), refused().into());
        assert_eq!(check(&mut view, &clock, 9500, Ok(serve())), just_back());
        assert_eq!(check(&mut view, &clock, 9700, Ok(serve())), serve());
        // A no is believed at once.
        check(&mut view, &clock, 20_000, Err(refused()));
        let stand_by = Verdict::StandBy("replica".into());
        assert_eq!(check(&mut view, &clock, 20_200, Ok(stand_by.clone())), stand_by);
    }

    #[test]
    fn a_check_that_takes_a_moment_to_speak_is_as_old_as_its_arrival() {
        let (mut view, clock) = view();
        arrive(&mut view, clock.at(20), 1);
        assert_eq!(view.arrive(clock.at(30), clock.at(0), 2), None);
        assert_eq!(view.overdue(clock.at(500)), [(2, late())]);
        assert!(view.begin_fetch(clock.at(510)));
        view.observed(clock.at(511), Ok(serve()));
        assert_eq!(view.arrive(clock.at(630), clock.at(610), 3), Some((3, just_back())));
    }

    #[test]
    fn a_late_answer_is_as_old_as_its_request() {
        let (mut view, clock) = view();
        arrive(&mut view, clock.at(0), 1);
        view.begin_fetch(clock.at(0));
        view.overdue(clock.at(500));
        view.observed(clock.at(29_000), Ok(serve()));
        assert_eq!(arrive(&mut view, clock.at(29_001), 2), None, "too old to answer from");
        view.begin_fetch(clock.at(29_001));
        assert_eq!(view.observed(clock.at(29_002), Ok(serve())), [(2, just_back())], "nor does it end the doubt");
        assert_eq!(check(&mut view, &clock, 29_200, Ok(serve())), serve());
    }
}
