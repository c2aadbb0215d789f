//! What can befall the cluster.

use std::fmt;

use super::world::World;
use super::{LEADER, Ms, NODES};

/// A fault, with whom it befalls and for how long (ms).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The store is stopped in mid-word; Patroni's cache does not notice at once.
    StoreFrozen(Ms),
    /// The store is not there.
    StoreDown(Ms),
    /// The store shuts down in good order, and is not there for so long.
    StoreStopped(Ms),
    KeyDeleted,
    StoreCut(usize, Ms),
    /// What a node asks of the store is done, but it does not hear that.
    StoreDeaf(usize, Ms),
    MembersCut(usize, usize, Ms),
    /// From the store and the other members, and not from the HAProxies.
    Isolated(usize, Ms),
    HaproxyCut(usize, usize, Ms),
    PatroniFrozen(usize, Ms),
    HostFrozen(usize, Ms),
    PatroniKilled(usize, Ms),
    PostgresCrashed(usize),
    /// Each answer of Patroni's comes so much later than it was made up, for ten seconds.
    AnswersSlow(usize, Ms),
    AnswersLost(usize, Ms),
    AgentRestarted(usize, Ms),
    Pause(bool),
    PromotedByHand(usize),
    Switchover(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// All of them, of which the search takes one after the other. The members beside the leader are
/// alike.
pub fn all() -> Vec<Fault> {
    use Fault::*;
    let other = LEADER + 1;
    let mut all = vec![KeyDeleted, StoreStopped(12_000), StoreFrozen(1500), StoreDown(12_000), StoreFrozen(30_000)];
    all.extend([Pause(true), Pause(false), PromotedByHand(other), Switchover(other)]);
    all.extend([MembersCut(LEADER, other, 30_000), MembersCut(other, other + 1, 30_000)]);
    for node in [LEADER, other] {
        all.extend([StoreCut(node, 5000), StoreCut(node, 30_000), StoreDeaf(node, 5000)]);
        all.extend([Isolated(node, 5000), Isolated(node, 30_000), HaproxyCut(0, node, 10_000)]);
        all.extend([PatroniFrozen(node, 3000), PatroniFrozen(node, 19_500), PatroniFrozen(node, 30_000)]);
        all.extend([HostFrozen(node, 3000), HostFrozen(node, 25_000)]);
        all.extend([PatroniKilled(node, 2000), PatroniKilled(node, 8000), PatroniKilled(node, 25_000)]);
        all.push(PostgresCrashed(node));
        all.extend([AgentRestarted(node, 0), AgentRestarted(node, 3000), AgentRestarted(node, 25_000)]);
        all.extend([
            AnswersSlow(node, 400),
            AnswersSlow(node, 3000),
            AnswersLost(node, 3000),
            AnswersLost(node, 12_000),
        ]);
    }
    all
}

/// One of each kind, for the combinations of three.
pub fn few() -> Vec<Fault> {
    use Fault::*;
    let other = LEADER + 1;
    vec![
        KeyDeleted,
        StoreFrozen(1500),
        StoreDown(30_000),
        StoreStopped(30_000),
        StoreCut(LEADER, 30_000),
        StoreDeaf(LEADER, 5000),
        Isolated(LEADER, 30_000),
        Isolated(other, 30_000),
        MembersCut(LEADER, other, 30_000),
        HaproxyCut(0, LEADER, 10_000),
        PatroniFrozen(LEADER, 3000),
        PatroniFrozen(LEADER, 19_500),
        HostFrozen(LEADER, 25_000),
        PatroniKilled(LEADER, 2000),
        PatroniKilled(other, 8000),
        PostgresCrashed(LEADER),
        AnswersSlow(LEADER, 3000),
        AnswersLost(LEADER, 3000),
        AgentRestarted(LEADER, 0),
        AgentRestarted(LEADER, 3000),
        AgentRestarted(other, 0),
        Pause(true),
        Pause(false),
        PromotedByHand(other),
        Switchover(other),
    ]
}

impl Fault {
    pub fn befall(self, world: &mut World) {
        let until = |duration: Ms| world.now + duration;
        let later = |end: &mut Ms, new: Ms| *end = (*end).max(new);
        match self {
            Fault::StoreFrozen(duration) => later(&mut world.store.away_until, until(duration)),
            Fault::StoreDown(duration) => {
                later(&mut world.store.away_until, until(duration));
                later(&mut world.store.down_until, until(duration));
            }
            Fault::StoreStopped(duration) => {
                later(&mut world.store.away_until, until(duration));
                later(&mut world.store.stopping_until, until(duration));
            }
            Fault::KeyDeleted => world.store.give_up(world.now),
            Fault::StoreCut(node, duration) => world.store.cut_until[node] = until(duration),
            Fault::StoreDeaf(node, duration) => world.store.deaf_until[node] = until(duration),
            Fault::MembersCut(a, b, duration) => {
                let until = until(duration);
                (world.cut_until[a][b], world.cut_until[b][a]) = (until, until);
            }
            Fault::Isolated(node, duration) => {
                let until = until(duration);
                world.store.cut_until[node] = until;
                for other in (0..NODES).filter(|other| *other != node) {
                    (world.cut_until[node][other], world.cut_until[other][node]) = (until, until);
                }
            }
            Fault::HaproxyCut(haproxy, node, duration) => world.servers[haproxy][node].cut_until = until(duration),
            Fault::PatroniFrozen(node, duration) => {
                let until = until(duration);
                later(&mut world.patronis[node].frozen_until, until);
            }
            Fault::HostFrozen(node, duration) => {
                let until = until(duration);
                world.freeze_host(node, until);
            }
            Fault::PatroniKilled(node, duration) => {
                let until = until(duration);
                world.patronis[node].kill(until);
                world.patronis[node].frozen_until = world.host_frozen_until[node];
            }
            Fault::PostgresCrashed(node) => world.patronis[node].postgres.crash(),
            Fault::AnswersSlow(node, latency) => {
                let until = until(10_000);
                let trouble = &mut world.troubles[node];
                (trouble.slow_until, trouble.latency) = (until, latency);
            }
            Fault::AnswersLost(node, duration) => world.troubles[node].lost_until = until(duration),
            Fault::AgentRestarted(node, duration) => world.restart_agent(node, until(duration)),
            Fault::Pause(pause) => world.store.pause = pause,
            Fault::PromotedByHand(node) => world.patronis[node].promote_postgres_by_hand(),
            Fault::Switchover(node) => {
                world.store.candidate = Some(node);
                let now = world.now;
                if let Some(leader) = world.store.leader {
                    world.patronis[leader].switch_over(now);
                }
            }
        }
    }
}
