//! An agent: the program's own rule, memory, cache and words, around one request at a time to its
//! Patroni.

use std::collections::HashMap;
use std::time::Duration;

use patroni_check::cache::Cache;
use patroni_check::clock::Moment;
use patroni_check::config::Limits;
use patroni_check::endpoint::Endpoint;
use patroni_check::haproxy::reply::{ReplyFormat, ReplyPolicy};
use patroni_check::memory::Memory;
use patroni_check::patroni::Answer;
use patroni_check::patroni::body::Body;
use patroni_check::verdict::{Evidence, Judgement, Verdict, judge};

use super::Ms;
use super::haproxy::Check;
use super::rest_api::Says;

/// The program's defaults.
pub const DEADLINE: Ms = 80;
pub const MAX_AGE: Ms = 100;
pub const GRACE: Ms = 5000;

/// The rule that is at work: the real one, or one that was broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    Real,
    /// As it was before: `cluster_unlocked` is not read, and only a READY ends the doubt.
    Before,
    /// The role alone.
    Role,
    /// A lock that was lost to nobody is held for ever.
    NoEndOfUnlocked,
    /// However long ago Patroni looked at the store.
    AnyLook,
    /// A lock that another node has is not believed at once.
    SlowToStandBy,
    /// In a paused cluster by the role, as Patroni does.
    PausedByRole,
    /// What contradicts all that was known is believed at once, though it may be torn.
    Torn,
    /// No grace.
    NoGrace,
    /// A grace that outlives the lease.
    LongGrace,
    /// Only a READY ends the doubt.
    LongDoubt,
    /// A new process knows nothing.
    Forgetful,
}

pub const BROKEN: [Rule; 11] = [
    Rule::Before,
    Rule::Role,
    Rule::NoEndOfUnlocked,
    Rule::AnyLook,
    Rule::SlowToStandBy,
    Rule::PausedByRole,
    Rule::Torn,
    Rule::NoGrace,
    Rule::LongGrace,
    Rule::LongDoubt,
    Rule::Forgetful,
];

/// Whose check it is.
pub type Asker = (usize, Check);

/// A reply on its way.
pub struct Reply {
    pub to: Asker,
    pub line: String,
    pub arrived: Ms,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Said(Says),
    Nothing,
}

pub struct Agent {
    rule: Rule,
    cache: Cache<(Asker, Ms)>,
    policy: ReplyPolicy,
    endpoint: Endpoint,
    start: Moment,
    judged: HashMap<Says, Judgement>,
    /// Of [`Rule::LongDoubt`].
    doubt: bool,
}

impl Agent {
    pub fn new(rule: Rule) -> Self {
        let grace = match rule {
            Rule::NoGrace => 0,
            Rule::LongGrace => 45_000,
            _ => GRACE,
        };
        let ms = Duration::from_millis;
        let endpoint: Endpoint = "/primary".parse().expect("an endpoint");
        Agent {
            rule,
            cache: Cache::new(Limits { deadline: ms(DEADLINE), max_age: ms(MAX_AGE), grace: ms(grace) }),
            policy: ReplyPolicy::new(&endpoint, ReplyFormat::Full, None, None).expect("the defaults"),
            endpoint,
            start: Moment::default(),
            judged: HashMap::new(),
            doubt: false,
        }
    }

    /// A new process, which reads what this one has written.
    pub fn restart(&mut self) {
        let new = Agent::new(self.rule);
        let written = serde_json::to_vec(self.cache.memory()).expect("it can be written");
        let memory: Memory = serde_json::from_slice(&written).expect("it can be read");
        let memory = memory.within(new.cache.memory().limits());
        let cache = if self.rule == Rule::Forgetful { new.cache } else { Cache::remembering(memory) };
        *self = Agent { cache, judged: std::mem::take(&mut self.judged), ..new };
    }

    fn instant(&self, now: Ms) -> Moment {
        self.start + Duration::from_millis(now)
    }

    pub fn arrive(&mut self, now: Ms, asker: Asker) -> Option<Reply> {
        let at = self.instant(now);
        let (check, verdict) = self.cache.look_up_or_wait(at, (asker, now))?;
        Some(self.reply(check, &verdict))
    }

