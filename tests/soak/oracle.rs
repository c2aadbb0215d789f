//! The oracle: which replies a check may get, by what Patroni could have said, the holds, and what
//! the service was told to do meanwhile. It knows when a change began and when it was surely done;
//! what was observed in between may be either. So it says what may be, never more than is sure, and
//! each saying of Patroni has a number that the reply repeats (`timeline 100017`).

use std::time::{Duration, Instant};

use crate::rule::{Meaning, Said, Word};

/// The defaults of the program's options.
const MAX_AGE: Duration = Duration::from_millis(100);
const GRACE: Duration = Duration::from_secs(5);

/// A lock that was missed before a silence may be taken after this; and a Patroni that was started
/// anew may not have looked at its lock for as long.
const TWO_SECONDS: Duration = Duration::from_secs(2);

/// A process that is killed may not have written what it learnt just before.
const UNWRITTEN: Duration = Duration::from_secs(1);

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
struct Act {
    since: Span,
    said: Said,
    /// Of the checks that can't but have been answered by it: the end of the first, and the
    /// earliest time at which the observation for the last can have begun.
    observed: Option<(Instant, Instant)>,
    /// What was noted before it was judged of [`Oracle::may_be_back`].
    may_be_back: bool,
}

/// A hold, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    pub number: u32,
    pub drain: bool,
    /// It ends by itself after this, and less than two seconds more.
    pub time: Option<Duration>,
}

