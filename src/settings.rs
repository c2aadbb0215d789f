//! The service's settings, for the person who asks by hand: what is meant is what the service does. They are read as systemd
//! reads them, from where systemd has them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::units::{self, Unit};

/// The settings of the units (`EnvironmentFile=`), and of a host whose systemd knows none.
const SETTINGS: &str = "/etc/default/patroni-check";

/// The program's name, by which it is found in `ExecStart=`.
const PROGRAM: &str = "patroni-check";

/// An environment file is not longer than this.
const FILE_LIMIT: u64 = 1 << 20;

/// What a comment that ends in a backslash means changed then (systemd's NEWS, "CHANGES WITH 254").
const COMMENTS_END: u32 = 254;

/// The service, as systemd would start it.
#[derive(Default)]
pub struct Service {
    /// Where its settings come from.
    pub from: String,
    /// Its environment, as far as the unit says.
    pub environment: BTreeMap<String, String>,
    /// The options in its `ExecStart=`.
    pub arguments: Vec<String>,
    /// What can't be known here, each in a few words.
    pub unknown: Vec<String>,
    unit: Option<Unit>,
}

impl Service {
    /// The service that answers checks on this host. Without one its settings file counts alone.
    pub fn find() -> Self {
        let names = ["patroni-check.socket", "patroni-check.service", "patroni-check@x.service"];
        let properties =
            "Id,LoadState,Accept,Environment,EnvironmentFiles,ExecStart,DynamicUser,PrivateTmp,ProtectHome";
        let (units, unknown) = match units::show(&names, properties) {
            Ok(units) => (units, Vec::new()),
            Err(e) => (Vec::new(), vec![e]),
        };
        let accept = units.iter().any(|unit| unit.value("Id") == names[0] && unit.value("Accept") == "yes");
        let wanted = if accept { names[2] } else { names[1] };
        let unit = units.into_iter().find(|unit| unit.value("Id") == wanted && unit.is_loaded());
        let from = unit.as_ref().map_or(SETTINGS, |_| wanted).replace("@x", "@");
        let mut service = Service { from, unknown, ..Service::default() };
        match &unit {
            Some(unit) => service.read_unit(unit, wanted),
            None => service.read_file(SETTINGS, true),
        }
        service.unit = unit;
        service
    }

    /// Whether systemd knows it.
    pub fn is_known(&self) -> bool {
        self.unit.is_some()
    }

    fn read_unit(&mut self, unit: &Unit, name: &str) {
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
        let (program, arguments) = unit.command();
        if Path::new(program).file_name().is_some_and(|file| file == PROGRAM) {
            let credentials = format!("/run/credentials/{name}");
            self.arguments = arguments.flat_map(|word| self.expanded(word, &credentials)).collect();
        } else {
            self.unknown.push(format!("its ExecStart= starts {program:?}"));
        }
    }

    /// A word of `ExecStart=` with the variables that are known put in (systemd.service(5), "COMMAND LINES"). The files of
    /// `LoadCredential=` are there while the service runs, for root.
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
        match read(path) {
            Ok(text) => match assignments_of(&text) {
                Some(assignments) => self.environment.extend(assignments),
                None => self.unknown.push(format!("systemd refuses {path}: an assignment in it is not UTF-8")),
            },
            Err(e) if may_be_missing && e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => self.unknown.push(format!("{path}: {e}")),
        }
    }

    /// What keeps the service from looking at this file, with what its unit says: then it can't see a hold there.
    pub fn is_kept_from(&self, file: &Path) -> Option<String> {
        let unit = self.unit.as_ref()?;
        // Where symbolic links lead, of as much as is there.
        let there = file.ancestors().find_map(|path| path.canonicalize().ok())?;
        let is_below = |places: &[&str]| places.iter().any(|place| there.starts_with(place));
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
}

fn owned<'a>((name, value): (&'a str, &'a str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A regular file, as long as a file may be.
fn read(path: &str) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(FILE_LIMIT).read_to_end(&mut text)?;
    Ok(text)
}

/// Words as `systemctl show` prints them (systemd's `shell_maybe_quote`): in double quotes where one has a blank or the like.
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

