//! What must hold, whatever happens.

use std::fmt;

use super::agent::{DEADLINE, GRACE, MAX_AGE, Outcome, Reply};
use super::haproxy::{AGENT_INTER, Server};
use super::patroni::Patroni;
use super::store::Store;
use super::{Ms, NODES, STEP};

/// What a word may lag behind: HAProxy asks each interval, the answer is from an observation that
/// began so long before, and one that contradicts all that was known is asked for twice.
const INTERVAL: Ms = AGENT_INTER + MAX_AGE + DEADLINE + REQUEST;

/// One request.
const REQUEST: Ms = 3 * STEP;

/// After so long without trouble a word has to be the right one.
const SETTLED: Ms = 1000;

/// Which one was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An HAProxy has two servers UP, both of which it hears, for more than an interval, and not
    /// both Patronis say that they hold the lock.
    TwoReady,
    /// A node that holds the lock, or lost it to nobody for less than the grace, and whose Patroni
    /// answers within the grace, is called away.
    CalledAway,
    /// The first check after a promotion is not READY.
    FirstCheck,
    /// READY from an observation that is older than the rules allow, or from none.
    TooOld,
    /// A primary that has held the lock for a while, and whose Patroni answers, is not READY.
    NeverReady,
}

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub at: Ms,
    pub kind: Kind,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} ms: {:?}: {}", self.at, self.kind, self.what)
    }
}

/// What is known of a node.
#[derive(Debug, Clone, Default)]
pub struct Node {
    pub last_line: String,
    /// The observation that was delivered last and granted the lock, or told of a paused cluster
    /// that nobody leads.
    grant_began: Option<Ms>,
    /// Patroni was silent since.
    heard_silence: bool,
    /// The newest answer: when it came, and when its request began.
    answered_at: Option<Ms>,
    answered_began: Ms,
    answer_granted: bool,
    /// The end of the lease that there was when Patroni granted the lock last.
    lease_end: Option<Ms>,
    /// Nothing has kept Patroni from answering, or the agent from asking, since then.
    calm_since: Option<Ms>,
    /// It has had the right to be READY since then.
    right_since: Option<Ms>,
    /// Its Patroni has granted the lock to a running primary since then.
    fit_since: Option<Ms>,
    was_replica: bool,
    promoted_at: Option<Ms>,
}

#[derive(Debug, Clone, Default)]
pub struct Invariants {
    pub nodes: [Node; NODES],
    /// By HAProxy and by the pair.
    both_up_since: Vec<[[Option<Ms>; NODES]; NODES]>,
    /// The longest time with two READY that was met.
    pub longest_double: Ms,
}

impl Invariants {
    /// At each step: who has a right to be READY.
    pub fn look(&mut self, now: Ms, store: &Store, patronis: &[Patroni], calm: [bool; NODES]) {
        for (number, (node, patroni)) in self.nodes.iter_mut().zip(patronis).enumerate() {
            let since = |is_so: bool, since: Option<Ms>| is_so.then_some(since.unwrap_or(now));
            let says = patroni.says(now);
            node.calm_since = since(calm[number], node.calm_since);
            let is_fit = says.claims_lock() && says.is_primary();
            let is_calm = node
                .calm_since
                .is_some_and(|calm| now >= calm + SETTLED && node.answered_at.is_some_and(|answered| answered >= calm));
            if is_fit && node.fit_since.is_none() && node.was_replica && is_calm {
                node.promoted_at = Some(now);
            }
            node.promoted_at = node.promoted_at.filter(|_| is_fit && calm[number]);
            node.fit_since = since(is_fit, node.fit_since);
            node.was_replica = says.state == "running" && says.role == "replica";
            let had_it_last = store.leader.is_none() && store.last_holder == number;
            let has_right = store.leader == Some(number) && store.answers(number, now)
                || had_it_last && (store.pause || now < store.vacant_since + GRACE)
                || says.claims_lock();
            node.right_since = since(has_right && patroni.postgres.is_running_primary(), node.right_since);
        }
    }

    /// An agent's request has ended.
    pub fn observed(&mut self, now: Ms, node: usize, began: Ms, outcome: &Outcome, patroni: &Patroni) {
        let node = &mut self.nodes[node];
        node.heard_silence |= *outcome == Outcome::Nothing;
        let Outcome::Said(says) = outcome else { return };
        (node.answered_at, node.answered_began, node.answer_granted) = (Some(now), began, says.status == 200);
        let goes_on = says.pause && (says.unlocked || node.grant_began.is_some_and(|granted| began < granted + GRACE));
        if says.is_primary() && (says.status == 200 || goes_on) {
            (node.grant_began, node.heard_silence) = (Some(began), false);
            node.lease_end = (says.status == 200).then(|| patroni.lease_end()).or(node.lease_end);
        }
    }

