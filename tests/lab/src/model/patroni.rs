//! A Patroni, as far as it concerns the lock: what it knows, and what it says when it is asked. Its
//! loop is in `run_cycle`.

mod run_cycle;

use super::postgres::{Postgres, State};
use super::rest_api::Says;
use super::{EPOCH, Ms, Settings};

/// An operation on the store, or a look at a member, when nothing is in the way.
const ROUND_TRIP: Ms = 20;
/// `fetch_node_status`: a member that does not answer is waited for so long.
const MEMBER_TIMEOUT: Ms = 2000;

/// Where the loop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Sleep(Ms),
    Load(Ms),
    Race(Ms, bool),
    Acquire(Ms),
    Update(Ms),
    /// The others' consent. Without it, and where nobody is asked, what comes is the end of being
    /// the primary.
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

    /// Whether it has not looked at the store since it lost the lock.
    pub fn has_just_lost(&self) -> bool {
        self.last_seen == self.lost
    }
}
