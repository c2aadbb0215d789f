//! A Patroni: its loop (`ha.py`, `_run_cycle`), as far as it concerns the lock, and what it knows when it is asked.

use super::postgres::{Done, Postgres, State};
use super::rest_api::Says;
use super::store::Store;
use super::{EPOCH, Ms, Settings};

/// An operation on the store, or a look at a member, when nothing is in the way.
const ROUND_TRIP: Ms = 20;
/// `fetch_node_status`: a member that does not answer is waited for so long.
const MEMBER_TIMEOUT: Ms = 2000;
/// Between the start of the REST API and the first round of the loop.
const FIRST_ROUND: Ms = 100;
/// For so long a store that is away is read from the cache (`dcs/etcd3.py`, `KVCache`).
const CACHED: Ms = 1000;
/// `ensure_dcs_access`: nothing is answered before the store was read.
const DCS_ACCESS: Ms = 5000;

/// Where the loop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Sleep(Ms),
    Load(Ms),
    Race(Ms, bool),
    Acquire(Ms),
    Update(Ms),
    /// The others' consent. Without it, and where nobody is asked, what comes is the end of being the primary.
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
    step: Step,
    round_began: Ms,
    watched: u64,
    /// `_leader_expiry`
    expiry: Ms,
    /// `dcs.cluster`: who leads, as it was read, and how long that is good.
    cluster: Option<Option<usize>>,
    cluster_until: Ms,
    last_seen: u64,
    /// What the store told without being asked, and when.
    cache: (Option<usize>, bool, u64, Ms),
    /// `ha.cluster.leader`
    leader: Option<usize>,
    pause: bool,
    /// Whether it had the lock when the store last told it.
    pub had_lock: bool,
    /// When it had looked at the store before it lost the lock.
    lost: u64,
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
            postgres: Postgres::new(is_leader),
            step: Step::Sleep(first),
            round_began: 0,
            watched: 1,
            expiry: if is_leader { settings.ttl } else { 0 },
            cluster: Some(Some(leader)),
            cluster_until: settings.ttl,
            last_seen: EPOCH,
            cache: (Some(leader), settings.pause, 1, 0),
            leader: Some(leader),
            pause: settings.pause,
            had_lock: is_leader,
            lost: 0,
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
    }

    /// An operator promotes Postgres past Patroni, which only a pause allows.
    pub fn promote_postgres_by_hand(&mut self) {
        if self.pause {
            self.postgres.promote_by_hand();
        }
    }

    /// `POST /switchover`, on the leader.
    pub fn switch_over(&mut self, now: Ms) {
        if self.postgres.is_running_primary() && !self.postgres.is_busy() && self.leader == Some(self.node) {
            self.postgres.demote(now, true);
        }
    }

    pub fn seen_by_others(&self, now: Ms) -> Peer {
        match () {
            () if self.is_frozen(now) => Peer::Silent,
            () if !self.listens(now) => Peer::Refuses,
            () if self.postgres.is_running_primary() => Peer::Primary,
            () => Peer::Replica,
        }
    }

    /// `do_GET`
    pub fn says(&self, now: Ms) -> Says {
        let cluster = self.cluster.filter(|_| now < self.cluster_until);
        let Postgres { state, is_primary, timeline, .. } = self.postgres;
        let role = match (is_primary, state) {
            (true, _) => "primary",
            (false, State::Stopped) => "demoted",
            (false, _) => "replica",
        };
        let state = match state {
            State::Running => "running",
            State::Crashed => "unknown",
            State::Stopping => "stopping",
            State::Starting => "starting",
            State::Stopped => "stopped",
        };
        let is_granted = if cluster.is_none() && self.pause { is_primary } else { self.expiry > now };
        Says {
            status: if is_granted { 200 } else { 503 },
            state,
            role,
            timeline,
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
        self.go_on_with_postgres(now, store);
        let is_answered = store.answers(self.node, now);
        if is_answered {
            self.hear(now, store);
        }
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
            Step::Load(since)
                if now >= since + ROUND_TRIP && now < self.cache.3 + CACHED && now >= store.down_until =>
            {
                return self.loaded(now, store);
            }
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
                    // `_run_and_handle_exceptions`, `ReturnFalseException`
                    None if now < store.stopping_until => self.has_tried(now, store, false, false),
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
                    self.postgres.demote(now, false);
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
        let mut postgres = self.postgres.clone();
        postgres.patroni_restarted(now);
        *self = Patroni {
            postgres,
            step: Step::Sleep(now + ROUND_TRIP + FIRST_ROUND),
            watched: store.version,
            expiry: 0,
            pause: store.pause,
            api_since: now + ROUND_TRIP,
            cache: (store.leader, store.pause, store.version, now),
            had_lock: self.had_lock,
            started_at: now,
            ..Patroni::new(self.node, self.node, self.settings)
        };
        self.read(now);
    }

    /// The watched store tells of its changes.
    fn hear(&mut self, now: Ms, store: &Store) {
        self.cache = (store.leader, store.pause, store.version, now);
    }

    fn read(&mut self, now: Ms) {
        let (leader, pause, version, _) = self.cache;
        (self.cluster, self.cluster_until) = (Some(leader), now + self.settings.ttl);
        self.last_seen = EPOCH + now / 1000;
        self.watched = version;
        (self.pause, self.leader) = (pause, leader);
        if let Some(leader) = leader {
            self.had_lock = leader == self.node;
        }
        if self.leader.is_none() && self.settings.failsafe && self.failsafe_is_active(now) {
            self.leader = self.failsafe_leader;
        }
    }

    fn loaded(&mut self, now: Ms, store: &mut Store) -> Act {
        self.read(now);
        let has_lock = self.leader == Some(self.node);
        if !has_lock {
            self.lose_lock();
        }
        match () {
            () if self.postgres.is_dead() && self.pause => {
                self.postgres.state = State::Stopped;
                if has_lock {
                    self.delete_key(now, store);
                }
                self.sleep(now);
            }
            () if self.postgres.is_dead() && !self.postgres.is_busy() => {
                self.postgres.is_primary &= has_lock;
                self.postgres.start(now);
                self.step = if has_lock { Step::Update(now) } else { self.next_round(now) };
            }
            () if self.postgres.is_busy() => {
                self.step = if has_lock { Step::Update(now) } else { self.next_round(now) };
            }
            () if self.leader.is_none() => return self.nobody_leads(now, store),
            () if has_lock && self.pause && !self.postgres.is_primary => {
                self.delete_key(now, store);
                self.sleep(now);
            }
            () if has_lock => self.step = Step::Update(now),
            () if self.postgres.is_primary && !self.pause => self.step = Step::Failsafe(now + ROUND_TRIP, false),
            () => {
                if !self.postgres.is_primary {
                    self.postgres.timeline = store.timeline;
                }
                self.sleep(now);
            }
        }
        Act::None
    }

    fn lose_lock(&mut self) {
        if self.expiry > 0 {
            (self.expiry, self.lost) = (0, self.last_seen);
        }
    }

    /// Whether it has not looked at the store since it lost the lock.
    pub fn has_just_lost(&self) -> bool {
        self.last_seen == self.lost
    }

    /// `process_unhealthy_cluster`
    fn nobody_leads(&mut self, now: Ms, store: &Store) -> Act {
        if self.postgres.is_primary {
            if self.pause || self.postgres.timeline >= store.timeline {
                self.step = Step::Acquire(now);
            } else {
                self.postgres.demote(now, false);
                self.sleep(now);
            }
            return Act::None;
        }
        let is_meant = store.candidate.is_none_or(|candidate| candidate == self.node);
        if self.pause || !is_meant || self.postgres.timeline < store.timeline {
            self.sleep(now);
            return Act::None;
        }
        Act::Race
    }

    /// The store said whether we hold the key.
    fn has_tried(&mut self, now: Ms, store: &mut Store, took: bool, is_held: bool) {
        if is_held {
            self.expiry = now + self.settings.ttl;
            self.had_lock = true;
        } else {
            self.lose_lock();
        }
        if took {
            self.hear(now, store);
            self.read(now);
        }
        let is_free = !self.postgres.is_busy() && self.postgres.state == State::Running;
        if is_held && is_free && !self.postgres.is_primary {
            self.postgres.promote(now);
        } else if !is_held && is_free && self.postgres.is_primary && !self.pause {
            self.postgres.demote(now, false);
        }
        self.sleep(now);
    }

    fn dcs_error(&mut self, now: Ms) -> Act {
        if !self.pause && self.postgres.is_running_primary() && !self.postgres.is_busy() {
            if self.settings.failsafe {
                return Act::Failsafe;
            }
            self.step = Step::Failsafe(now + ROUND_TRIP, false);
        } else {
            self.step = self.next_round(now);
        }
        Act::None
    }

    /// `_delete_leader`
    fn delete_key(&mut self, now: Ms, store: &mut Store) {
        self.expiry = 0;
        self.cluster = None;
        if store.leader == Some(self.node) && store.is_reached_by(self.node, now) {
            store.give_up(now);
        }
    }

    fn go_on_with_postgres(&mut self, now: Ms, store: &mut Store) {
        match self.postgres.step(now) {
            Some(Done::Promoted) => store.timeline = store.timeline.max(self.postgres.timeline),
            Some(Done::Demoted { release }) => {
                self.expiry = 0;
                if release {
                    self.delete_key(now, store);
                }
            }
            None => {}
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
