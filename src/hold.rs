//! Holds: an operator's word that this node is to get no traffic, or none of some views. Each is a
//! file, so it outlives every restart: `HOLD_FILE` for all views, and beside it `HOLD_FILE.replica`
//! for all views of /replica, `HOLD_FILE.replica?lag=16777216` for those with exactly these
//! parameters.

pub mod file;
pub mod text;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use crate::clock::{Moment, boot_id};
use crate::endpoint::Endpoint;
use crate::verdict::{Sessions, Verdict};
use file::{HoldFile, is_unfinished};
use text::{End, Hold, Standing};

/// Who writes a hold is done by then.
const UNFINISHED: Duration = Duration::from_secs(60);

/// All holds of this node, whether there are any or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holds(HoldFile);

/// A hold that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Why and until when, in a few words.
    pub why: String,
    /// What may become of the open sessions.
    pub sessions: Sessions,
    /// When it ends by itself, in Unix time.
    pub until: Option<Duration>,
}

/// A file that is there.
#[derive(Debug)]
pub struct Found {
    /// The file's name.
    pub file: HoldFile,
    /// What it is about.
    pub scope: Scope,
}

/// What a hold is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All views.
    All,
    /// Those that this names: all of a path, or those with exactly these parameters.
    Some(Endpoint),
    /// None, and why: the file's name is no such name.
    Nothing(String),
}

impl Holds {
    /// Those that this file stands for, and the ones beside it.
    pub fn new(file: PathBuf) -> Self {
        Holds(HoldFile::new(file))
    }

    /// The file of the hold of all views.
    pub fn of_all(&self) -> &HoldFile {
        &self.0
    }

    /// The file of the hold of the views that an endpoint names.
    pub fn of(&self, endpoint: &Endpoint) -> HoldFile {
        self.0.beside(&name(endpoint))
    }

    /// All files that may be it: somebody may have made one by another name of the path.
    pub fn all_of(&self, endpoint: &Endpoint) -> Vec<HoldFile> {
        let name = name(endpoint);
        let others = if name.contains('?') { Vec::new() } else { path_names(endpoint) };
        let others = others.iter().filter(|other| **other != name).map(|other| self.0.beside(other));
        std::iter::once(self.0.beside(&name)).chain(others).collect()
    }

    /// The files that may hold the views of an endpoint; without one, what asks about none that is
    /// known.
    pub fn files(&self, endpoint: Option<&Endpoint>) -> Vec<HoldFile> {
        let names = endpoint.map(names).unwrap_or_default();
        std::iter::once(self.0.clone()).chain(names.iter().map(|name| self.0.beside(name))).collect()
    }

    /// The hold that counts for an endpoint now.
    pub fn held(&self, endpoint: Option<&Endpoint>) -> Option<Held> {
        strongest(self.files(endpoint).iter().filter_map(|file| Held::by(file, Moment::now())))
    }

    /// The verdict on an endpoint as it is while that is held, whatever Patroni says.
    pub fn overriding(&self, endpoint: Option<&Endpoint>, verdict: Verdict) -> Verdict {
        match self.held(endpoint) {
            Some(held) => held.overriding(endpoint, &verdict),
            None => verdict,
        }
    }

    /// What is there, in the order of the names: of all views first.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn found(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        if self.0.hold().is_some() {
            found.push(Found { file: self.0.clone(), scope: Scope::All });
        }
        let mut names = self.names_beside()?;
        names.retain(|name| !is_unfinished(name));
        names.sort();
        found.extend(names.iter().map(|name| Found { file: self.0.beside(name), scope: scope(name) }));
        Ok(found)
    }

    /// Removes what was left by holds that were interrupted while they were written.
    pub fn remove_unfinished(&self) {
        let names = self.names_beside().unwrap_or_default();
        let unfinished = names.iter().filter(|name| is_unfinished(name)).map(|name| self.0.beside(name));
        // One that is being written just now is somebody's.
        unfinished.filter(|file| file.is_older_than(UNFINISHED)).for_each(|file| {
            let _ = file.end();
        });
    }

    /// What stands behind the dot of the files beside the first one.
    fn names_beside(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.0.directory()) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            entries => entries.map_err(|e| in_file(self.0.directory(), &e))?,
        };
        let first = self.0.path().file_name().unwrap_or_default().to_string_lossy();
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        Ok(names.filter_map(|name| Some(name.strip_prefix(&*first)?.strip_prefix('.')?.to_owned())).collect())
    }
}