    /// An agent's reply.
    pub fn replied(&mut self, now: Ms, number: usize, reply: &Reply, patroni: &Patroni) -> Result<(), Violation> {
        let says = patroni.says(now);
        let node = &mut self.nodes[number];
        let is_ready = reply.line.starts_with("READY UP");
        let was_ready = node.last_line.starts_with("READY UP");
        node.last_line.clone_from(&reply.line);
        let broken = |kind, what: &str| {
            Err(Violation { at: now, kind, what: format!("node {number} {what}: {}", reply.line.trim_end()) })
        };
        let is_granted = node.grant_began.is_some_and(|began| now < began + GRACE);
        if is_ready && !is_granted {
            return broken(Kind::TooOld, "was not granted the lock within the grace");
        }
        if node.promoted_at.is_some_and(|promoted| reply.arrived >= promoted + MAX_AGE) {
            node.promoted_at = None;
            if !is_ready {
                return broken(Kind::FirstCheck, "was just promoted");
            }
        }
        let settled = |since: Option<Ms>| since.is_some_and(|since| reply.arrived >= since + SETTLED);
        if !is_ready && settled(node.fit_since) && settled(node.calm_since) {
            return broken(Kind::NeverReady, "has held the lock for long");
        }
        // And Patroni has answered since.
        let has_had_right = node
            .right_since
            .is_some_and(|since| reply.arrived >= since + MAX_AGE + DEADLINE && node.answered_began >= since);
        // Patroni has not been able to look at the store, and says so.
        let is_blind =
            says.unlocked && says.status == 503 && !says.pause && now / 1000 + super::EPOCH > says.last_seen + 1;
        // A lock that was missed before a silence is not believed in for long.
        let is_missed = !node.answer_granted && now >= node.answered_began + 2000;
        // Patroni was started anew, and the agent, which was away as well, did not hear its
        // silence.
        let is_unheard = node.grant_began.is_some_and(|began| began < patroni.started_at) && !node.heard_silence;
        if was_ready && !is_ready && has_had_right && is_granted && !is_blind && !is_unheard && !is_missed {
            return broken(Kind::CalledAway, "has the lock, or lost it to nobody just now");
        }
        Ok(())
    }

    /// Whether nobody on a node's host can know better than that it has the lock: Patroni itself
    /// says so; or it goes on in a pause, cut off from the store, as the last of whom it knows that
    /// he had it; or the key was given up before its lease was over, and no answer has come since.
    fn may_go_on(&self, now: Ms, number: usize, store: &Store, patroni: &Patroni) -> bool {
        let (node, says) = (&self.nodes[number], patroni.says(now));
        let goes_on_in_pause = says.pause && (says.unlocked && patroni.had_lock || patroni.has_just_lost());
        // In a silence: the lock that was granted last was given up, or its lease was not renewed
        // for long and is over; one that was missed before counts for two seconds. The grace is for
        // leases that outlive it.
        let is_unheard = node.answered_at.is_none_or(|at| now > at + AGENT_INTER + DEADLINE);
        let is_given_up = store.given_up.is_some_and(|at| at + GRACE >= node.answered_began);
        let is_lease_over = node.lease_end.is_some_and(|end| now > end);
        let is_missed = !node.answer_granted && now > node.answered_began + 2000 + INTERVAL;
        let lost_in_silence = is_unheard && !is_missed && (is_given_up || is_lease_over);
        // Patroni was started anew meanwhile, and may not have looked at its lock yet.
        let is_new = patroni.started_at > 0 && now < patroni.started_at + 2000 + INTERVAL;
        let is_new = is_new && store.given_up.is_some_and(|at| at + GRACE >= node.answered_began);
        says.claims_lock() || goes_on_in_pause || lost_in_silence || is_new
    }

    /// What the HAProxies make of it.
    pub fn compare(
        &mut self,
        now: Ms,
        servers: &[Vec<Server>],
        (store, patronis): (&Store, &[Patroni]),
        is_stopped: [bool; NODES],
        latency: Ms,
    ) -> Result<(), Violation> {
        self.both_up_since.resize(servers.len(), Default::default());
        for (haproxy, servers) in servers.iter().enumerate() {
            let is_up = |node: usize| {
                let server = &servers[node];
                let is_current = server.last_answer.is_some_and(|last| now <= last + AGENT_INTER + DEADLINE);
                server.is_up() && is_current && !is_stopped[node]
            };
            for a in 0..NODES {
                for b in a + 1..NODES {
                    let since = self.both_up_since[haproxy][a][b];
                    if !(is_up(a) && is_up(b)) {
                        self.both_up_since[haproxy][a][b] = None;
                        continue;
                    }
                    let claim = |node: usize| self.may_go_on(now, node, store, &patronis[node]);
                    let began = if claim(a) && claim(b) { now } else { since.unwrap_or(now) };
                    self.both_up_since[haproxy][a][b] = Some(began);
                    self.longest_double = self.longest_double.max(now - began);
                    if now - began > INTERVAL + latency {
                        let what = format!("HAProxy {haproxy} has nodes {a} and {b} for {} ms", now - began);
                        return Err(Violation { at: now, kind: Kind::TwoReady, what });
                    }
                }
            }
        }
        Ok(())
    }
}
