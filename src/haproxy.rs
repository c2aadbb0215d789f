//! HAProxy: the words that it reads, and a configuration for it. Nothing here knows Patroni's HTTP.

pub mod agent_send;
pub mod config_json;
pub mod config_text;
pub mod membership;
pub mod reply;
mod servers;
pub(crate) mod syntax;
