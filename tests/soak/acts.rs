//! What Patroni said one after the other, how much of it was observed, and what may have been known
//! at any time by that: the verdict that may stand, and who had the lock.

use std::time::{Duration, Instant};

use crate::rule::{Meaning, Said, Word};

/// The defaults of the program's options.
pub const MAX_AGE: Duration = Duration::from_millis(100);
pub const GRACE: Duration = Duration::from_secs(5);

/// A lock that was missed before a silence may be taken after this; and a Patroni that was started
/// anew may not have looked at its lock for as long.
pub const TWO_SECONDS: Duration = Duration::from_secs(2);

/// From just before something began until it surely was done.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub before: Instant,
    pub surely: Instant,
}

impl Span {
    pub fn of<T>(work: impl FnOnce() -> T) -> (Self, T) {
        let before = Instant::now();
        let done = work();
        (Span { before, surely: Instant::now() }, done)
    }
}

/// Patroni says this from then on.
#[derive(Debug)]
pub struct Act {
    pub since: Span,
    pub said: Said,
    /// Of the checks that can't but have been answered by it: the end of the first, and the
    /// earliest time at which the observation for the last can have begun.
    pub observed: Option<(Instant, Instant)>,
    /// What was noted before it was judged of [`Acts::may_be_back`].
    may_be_back: bool,
}

/// What a check may be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct May {
    pub word: Word,
    pub mark: String,
}

/// What may be known of the lock.
#[derive(Default)]
struct Lock {
    here: bool,
    away: bool,
    nothing: bool,
    /// When it was known last, at the latest, and at the earliest if it surely was.
    latest: Option<Instant>,
    surely: Option<Instant>,
}

#[derive(Default)]
pub struct Acts {
    pub list: Vec<Act>,
    /// The host slept: what was known before is old.
    pub sleeps: Vec<Span>,
    /// The first act for which there may be further checks.
    open: usize,
}

impl Acts {
    pub fn says(&mut self, since: Span, said: Said) {
        self.list.push(Act { since, said, observed: None, may_be_back: false });
    }

    /// A check that began and ended then was answered by what was observed.
    pub fn note_observed(&mut self, began: Instant, ended: Instant) {
        let from = began - MAX_AGE;
        let number = self.list.partition_point(|act| act.since.surely <= from);
        if number == 0 || self.list.get(number).is_some_and(|next| ended > next.since.before) {
            return;
        }
        let observed = &mut self.list[number - 1].observed;
        let (first, last) = observed.unwrap_or((ended, from));
        *observed = Some((first.min(ended), last.max(from)));
    }

    /// All that was observed until now was noted.
    pub fn close(&mut self) {
        for act in std::mem::replace(&mut self.open, self.list.len() - 1)..self.list.len() {
            self.list[act].may_be_back = self.may_be_back(act);
        }
    }

    /// Those that may be the newest that was observed for a check that began and ended then.
    pub fn window(&self, began: Instant, ended: Instant) -> (usize, usize) {
        let last = self.list.partition_point(|act| act.since.before <= ended) - 1;
        let from = began - MAX_AGE;
        let first = (0..=last).rev().find(|act| *act == 0 || self.list[*act].since.surely < from);
        (first.unwrap_or_default(), last)
    }