impl Held {
    /// The hold of this file, if it stands now.
    pub fn by(file: &HoldFile, now: Moment) -> Option<Held> {
        let hold = file.hold()?;
        let standing = standing(&hold, now);
        let until = hold.end.as_ref().map(|end| end.wall);
        (standing != Standing::Over).then(|| Held { why: hold.why(standing), sessions: hold.sessions, until })
    }

    /// The verdict in place of this one. Where one node is meant, only its sessions may stay, as under
    /// `on-standby=drain`: a former primary's would write nothing any more.
    pub fn overriding(self, endpoint: Option<&Endpoint>, verdict: &Verdict) -> Verdict {
        let is_for_another = endpoint.is_some_and(Endpoint::is_for_one) && !matches!(verdict, Verdict::Serve(_));
        Verdict::Held(self.why, if is_for_another { Sessions::Cut } else { self.sessions })
    }

    /// One that cuts the sessions counts for more, and then one that lasts longer.
    fn weight(&self) -> (bool, bool, Option<Duration>) {
        (self.sessions == Sessions::Cut, self.until.is_none(), self.until)
    }
}

/// The one that counts.
pub fn strongest(held: impl Iterator<Item = Held>) -> Option<Held> {
    held.reduce(|first, other| if other.weight() > first.weight() { other } else { first })
}

/// Whether a hold stands now, in this boot.
pub fn standing(hold: &Hold, now: Moment) -> Standing {
    let boot = hold.end.as_ref().is_some_and(|end| end.boot.is_some()).then(|| boot_id().ok()).flatten();
    hold.standing(now, boot.as_deref())
}

/// How long a hold still has until this end, for people.
pub fn time_left(end: &End, now: Moment) -> String {
    let left = end.left(now, boot_id().ok().as_deref());
    humantime::format_duration(Duration::from_secs(left.as_secs())).to_string()
}

/// An error with the file that it is about, and what to do where that is plain.
pub fn in_file(file: &Path, error: &io::Error) -> io::Error {
    let is_denied = error.raw_os_error() == Some(Errno::ACCESS.raw_os_error());
    let remedy = if is_denied { "; run it as root" } else { "" };
    io::Error::new(error.kind(), format!("{}: {error}{remedy}", file.display()))
}

/// What stands behind the dot for the views that an endpoint names. The order of its parameters is
/// nobody's business.
fn name(endpoint: &Endpoint) -> String {
    let text = endpoint.to_string();
    let group = endpoint.group().trim_start_matches('/');
    match text.split_once('?') {
        Some((_, parameters)) => {
            let mut parameters: Vec<_> = parameters.split('&').collect();
            parameters.sort_unstable();
            format!("{group}?{}", parameters.join("&"))
        }
        None => group.to_owned(),
    }
}

/// The names of the holds beside that of all views that may hold an endpoint.
fn names(endpoint: &Endpoint) -> Vec<String> {
    let mut names = path_names(endpoint);
    let whole = name(endpoint);
    if !names.contains(&whole) {
        names.push(whole);
    }
    names
}

/// The names that a path has, `primary` and `master`.
fn path_names(endpoint: &Endpoint) -> Vec<String> {
    Endpoint::names_of(endpoint.group()).map(|path| path.trim_start_matches('/').to_owned()).collect()
}

/// Whether a hold on `on` is one of the views of this endpoint.
pub fn covers(on: &Endpoint, endpoint: &Endpoint) -> bool {
    names(endpoint).contains(&name(on))
}

/// What a file with this behind the dot of its name is about.
fn scope(found: &str) -> Scope {
    match format!("/{found}").parse::<Endpoint>() {
        Ok(endpoint) if names(&endpoint).iter().any(|name| name == found) => Scope::Some(endpoint),
        Ok(endpoint) => Scope::Nothing(format!("holds nothing: write {}", name(&endpoint))),
        Err(_) => Scope::Nothing("holds nothing: it is named after no endpoint".into()),
    }
}

#[cfg(test)]
mod tests;
