//! Reading the command line, the environment, and for a person the service's settings.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, CommandFactory, FromArgMatches};

use super::meant::CommandLine;
use super::options::{Options, PORTS, SettingOptions, Unset};
use super::subcommands::TypedCommand;
use crate::config::{BadConfiguration, HOLD_FILE, Instance, RUNTIME_DIRECTORY};
use crate::systemd::journal::complain;
use crate::systemd::service_settings::ServiceSettings;
use crate::systemd::socket_units::ports;
use crate::text::single_spaced;

/// The environment variables that are ours begin so.
const PREFIX: &str = "PATRONI_CHECK_";

/// The setting that the commands compare with the service's.
const HOLD_FILE_VARIABLE: &str = "PATRONI_CHECK_HOLD_FILE";

/// No value is longer: a path's length (`PATH_MAX`).
const VALUE_LIMIT: usize = 4096;

/// Each port costs a descriptor, and its endpoint a thread.
const ENDPOINTS_LIMIT: usize = 64;

/// Settings by the names of their environment variables.
type Settings = BTreeMap<String, String>;

impl CommandLine {
    /// Reads the command line and the environment and, for a command, the service's settings. The
    /// command line wins over the environment, and both win over the settings. `--help` and
    /// `--version` print and end the program.
    ///
    /// # Errors
    /// Anything that can't be meant.
    pub fn read() -> Result<Self, BadConfiguration> {
        let mut options = Options::with_defaults(&Settings::new(), &[])?;
        if let Some(command) = &options.command {
            options.check_which(command)?;
        }
        if let Some(command) = options.command.as_ref().filter(|command| command.is_of_one_cluster()) {
            let instance = options.settings.instance.as_ref();
            let service = ServiceSettings::find(instance);
            let of_service = |e: BadConfiguration| BadConfiguration(format!("{}: {e}", service.from));
            let settings = settings_of(&service, command).map_err(of_service)?;
            let ports = match command {
                TypedCommand::HaproxyConfig(_) => instance.map(ports).unwrap_or_default(),
                _ => Vec::new(),
            };
            let is_about_hold = !is_trial(command) && !matches!(command, TypedCommand::HaproxyConfig(_));
            options = Options::with_defaults(&settings, &ports).map_err(of_service)?;
            options.check_ports(&ports)?;
            if is_about_hold {
                options.check_hold_file(&service, &settings)?;
            }
        }
        let mut meant = options.validate()?;
        meant.config.runtime_directory = runtime_directory(meant.command.is_some(), meant.config.instance.as_ref());
        Ok(meant)
    }

    /// Reads a command line alone, without the environment and the service's settings.
    ///
    /// # Errors
    /// Anything that can't be meant.
    pub fn parse(arguments: &[&str]) -> Result<Self, BadConfiguration> {
        let line = ["patroni-check"].iter().chain(arguments).map(OsString::from);
        let matches = matches_of(Options::command().mut_args(|arg| arg.env(None::<&str>)), line)?;
        Options::read(&matches)?.validate()
    }
}

impl Options {
    fn validate(self) -> Result<CommandLine, BadConfiguration> {
        let settings = &self.settings;
        let is_of_one_cluster = self.command.as_ref().is_none_or(TypedCommand::is_of_one_cluster);
        if let Some(instance) = settings.instance.as_ref().filter(|_| is_of_one_cluster && settings.unset.patroni) {
            return Err(BadConfiguration(format!(
                "instance {instance} has no PATRONI_CHECK_PATRONI, and there is no default for one of several \
                 clusters; it is set in {} (see patroni-check instances)",
                instance.settings()
            )));
        }
        if settings.cert.is_some() != settings.key.is_some() {
            return Err(BadConfiguration("--cert and --key need each other".into()));
        }
        if settings.listen.len() > ENDPOINTS_LIMIT {
            return Err(BadConfiguration(format!("--listen: {ENDPOINTS_LIMIT} ports at most")));
        }
        if settings.also.len() > ENDPOINTS_LIMIT {
            return Err(BadConfiguration(format!("--also: {ENDPOINTS_LIMIT} endpoints at most")));
        }
        CommandLine::try_from(self)
    }

