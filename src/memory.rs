//! What was known before, and for how long it stands where an observation settles nothing. Time is
//! an argument, for the tests.

pub mod file;
mod presence;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::config::Limits;
use crate::verdict::{Evidence, Judgement, Verdict};
use presence::Presence;

/// A Patroni that was started anew looks at its lock in its first round, which begins some 100 ms
/// after it answers.
const FIRST_ROUND: Duration = Duration::from_secs(2);

/// Another node waits this long for a member that does not answer, before it takes a free lock
/// (`ha.py`, `fetch_node_status`).
const MEMBER_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest reason that is remembered, in bytes. HAProxy is told less. Parts of it are Patroni's.
const REASON_LIMIT: usize = 256;

/// What is older than this, or than a longer grace, tells nothing of now.
const STALE: Duration = Duration::from_secs(5);

/// Whether Patroni may have been started anew, and not have looked at its lock yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Restart {
    No,
    /// It is silent.
    Silent,
    /// It answers again, since then.
    Since(Moment),
}

/// This node had the lock, and Patroni now says that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Missed {
    /// When the newest such observation began.
    latest: Moment,
    in_pause: bool,
    /// When Patroni had looked at the store by its first such answer, in seconds of Unix time.
    looked: Option<u64>,
    /// Another node may have taken it: it was free, or Patroni was silent.
    was_free: bool,
}

/// What is remembered of an endpoint. It lets an earlier verdict stand or vetoes a new one; it
/// grants nothing of its own. It outlives a process (`memory/file.rs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// They are the settings', whatever they were when this was learnt.
    #[serde(skip)]
    limits: Limits,
    /// The newest observation: when its request began, and what it means.
    latest: Option<(Moment, Judgement)>,
    /// The newest conclusive verdict, and when its observation began.
    conclusive: Option<(Moment, Verdict)>,
    /// Whether this node held the lock when Patroni last knew who does, and when that was.
    lock_was_here: Option<(Moment, bool)>,
    missed: Option<Missed>,
    restart: Restart,
    /// The newest answer contradicts what was known. It may be torn, so it is asked once more;
    /// until then what was known stands.
    recheck_pending: bool,
    /// Patroni was silent for longer than the last word stands, and has told nothing of the lock
    /// since.
    back_from_silence: bool,
    presence: Presence,
}

impl Memory {
    /// Nothing is known yet.
    pub fn new(limits: Limits) -> Self {
        Memory {
            limits,
            latest: None,
            conclusive: None,
            lock_was_here: None,
            missed: None,
            restart: Restart::No,
            recheck_pending: false,
            back_from_silence: false,
            presence: Presence::Unknown,
        }
    }

    /// Takes note of an observation whose request began then, and says what it means to one who
    /// remembers the earlier ones.
    pub fn learn(&mut self, now: Moment, began: Moment, mut judgement: Judgement) -> Judgement {
        judgement.verdict.cut_why(REASON_LIMIT);
        let was_late = self.was_late(now, began);
        self.note_restart(began, judgement.evidence);
        self.note_missed(began, judgement.evidence);
        let mut judgement = self.resolve(began, judgement);
        let is_stale = self.is_stale(now.since(began));
        if is_stale || judgement.evidence == Evidence::Silence && self.grace_verdict(now, &judgement).is_none() {
            self.back_from_silence = true;
        }
        if let Evidence::Conclusive { has_lock } = judgement.evidence {
            let had_to_confirm = self.back_from_silence;
            // A late answer is as old as the silence, and garbage tells nothing of the lock.
            self.back_from_silence = had_to_confirm && (has_lock.is_none() || is_stale);
            if had_to_confirm && has_lock == Some(true) && matches!(judgement.verdict, Verdict::Serve(_)) {
                // The lock may have gone to another node in the silence and come back just now, and
                // that node's agent says READY for another max-age.
                judgement.verdict = Verdict::Fail("patroni: just back from a silence; asked again".into());
            }
            self.conclusive = Some((began, judgement.verdict.clone()));
            self.lock_was_here = has_lock.map(|has_lock| (began, has_lock)).or(self.lock_was_here);
        }
        if !self.recheck_pending {
            self.latest = Some((began, judgement.clone()));
            self.note_presence(now, began, &judgement, was_late);
        }
        judgement
    }