/// The assignments of an environment file, as the systemd of this host reads them; none where it refuses the file.
fn assignments_of(text: &[u8]) -> Option<BTreeMap<String, String>> {
    let (of_now, of_old) = (assignments(text, false), assignments(text, true));
    if of_now != of_old && units::version().is_some_and(|version| version < COMMENTS_END) { of_old } else { of_now }
}

/// Where in an environment file.
#[derive(Clone, Copy)]
enum Place {
    Line,
    Comment,
    CommentEscape,
    Name,
    /// Behind the `=`, or behind a closing quote.
    Begin,
    Value,
    ValueEscape,
    SingleQuotes,
    DoubleQuotes,
    DoubleQuotesEscape,
}

/// The assignments of an environment file (systemd.exec(5), `EnvironmentFile=`; systemd's `env-file.c`), the last of a name;
/// none where it has a NUL, or an assignment that is not UTF-8. Before 254 a backslash continued a comment.
pub fn assignments(text: &[u8], comments_continue: bool) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let (mut name, mut value) = (Vec::new(), Vec::new());
    // How much of a value is left without the blanks at its end.
    let mut kept = None;
    let mut place = Place::Line;
    // An end of the last line that is not there, but not where it would be part of something.
    for byte in text.iter().copied().map(Some).chain([None]) {
        let is_end = matches!(byte, None | Some(b'\n' | b'\r'));
        let is_blank = is_end || matches!(byte, Some(b' ' | b'\t'));
        let is_complete = match place {
            Place::Begin | Place::Value => is_end,
            Place::ValueEscape | Place::SingleQuotes | Place::DoubleQuotes | Place::DoubleQuotesEscape => {
                byte.is_none()
            }
            _ => false,
        };
        if is_complete {
            if let (Place::Value, Some(kept)) = (place, kept) {
                value.truncate(kept);
            }
            let (given, value) = (std::mem::take(&mut name), std::mem::take(&mut value));
            let (given, value) = (String::from_utf8(given).ok()?, String::from_utf8(value).ok()?);
            let given = given.trim_end_matches([' ', '\t']);
            if is_name(given) {
                found.insert(given.to_owned(), value);
            }
            place = Place::Line;
            continue;
        }
        let Some(byte) = byte else { break };
        place = match place {
            _ if byte == 0 => return None,
            Place::Line if matches!(byte, b'#' | b';') => Place::Comment,
            Place::Line if is_blank => Place::Line,
            Place::Line | Place::Name if is_end => {
                name.clear();
                Place::Line
            }
            Place::Name if byte == b'=' => {
                kept = None;
                Place::Begin
            }
            Place::Line | Place::Name => {
                name.push(byte);
                Place::Name
            }
            Place::Comment if byte == b'\\' => Place::CommentEscape,
            Place::CommentEscape if comments_continue => Place::Comment,
            Place::Comment | Place::CommentEscape => {
                if is_end {
                    Place::Line
                } else {
                    Place::Comment
                }
            }
            Place::Begin if byte == b'\'' => Place::SingleQuotes,
            Place::Begin if byte == b'"' => Place::DoubleQuotes,
            Place::Begin | Place::Value if byte == b'\\' => {
                kept = None;
                Place::ValueEscape
            }
            Place::Begin if is_blank => Place::Begin,
            Place::Begin | Place::Value => {
                kept = if is_blank { kept.or(Some(value.len())) } else { None };
                value.push(byte);
                Place::Value
            }
            Place::ValueEscape => {
                value.extend((!is_end).then_some(byte));
                Place::Value
            }
            Place::SingleQuotes if byte == b'\'' => Place::Begin,
            Place::DoubleQuotes if byte == b'"' => Place::Begin,
            Place::DoubleQuotes if byte == b'\\' => Place::DoubleQuotesEscape,
            Place::SingleQuotes | Place::DoubleQuotes => {
                value.push(byte);
                place
            }
            Place::DoubleQuotesEscape => {
                let is_escaped = matches!(byte, b'"' | b'\\' | b'`' | b'$');
                value.extend((!is_escaped && byte != b'\n').then_some(b'\\'));
                value.extend((byte != b'\n').then_some(byte));
                Place::DoubleQuotes
            }
        };
    }
    Some(found)
}

/// A name that systemd takes for a variable's.
fn is_name(text: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(is_good) && text.starts_with(|c: char| !c.is_ascii_digit())
}

#[cfg(test)]
mod tests;
