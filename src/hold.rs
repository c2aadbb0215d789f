//! A hold: an operator's word that this node is in maintenance. It is a file, so it outlives every
//! restart.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::file::read_at_most;
use crate::text::single_spaced;
use crate::verdict::{Sessions, Verdict};

/// The longest reason, in bytes. HAProxy is told less.
const REASON_LIMIT: usize = 200;

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

    /// Why the node is held, if it is. Whatever is there, and where nobody can look, is a hold as
    /// well: somebody meant one. Waits for nothing but a disk, and reads a bounded number of bytes.
    pub fn reason(&self) -> Option<String> {
        match fs::symlink_metadata(&self.0) {
            Ok(_) => Some(self.text().unwrap_or_else(|e| format!("{}: {e}", self.0.display()))),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            Err(e) => Some(format!("{}: {e}", self.0.display())),
        }
    }

    fn text(&self) -> io::Result<String> {
        let text = read_at_most(&self.0, REASON_LIMIT as u64).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => io::Error::other("a symbolic link to nothing"),
            _ => e,
        })?;
        let text = String::from_utf8_lossy(&text);
        // Half a character is no part of it.
        Ok(clean(text.lines().next().unwrap_or_default().trim_end_matches(char::REPLACEMENT_CHARACTER)))
    }

    /// The verdict as it is while the node is held: whatever Patroni says, it takes no traffic.
    pub fn overriding(&self, verdict: Verdict) -> Verdict {
        self.reason().map_or(verdict, |why| Verdict::held(&why, Sessions::Cut))
    }

    /// Begins a hold, or gives one another reason.
    ///
    /// # Errors
    /// What kept the file from being written.
    pub fn begin(&self, reason: &str) -> io::Result<()> {
        self.refuse_device()?;
        let directory = self.0.parent().unwrap_or(Path::new("/"));
        // The service is another user: whatever root's umask, it is to see what is made here. What
        // was there is others'.
        let made: Vec<_> = directory.ancestors().take_while(|directory| !directory.exists()).collect();
        fs::create_dir_all(directory)?;
        for directory in made {
            fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        }
        let mut name = self.0.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = directory.join(name);
        // What is left of one that was interrupted; and nobody's symbolic link is followed.
        let _ = fs::remove_file(&new);
        let written = File::create_new(&new).and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.write_all(format!("{}\n", clean(reason)).as_bytes())?;
            file.sync_all()
        });
        let written = written.and_then(|()| fs::rename(&new, &self.0));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }

    /// Ends the hold. Says whether there was one.
    ///
    /// # Errors
    /// What kept the file from being removed.
    pub fn end(&self) -> io::Result<bool> {
        self.refuse_device()?;
        match fs::remove_file(&self.0) {
            Ok(()) => Ok(true),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// A device holds as well, but a slip of the pen is more likely, and without /dev/null a host
    /// can do little.
    fn refuse_device(&self) -> io::Result<()> {
        let kind = fs::symlink_metadata(&self.0).map(|found| found.file_type());
        let is_device = kind.is_ok_and(|kind| kind.is_char_device() || kind.is_block_device());
        if is_device { Err(io::Error::other("a device, not a file; it is left as it is")) } else { Ok(()) }
    }
}

/// One line of printable text, with its newline not longer than a reason may be.
fn clean(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = single_spaced(&text);
    while line.len() >= REASON_LIMIT {
        line.pop();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

    #[test]
    fn a_hold_is_there_from_its_beginning_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let hold = Hold::new(directory.path().join("etc/hold"));
        let serve = || Verdict::Serve("primary".into());
        assert_eq!(hold.overriding(serve()), serve());
        assert!(!hold.end().unwrap());
        hold.begin("new disk").unwrap();
        assert_eq!(hold.overriding(serve()), Verdict::held("new disk", Sessions::Cut));
        hold.begin("").unwrap();
        assert_eq!(hold.overriding(Verdict::Fail("postgres: stopping".into())), Verdict::held("", Sessions::Cut));
        assert!(hold.end().unwrap());
        assert_eq!(hold.overriding(serve()), serve());
        assert_eq!(fs::read_dir(directory.path().join("etc")).unwrap().count(), 0, "nothing is left beside it");
    }

    #[test]
    fn whatever_is_there_holds_and_nothing_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("directory")).unwrap();
        mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        File::create(path("huge")).unwrap().set_len(1 << 40).unwrap();
        symlink("/dev/zero", path("endless")).unwrap();
        symlink("nowhere", path("dangling")).unwrap();
        symlink("loop", path("loop")).unwrap();
        fs::write(path("target"), "by a link\n").unwrap();
        symlink("target", path("link")).unwrap();
        let in_the_way = |what: &str, name: &str| format!("{}: {what}", path(name).display());
        let table = [
            ("directory", in_the_way("a directory, not a file", "directory")),
            ("fifo", in_the_way("a FIFO, not a file", "fifo")),
            ("socket", in_the_way("a socket, not a file", "socket")),
            ("endless", in_the_way("a device, not a file", "endless")),
            ("dangling", in_the_way("a symbolic link to nothing", "dangling")),
            ("loop", in_the_way("Too many levels of symbolic links (os error 40)", "loop")),
            ("huge", String::new()),
            ("link", "by a link".into()),
        ];
        for (name, reason) in table {
            let hold = Hold::new(path(name));
            assert_eq!(hold.reason(), Some(reason), "{name}");
            // And the other side says the same.
            if name != "directory" {
                assert!(hold.end().unwrap(), "{name}");
                assert_eq!(hold.reason(), None, "{name}");
            }
        }
        Hold::new(path("directory")).begin("").unwrap_err();
        let null = Hold::new(path("null"));
        // Needs root.
        if mknodat(CWD, null.file(), FileType::CharacterDevice, Mode::RWXU, makedev(1, 3)).is_ok() {
            assert_eq!(null.reason(), Some(in_the_way("a device, not a file", "null")));
            null.begin("").unwrap_err();
            null.end().unwrap_err();
            assert!(null.file().exists());
        }
        assert_eq!(Hold::new(path("target/hold")).reason(), None, "there can be none");
    }

    #[test]
    fn a_reason_is_a_line_of_text() {
        let directory = tempfile::tempdir().unwrap();
        let hold = Hold::new(directory.path().join("hold"));
        let long = "é".repeat(300);
        let table: [(&[u8], &str); 6] = [
            (b"  new  disk \r\nby me\n", "new disk"),
            (b"a\tb\x1b[31mc\x9b", "a b [31mc"),
            (b"caf\xe9 closed", "caf\u{fffd} closed"),
            ("\u{9b}31mred".as_bytes(), "31mred"),
            (b"\n", ""),
            (long.as_bytes(), &long[..198]),
        ];
        for (written, read) in table {
            fs::write(hold.file(), written).unwrap();
            assert_eq!(hold.reason().unwrap(), read);
        }
        for (given, read) in [("new\ndisk", "new disk"), (&long, &long[..198])] {
            hold.begin(given).unwrap();
            assert_eq!(hold.reason().unwrap(), read);
            assert_eq!(fs::read_to_string(hold.file()).unwrap(), format!("{read}\n"));
        }
    }

    #[test]
    fn only_what_a_hold_makes_gets_a_mode() {
        let directory = tempfile::tempdir().unwrap();
        let mode = |path: &str| directory.path().join(path).metadata().unwrap().permissions().mode() & 0o7777;
        let there = directory.path().join("there");
        fs::create_dir(&there).unwrap();
        fs::set_permissions(&there, Permissions::from_mode(0o1777)).unwrap();
        Hold::new(there.join("hold")).begin("").unwrap();
        assert_eq!((mode("there"), mode("there/hold")), (0o1777, 0o644));
        // What an interrupted one, or somebody else, has left there is not written through.
        fs::write(directory.path().join("others"), "others").unwrap();
        symlink("../others", there.join("hold.new")).unwrap();
        Hold::new(there.join("hold")).begin("").unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("others")).unwrap(), "others");
        assert_eq!(fs::read_dir(there).unwrap().count(), 1);
    }
}
