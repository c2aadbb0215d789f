//! Answers HAProxy's agent-check on a Patroni host.

use std::error::Error;
use std::process::ExitCode;

use patroni_check::cli::{Command, CommandLine};
use patroni_check::commands::{explain, haproxy_config, hold, instances, is, one_shot, settings};
use patroni_check::config::{BadConfiguration, Config};
use patroni_check::server;
use patroni_check::systemd::activation::{Activation, NoSocket};
use patroni_check::systemd::journal::{self, complain};

fn main() -> ExitCode {
    match run() {
        Ok(status) => status,
        Err(e) => {
            complain(&e.to_string());
            ExitCode::from(if std::env::args_os().any(|argument| argument == "--strict") {
                // Of `is`, which only this option is for: whatever went wrong, the job must not seem skipped.
                is::STRICT
            } else if e.is::<BadConfiguration>() {
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
    let CommandLine { config, command } = CommandLine::read()?;
    if command.is_some() {
        warn(&config);
    }
    match command {
        None => answer(&config)?,
        Some(Command::Explain { views, json }) => return explain::run(&config, &views, json),
        Some(Command::TrySettings) => settings::run(&config)?,
        Some(Command::HaproxyConfig(order)) => return haproxy_config::run(&config, &order),
        Some(Command::Instances { files }) => return instances::run(&files),
        Some(Command::Is(question)) => return Ok(is::run(&config, &question)?),
        Some(Command::Hold(order)) => hold::begin(&config, &order)?,
        Some(Command::ListHolds) => hold::list(&config)?,
        Some(Command::Release { on }) => hold::end(&config, &on)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn answer(config: &Config) -> Result<(), Box<dyn Error>> {
    if let Some(instance) = &config.instance {
        journal::sign(instance);
    }
    match Activation::find(config)? {
        Activation::Listeners(listeners) => server::serve(listeners, config),
        Activation::Connection(connection, role) => one_shot::answer(connection, &role, config),
        Activation::Stdout(view) => {
            warn(config);
            one_shot::print(&view, config)
        }
    }
}

fn warn(config: &Config) {
    if let Some(warning) = config.warning() {
        complain(&warning);
    }
}
