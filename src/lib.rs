//! The modules of `patroni-check`, in the order in which a check flows through them, for its tests.

pub mod cli;
pub mod invocation;

pub mod clock;
pub mod endpoint;
pub mod patroni;

pub mod hold;
pub mod memory;
pub mod node;
pub mod verdict;

pub mod reply;

pub mod desk;
pub mod hear;
pub mod journal;
pub mod linger;
pub mod metrics;
pub mod notify;
pub mod once;
pub mod serve;
pub mod view;

pub mod explain;
pub mod haproxy_config;
pub mod settings;
pub mod units;
