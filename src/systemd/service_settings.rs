//! The service's settings, for the person who asks by hand: what is meant is what the service does.
//! They are read as systemd reads them, from where systemd has them.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::env_file;
use super::units::{self, Unit};
use crate::config::Instance;
use crate::file::read_at_most;

/// The settings of the units (`EnvironmentFile=`), and of a host whose systemd knows none.
const SETTINGS: &str = "/etc/default/patroni-check";

/// The program's name, by which it is found in `ExecStart=`.
const PROGRAM: &str = "patroni-check";

/// Where systemd has the files of `LoadCredential=`, in a directory for each service.
const CREDENTIALS: &str = "/run/credentials";

/// An environment file is not longer than this.
const FILE_LIMIT: u64 = 1 << 20;

/// The service, as systemd would start it.
#[derive(Default)]
pub(crate) struct ServiceSettings {
    /// Where its settings come from.
    pub from: String,
    /// Its environment, as far as the unit says.
    pub environment: BTreeMap<String, String>,
    /// The options in its `ExecStart=`.
    pub arguments: Vec<String>,
    /// What can't be known here, each in a few words.
    pub unknown: Vec<String>,
    /// What systemd itself refuses, each in a few words.
    pub refused: Vec<String>,
    unit: Option<Unit>,
}

impl ServiceSettings {
    /// The service that answers checks on this host, for this one of several clusters. Without one its
    /// settings file counts alone.
    pub(crate) fn find(instance: Option<&Instance>) -> Self {
        let (names, file) = match instance {
            // Its sockets know no Accept=yes: systemd makes another instance of each connection.
            Some(instance) => ([instance.socket(""), instance.service(), instance.service()], instance.settings()),
            None => {
                let names = ["patroni-check.socket", "patroni-check.service", "patroni-check@x.service"];
                (names.map(str::to_owned), SETTINGS.to_owned())
            }
        };
        let names = names.each_ref().map(String::as_str);
        let properties = "Id,LoadState,Accept,Environment,EnvironmentFiles,ExecStart,DynamicUser,SupplementaryGroups,PrivateTmp,\
                          ProtectHome,RootDirectory,BindPaths,BindReadOnlyPaths";
        let (units, unknown) = match units::show(&names, properties) {
            Ok(units) => (units, Vec::new()),
            Err(e) => (Vec::new(), vec![e]),
        };
        let accept = units.iter().any(|unit| unit.value("Id") == names[0] && unit.value("Accept") == "yes");
        let wanted = if accept { names[2] } else { names[1] };
        let unit = units.into_iter().find(|unit| unit.value("Id") == wanted && unit.is_loaded());
        let from = unit.as_ref().map_or(file.as_str(), |_| wanted).replace("@x", "@");
        let mut service = ServiceSettings { from, unknown, ..ServiceSettings::default() };
        match &unit {
            Some(unit) => service.read_unit(unit, wanted),
            None => service.read_file(&file, true),
        }
        service.unit = unit;
        service
    }

    /// The environment of a service that is not ours.
    pub(crate) fn environment_of(name: &str) -> Self {
        let mut service = ServiceSettings { from: name.to_owned(), ..ServiceSettings::default() };
        match units::show(&[name], "Id,LoadState,Environment,EnvironmentFiles") {
            Ok(units) => {
                let unit = units.iter().find(|unit| unit.value("Id") == name && unit.is_loaded());
                unit.into_iter().for_each(|unit| service.read_environment(unit));
            }
            Err(e) => service.unknown.push(e),
        }
        service
    }

    /// Whether systemd knows it.
    pub(crate) fn is_known(&self) -> bool {
        self.unit.is_some()
    }

    fn read_environment(&mut self, unit: &Unit) {
        let assignments = words(unit.value("Environment"));
        self.environment.extend(assignments.iter().filter_map(|word| word.split_once('=')).map(owned));
        for file in unit.values("EnvironmentFiles") {
            let path = file.rsplit_once(" (").map_or(file, |(path, _)| path);
            if path.contains(['*', '?', '[']) {
                self.unknown.push(format!("EnvironmentFile={path}, a pattern"));
            } else {
                self.read_file(path, file.ends_with("(ignore_errors=yes)"));
            }
        }
    }

    fn read_unit(&mut self, unit: &Unit, name: &str) {
        self.read_environment(unit);
        let (program, arguments) = unit.command();
        if Path::new(program).file_name().is_some_and(|file| file == PROGRAM) {
            let credentials = format!("{CREDENTIALS}/{name}");
            self.arguments = arguments.flat_map(|word| self.expanded(word, &credentials)).collect();
        } else {
            self.unknown.push(format!("its ExecStart= starts {program:?}"));
        }
    }