#[derive(Debug)]
pub struct Check {
    pub began: Instant,
    pub ended: Instant,
    /// Or why there is none.
    pub reply: Result<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct May {
    word: Word,
    mark: String,
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

pub struct Oracle {
    deadline: Duration,
    acts: Vec<Act>,
    holds: Vec<(Span, Option<Hold>)>,
    kills: Vec<Span>,
    /// The host slept: what was known before is old.
    sleeps: Vec<Span>,
    /// Checks for which one reply alone was right.
    pub strict: u64,
    /// The first act for which there may be further checks.
    open: usize,
}

impl Oracle {
    pub fn new(deadline: Duration) -> Self {
        let (acts, holds, kills, sleeps) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Oracle { deadline, acts, holds, kills, sleeps, strict: 0, open: 0 }
    }

    pub fn says(&mut self, since: Span, said: Said) {
        self.acts.push(Act { since, said, observed: None, may_be_back: false });
    }

    pub fn holds(&mut self, since: Span, hold: Option<Hold>) {
        self.holds.push((since, hold));
    }

    pub fn killed(&mut self, span: Span) {
        self.kills.push(span);
    }

    pub fn slept(&mut self, span: Span) {
        self.sleeps.push(span);
    }

    /// Whether a check may have been in the hand of a process that was killed.
    pub fn may_be_lost(&self, check: &Check) -> bool {
        self.kills.iter().rev().any(|kill| kill.before <= check.ended && check.began <= kill.surely)
    }

    /// Looks through the checks since the last time, none of which is under way any more. Gives
    /// what is said of each that was told something untrue.
    pub fn judge(&mut self, checks: &[Check]) -> Vec<String> {
        for check in checks.iter().filter(|check| check.reply.is_ok()) {
            self.note_observed(check);
        }
        for act in std::mem::replace(&mut self.open, self.acts.len() - 1)..self.acts.len() {
            self.acts[act].may_be_back = self.may_be_back(act);
        }
        let mut untrue = Vec::new();
        for check in checks {
            if let Ok(reply) = &check.reply {
                if !self.may_be(check, reply) {
                    let is_enough = untrue.len() >= 3;
                    untrue.push(if is_enough { reply.clone() } else { self.describe(check, reply) });
                }
            }
        }
        untrue
    }

    fn note_observed(&mut self, check: &Check) {
        let from = check.began - MAX_AGE;
        let number = self.acts.partition_point(|act| act.since.surely <= from);
        let is_late = check.ended - check.began >= self.deadline;
        let is_lost = |kill: &Span| kill.before <= check.ended + UNWRITTEN && check.ended <= kill.surely;
        if number == 0 || is_late || self.kills.iter().rev().take(3).any(is_lost) {
            return;
        }
        if self.acts.get(number).is_some_and(|next| check.ended > next.since.before) {
            return;
        }
        let observed = &mut self.acts[number - 1].observed;
        let (first, last) = observed.unwrap_or((check.ended, from));
        *observed = Some((first.min(check.ended), last.max(from)));
    }

    fn last_sleep(&self, by: Instant) -> Option<&Span> {
        self.sleeps.iter().rev().find(|sleep| sleep.before <= by)
    }

    /// The latest moment at which this can be observed.
    fn end(&self, act: usize, now: Instant) -> Instant {
        self.acts.get(act + 1).map_or(now, |next| next.since.surely)
    }

    /// Those that may be the newest that was observed for a check.
    fn window(&self, check: &Check) -> (usize, usize) {
        let last = self.acts.partition_point(|act| act.since.before <= check.ended) - 1;
        let from = check.began - MAX_AGE;
        let first = (0..=last).rev().find(|act| *act == 0 || self.acts[*act].since.surely < from);
        (first.unwrap_or_default(), last)
    }

    fn may_be(&mut self, check: &Check, reply: &str) -> bool {
        let (first, last) = self.window(check);
        let is_late = check.ended - check.began >= self.deadline;
        let own = &self.acts[first].said;
        let is_simple = matches!(own.meaning, Meaning::Conclusive { .. } if first == last && !is_late);
        if let (true, Meaning::Conclusive { word, .. }) = (is_simple, own.meaning) {
            if reply.starts_with(word.text()) && reply.contains(&own.mark) && self.may_be_free(check) {
                self.strict += 1;
                return true;
            }
        }
        let mut may = Vec::new();
        for act in first..=last {
            may.extend(self.by(act, check.began, check.ended));
        }
        if is_late {
            // At the deadline it is as if Patroni had not answered.
            for act in first..=last + 1 {
                may.extend(self.standing(act, Meaning::Silence, check.began, check.ended));
            }
        }
        if may.iter().all(|one| Some(one) == may.first()) {
            self.strict += 1;
        }
        if reply.contains("# held") {
            return self.may_be_held(check, reply, &may);
        }
        self.may_be_free(check) && may.iter().any(|one| reply.starts_with(one.word.text()) && reply.contains(&one.mark))
    }

    /// What a check may be told that was answered by this one.
    fn by(&self, act: usize, began: Instant, ended: Instant) -> Vec<May> {
        let Act { said, observed, .. } = &self.acts[act];
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
                let is_doubtful = self.acts[act].may_be_back;
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
        if grants && self.acts[act].may_be_back && !was_observed(Duration::ZERO) {
            may.push(just_back());
        }
        may
    }

    /// What may be told where this one settles nothing: the last conclusive verdict, for the grace.
    fn standing(&self, act: usize, meaning: Meaning, began: Instant, ended: Instant) -> Vec<May> {
        let own = |number: usize| self.acts.get(number).map(|act| act.said.mark.clone());
        let mark = if meaning == Meaning::Silence { None } else { own(act) };
        let fail = May { word: Word::Fail, mark: mark.unwrap_or_else(|| "patroni: ".into()) };
        let (mut may, mut may_be_missed, mut is_missed, mut was_paused) = (Vec::new(), false, false, false);
        let slept = self.last_sleep(ended);
        for number in (0..act).rev() {
            let Act { since, said, observed, .. } = &self.acts[number];
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
        let Act { said, observed, .. } = &self.acts[act];
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
        if left.iter().any(|one| one.word == Word::Serve) && !was_observed_twice && self.acts[act].may_be_back {
            left.push(just_back());
        }
        left
    }

    /// Whether this one, once observed, leaves nothing of what was before it.
    fn settles(&self, act: usize) -> bool {
        match self.acts[act].said.meaning {
            Meaning::Conclusive { .. } | Meaning::UnlockedInPause { granted: true } => true,
            Meaning::WithoutLock(_) => !self.may_be_anew(act),
            _ => false,
        }
    }

    /// What may be known of the lock when this one is observed.
    fn lock(&self, act: usize) -> Lock {
        let (mut lock, mut was_granted) = (Lock::default(), false);
        for number in (0..act).rev() {
            let Act { said, observed, .. } = &self.acts[number];
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
            lock.latest = lock.latest.max(self.acts.get(number + 1).map(|next| next.since.surely));
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
        for Act { said, observed, .. } in self.acts[..act].iter().rev() {
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
            let Act { since, said, observed, .. } = &self.acts[number];
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

    /// The holds that a check may have met. The service looks at most once in a turn of its loop.
    fn possible_holds(&self, check: &Check) -> Vec<Option<Hold>> {
        let from = check.began - MAX_AGE;
        let mut possible = Vec::new();
        for (number, (since, hold)) in self.holds.iter().enumerate().rev() {
            if since.before > check.ended {
                continue;
            }
            let ends = hold.and_then(|hold| hold.time);
            let may_stand = ends.is_none_or(|time| from < since.surely + time + TWO_SECONDS);
            let may_be_over = ends.is_some_and(|time| check.ended >= since.before + time);
            possible.extend(may_stand.then_some(*hold));
            possible.extend(may_be_over.then_some(None));
            if since.surely < from {
                return possible;
            }
            if number == 0 {
                break;
            }
        }
        possible.push(None);
        possible
    }

    fn may_be_free(&self, check: &Check) -> bool {
        self.holds.is_empty() || self.possible_holds(check).contains(&None)
    }

    fn may_be_held(&self, check: &Check, reply: &str, may: &[May]) -> bool {
        let number = reply.trim_end().rsplit(' ').next().and_then(|number| number.parse().ok());
        let holds = self.possible_holds(check);
        let hold = holds.iter().flatten().find(|hold| Some(hold.number) == number);
        hold.is_some_and(|hold| match hold.drain {
            false => reply.starts_with("MAINT UP"),
            // A node that is not the primary keeps no sessions.
            true if reply.starts_with("DRAIN UP") => may.iter().any(|one| one.word == Word::Serve),
            true => reply.starts_with("MAINT UP") && may.iter().any(|one| one.word != Word::Serve),
        })
    }

    /// For whoever has to find out.
    fn describe(&self, check: &Check, reply: &str) -> String {
        let (first, last) = self.window(check);
        let ms = |at: Instant| match at.checked_duration_since(check.began) {
            Some(later) => format!("+{}", later.as_millis()),
            None => format!("-{}", (check.began - at).as_millis()),
        };
        let mut text = format!("untrue: {reply:?} to a check from 0 to {} ms\n", ms(check.ended));
        for (number, act) in self.acts.iter().enumerate().take(last + 2).skip(first.saturating_sub(6)) {
            let observed = act.observed.map(|(first, last)| format!("observed {} to {}", ms(first), ms(last)));
            let (before, surely) = (ms(act.since.before), ms(act.since.surely));
            let Said { meaning, mark } = &act.said;
            let observed = observed.unwrap_or_default();
            text += &format!("  {number}: from {before}..{surely}: {meaning:?} {mark:?} {observed}\n");
        }
        for act in first..=last {
            text += &format!("  by {act}: {:?}\n", self.by(act, check.began, check.ended));
        }
        let near = |span: &&Span| check.began < span.surely + 4 * GRACE;
        let spans = |spans: &[Span]| -> Vec<_> {
            spans.iter().filter(near).map(|span| (ms(span.before), ms(span.surely))).collect()
        };
        let (kills, sleeps) = (spans(&self.kills), spans(&self.sleeps));
        text + &format!("  holds {:?}, kills {kills:?}, sleeps {sleeps:?}\n", self.possible_holds(check))
    }
}

fn just_back() -> May {
    May { word: Word::Fail, mark: "patroni: just back from a silence".into() }
}
