//! The oracle: which replies a check may get, by what Patroni could have said, the holds, and what
//! the service was told to do meanwhile. It knows when a change began and when it was surely done;
//! what was observed in between may be either. So it says what may be, never more than is sure, and
//! each saying of Patroni has a number that the reply repeats (`timeline 100017`).

use std::time::{Duration, Instant};

use crate::acts::{Acts, GRACE, MAX_AGE, May, Span, TWO_SECONDS};
use crate::client::Check;
use crate::rule::{Meaning, Said, Word};

/// A process that is killed may not have written what it learnt just before.
const UNWRITTEN: Duration = Duration::from_secs(1);

/// A hold, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    pub number: u32,
    pub drain: bool,
    /// It ends by itself after this, and less than two seconds more.
    pub time: Option<Duration>,
}

pub struct Oracle {
    deadline: Duration,
    acts: Acts,
    holds: Vec<(Span, Option<Hold>)>,
    kills: Vec<Span>,
    /// Checks for which one reply alone was right.
    pub strict: u64,
}

impl Oracle {
    pub fn new(deadline: Duration) -> Self {
        Oracle { deadline, acts: Acts::default(), holds: Vec::new(), kills: Vec::new(), strict: 0 }
    }

    pub fn says(&mut self, since: Span, said: Said) {
        self.acts.says(since, said);
    }

    pub fn holds(&mut self, since: Span, hold: Option<Hold>) {
        self.holds.push((since, hold));
    }

    pub fn killed(&mut self, span: Span) {
        self.kills.push(span);
    }

    pub fn slept(&mut self, span: Span) {
        self.acts.sleeps.push(span);
    }

    /// Whether a check may have been in the hand of a process that was killed.
    pub fn may_be_lost(&self, check: &Check) -> bool {
        self.kills.iter().rev().any(|kill| kill.before <= check.ended && check.began <= kill.surely)
    }

    /// Looks through the checks since the last time, none of which is under way any more. Gives
    /// what is said of each that was told something untrue.
    pub fn judge(&mut self, checks: &[Check]) -> Vec<String> {
        for check in checks {
            if self.is_remembered(check) {
                self.acts.note_observed(check.began, check.ended);
            }
        }
        self.acts.close();
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

    fn is_late(&self, check: &Check) -> bool {
        check.ended - check.began >= self.deadline
    }

    /// Whether the service surely remembers what this check was answered by.
    fn is_remembered(&self, check: &Check) -> bool {
        let is_lost = |kill: &Span| kill.before <= check.ended + UNWRITTEN && check.ended <= kill.surely;
        check.reply.is_ok() && !self.is_late(check) && !self.kills.iter().rev().take(3).any(is_lost)
    }

    fn may_be(&mut self, check: &Check, reply: &str) -> bool {
        let (first, last) = self.acts.window(check.began, check.ended);
        let is_late = self.is_late(check);
        let own = &self.acts.list[first].said;
        let is_simple = matches!(own.meaning, Meaning::Conclusive { .. } if first == last && !is_late);
        if let (true, Meaning::Conclusive { word, .. }) = (is_simple, own.meaning) {
            if reply.starts_with(word.text()) && reply.contains(&own.mark) && self.may_be_free(check) {
                self.strict += 1;
                return true;
            }
        }
        let mut may = Vec::new();
        for act in first..=last {
            may.extend(self.acts.by(act, check.began, check.ended));
        }
        if is_late {
            // At the deadline it is as if Patroni had not answered.
            for act in first..=last + 1 {
                may.extend(self.acts.standing(act, Meaning::Silence, check.began, check.ended));
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
        let (first, last) = self.acts.window(check.began, check.ended);
        let ms = |at: Instant| match at.checked_duration_since(check.began) {
            Some(later) => format!("+{}", later.as_millis()),
            None => format!("-{}", (check.began - at).as_millis()),
        };
        let mut text = format!("untrue: {reply:?} to a check from 0 to {} ms\n", ms(check.ended));
        for (number, act) in self.acts.list.iter().enumerate().take(last + 2).skip(first.saturating_sub(6)) {
            let observed = act.observed.map(|(first, last)| format!("observed {} to {}", ms(first), ms(last)));
            let (before, surely) = (ms(act.since.before), ms(act.since.surely));
            let Said { meaning, mark } = &act.said;
            let observed = observed.unwrap_or_default();
            text += &format!("  {number}: from {before}..{surely}: {meaning:?} {mark:?} {observed}\n");
        }
        for act in first..=last {
            text += &format!("  by {act}: {:?}\n", self.acts.by(act, check.began, check.ended));
        }
        let near = |span: &&Span| check.began < span.surely + 4 * GRACE;
        let spans = |spans: &[Span]| -> Vec<_> {
            spans.iter().filter(near).map(|span| (ms(span.before), ms(span.surely))).collect()
        };
        let (kills, sleeps) = (spans(&self.kills), spans(&self.acts.sleeps));
        text + &format!("  holds {:?}, kills {kills:?}, sleeps {sleeps:?}\n", self.possible_holds(check))
    }
}
