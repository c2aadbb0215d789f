//! `patroni-check explain`: what this node answers on each endpoint, and why. For people and for
//! monitoring checks.

mod explanation;
mod json;
mod requests;
mod text;

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use crate::config::Config;
use crate::view::View;
use explanation::Explanation;

/// Explains these views, or all endpoints: asks Patroni, one request after the other and for some
/// ten seconds at most, and prints what came of it.
///
/// # Errors
/// Wrong configuration, or a standard output that takes no more.
pub fn run(config: &Config, views: &[View], as_json: bool) -> Result<ExitCode, Box<dyn Error>> {
    let explanation = Explanation::new(config, views)?;
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{}", json::text(&explanation))?;
    } else {
        let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        out.write_all(text::text(&explanation, colour).as_bytes())?;
    }
    Ok(ExitCode::from(explanation.health as u8))
}
