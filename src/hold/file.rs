//! The file of a hold: it is looked at in bounds, and written whole or not at all.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::io::Errno;

use super::text::{Hold, SIZE_LIMIT};
use crate::file::{Staged, read_at_most};

/// The file of a hold, whether it is there or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldFile {
    path: PathBuf,
    /// The one that the settings name: this one, or its name is made of that.
    first: PathBuf,
}

impl HoldFile {
    /// The file that the settings name.
    pub fn new(path: PathBuf) -> Self {
        HoldFile { first: path.clone(), path }
    }

    /// The one for this name beside it.
    pub(super) fn beside(&self, name: &str) -> Self {
        HoldFile { path: with_suffix(&self.first, name), first: self.first.clone() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The hold, whether over or not, if there is one. Whatever is there, and where nobody can look,
    /// is a hold as well: somebody meant one. Waits for nothing but a disk, and reads a bounded
    /// number of bytes.
    pub fn hold(&self) -> Option<Hold> {
        let because = |e: io::Error| Some(Hold::without_text(format!("{}: {e}", self.path.display())));
        match fs::symlink_metadata(&self.path) {
            Ok(_) => self.read().map_or_else(because, Some),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            // No file can have this name, so nobody meant it.
            Err(e) if self.is_beside() && is_too_long(&e) => None,
            Err(e) => because(e),
        }
    }

    fn read(&self) -> io::Result<Hold> {
        let dangling = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => io::Error::other("a symbolic link to nothing"),
            _ => e,
        };
        let text = read_at_most(&self.path, SIZE_LIMIT as u64 + 1).map_err(dangling)?;
        Ok(Hold::read(&text, fs::metadata(&self.path).ok().and_then(|found| written(&found))))
    }

    /// Begins a hold, or makes another one of it.
    ///
    /// # Errors
    /// What kept the file from being written.
    pub fn begin(&self, hold: &Hold) -> io::Result<()> {
        self.refuse_device()?;
        let directory = self.directory();
        // The service is another user: whatever root's umask, it is to see what is made here. What
        // was there is others'.
        let made: Vec<_> = directory.ancestors().take_while(|directory| !directory.exists()).collect();
        fs::create_dir_all(directory)?;
        for directory in made {
            fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        }
        // Short, as the name of the file may be as long as names may be. Two at a time do not meet.
        let new = with_suffix(&self.first, &format!("{}.new", std::process::id()));
        let written = Staged::write(new, hold.text().as_bytes(), None, 0o644)?.replace(&self.path);
        self.sync_directory();
        written
    }

    /// Ends the hold. Says whether there was one.
    ///
    /// # Errors
    /// What kept the file from being removed.
    pub fn end(&self) -> io::Result<bool> {
        self.refuse_device()?;
        match fs::remove_file(&self.path) {
            Ok(()) => {
                self.sync_directory();
                Ok(true)
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(e) if self.is_beside() && is_too_long(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// A power cut must not bring back what was, where the file system can help it.
    fn sync_directory(&self) {
        let _ = File::open(self.directory()).and_then(|directory| directory.sync_all());
    }

    pub(super) fn is_older_than(&self, age: Duration) -> bool {
        let written = fs::symlink_metadata(&self.path).and_then(|found| found.modified());
        written.is_ok_and(|written| written.elapsed().is_ok_and(|elapsed| elapsed > age))
    }

    fn is_beside(&self) -> bool {
        self.path != self.first
    }

    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// A device holds as well, but a slip of the pen is more likely, and without /dev/null a host
    /// can do little.
    fn refuse_device(&self) -> io::Result<()> {
        let kind = fs::symlink_metadata(&self.path).map(|found| found.file_type());
        let is_device = kind.is_ok_and(|kind| kind.is_char_device() || kind.is_block_device());
        if is_device { Err(io::Error::other("a device, not a file; it is left as it is")) } else { Ok(()) }
    }
}

/// Whether this stands behind the dot where a hold is being written, or was when it was interrupted.
pub(super) fn is_unfinished(name: &str) -> bool {
    let id = name.strip_suffix("new").and_then(|id| id.strip_suffix('.').or(id.is_empty().then_some("")));
    id.is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(format!(".{suffix}"));
    path.into()
}

fn written(found: &Metadata) -> Option<Duration> {
    found.modified().ok()?.duration_since(UNIX_EPOCH).ok()
}

fn is_too_long(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NAMETOOLONG)
}

#[cfg(test)]
mod tests;
