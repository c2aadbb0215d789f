//! A Patroni and its Postgres. The REST answer is `api.py`, `do_GET` and `get_postgresql_status`; the loop is `ha.py`,
//! `_run_cycle`, as far as it concerns the lock.

use super::store::Store;
use super::{EPOCH, Ms, Settings};

/// An operation on the store, or a look at a member, when nothing is in the way.
const ROUND_TRIP: Ms = 20;
/// `fetch_node_status`: a member that does not answer is waited for so long.
const MEMBER_TIMEOUT: Ms = 2000;
const PROMOTION: Ms = 400;
const STOP: Ms = 500;
const START: Ms = 500;
/// Between the start of the REST API and the first round of the loop.
const FIRST_ROUND: Ms = 100;
/// `ensure_dcs_access`: nothing is answered before the store was read.
const DCS_ACCESS: Ms = 5000;

/// What Patroni answers to `GET /primary`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Says {
    pub status: u16,
    pub state: &'static str,
    pub role: &'static str,
    pub timeline: u32,
    pub pause: bool,
    pub unlocked: bool,
    pub failsafe: bool,
    /// When Patroni read the store last, and when it sent this: seconds of Unix time.
    pub last_seen: u64,
    pub date: u64,
}

impl Says {
    /// Whether Patroni itself says that it holds the lock. Of a paused cluster that nobody leads it says the role only.
    pub fn claims_lock(&self) -> bool {
        self.status == 200 && !(self.pause && self.unlocked)
    }

    /// Whether Postgres takes writes, as far as Patroni knows.
    pub fn is_primary(&self) -> bool {
        self.state == "running" && self.role == "primary"
    }

    pub fn body(&self) -> String {
        let Says { state, role, timeline, last_seen, .. } = self;
        let mut body = format!(r#"{{"state": "{state}", "role": "{role}", "timeline": {timeline}"#);
        for (flag, name) in
            [(self.pause, "pause"), (self.unlocked, "cluster_unlocked"), (self.failsafe, "failsafe_mode_is_active")]
        {
            if flag {
                body += &format!(r#", "{name}": true"#);
            }
        }
        body + &format!(r#", "dcs_last_seen": {last_seen}, "patroni": {{"version": "4.1.5"}}}}"#)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Postgres {
    Running,
    /// Dead, and Patroni has not noticed.
    Crashed,
    Stopping,
    Starting,
    Stopped,
}

/// What is done to Postgres, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Promote(Ms),
    /// With the key released afterwards or not.
    Demote(Ms, bool),
    Start(Ms),
}

/// Where the loop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Sleep(Ms),
    Load(Ms),
    Race(Ms, bool),
    Acquire(Ms),
    Update(Ms),
    Failsafe(Ms, bool),
}

/// What a member finds who asks another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Primary,
    Replica,
    Refuses,
    Silent,
}

/// What is to be done to others.
pub enum Act {
    None,
    /// Asks the others whether one of them is the primary.
    Race,
    /// Asks the others for their consent.
    Failsafe,
}

#[derive(Debug, Clone)]
pub struct Patroni {
    node: usize,
    settings: Settings,
    pub postgres: Postgres,
    pub primary: bool,
    pub timeline: u32,
    job: Option<Job>,
    step: Step,
    round_began: Ms,
    watched: u64,
    /// `_leader_expiry`
    expiry: Ms,
    /// `dcs.cluster`: who leads, as it was read, and how long that is good.
    cluster: Option<Option<usize>>,
    cluster_until: Ms,
    last_seen: u64,
    /// `ha.cluster.leader`
    leader: Option<usize>,
    pause: bool,
    /// Whether it had the lock when the store last told it.
    pub had_lock: bool,
    /// When its process was started last.
    pub started_at: Ms,
    failsafe_update: Option<Ms>,
    failsafe_leader: Option<usize>,
    /// The process is stopped in mid-word until then.
    pub frozen_until: Ms,
    /// It is dead until then, and answers from the other moment on.
    dead_until: Ms,
    pub api_since: Ms,
}

impl Patroni {
    pub fn new(node: usize, leader: usize, settings: Settings) -> Self {
        let is_leader = node == leader;
        // The loops are not in step.
        let first = 300 + 700 * u64::try_from(node).expect("a few nodes");
        Patroni {
            node,
            settings,
            postgres: Postgres::Running,
            primary: is_leader,
            timeline: 1,
            job: None,
            step: Step::Sleep(first),
            round_began: 0,
            watched: 1,
            expiry: if is_leader { settings.ttl } else { 0 },
            cluster: Some(Some(leader)),
            cluster_until: settings.ttl,
            last_seen: EPOCH,
            leader: Some(leader),
            pause: settings.pause,
            had_lock: is_leader,
            started_at: 0,
            failsafe_update: None,
            failsafe_leader: None,
            frozen_until: 0,
            dead_until: 0,
            api_since: 0,
        }
    }

