//! Files whose path somebody else has chosen: whatever is there, they are read in bounds, and
//! nothing is waited for but a disk.

use std::fs::{self, File, FileType, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

/// The first bytes of a regular file, `limit` of them at most.
///
/// # Errors
/// There is none, something else is in its place, or it can't be read.
pub(crate) fn read_at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // To open some devices does something, and a FIFO without NONBLOCK waits for a writer.
    regular(&fs::metadata(path)?)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty())?);
    regular(&file.metadata()?)?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file that is written beside the one that it is to replace, which so is there whole at all times.
/// It is removed if nothing becomes of it.
pub(crate) struct Staged {
    path: PathBuf,
    is_in_place: bool,
}

impl Staged {
    /// Writes it, with the mode and the owner of what it is to replace, or with this mode where there
    /// is nothing.
    ///
    /// # Errors
    /// What kept it from being written.
    pub(crate) fn write(path: PathBuf, bytes: &[u8], like: Option<&Metadata>, mode: u32) -> io::Result<Self> {
        // What is left of one that was interrupted; and nobody's symbolic link is followed.
        let _ = fs::remove_file(&path);
        let mut file = File::create_new(&path)?;
        let staged = Staged { path, is_in_place: false };
        if let Some(like) = like {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
                fchown(&file, Some(like.uid()), Some(like.gid()))?;
            }
        }
        let mode = like.map_or(mode, |like| like.mode() & 0o7777);
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(staged)
    }

    /// Where it is now.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it into the place of that one.
    ///
    /// # Errors
    /// What kept it from being put there.
    pub(crate) fn replace(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.is_in_place = true;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_in_place {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_file() { Ok(()) } else { Err(io::Error::other(format!("{}, not a file", describe(kind)))) }
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}
