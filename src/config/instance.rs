//! An instance: the patroni-check of one of several clusters on this host, with what it has of its
//! own.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a hold is, unless the settings say otherwise.
pub const HOLD_FILE: &str = "/etc/patroni-check/hold";

/// What the operator has: settings and holds.
const DIRECTORY: &str = "/etc/patroni-check";

/// A user's name has 31 characters at most (systemd's `valid_user_name`), and `User=` in the unit
/// is `pcheck-` and this.
const NAME_LIMIT: usize = 24;

/// The name of one of several clusters on this host, such as Debian's `16-main`. It is a part of the
/// names of units, files and a user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance(String);

impl FromStr for Instance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if text.is_empty() || text.len() > NAME_LIMIT || text.starts_with('-') || !text.chars().all(is_good) {
            return Err(format!("write letters, digits, - and _, {NAME_LIMIT} at most, like 16-main"));
        }
        // What is of its own would be in the place of the hold of what is no instance.
        if Some(OsStr::new(text)) == Path::new(HOLD_FILE).file_name() {
            return Err(format!("{text} is no name for an instance: {HOLD_FILE} is in the way"));
        }
        Ok(Instance(text.to_owned()))
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Instance {
    /// All that have settings on this host.
    ///
    /// # Errors
    /// The directory can't be listed.
    pub fn with_settings() -> Result<Vec<Self>, String> {
        Self::in_directory(Path::new(DIRECTORY)).map_err(|e| format!("{DIRECTORY}: {e}"))
    }

    fn in_directory(directory: &Path) -> io::Result<Vec<Self>> {
        let listed = match directory.read_dir() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.and_then(Iterator::collect::<io::Result<Vec<_>>>),
        };
        let name = |file: PathBuf| file.file_name()?.to_str()?.strip_suffix(".env")?.parse().ok();
        Ok(listed?.into_iter().filter_map(|entry| name(entry.path())).collect())
    }

    /// The name that is nearest to that of a file, `16-main.yml`.
    pub fn of_file(file: &Path) -> Option<Self> {
        let stem = file.file_stem()?.to_str()?;
        let is_good = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name: String = stem.chars().take(NAME_LIMIT).map(|c| if is_good(c) { c } else { '-' }).collect();
        name.trim_start_matches('-').parse().ok()
    }

    /// The unit of its service.
    pub fn service(&self) -> String {
        format!("patroni-check-cluster@{self}.service")
    }

    /// The unit of a socket: that for the primary, `-replica`, `-http` and so on.
    pub fn socket(&self, which: &str) -> String {
        format!("patroni-check-cluster{which}@{self}.socket")
    }

    /// Its settings (`EnvironmentFile=` in its unit).
    pub fn settings(&self) -> String {
        format!("{DIRECTORY}/{self}.env")
    }

    /// Where its hold is, unless the settings say otherwise.
    pub fn hold_file(&self) -> PathBuf {
        format!("{DIRECTORY}/{self}/hold").into()
    }

    /// Where it leaves what it knows (`RuntimeDirectory=` in its unit).
    pub fn runtime_directory(&self) -> PathBuf {
        format!("/run/patroni-check-cluster/{self}").into()
    }

    /// By what its entries in the journal are found (`SyslogIdentifier=` in its unit).
    pub fn identifier(&self) -> String {
        format!("patroni-check@{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_systemd_takes_everywhere_and_leaves_no_directory() {
        for name in ["16-main", "a", "17_test-2", "ABCDEFGHIJKLMNOPQRSTUVWX"] {
            assert_eq!(name.parse::<Instance>().map(|instance| instance.to_string()).as_deref(), Ok(name));
        }
        for name in
            ["", "-a", ".", "..", "a/b", "a.b", "a b", "a@b", "é", "a\n", "%i", "hold", "ABCDEFGHIJKLMNOPQRSTUVWXY"]
        {
            assert!(name.parse::<Instance>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn what_can_not_be_listed_is_not_nothing() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("16-main.env");
        std::fs::write(&file, "").unwrap();
        std::fs::write(directory.path().join("hold.env"), "").unwrap();
        assert_eq!(Instance::in_directory(directory.path()).unwrap(), ["16-main".parse().unwrap()]);
        assert_eq!(Instance::in_directory(&directory.path().join("none")).unwrap(), []);
        assert!(Instance::in_directory(&file).is_err());
    }

    #[test]
    fn a_file_of_any_name_has_an_instance() {
        for (file, name) in [
            ("/etc/patroni/16-main.yml", "16-main"),
            ("/etc/patroni/db.example.org.yml", "db-example-org"),
            ("/etc/patroni/--x y'z.yml", "x-y-z"),
            ("/etc/patroni/ABCDEFGHIJKLMNOPQRSTUVWXYZ.yml", "ABCDEFGHIJKLMNOPQRSTUVWX"),
        ] {
            assert_eq!(Instance::of_file(Path::new(file)), Some(name.parse().unwrap()), "{file}");
        }
        for file in ["/etc/patroni/---.yml", "/etc/patroni/hold.yml"] {
            assert_eq!(Instance::of_file(Path::new(file)), None, "{file}");
        }
    }
}
