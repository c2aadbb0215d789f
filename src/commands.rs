//! What the program does when it is not the persistent responder: each asks Patroni once, or a
//! hold, and ends.

pub mod explain;
pub mod haproxy_config;
pub mod hold;
pub mod one_shot;
