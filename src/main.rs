//! Answers HAProxy's agent-check on a Patroni host.

use std::error::Error;
use std::process::ExitCode;

use patroni_check::cli::{BadConfiguration, Options};
use patroni_check::invocation::Invocation;
use patroni_check::{once, serve};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("patroni-check: {e}");
            ExitCode::from(if e.is::<BadConfiguration>() { 2 } else { 1 })
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let options = Options::read()?;
    match Invocation::find(&options)? {
        Invocation::Listeners(listeners) => serve::serve(listeners, &options),
        Invocation::Connection(connection, endpoint) => once::answer(connection, &endpoint, &options),
        Invocation::Nobody(endpoint) => once::print(&endpoint, &options),
    }
}
