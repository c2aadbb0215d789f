//! The loop of a Patroni (`ha.py`, `_run_cycle`).

use super::{Act, Patroni, ROUND_TRIP, Step};
use crate::model::postgres::{Done, State};
use crate::model::store::Store;
use crate::model::{EPOCH, Ms};

/// Between the start of the REST API and the first round of the loop.
const FIRST_ROUND: Ms = 100;
/// For so long a store that is away is read from the cache (`dcs/etcd3.py`, `KVCache`).
const CACHED: Ms = 1000;
/// `ensure_dcs_access`: nothing is answered before the store was read.
const DCS_ACCESS: Ms = 5000;

impl Patroni {
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
