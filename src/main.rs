//! Answers HAProxy's agent-check on a Patroni host.

use std::error::Error;
use std::process::ExitCode;

use patroni_check::cli::{BadConfiguration, Command, Options};
use patroni_check::invocation::{Invocation, NoSocket};
use patroni_check::{explain, haproxy_config, hold, journal, once, serve};

fn main() -> ExitCode {
    match run() {
        Ok(status) => status,
        Err(e) => {
            journal::complain(&e.to_string());
            ExitCode::from(if e.is::<BadConfiguration>() {
                2
            } else if e.is::<NoSocket>() {
                NoSocket::STATUS
            } else {
                1
            })
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::read()?;
    if options.command.is_some() {
        warn(&options);
    }
    match &options.command {
        None => answer(&options)?,
        Some(Command::Explain(what)) => return explain::explain(&options, what),
        Some(Command::HaproxyConfig(what)) => haproxy_config::print(&options, what)?,
        Some(Command::Hold { reason }) => hold::begin(&options.hold(), &reason.join(" "))?,
        Some(Command::Release) => hold::end(&options.hold())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn answer(options: &Options) -> Result<(), Box<dyn Error>> {
    match Invocation::find(options)? {
        Invocation::Listeners(listeners) => serve::serve(listeners, options),
        Invocation::Connection(connection, endpoint) => once::answer(connection, &endpoint, options),
        Invocation::Nobody(endpoint) => {
            warn(options);
            once::print(&endpoint, options)
        }
    }
}

fn warn(options: &Options) {
    if let Some(warning) = options.warning() {
        journal::complain(&warning);
    }
}