    /// Until when it believes to have the lock.
    pub fn lease_end(&self) -> Ms {
        self.expiry
    }

    pub fn is_frozen(&self, now: Ms) -> bool {
        now < self.frozen_until
    }

    /// Whether a connection is taken.
    pub fn listens(&self, now: Ms) -> bool {
        now >= self.dead_until && now >= self.api_since
    }

    pub fn kill(&mut self, until: Ms) {
        (self.dead_until, self.api_since) = (until, Ms::MAX);
        self.frozen_until = 0;
    }

    pub fn crash_postgres(&mut self) {
        if self.postgres == Postgres::Running {
            (self.postgres, self.job) = (Postgres::Crashed, None);
        }
    }

    /// Promoted by an operator, past Patroni.
    pub fn promote_by_hand(&mut self) {
        if self.postgres == Postgres::Running && !self.primary && self.pause {
            self.primary = true;
            self.timeline += 1;
        }
    }

    /// `POST /switchover`, on the leader.
    pub fn switch_over(&mut self, now: Ms) {
        if self.is_running_primary() && self.job.is_none() && self.leader == Some(self.node) {
            self.demote(now, true);
        }
    }

    pub fn is_running_primary(&self) -> bool {
        self.postgres == Postgres::Running && self.primary
    }

    pub fn seen_by_others(&self, now: Ms) -> Peer {
        match () {
            () if self.is_frozen(now) => Peer::Silent,
            () if !self.listens(now) => Peer::Refuses,
            () if self.is_running_primary() => Peer::Primary,
            () => Peer::Replica,
        }
    }

    /// `do_GET`
    pub fn says(&self, now: Ms) -> Says {
        let cluster = self.cluster.filter(|_| now < self.cluster_until);
        let state = match self.postgres {
            Postgres::Running => "running",
            Postgres::Crashed => "unknown",
            Postgres::Stopping => "stopping",
            Postgres::Starting => "starting",
            Postgres::Stopped => "stopped",
        };
        let role = match (self.primary, self.postgres) {
            (true, _) => "primary",
            (false, Postgres::Stopped) => "demoted",
            (false, _) => "replica",
        };
        let is_granted = if cluster.is_none() && self.pause { self.primary } else { self.expiry > now };
        Says {
            status: if is_granted { 200 } else { 503 },
            state,
            role,
            timeline: self.timeline,
            pause: self.pause,
            unlocked: cluster.is_none_or(|leader| leader.is_none()),
            failsafe: self.failsafe_is_active(now),
            last_seen: self.last_seen,
            date: EPOCH + now / 1000,
        }
    }

    fn failsafe_is_active(&self, now: Ms) -> bool {
        self.failsafe_update.is_some_and(|update| now < update + self.settings.ttl)
    }

    /// `update_failsafe`: the leader tells that it goes on.
    pub fn consent(&mut self, now: Ms, leader: usize) {
        (self.failsafe_update, self.failsafe_leader) = (Some(now), Some(leader));
    }

    /// What the others said to what was asked.
    pub fn told(&mut self, now: Ms, act: &Act, peers: &[Peer]) {
        let wait = if peers.contains(&Peer::Silent) { MEMBER_TIMEOUT } else { ROUND_TRIP };
        self.step = match act {
            Act::Race => Step::Race(now + wait, !peers.contains(&Peer::Primary)),
            _ => Step::Failsafe(now + wait, peers.iter().all(|peer| *peer == Peer::Replica)),
        };
    }