    /// Whether this request took so long that a check may have been told of a silence meanwhile.
    fn was_late(&self, now: Moment, began: Moment) -> bool {
        let silence = Judgement::silence(String::new());
        now.since_by_boot(began) > self.limits.deadline && self.grace_verdict(now, &silence).is_none()
    }

    fn note_presence(&mut self, now: Moment, began: Moment, judgement: &Judgement, was_late: bool) {
        let pause = self.limits.grace.max(STALE);
        self.presence = match self.verdict(now, judgement) {
            Verdict::Serve(_) if was_late => self.presence.good(now, true, pause),
            Verdict::Serve(_) => self.presence.good(began, false, pause),
            _ if matches!(judgement.evidence, Evidence::Conclusive { .. }) => Presence::Away,
            _ => self.presence.silent(),
        };
    }

    /// The verdict for a view that calls a node back only after it was good for so long.
    pub fn after_calm(&self, now: Moment, calm: Duration, verdict: Verdict) -> Verdict {
        match (self.presence.calm_left(now, calm), verdict) {
            (Some(left), Verdict::Serve(why)) => Verdict::Calm(why + ", calm", left),
            (_, verdict) => verdict,
        }
    }

    /// The same for one who has these limits.
    pub fn within(self, limits: Limits) -> Self {
        Memory { limits, ..self }
    }

    /// Whether its newest observation began later.
    pub(crate) fn is_newer_than(&self, other: &Memory) -> bool {
        let began = |memory: &Memory| memory.latest.as_ref().map(|(began, _)| began.boot);
        began(self) > began(other)
    }

    /// Whether it tells of a moment that is yet to come. The wall clock may have been set back; the
    /// clock since the boot goes on.
    pub(crate) fn is_of_the_future(&self, now: Moment) -> bool {
        let restart = match self.restart {
            Restart::Since(since) => Some(since),
            Restart::No | Restart::Silent => None,
        };
        let moments = [
            self.latest.as_ref().map(|(began, _)| *began),
            self.conclusive.as_ref().map(|(began, _)| *began),
            self.lock_was_here.map(|(began, _)| began),
            self.missed.map(|missed| missed.latest),
            restart,
            self.presence.latest(),
        ];
        moments.into_iter().flatten().any(|moment| moment.boot > now.boot)
    }

    /// How long things may take and last.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The newest conclusive verdict, and when its observation began.
    pub fn conclusive(&self) -> Option<(Moment, &Verdict)> {
        self.conclusive.as_ref().map(|(began, verdict)| (*began, verdict))
    }

    /// Whether this node held the lock when Patroni last knew who does.
    pub fn lock_was_here(&self) -> Option<bool> {
        self.lock_was_here.map(|(_, was_here)| was_here)
    }

    /// When the newest observation began, and the verdict by it.
    pub(crate) fn latest_verdict(&self, now: Moment) -> Option<(Moment, Verdict)> {
        let (began, judgement) = self.latest.as_ref()?;
        Some((*began, self.verdict(now, judgement)))
    }

    /// The verdict by the newest observation, if that is fresh enough for a check that comes now.
    pub fn fresh_verdict(&self, now: Moment) -> Option<Verdict> {
        let (began, verdict) = self.latest_verdict(now)?;
        (now.since(began) <= self.limits.max_age).then_some(verdict)
    }

    /// Whether an observation of this age says nothing of now.
    pub fn is_stale(&self, age: Duration) -> bool {
        age > self.limits.grace.max(STALE)
    }

    /// Whether the newest observation is to be confirmed by another one before anybody is told.
    pub fn is_recheck_pending(&self) -> bool {
        self.recheck_pending
    }

    fn note_restart(&mut self, began: Moment, evidence: Evidence) {
        self.restart = match (evidence, self.restart) {
            (Evidence::Silence, _) => Restart::Silent,
            (Evidence::WithoutLock | Evidence::WithoutLockInPause { .. }, Restart::Silent) => Restart::Since(began),
            (Evidence::WithoutLock | Evidence::WithoutLockInPause { .. }, Restart::Since(back))
                if began.since(back) < FIRST_ROUND =>
            {
                Restart::Since(back)
            }
            _ => Restart::No,
        };
    }

