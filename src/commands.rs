//! Everything but the service: the commands, and the one answer of a process for each check. Each
//! ends by itself.

pub mod explain;
pub mod haproxy_config;
pub mod hold;
pub mod instances;
pub mod is;
mod listening;
pub mod one_shot;
pub mod settings;
mod table;
