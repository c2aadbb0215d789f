//! A hold: an operator's word that this node is in maintenance. It is a file, so it outlives every restart.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::verdict::Verdict;

/// The file of a hold, whether it is there or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold(PathBuf);

impl Hold {
    /// A hold that this file stands for.
    pub fn new(file: PathBuf) -> Self {
        Hold(file)
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.0
    }

    /// Why the node is held, if it is. A file that is there and can't be read is a hold as well: somebody meant one.
    pub fn reason(&self) -> Option<String> {
        match fs::read_to_string(&self.0) {
            Ok(text) => Some(text.lines().next().unwrap_or_default().trim().to_owned()),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            Err(e) => Some(format!("{}: {e}", self.0.display())),
        }
    }

    /// The verdict as it is while the node is held: whatever Patroni says, it takes no traffic.
    pub fn over(&self, verdict: Verdict) -> Verdict {
        self.reason().map_or(verdict, |why| Verdict::held(&why))
    }

    /// Begins a hold, or gives one another reason.
    ///
    /// # Errors
    /// What kept the file from being written.
    pub fn begin(&self, reason: &str) -> io::Result<()> {
        if let Some(directory) = self.0.parent() {
            fs::create_dir_all(directory)?;
            // The service is another user, whatever root's umask.
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
        }
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{reason}\n"))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
        fs::rename(new, &self.0)
    }

    /// Ends the hold. Says whether there was one.
    ///
    /// # Errors
    /// What kept the file from being removed.
    pub fn end(&self) -> io::Result<bool> {
        match fs::remove_file(&self.0) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// `patroni-check hold`: begins a hold and says what that means.
///
/// # Errors
/// What kept the file from being written.
pub fn begin(hold: &Hold, reason: &str) -> io::Result<()> {
    hold.begin(reason).map_err(|e| about(hold, &e))?;
    println!(
        "Held: this node says MAINT at the next check, whatever becomes of it, until: patroni-check release\n\
         If it is the primary nobody takes writes now; patronictl switchover first would have been the way."
    );
    Ok(())
}

/// `patroni-check release`: ends it.
///
/// # Errors
/// What kept the file from being removed.
pub fn end(hold: &Hold) -> io::Result<()> {
    let was_held = hold.end().map_err(|e| about(hold, &e))?;
    println!("{}", if was_held { "Released: Patroni decides again." } else { "This node was not held." });
    Ok(())
}

fn about(hold: &Hold, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", hold.file().display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_there_from_its_beginning_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let hold = Hold::new(directory.path().join("etc/hold"));
        let serve = || Verdict::Serve("primary".into());
        assert_eq!(hold.over(serve()), serve());
        assert!(!hold.end().unwrap());
        hold.begin("new disk").unwrap();
        assert_eq!(hold.over(serve()), Verdict::Held("held: new disk".into()));
        hold.begin("").unwrap();
        assert_eq!(hold.over(Verdict::Fail("postgres: stopping".into())), Verdict::Held("held".into()));
        assert!(hold.end().unwrap());
        assert_eq!(hold.over(serve()), serve());
    }

    #[test]
    fn a_hold_that_can_not_be_read_holds() {
        let directory = tempfile::tempdir().unwrap();
        let hold = Hold::new(directory.path().to_owned());
        assert!(matches!(hold.over(Verdict::Serve("primary".into())), Verdict::Held(_)));
    }
}