    fn note_missed(&mut self, began: Moment, evidence: Evidence) {
        let may_have_restarted = self.restart != Restart::No;
        let (in_pause, looked, is_free) = match evidence {
            Evidence::WithoutLock if !may_have_restarted => (false, None, false),
            Evidence::WithoutLockInPause { looked } => (true, looked, may_have_restarted),
            Evidence::Unlocked { paused } => (paused, None, true),
            Evidence::WithoutLock | Evidence::Silence | Evidence::StateUnknown => return,
            Evidence::Conclusive { .. } | Evidence::GrantedInPause => {
                self.missed = None;
                return;
            }
        };
        if matches!(self.lock_was_here, Some((_, true))) {
            let missed = self.missed.get_or_insert(Missed { latest: began, in_pause, looked, was_free: is_free });
            (missed.latest, missed.in_pause) = (began, in_pause);
            missed.was_free |= is_free;
        }
    }

    /// Makes an observation conclusive where memory settles what it leaves open.
    fn resolve(&mut self, began: Moment, judgement: Judgement) -> Judgement {
        let was_here = self.lock_was_here.map(|(_, has_lock)| has_lock);
        let was_here_just_now = matches!(self.lock_was_here, Some((since, true)) if !self.is_stale(began.since(since)));
        let is_second = std::mem::take(&mut self.recheck_pending);
        let has_lock_now = match judgement.evidence {
            Evidence::WithoutLock | Evidence::WithoutLockInPause { .. } if self.restart != Restart::No => None,
            // Patroni has not read the store since, so it has only failed to renew its lock. An old
            // Patroni does not say when it read the store; it may have.
            Evidence::WithoutLockInPause { looked: None } if was_here_just_now && !self.was_free() => None,
            Evidence::WithoutLockInPause { looked }
                if was_here_just_now
                    && !self.was_free()
                    && self.missed.is_some_and(|missed| looked <= missed.looked) =>
            {
                Some(true)
            }
            Evidence::WithoutLock | Evidence::WithoutLockInPause { .. } => {
                self.recheck_pending = was_here == Some(true) && !is_second;
                (!self.recheck_pending).then_some(false)
            }
            Evidence::GrantedInPause => {
                self.recheck_pending = was_here == Some(false) && !is_second;
                (!self.recheck_pending).then_some(true)
            }
            // Nobody takes the lock while the cluster is paused: who had it last goes on for as
            // long as this lasts, and who had it not stays out, whatever the status says. Each such
            // observation counts anew, so that after an hour of it a silence of Patroni has its
            // grace as well.
            Evidence::Unlocked { paused: true } => {
                was_here.or(matches!(judgement.verdict, Verdict::Serve(_)).then_some(true))
            }
            _ => None,
        };
        let why = || judgement.verdict.why().to_owned();
        let verdict = match (has_lock_now, &judgement.verdict) {
            (None, _) => return judgement,
            (_, Verdict::Fail(_)) => judgement.verdict,
            (Some(true), _) => Verdict::Serve(why()),
            (Some(false), _) => Verdict::stand_by(why()),
        };
        Judgement { verdict, evidence: Evidence::Conclusive { has_lock: has_lock_now } }
    }

    fn was_free(&self) -> bool {
        self.missed.is_some_and(|missed| missed.was_free)
    }

    /// What is to be said now of the newest observation.
    pub fn verdict(&self, now: Moment, judgement: &Judgement) -> Verdict {
        self.grace_verdict(now, judgement).unwrap_or_else(|| judgement.verdict.clone())
    }

    /// The earlier verdict that stands in place of the newest one, which settles nothing: until its
    /// observation is `grace` old. The leader lock of a Patroni that stopped renewing it lives
    /// longer, so nobody else can be primary yet. A lock that was missed before a silence may be
    /// taken sooner.
    fn grace_verdict(&self, now: Moment, judgement: &Judgement) -> Option<Verdict> {
        let stands = |since: Moment| now.since(since) < self.limits.grace;
        match judgement.evidence {
            Evidence::Conclusive { .. } => None,
            Evidence::Unlocked { .. } => {
                let was_here =
                    matches!(self.lock_was_here, Some((since, true)) if stands(since)) && !self.back_from_silence;
                was_here.then(|| Verdict::Serve(judgement.verdict.why().to_owned()))
            }
            evidence => {
                let (since, verdict) = self.conclusive.as_ref()?;
                let is_missed =
                    self.missed.is_some_and(|missed| !missed.in_pause && now.since(missed.latest) >= MEMBER_TIMEOUT);
                let may_be_taken =
                    is_missed && evidence != Evidence::StateUnknown && matches!(verdict, Verdict::Serve(_));
                (stands(*since) && !may_be_taken).then(|| verdict.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests;
