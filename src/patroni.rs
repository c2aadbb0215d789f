//! Patroni's REST API: one GET, one deadline, one observation. Nothing here knows HAProxy.

mod base_url;
pub mod body;
mod certificate;
mod client;
mod configuration;
mod failure;
mod lookup;
mod tls;
mod transport;

pub use base_url::BaseUrl;
pub use client::{Answer, Client, Observation, ask, http_agent};
pub use configuration::Configuration;
pub use failure::{Failure, NoAnswer};
pub use tls::Tls;
pub(crate) use transport::GIVE_UP;