    /// Whether a request begins now.
    pub fn begins_to_ask(&mut self, now: Ms) -> bool {
        self.cache.begin_fetch(self.instant(now))
    }

    /// The request has ended.
    pub fn observe(&mut self, now: Ms, outcome: &Outcome) -> Vec<Reply> {
        let judgement = match outcome {
            Outcome::Said(says) => self.judge(says),
            Outcome::Nothing => Judgement::silence("patroni: connection refused".into()),
        };
        let judgement = self.break_rule(outcome, judgement);
        let answered = self.cache.fetch_completed(self.instant(now), judgement);
        answered.into_iter().map(|(check, verdict)| self.reply(check, &verdict)).collect()
    }

    pub fn overdue(&mut self, now: Ms) -> Vec<Reply> {
        let answered = self.cache.take_expired(self.instant(now));
        answered.into_iter().map(|(check, verdict)| self.reply(check, &verdict)).collect()
    }

    fn reply(&mut self, (to, arrived): (Asker, Ms), verdict: &Verdict) -> Reply {
        self.doubt |= verdict.word() == "fail" && verdict.why().starts_with("patroni: ");
        let line = self.policy.reply(verdict).expect("only silent says nothing").line();
        Reply { to, line, arrived }
    }

    /// Bytes as Patroni sends them, read and judged by the program; the same ones once.
    fn judge(&mut self, says: &Says) -> Judgement {
        if let Some(judgement) = self.judged.get(says) {
            return judgement.clone();
        }
        let body = Body::read(says.body().as_bytes()).expect("a whole body");
        let answer = Answer { status: says.status, body, date: Some(says.date) };
        let judgement = judge(&self.endpoint, &Ok(answer));
        self.judged.insert(says.clone(), judgement.clone());
        judgement
    }

    fn break_rule(&mut self, outcome: &Outcome, judgement: Judgement) -> Judgement {
        let Outcome::Said(says) = outcome else { return judgement };
        let with = |evidence| Judgement { evidence, verdict: judgement.verdict.clone() };
        let granted = Evidence::Conclusive { has_lock: Some(true) };
        let is_serve = matches!(judgement.verdict, Verdict::Serve(_));
        match (self.rule, judgement.evidence) {
            (Rule::Before, Evidence::Unlocked { .. }) if is_serve => with(granted),
            (Rule::Before, Evidence::Unlocked { .. } | Evidence::WithoutLockInPause { .. }) => {
                with(Evidence::WithoutLock)
            }
            (Rule::Role, _) if says.role == "primary" => {
                Judgement { verdict: Verdict::Serve("primary".into()), evidence: granted }
            }
            (Rule::NoEndOfUnlocked, Evidence::Unlocked { .. }) => with(Evidence::Unlocked { paused: true }),
            (Rule::AnyLook, _) if says.unlocked => {
                let mut fresh = says.clone();
                fresh.last_seen = 0;
                let body = Body::read(fresh.body().as_bytes()).expect("a whole body");
                judge(&self.endpoint, &Ok(Answer { status: says.status, body, date: None }))
            }
            (
                Rule::SlowToStandBy,
                Evidence::WithoutLock | Evidence::WithoutLockInPause { .. } | Evidence::Conclusive { .. },
            ) if says.status == 503 => with(Evidence::StateUnknown),
            (Rule::Torn, Evidence::GrantedInPause) => with(granted),
            (Rule::Torn, Evidence::WithoutLock | Evidence::WithoutLockInPause { .. }) => {
                with(Evidence::Conclusive { has_lock: Some(false) })
            }
            (Rule::PausedByRole, Evidence::Unlocked { paused: true }) if is_serve => with(granted),
            (Rule::Before | Rule::LongDoubt, Evidence::Conclusive { .. }) if is_serve && self.doubt => {
                self.doubt = false;
                Judgement { verdict: Verdict::Fail("asked again".into()), ..judgement }
            }
            _ => judgement,
        }
    }
}
