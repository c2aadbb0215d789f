//! The store: one key with a lease, and the flag that the cluster is paused.

use super::{LEADER, Ms, NODES, Settings};

/// etcd, as Patroni uses it.
#[derive(Debug, Clone)]
pub struct Store {
    /// Who has the leader key, while it lives.
    pub leader: Option<usize>,
    lease_end: Ms,
    /// Who had it last, and since when nobody has it.
    pub last_holder: usize,
    pub vacant_since: Ms,
    /// When the key was given up before its lease was over: deleted by hand, or in a switchover.
    pub given_up: Option<Ms>,
    /// Counts the changes of the key, for those who watch it.
    pub version: u64,
    pub pause: bool,
    /// The cluster's history: its newest timeline.
    pub timeline: u32,
    /// A switchover's candidate.
    pub candidate: Option<usize>,
    /// Not to be reached by anybody until then, by one node until then; answers to it are lost
    /// until then.
    pub away_until: Ms,
    /// And connections to it are refused.
    pub down_until: Ms,
    /// And what is under way is refused in good order, as it is shutting down.
    pub stopping_until: Ms,
    pub cut_until: [Ms; NODES],
    pub deaf_until: [Ms; NODES],
}

impl Store {
    pub fn new(settings: &Settings) -> Self {
        Store {
            leader: Some(LEADER),
            lease_end: settings.ttl,
            last_holder: LEADER,
            vacant_since: 0,
            given_up: None,
            version: 1,
            pause: settings.pause,
            timeline: 1,
            candidate: None,
            away_until: 0,
            down_until: 0,
            stopping_until: 0,
            cut_until: [0; NODES],
            deaf_until: [0; NODES],
        }
    }

    /// Whether a node's request gets here.
    pub fn is_reached_by(&self, node: usize, now: Ms) -> bool {
        now >= self.away_until && now >= self.cut_until[node]
    }

    /// Whether its answer gets back.
    pub fn answers(&self, node: usize, now: Ms) -> bool {
        self.is_reached_by(node, now) && now >= self.deaf_until[node]
    }

    /// The lease ends, whoever can reach it.
    pub fn step(&mut self, now: Ms) {
        if self.leader.is_some() && now >= self.lease_end {
            self.delete(now);
        }
    }

    /// Deletes the key.
    pub fn give_up(&mut self, now: Ms) {
        self.delete(now);
        self.given_up = Some(now);
    }

    fn delete(&mut self, now: Ms) {
        if let Some(holder) = self.leader.take() {
            self.last_holder = holder;
            self.vacant_since = now;
            self.version += 1;
        }
    }

    /// Takes the key if nobody has it, or renews its own lease.
    pub fn hold(&mut self, node: usize, now: Ms, ttl: Ms, take: bool) -> bool {
        if self.leader.is_none() && take {
            self.leader = Some(node);
            self.version += 1;
            self.candidate = None;
        }
        if self.leader == Some(node) {
            self.lease_end = now + ttl;
            self.last_holder = node;
        }
        self.leader == Some(node)
    }
}