    /// The options. The command line wins over the environment, and both win over these settings, and
    /// these ports of `haproxy-config`.
    fn with_defaults(settings: &Settings, ports: &[(&str, u16)]) -> Result<Self, BadConfiguration> {
        let own = std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.is_empty()));
        let own: BTreeMap<String, bool> = own.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        let is_empty = |name: &String| own.get(name) == Some(&true);
        let with_settings = |command: clap::Command| {
            if settings.is_empty() && ports.is_empty() && !own.keys().any(is_empty) {
                return command;
            }
            let command = match command.find_subcommand("haproxy-config") {
                None => command,
                Some(_) => command.mut_subcommand("haproxy-config", |command| {
                    command.mut_args(|arg| match ports.iter().find(|(option, _)| arg.get_id() == option) {
                        Some((_, port)) => arg.default_value(port.to_string()),
                        None => arg,
                    })
                }),
            };
            command.mut_args(|arg| {
                let Some(name) = variable(&arg) else { return arg };
                let arg = if is_empty(&name) { arg.env(None::<&str>) } else { arg };
                match settings.get(&name).filter(|value| !value.is_empty()) {
                    Some(value) => arg.default_value(value.clone()),
                    None => arg,
                }
            })
        };
        let mut options = match Options::without_a_command(with_settings, std::env::args_os()) {
            Some(options) => options,
            None => Options::read(&matches_of(with_settings(Options::command()), std::env::args_os())?)?,
        };
        let mut named = own.keys().chain(settings.keys()).filter(|name| name.starts_with(PREFIX)).peekable();
        if named.peek().is_some() {
            let known: Vec<_> = Options::command().get_arguments().filter_map(variable).collect();
            // What was meant by a misspelt one would be left undone.
            if let Some(name) = named.find(|name| !known.contains(name)) {
                return Err(BadConfiguration(format!(
                    "{name} is not a setting; patroni-check --help lists the settings"
                )));
            }
        }
        let is_set = |name: &str| settings.get(name).is_some_and(|value| !value.is_empty());
        options.settings.unset.patroni &= !is_set("PATRONI_CHECK_PATRONI");
        options.settings.unset.hold_file &= !is_set(HOLD_FILE_VARIABLE);
        Ok(options)
    }

    fn read(matches: &ArgMatches) -> Result<Self, BadConfiguration> {
        let mut options = Options::from_arg_matches(matches).map_err(|e| BadConfiguration(one_line(&e)))?;
        options.settings.unset = unset(matches);
        Ok(options)
    }

    /// The options of a line without a command. None for any other line, and for one that is
    /// wrong.
    ///
    /// The commands and their options are more than half of what is to be built, and to start a
    /// process for each check is to build it for each check.
    fn without_a_command(
        with_settings: impl FnOnce(clap::Command) -> clap::Command,
        line: impl Iterator<Item = OsString>,
    ) -> Option<Self> {
        let command = SettingOptions::augment_args(clap::Command::new("patroni-check")).disable_help_flag(true);
        let matches = with_settings(command).try_get_matches_from(line).ok()?;
        check_lengths(&matches).ok()?;
        let mut settings = SettingOptions::from_arg_matches(&matches).ok()?;
        settings.unset = unset(&matches);
        Some(Options { settings, command: None })
    }

    /// Refuses a hold file that the service can't see.
    fn check_hold_file(&self, service: &ServiceSettings, settings: &Settings) -> Result<(), BadConfiguration> {
        let own = self.settings.hold_file();
        let file = own.display();
        let of_service = settings.get(HOLD_FILE_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        let by_default = self.settings.instance.as_ref().map_or_else(|| HOLD_FILE.into(), Instance::hold_file);
        let of_service = of_service.unwrap_or(by_default);
        let from = &service.from;
        match service.why_hidden(&own) {
            _ if !service.is_known() => Ok(()),
            _ if own != of_service => {
                complain(&format!("--hold-file {file}: {from} uses another file, {}", of_service.display()));
                Ok(())
            }
            Some(why) => Err(BadConfiguration(format!(
                "--hold-file {file}: {from} can't see this file ({why}); choose one like {HOLD_FILE}"
            ))),
            None => Ok(()),
        }
    }
}

/// Where systemd has made a directory for this process (systemd.exec(5), `RuntimeDirectory=`); for a
/// command, where it makes one for the service.
fn runtime_directory(is_command: bool, instance: Option<&Instance>) -> Option<PathBuf> {
    let named = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_default();
    // There may be several, with colons between them.
    let first = named.as_bytes().split(|byte| *byte == b':').next().unwrap_or_default();
    match Path::new(OsStr::from_bytes(first)) {
        directory if directory.is_absolute() => Some(directory.to_owned()),
        _ => is_command.then(|| instance.map_or_else(|| RUNTIME_DIRECTORY.into(), Instance::runtime_directory)),
    }
}

/// Which options are at the default of the program.
fn unset(matches: &ArgMatches) -> Unset {
    let is_unset = |matches: &ArgMatches, id: &str| matches.value_source(id) == Some(ValueSource::DefaultValue);
    let of_haproxy = matches.subcommand().filter(|(name, _)| *name == "haproxy-config");
    let is_port_unset = |id: &&str| of_haproxy.is_some_and(|(_, matches)| is_unset(matches, id));
    Unset {
        patroni: is_unset(matches, "patroni"),
        hold_file: is_unset(matches, "hold_file"),
        ports: PORTS.into_iter().filter(is_port_unset).collect(),
    }
}

fn variable(arg: &Arg) -> Option<String> {
    Some(arg.get_env()?.to_string_lossy().into_owned())
}

/// Whether the service's settings are only tried.
fn is_trial(command: &TypedCommand) -> bool {
    matches!(command, TypedCommand::Explain(explain) if explain.settings)
}