    /// What a check may be told that was answered by this one.
    pub fn by(&self, act: usize, began: Instant, ended: Instant) -> Vec<May> {
        let Act { said, observed, .. } = &self.list[act];
        let from = began - MAX_AGE;
        let is = |word| May { word, mark: said.mark.clone() };
        let stands = || self.standing(act, said.meaning, began, ended);
        let was_observed = |ago: Duration| observed.is_some_and(|(first, _)| from >= first + ago);
        let mut may = match said.meaning {
            Meaning::Conclusive { word, .. } => vec![is(word)],
            Meaning::Silence | Meaning::StateUnknown => stands(),
            Meaning::WithoutLock(word) => {
                let mut may = vec![is(word)];
                if self.may_be_anew(act) && !was_observed(TWO_SECONDS) {
                    may.extend(stands());
                }
                may
            }
            Meaning::WithoutLockInPause => {
                let mut may = vec![is(Word::StandBy)];
                may.extend(self.lock(act).here.then(|| is(Word::Serve)));
                may.extend(stands());
                may
            }
            Meaning::Unlocked => {
                let lock = self.lock(act);
                let is_doubtful = self.list[act].may_be_back;
                let may_stand = lock.here && lock.latest.is_some_and(|latest| began < latest + GRACE);
                let only_here = lock.here && !lock.away && !lock.nothing && !is_doubtful;
                let slept = self.last_sleep(ended);
                let is_old = |slept: &Span| slept.surely <= began && lock.latest < Some(slept.before);
                let may_stand = may_stand && !slept.is_some_and(is_old);
                let is_since = |surely: Instant| slept.is_none_or(|slept| slept.surely < surely);
                let must_stand =
                    only_here && lock.surely.is_some_and(|surely| ended < surely + GRACE && is_since(surely));
                let mut may = Vec::new();
                may.extend(may_stand.then(|| is(Word::Serve)));
                may.extend((!must_stand).then(|| is(Word::StandBy)));
                may
            }
            Meaning::UnlockedInPause { granted } => {
                let lock = self.lock(act);
                let mut may = Vec::new();
                may.extend((lock.here || lock.nothing && granted).then(|| is(Word::Serve)));
                may.extend((lock.away || lock.nothing && !granted).then(|| is(Word::StandBy)));
                may
            }
        };
        let grants = may.iter().any(|one| one.word == Word::Serve && one.mark == said.mark);
        if grants && self.list[act].may_be_back && !was_observed(Duration::ZERO) {
            may.push(just_back());
        }
        may
    }

    /// What may be told where this one settles nothing: the last conclusive verdict, for the grace.
    pub fn standing(&self, act: usize, meaning: Meaning, began: Instant, ended: Instant) -> Vec<May> {
        let own = |number: usize| self.list.get(number).map(|act| act.said.mark.clone());
        let mark = if meaning == Meaning::Silence { None } else { own(act) };
        let fail = May { word: Word::Fail, mark: mark.unwrap_or_else(|| "patroni: ".into()) };
        let (mut may, mut may_be_missed, mut is_missed, mut was_paused) = (Vec::new(), false, false, false);
        let slept = self.last_sleep(ended);
        for number in (0..act).rev() {
            let Act { since, said, observed, .. } = &self.list[number];
            let end = self.end(number, ended);
            if slept.is_some_and(|slept| end < slept.before && slept.surely <= began) {
                break;
            }
            let is_in_time = began < end + GRACE;
            for one in self.leaves(number).into_iter().filter(|_| is_in_time) {
                let is_taken = is_missed && meaning == Meaning::Silence && one.word == Word::Serve;
                may.extend((!is_taken).then_some(one));
            }
            let observed = observed.filter(|(_, last)| slept.is_none_or(|slept| *last >= slept.surely));
            if let (Some((_, last)), true) = (observed, self.settles(number)) {
                if ended < last + GRACE && !may_be_missed {
                    return may;
                }
                break;
            }
            let misses = matches!(
                said.meaning,
                Meaning::Unlocked
                    | Meaning::UnlockedInPause { .. }
                    | Meaning::WithoutLock(_)
                    | Meaning::WithoutLockInPause
            );
            may_be_missed |= misses && ended >= since.before + TWO_SECONDS;
            // In a pause nobody takes it.
            was_paused |= matches!(said.meaning, Meaning::UnlockedInPause { .. } | Meaning::WithoutLockInPause);
            let was_unlocked = said.meaning == Meaning::Unlocked && observed.is_some() && !was_paused;
            is_missed |= was_unlocked && began >= end + TWO_SECONDS;
        }
        may.push(fail);
        may
    }

