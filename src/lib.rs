//! The modules of `patroni-check`, from the lowest layer to the highest. Each imports only from
//! those listed before it (`tests/layers.rs` holds that). `docs/architecture.md` follows one check
//! through them.

#![deny(unreachable_pub)]
#![cfg_attr(not(test), deny(clippy::expect_used, clippy::panic, clippy::unwrap_used))]

pub mod clock;
mod file;
mod text;

pub mod endpoint;
pub mod patroni;
pub mod probe;
pub mod verdict;

pub mod observe;
pub mod view;

pub mod haproxy;
pub mod hold;
pub mod http;

pub mod config;
pub mod systemd;

pub mod memory;

pub mod cache;
pub mod server;

pub mod commands;

pub mod cli;
