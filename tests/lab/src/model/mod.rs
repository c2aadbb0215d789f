//! A model of a cluster in which the real rule is at work: three Patronis and a store, three agents
//! with the program's own verdict and cache, two HAProxies that ask as ours are configured. Time is
//! virtual and goes in steps of 10 ms.
//!
//! `store`, `patroni`, `postgres` and `rest_api` are modelled after Patroni 4.1.5 (`ha.py`,
//! `api.py`, `dcs/__init__.py`), `haproxy` after the `agent-check` of its manual; `agent` wraps the
//! real code; `world` is all of them and the clock; `faults` is what can befall them; `invariants`
//! is what must hold; `search` tries all there is to try.

pub mod agent;
pub mod faults;
pub mod haproxy;
pub mod invariants;
pub mod patroni;
pub mod postgres;
pub mod rest_api;
pub mod search;
pub mod store;
pub mod world;

/// Milliseconds since the start.
pub type Ms = u64;

/// One step of the clock.
pub const STEP: Ms = 10;

/// The members of the cluster.
pub const NODES: usize = 3;

/// Who is the leader in the beginning.
pub const LEADER: usize = 0;

/// Those who ask.
pub const HAPROXIES: usize = 2;

/// Seconds of Unix time at the start.
pub const EPOCH: u64 = 1_800_000_000;

/// A cluster's dynamic configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long the leader key lives.
    pub ttl: Ms,
    /// Between two rounds of Patroni's loop.
    pub loop_wait: Ms,
    /// How long an operation on the store is tried.
    pub retry_timeout: Ms,
    /// Whether the leader goes on without the store by the consent of all.
    pub failsafe: bool,
    /// Whether the cluster is paused in the beginning.
    pub pause: bool,
}

/// Patroni's defaults.
pub const DEFAULTS: Settings =
    Settings { ttl: 30_000, loop_wait: 10_000, retry_timeout: 10_000, failsafe: false, pause: false };

/// As quick as Patroni lets it be (`config.py`: ttl at least 20, retry_timeout at least 3); the
/// lab's.
pub const QUICK: Settings =
    Settings { ttl: 20_000, loop_wait: 2_000, retry_timeout: 3_000, failsafe: false, pause: false };