    /// The conclusive verdicts that this one may have left.
    fn leaves(&self, act: usize) -> Vec<May> {
        let Act { said, observed, .. } = &self.list[act];
        let is = |word| May { word, mark: said.mark.clone() };
        let mut left = match said.meaning {
            Meaning::Silence | Meaning::StateUnknown | Meaning::Unlocked => Vec::new(),
            Meaning::Conclusive { word, .. } | Meaning::WithoutLock(word) => vec![is(word)],
            Meaning::WithoutLockInPause | Meaning::UnlockedInPause { .. } => {
                let Lock { here, away, nothing, .. } = self.lock(act);
                let words = [(here || nothing, Word::Serve), (away || nothing, Word::StandBy)];
                words.into_iter().filter(|(may_be, _)| *may_be).map(|(_, word)| is(word)).collect()
            }
        };
        let was_observed_twice = observed.is_some_and(|(first, last)| last >= first);
        if left.iter().any(|one| one.word == Word::Serve) && !was_observed_twice && self.list[act].may_be_back {
            left.push(just_back());
        }
        left
    }

    /// Whether this one, once observed, leaves nothing of what was before it.
    fn settles(&self, act: usize) -> bool {
        match self.list[act].said.meaning {
            Meaning::Conclusive { .. } | Meaning::UnlockedInPause { granted: true } => true,
            Meaning::WithoutLock(_) => !self.may_be_anew(act),
            _ => false,
        }
    }

    /// What may be known of the lock when this one is observed.
    fn lock(&self, act: usize) -> Lock {
        let (mut lock, mut was_granted) = (Lock::default(), false);
        for number in (0..act).rev() {
            let Act { said, observed, .. } = &self.list[number];
            let known = match said.meaning {
                Meaning::Conclusive { lock: Some(here), .. } => Some((here, !here, true)),
                Meaning::WithoutLock(_) => Some((false, true, self.settles(number))),
                Meaning::WithoutLockInPause => Some((true, true, false)),
                Meaning::UnlockedInPause { granted } => {
                    // As it was before; by the role, if nothing was known.
                    was_granted |= granted;
                    Some((false, false, false))
                }
                _ => None,
            };
            let Some((here, away, settles)) = known else { continue };
            lock.here |= here;
            lock.away |= away;
            lock.latest = lock.latest.max(self.list.get(number + 1).map(|next| next.since.surely));
            if let (true, Some((_, last))) = (settles, observed) {
                lock.surely = Some(*last);
                return lock;
            }
        }
        (lock.here, lock.nothing) = (lock.here || was_granted, true);
        lock
    }

    /// Whether Patroni may just have been started anew, for all that was observed.
    fn may_be_anew(&self, act: usize) -> bool {
        for Act { said, observed, .. } in self.list[..act].iter().rev() {
            match said.meaning {
                Meaning::Silence => return true,
                Meaning::WithoutLock(_) | Meaning::WithoutLockInPause => {}
                _ if observed.is_some() => return false,
                _ => {}
            }
        }
        false
    }

    /// Whether there may have been a silence that was longer than the last word stands, since when
    /// nothing was observed of the lock.
    fn may_be_back(&self, act: usize) -> bool {
        for number in (0..act).rev() {
            let Act { since, said, observed, .. } = &self.list[number];
            match said.meaning {
                Meaning::Silence => {
                    let end = self.end(number, since.surely);
                    let told = self.standing(number, Meaning::Silence, since.before, end);
                    if told.contains(&May { word: Word::Fail, mark: "patroni: ".into() }) {
                        return true;
                    }
                }
                Meaning::Conclusive { lock: Some(_), .. } if observed.is_some() => return false,
                _ => {}
            }
        }
        false
    }

    fn last_sleep(&self, by: Instant) -> Option<&Span> {
        self.sleeps.iter().rev().find(|sleep| sleep.before <= by)
    }

    /// The latest moment at which this can be observed.
    fn end(&self, act: usize, now: Instant) -> Instant {
        self.list.get(act + 1).map_or(now, |next| next.since.surely)
    }
}

fn just_back() -> May {
    May { word: Word::Fail, mark: "patroni: just back from a silence".into() }
}
