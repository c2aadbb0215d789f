//! `patroni-check instances`: the clusters of this host, what answers for each, and what is to be
//! enabled for the others.

mod ports;
mod script;

use std::error::Error;
use std::io::{ErrorKind, Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::{Instance, PATRONI};
use crate::file::read_at_most;
use crate::patroni::{BaseUrl, Configuration};
use crate::systemd::journal::complain;
use crate::systemd::service_settings::ServiceSettings;
use crate::systemd::socket_units::{instances, open_sockets};
use ports::Ports;
use script::{Cluster, Found, script};

/// Where packages have Patroni's configurations.
const DIRECTORY: &str = "/etc/patroni";

/// No configuration comes near.
const FILE_LIMIT: u64 = 256 << 10;

/// Whom a service asks, and where it is asked itself.
struct Answering {
    instance: Option<Instance>,
    patroni: Option<BaseUrl>,
    sockets: Vec<String>,
}

/// What Patroni takes from its environment before it looks into its configuration, of what is read
/// here (Patroni's manual, "Environment Configuration Settings").
const OVERRIDES: [&str; 6] = [
    "PATRONI_SCOPE",
    "PATRONI_RESTAPI_LISTEN",
    "PATRONI_RESTAPI_CONNECT_ADDRESS",
    "PATRONI_RESTAPI_CERTFILE",
    "PATRONI_RESTAPI_VERIFY_CLIENT",
    "PATRONI_POSTGRESQL_LISTEN",
];

/// Reads the configurations in Patroni's directory and these, and prints what came of it: a script
/// with comments. The exit status tells of a file among these that is of no use.
///
/// # Errors
/// A directory that can't be read, or a standard output that takes no more.
pub fn run(named: &[PathBuf]) -> Result<ExitCode, Box<dyn Error>> {
    let mut files = configurations()?;
    let real = |file: &PathBuf| file.canonicalize().unwrap_or_else(|_| file.clone());
    let is_among = |file: &PathBuf, files: &[PathBuf]| files.iter().any(|other| real(other) == real(file));
    for file in named {
        if !is_among(file, &files) {
            files.push(file.clone());
        }
    }
    let services = [None].into_iter().chain(instances()?.into_iter().map(Some));
    let answering: Vec<_> = services.map(Answering::of).collect();
    let mut found = Vec::new();
    let mut status = ExitCode::SUCCESS;
    for file in &files {
        let read = read(file);
        if let Err(why) = &read {
            // Whoever runs what is printed does not see its comments.
            complain(&format!("{}: {why}", file.display()));
            if is_among(file, named) {
                status = ExitCode::FAILURE;
            }
        }
        found.extend(found_in(file, read, &answering));
    }
    // One that is alone has no need of an instance.
    let is_alone = found.len() == 1 && answering.len() == 1 && answering[0].sockets.is_empty();
    stdout().write_all(script(&found, Ports::find(), is_alone).as_bytes())?;
    Ok(status)
}

/// What is printed of files with these contents, on a host that has nothing else.
pub fn script_for(files: &[(PathBuf, String)]) -> String {
    let found: Vec<_> =
        files.iter().filter_map(|(file, text)| found_in(file, Configuration::read(text), &[])).collect();
    script(&found, Ports::default(), false)
}

fn found_in(file: &Path, read: Result<Option<Configuration>, String>, answering: &[Answering]) -> Option<Found> {
    match read {
        Ok(configuration) => Some(Found::Cluster(cluster(file, configuration?, answering))),
        Err(why) => Some(Found::Unread(file.to_owned(), why)),
    }
}

fn configurations() -> Result<Vec<PathBuf>, String> {
    let entries = match Path::new(DIRECTORY).read_dir() {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(format!("{DIRECTORY}: {e}")),
    };
    let is_yaml = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_yaml).collect();
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<Option<Configuration>, String> {
    let text = read_at_most(file, FILE_LIMIT + 1).map_err(|e| e.to_string())?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(format!("it is longer than {FILE_LIMIT} bytes"));
    }
    let configuration = Configuration::read(&String::from_utf8(text).map_err(|_| "it is not UTF-8")?)?;
    if configuration.is_some() {
        check_environment(file)?;
    }
    Ok(configuration)
}

/// Refuses a configuration that is not Patroni's last word, as far as systemd knows.
fn check_environment(file: &Path) -> Result<(), String> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    for unit in [format!("patroni@{stem}.service"), "patroni.service".to_owned()] {
        let service = ServiceSettings::environment_of(&unit);
        let is_set = |name: &&&str| service.environment.get(**name).is_some_and(|value| !value.is_empty());
        if let Some(name) = OVERRIDES.iter().find(is_set) {
            return Err(format!("{name} in the environment of {unit} overrides it"));
        }
        if let Some(why) = service.unknown.first() {
            return Err(format!("the environment of {unit} may override it, and is not known ({why})"));
        }
    }
    Ok(())
}

impl Answering {
    fn of(instance: Option<Instance>) -> Self {
        let settings = ServiceSettings::find(instance.as_ref());
        let set = settings.environment.get("PATRONI_CHECK_PATRONI").filter(|value| !value.is_empty());
        let line = settings.arguments.iter().map(String::as_str);
        let typed = line.clone().find_map(|word| word.strip_prefix("--patroni="));
        let typed = typed.or_else(|| line.skip_while(|word| *word != "--patroni").nth(1));
        let patroni = typed.or(set.map(String::as_str)).or(instance.is_none().then_some(PATRONI));
        let patroni = patroni.and_then(|patroni| patroni.parse().ok());
        Answering { patroni, sockets: open_sockets(instance.as_ref()), instance }
    }
}

fn cluster(file: &Path, configuration: Configuration, answering: &[Answering]) -> Cluster {
    let instance = Instance::of_file(file);
    let asks_it = |service: &&Answering| service.patroni.as_ref().is_some_and(|base| configuration.is_at(base));
    let answered = answering.iter().filter(asks_it).flat_map(|service| service.sockets.clone()).collect();
    let plain = answering.iter().filter(asks_it).find(|service| service.instance.is_none());
    let plain = plain.and_then(|plain| plain.patroni.clone());
    let plain = plain.filter(|plain| plain.is_https() == configuration.base.is_https());
    let own = answering.iter().find(|service| service.instance.is_some() && service.instance == instance);
    let asks_another = own.filter(|own| !asks_it(own)).and_then(|own| match (&own.patroni, &own.instance) {
        (Some(other), _) => Some(format!("has another Patroni, {other}")),
        (None, Some(own)) if Path::new(&own.settings()).exists() => Some("has no Patroni".to_owned()),
        _ => None,
    });
    Cluster { file: file.to_owned(), instance, configuration, answered, plain, asks_another }
}