    /// A word of `ExecStart=` with the variables that are known put in (systemd.service(5),
    /// "COMMAND LINES"). The files of `LoadCredential=` are there while the service runs, for root.
    fn expanded(&self, word: &str, credentials: &str) -> Vec<String> {
        if let Some(value) = word.strip_prefix('$').and_then(|name| self.environment.get(name)) {
            return value.split_whitespace().map(str::to_owned).collect();
        }
        let mut word = word.to_owned();
        for (name, value) in &self.environment {
            word = word.replace(&format!("${{{name}}}"), value);
        }
        if std::fs::read_dir(credentials).is_ok() {
            word = word.replace("${CREDENTIALS_DIRECTORY}", credentials);
        }
        vec![word]
    }

    fn read_file(&mut self, path: &str, may_be_missing: bool) {
        match read_at_most(Path::new(path), FILE_LIMIT) {
            Ok(text) => match env_file::read(&text) {
                Some(assignments) => self.environment.extend(assignments),
                None => self.refused.push(format!("systemd refuses {path}: an assignment in it is not UTF-8")),
            },
            Err(e) if may_be_missing && e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.refused.push(format!("{path}: {e}")),
            Err(e) => self.unknown.push(format!("{path}: {e}")),
        }
    }

    /// What keeps the service from looking at this file, with what its unit says: then it can't see
    /// a hold there.
    pub(crate) fn why_hidden(&self, file: &Path) -> Option<String> {
        let unit = self.unit.as_ref()?;
        // Where symbolic links lead, of as much as is there.
        let there = file.ancestors().find_map(|path| path.canonicalize().ok())?;
        let is_below = |places: &[&str]| places.iter().any(|place| there.starts_with(place));
        let root = unit.value("RootDirectory");
        if !matches!(root, "" | "/") && !is_bound(unit, &there) {
            return Some(format!("RootDirectory={root}, and no BindReadOnlyPaths= has it"));
        }
        let (private_tmp, protect_home) = (unit.value("PrivateTmp"), unit.value("ProtectHome"));
        if !matches!(private_tmp, "" | "no") && is_below(&["/tmp", "/var/tmp"]) {
            return Some(format!("PrivateTmp={private_tmp}"));
        }
        if matches!(protect_home, "yes" | "tmpfs") && is_below(&["/home", "/root", "/run/user"]) {
            return Some(format!("ProtectHome={protect_home}"));
        }
        let is_another_user = unit.value("DynamicUser") == "yes";
        let is_closed = |path: &&Path| path.metadata().is_ok_and(|found| found.is_dir() && found.mode() & 0o001 == 0);
        let closed = there.ancestors().find(is_closed).filter(|_| is_another_user)?;
        Some(format!("it is another user, and {} has no x for others", closed.display()))
    }

    /// What keeps the service from reading this file, with what its unit says.
    pub(crate) fn why_unreadable(&self, file: &Path) -> Option<String> {
        let unit = self.unit.as_ref()?;
        // What systemd passes to the service alone, and what a group may be for.
        if file.starts_with(CREDENTIALS) || !unit.value("SupplementaryGroups").is_empty() {
            return None;
        }
        let is_another_user = unit.value("DynamicUser") == "yes";
        let is_closed = || file.metadata().is_ok_and(|found| found.mode() & 0o004 == 0);
        let closed = || {
            let why = "it is another user, and others may not read the file; LoadCredential= passes it";
            (is_another_user && is_closed()).then(|| why.to_owned())
        };
        self.why_hidden(file).or_else(closed)
    }
}

/// Whether a service with a root directory of its own sees this file of the host, at its own place
/// (`/etc:/etc:rbind`, with a `-` before what may be missing).
fn is_bound(unit: &Unit, file: &Path) -> bool {
    let paths = words(unit.value("BindPaths")).into_iter().chain(words(unit.value("BindReadOnlyPaths")));
    paths.into_iter().any(|path| {
        let mut parts = path.trim_start_matches('-').split(':');
        let (source, place) = (parts.next().unwrap_or_default(), parts.next());
        !source.is_empty() && file.starts_with(source) && place.is_none_or(|place| place == source)
    })
}

fn owned<'a>((name, value): (&'a str, &'a str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Words as `systemctl show` prints them (systemd's `shell_maybe_quote`): in double quotes where
/// one has a blank or the like.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => is_quoted = !is_quoted,
            '\\' => word.extend(characters.next()),
            ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_are_read_as_systemctl_prints_them() {
        let table: &[(&str, &[&str])] = &[
            ("A=b", &["A=b"]),
            ("\"A=b c\" B=", &["A=b c", "B="]),
            (r#""A=\"x\" \$y \`z\` \\" B=/a?b"#, &[r#"A="x" $y `z` \"#, "B=/a?b"]),
            ("A=é \"A='q'\"", &["A=é", "A='q'"]),
        ];
        for (text, found) in table {
            assert_eq!(words(text), *found);
        }
    }
}
