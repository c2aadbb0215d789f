//! systemd: the sockets that it passes, what it is notified of, its journal, and what its units
//! say.

pub mod activation;
pub mod env_file;
pub mod journal;
pub(crate) mod notify;
pub(crate) mod service_settings;
pub(crate) mod socket_units;
mod units;