    pub fn step(&mut self, now: Ms, store: &mut Store) -> Act {
        if self.is_frozen(now) || now < self.dead_until {
            return Act::None;
        }
        if self.api_since == Ms::MAX {
            self.start(now, store);
            return Act::None;
        }
        if now < self.api_since {
            return Act::None;
        }
        self.go_on_with_job(now, store);
        let is_answered = store.answers(self.node, now);
        let has_answer = |since: Ms| now >= since + ROUND_TRIP && is_answered;
        let retry_timeout = self.settings.retry_timeout;
        let is_given_up = |since: Ms| now >= since + retry_timeout;
        match self.step {
            Step::Sleep(until) => {
                let is_woken = store.is_reached_by(self.node, now) && store.version != self.watched;
                if now >= until || is_woken {
                    (self.round_began, self.step) = (now, Step::Load(now));
                }
            }
            Step::Load(since) if has_answer(since) => return self.loaded(now, store),
            Step::Load(since) if is_given_up(since) => {
                // `get_cluster` forgets what it knew.
                self.cluster = None;
                return self.dcs_error(now);
            }
            Step::Race(until, wins) if now >= until => {
                if wins {
                    self.step = Step::Acquire(now);
                } else {
                    self.sleep(now);
                }
            }
            Step::Acquire(since) | Step::Update(since) if now >= since + ROUND_TRIP => {
                let take = matches!(self.step, Step::Acquire(_));
                let is_held =
                    store.is_reached_by(self.node, now).then(|| store.hold(self.node, now, self.settings.ttl, take));
                match is_held {
                    Some(is_held) if has_answer(since) => self.has_tried(now, store, take, is_held),
                    _ if is_given_up(since) => return self.dcs_error(now),
                    _ => {}
                }
            }
            Step::Failsafe(until, consent) if now >= until => {
                if consent {
                    self.expiry = now + self.settings.ttl;
                    (self.failsafe_update, self.failsafe_leader) = (Some(now), None);
                } else {
                    self.failsafe_update = None;
                    self.demote(now, false);
                }
                self.sleep(now);
            }
            _ => {}
        }
        Act::None
    }

    /// A new process. It answers once it has read the store, and looks at its lock a moment later.
    fn start(&mut self, now: Ms, store: &Store) {
        if !store.answers(self.node, now) {
            self.dead_until = now + DCS_ACCESS;
            return;
        }
        let Patroni { node, settings, postgres, primary, timeline, .. } = *self;
        let job = (postgres == Postgres::Starting || postgres == Postgres::Stopping).then_some(Job::Start(now + START));
        *self = Patroni {
            postgres,
            primary,
            timeline,
            job,
            step: Step::Sleep(now + ROUND_TRIP + FIRST_ROUND),
            watched: store.version,
            expiry: 0,
            pause: store.pause,
            api_since: now + ROUND_TRIP,
            had_lock: self.had_lock,
            started_at: now,
            ..Patroni::new(node, node, settings)
        };
        self.read(now, store);
    }

    fn read(&mut self, now: Ms, store: &Store) {
        (self.cluster, self.cluster_until) = (Some(store.leader), now + self.settings.ttl);
        self.last_seen = EPOCH + now / 1000;
        self.watched = store.version;
        self.pause = store.pause;
        self.leader = store.leader;
        if let Some(leader) = store.leader {
            self.had_lock = leader == self.node;
        }
        if self.leader.is_none() && self.settings.failsafe && self.failsafe_is_active(now) {
            self.leader = self.failsafe_leader;
        }
    }

