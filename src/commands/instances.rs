//! `patroni-check instances`: the clusters of this host, what answers for each, and what is to be
//! enabled for the others.

mod script;

use std::error::Error;
use std::io::{ErrorKind, Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::commands::listening::listeners;
use crate::config::{Instance, PATRONI};
use crate::file::read_at_most;
use crate::patroni::{BaseUrl, Configuration};
use crate::systemd::journal::complain;
use crate::systemd::service_settings::ServiceSettings;
use crate::systemd::socket_units::{instances, open_sockets, ports_of_sockets};
use crate::text::printable;
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

/// Reads these configurations, or those in Patroni's directory, and prints what came of it: a
/// script with comments.
///
/// # Errors
/// A directory that can't be read, or a standard output that takes no more.
pub fn run(files: &[PathBuf]) -> Result<ExitCode, Box<dyn Error>> {
    let files = if files.is_empty() { configurations()? } else { files.to_vec() };
    let instances = instances()?;
    let services = [None].into_iter().chain(instances.into_iter().map(Some));
    let answering: Vec<_> = services.map(Answering::of).collect();
    let mut found = Vec::new();
    for file in &files {
        match read(file) {
            Ok(Some(configuration)) => found.push(Found::Cluster(cluster(file, configuration, &answering))),
            Ok(None) => {}
            Err(why) => {
                // Whoever runs what is printed does not see its comments.
                complain(&format!("{}: {why}", file.display()));
                found.push(Found::Unread(file.clone(), why));
            }
        }
    }
    let taken = listeners().map(|address| address.port()).chain(ports_of_sockets()).collect();
    // One that is alone has no need of an instance.
    let is_alone = found.len() == 1 && answering.len() == 1 && answering[0].sockets.is_empty();
    stdout().write_all(script(&found, taken, is_alone).as_bytes())?;
    Ok(ExitCode::SUCCESS)
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
    Configuration::read(&String::from_utf8(text).map_err(|_| "it is not UTF-8")?)
}

impl Answering {
    fn of(instance: Option<Instance>) -> Self {
        let settings = ServiceSettings::find(instance.as_ref());
        let set = settings.environment.get("PATRONI_CHECK_PATRONI").filter(|value| !value.is_empty());
        let patroni = set.map(String::as_str).or(instance.is_none().then_some(PATRONI));
        let patroni = patroni.and_then(|patroni| patroni.parse().ok());
        Answering { patroni, sockets: open_sockets(instance.as_ref()), instance }
    }
}

fn cluster(file: &Path, configuration: Configuration, answering: &[Answering]) -> Cluster {
    let instance = Instance::of_file(file);
    let asks_it = |service: &&Answering| service.patroni.as_ref().is_some_and(|base| configuration.is_at(base));
    let answered = answering.iter().filter(asks_it).flat_map(|service| service.sockets.clone()).collect();
    let own = answering.iter().find(|service| service.instance.is_some() && service.instance == instance);
    let asks_another = own.filter(|own| !asks_it(own));
    let asks_another = asks_another.map(|own| own.patroni.as_ref().map_or("none".to_owned(), BaseUrl::to_string));
    Cluster { file: printable(&file.display().to_string()), instance, configuration, answered, asks_another }
}