/// The service's settings: the options in its `ExecStart=`, then its environment. Says which of
/// them are not to be had.
///
/// # Errors
/// Where they are only tried, what keeps the service from starting.
fn settings_of(service: &ServiceSettings, command: &TypedCommand) -> Result<Settings, BadConfiguration> {
    let (mut settings, mut unknown) = (service.environment.clone(), service.unknown.clone());
    let mut refused = service.refused.clone();
    // To drain is to ask Patroni before.
    let is_about_hold = match command {
        TypedCommand::Hold(hold) => !hold.drain,
        TypedCommand::Release(_) => true,
        TypedCommand::Explain(_)
        | TypedCommand::HaproxyConfig(_)
        | TypedCommand::Instances(_)
        | TypedCommand::Is(_) => false,
    };
    let line = ["patroni-check"].into_iter().chain(service.arguments.iter().map(String::as_str)).map(OsString::from);
    let own = Options::command().mut_args(|arg| arg.env(None::<&str>));
    match matches_of(own.disable_help_flag(true).disable_version_flag(true), line) {
        Ok(matches) => {
            for arg in Options::command().get_arguments() {
                let id = arg.get_id().as_str();
                let Some(name) = variable(arg).filter(|_| matches.value_source(id) == Some(ValueSource::CommandLine))
                else {
                    continue;
                };
                let values = matches.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy());
                let value = values.collect::<Vec<_>>().join(" ");
                // systemd expands this variable; its value is not known here.
                if !value.contains('$') {
                    settings.insert(name, value);
                } else if !is_about_hold || id == "hold_file" {
                    unknown.push(format!("--{} {value}", id.replace('_', "-")));
                }
            }
        }
        Err(e) => refused.push(format!("its ExecStart=: {e}")),
    }
    if is_trial(command) && !refused.is_empty() {
        return Err(BadConfiguration(refused.join("; ")));
    }
    unknown.extend(refused);
    if !unknown.is_empty() {
        complain(&format!("{} has settings that are unknown here: {}", service.from, unknown.join("; ")));
    }
    Ok(settings)
}

fn matches_of(command: clap::Command, line: impl Iterator<Item = OsString>) -> Result<ArgMatches, BadConfiguration> {
    let matches = command.try_get_matches_from(line).map_err(|e| match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => e.exit(),
        _ => BadConfiguration(one_line(&e)),
    })?;
    check_lengths(&matches)?;
    Ok(matches)
}

fn check_lengths(matches: &ArgMatches) -> Result<(), BadConfiguration> {
    for id in matches.ids() {
        // A group of options has no values.
        let Ok(Some(mut values)) = matches.try_get_raw(id.as_str()) else { continue };
        if values.any(|value| value.len() > VALUE_LIMIT) {
            let option = id.as_str().replace('_', "-");
            return Err(BadConfiguration(format!("--{option} is too long: {VALUE_LIMIT} bytes at most")));
        }
    }
    Ok(())
}

/// The first paragraph of clap's message, without its line breaks.
fn one_line(error: &clap::Error) -> String {
    let message = error.to_string();
    let paragraph = message.split("\n\n").next().unwrap_or_default();
    let line = single_spaced(paragraph).trim_start_matches("error: ").to_owned();
    let refused = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) if error.kind() == ErrorKind::UnknownArgument => option.as_str(),
        _ => "",
    };
    let is_ours = |arg: &Arg| arg.get_long().is_some_and(|long| refused.strip_prefix("--") == Some(long));
    if Options::command().get_arguments().any(is_ours) { line + "; write it before the command" } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> impl Iterator<Item = OsString> {
        ["patroni-check"].into_iter().chain(line.split_whitespace()).map(OsString::from)
    }

    fn as_typed(command: clap::Command) -> clap::Command {
        command.mut_args(|arg| arg.env(None::<&str>))
    }

    #[test]
    fn a_line_without_a_command_means_the_same_whether_commands_are_known_or_not() {
        for line in [
            "",
            "--patroni https://db:8008 --insecure --cacert=/a --cert /b --key /c",
            "--endpoint=/replica?lag=1MB --connection http --also /sync --also=/async",
            "--listen 127.0.0.1:5555=/replica --listen [::]:5556",
            "--words plain --on-failure drain --on-standby=drain",
            "--deadline 1s --max-age 0s --grace 0s --hold-file /x/y",
        ] {
            let quick = Options::without_a_command(as_typed, words(line)).expect(line);
            let matches = matches_of(as_typed(Options::command()), words(line)).expect(line);
            assert_eq!(format!("{quick:?}"), format!("{:?}", Options::read(&matches).expect(line)));
        }
    }

    #[test]
    fn a_line_with_a_command_or_a_fault_is_read_by_all_that_is_known() {
        let long = format!("--cacert /{}", "x".repeat(VALUE_LIMIT));
        for line in ["release", "--grace=1s hold x", "-h", "--help", "-V", "--version", "--grace=1h", "--x", "x", &long]
        {
            assert!(Options::without_a_command(as_typed, words(line)).is_none(), "{line}");
        }
    }
}