    fn loaded(&mut self, now: Ms, store: &mut Store) -> Act {
        self.read(now, store);
        let has_lock = self.leader == Some(self.node);
        if !has_lock {
            self.expiry = 0;
        }
        match self.postgres {
            Postgres::Crashed | Postgres::Stopped if self.pause => {
                self.postgres = Postgres::Stopped;
                if has_lock {
                    self.delete_key(now, store);
                }
                self.sleep(now);
            }
            Postgres::Crashed | Postgres::Stopped if self.job.is_none() => {
                self.primary &= has_lock;
                (self.postgres, self.job) = (Postgres::Starting, Some(Job::Start(now + START)));
                self.step = if has_lock { Step::Update(now) } else { Step::Sleep(now + START + ROUND_TRIP) };
            }
            _ if self.job.is_some() => self.step = if has_lock { Step::Update(now) } else { self.next_round(now) },
            _ if self.leader.is_none() => return self.nobody_leads(now, store),
            _ if has_lock && self.pause && !self.primary => {
                self.delete_key(now, store);
                self.sleep(now);
            }
            _ if has_lock => self.step = Step::Update(now),
            _ => {
                if self.primary && !self.pause {
                    self.demote(now, false);
                } else if !self.primary {
                    self.timeline = store.timeline;
                }
                self.sleep(now);
            }
        }
        Act::None
    }

    /// `process_unhealthy_cluster`
    fn nobody_leads(&mut self, now: Ms, store: &Store) -> Act {
        if self.primary {
            if self.pause || self.timeline >= store.timeline {
                self.step = Step::Acquire(now);
            } else {
                self.demote(now, false);
                self.sleep(now);
            }
            return Act::None;
        }
        let is_meant = store.candidate.is_none_or(|candidate| candidate == self.node);
        if self.pause || !is_meant || self.timeline < store.timeline {
            self.sleep(now);
            return Act::None;
        }
        Act::Race
    }

    /// The store said whether we hold the key.
    fn has_tried(&mut self, now: Ms, store: &mut Store, took: bool, is_held: bool) {
        self.expiry = if is_held { now + self.settings.ttl } else { 0 };
        self.had_lock = is_held;
        if took {
            self.read(now, store);
        }
        let is_free = self.job.is_none() && self.postgres == Postgres::Running;
        if is_held && is_free && !self.primary {
            self.job = Some(Job::Promote(now + PROMOTION));
        } else if !is_held && is_free && self.primary && !self.pause {
            self.demote(now, false);
        }
        self.sleep(now);
    }

    fn dcs_error(&mut self, now: Ms) -> Act {
        if !self.pause && self.is_running_primary() && self.job.is_none() {
            if self.settings.failsafe {
                return Act::Failsafe;
            }
            self.demote(now, false);
        }
        self.step = self.next_round(now);
        Act::None
    }

    fn demote(&mut self, now: Ms, release: bool) {
        (self.postgres, self.job) = (Postgres::Stopping, Some(Job::Demote(now + STOP, release)));
    }

    /// `_delete_leader`
    fn delete_key(&mut self, now: Ms, store: &mut Store) {
        self.expiry = 0;
        self.cluster = None;
        if store.leader == Some(self.node) && store.is_reached_by(self.node, now) {
            store.give_up(now);
        }
    }

    fn go_on_with_job(&mut self, now: Ms, store: &mut Store) {
        match self.job {
            Some(Job::Promote(end)) if now >= end => {
                (self.primary, self.job) = (true, None);
                self.timeline += 1;
                store.timeline = store.timeline.max(self.timeline);
            }
            Some(Job::Demote(end, release)) if now >= end => {
                (self.primary, self.postgres) = (false, Postgres::Stopped);
                self.expiry = 0;
                if release {
                    self.delete_key(now, store);
                    self.job = Some(Job::Start(now + 2000 + START));
                } else {
                    (self.postgres, self.job) = (Postgres::Starting, Some(Job::Start(now + START)));
                }
            }
            Some(Job::Start(end)) if now >= end => (self.postgres, self.job) = (Postgres::Running, None),
            _ => {}
        }
    }

    fn sleep(&mut self, now: Ms) {
        if self.expiry > now && !matches!(self.step, Step::Failsafe(..)) {
            self.failsafe_update = None;
        }
        self.step = self.next_round(now);
    }

    fn next_round(&self, now: Ms) -> Step {
        Step::Sleep((self.round_began + self.settings.loop_wait).max(now + ROUND_TRIP))
    }
}
