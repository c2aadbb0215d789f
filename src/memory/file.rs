//! Where a process leaves what it knows of an endpoint for the next one: a small file in the
//! service's runtime directory, and beside it a lock for who asks Patroni. The next one is that
//! after a restart, or one of those that answer one check each.

use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::Memory;
use crate::clock::{Moment, boot_id};
use crate::config::{Config, Limits};
use crate::observe::Subject;
use crate::probe::Target;
use crate::text::printable;
use crate::verdict::Verdict;
use crate::view::View;

/// The format. What is written in another one is not read. It goes up when a field, or what it
/// means, changes.
const VERSION: u32 = 3;

/// The reasons in it are bounded, so nothing that is written here comes near.
const SIZE_LIMIT: u64 = 16 << 10;

/// A file's name has at most 255 bytes, with what is added to it here. Of a longer one this much is
/// kept, and a hash tells it from others.
const NAME_LIMIT: usize = 230;

/// Who waits for a lock looks again after this long at first, and after twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// The runtime directory of a service, for one Patroni and one boot.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
    boot_id: String,
    patroni: String,
    limits: Limits,
}

/// One endpoint's file.
#[derive(Debug, Clone)]
pub struct MemoryFile {
    directory: Directory,
    subject: Subject,
}

/// The right to ask Patroni. The kernel takes it back from a process that dies.
#[derive(Debug)]
pub struct Lock(File);

/// What is in a file.
#[derive(Serialize, Deserialize)]
struct Contents<M> {
    version: u32,
    boot_id: String,
    patroni: String,
    endpoint: String,
    probe: Option<String>,
    memory: M,
}

/// The last verdict that was told, and when.
#[derive(Serialize, Deserialize)]
struct Told {
    boot_id: String,
    at: Moment,
    verdict: Verdict,
}

/// A verdict that was noted as told, other than the one before.
#[derive(Debug)]
pub struct Noted {
    /// What was told before it, if that is known.
    pub before: Option<Verdict>,
}

impl Directory {
    /// The runtime directory that the settings name; none where they name none.
    ///
    /// # Errors
    /// Why what is there can't be told from what is of another boot.
    pub fn of(config: &Config) -> Result<Option<Self>, String> {
        let Some(path) = config.runtime_directory.clone() else { return Ok(None) };
        let boot_id = boot_id().map_err(|e| format!("no memory in {}: the boot has no id: {e}", path.display()))?;
        Ok(Some(Directory { path, boot_id, patroni: config.patroni.to_string(), limits: config.limits }))
    }

    /// The views of which something is remembered, in their order.
    ///
    /// # Errors
    /// There is a directory, and why it can't be read.
    pub fn views(&self) -> Result<Vec<View>, String> {
        let entries = match fs::read_dir(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| format!("{}: {e}", self.path.display()))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter_map(|name| Some(format!("/{}", name.strip_suffix(".json")?))).collect();
        names.sort();
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The file of what is looked at.
    pub fn file(&self, subject: &Subject) -> MemoryFile {
        MemoryFile { directory: self.clone(), subject: subject.clone() }
    }

    fn of_kind(&self, text: &str, kind: &str) -> PathBuf {
        let mut name = text.trim_start_matches('/').to_owned();
        if name.len() > NAME_LIMIT {
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            name.truncate(NAME_LIMIT - 17);
            name += &format!("~{:016x}", hasher.finish());
        }
        self.path.join(format!("{name}.{kind}"))
    }
}

impl MemoryFile {
    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.beside("json")
    }

    /// What is remembered; nothing where nothing was written.
    ///
    /// # Errors
    /// Why what is there does not count: damaged, another's, of another boot or Patroni, in another
    /// format, of the future.
    pub fn load(&self) -> Result<Option<Memory>, String> {
        let path = self.path();
        // Parts of it are quoted where it can't be read.
        let not_used = |why: String| printable(&format!("{}: {why}; it is not used", path.display()));
        let bytes = match self.read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|e| not_used(e.to_string()))?,
        };
        let read = serde_json::from_slice::<Contents<Memory>>(&bytes);
        let why = match &read {
            Ok(contents) => self.why_not_ours(contents),
            // Another version may have written something else.
            Err(_) => serde_json::from_slice::<Contents<IgnoredAny>>(&bytes).ok().and_then(|it| self.why_not_ours(&it)),
        };
        if let Some(why) = why {
            return Err(not_used(why.into()));
        }
        let memory = read.map_err(|e| not_used(e.to_string()))?.memory;
        // The time after it was read: another process may have written it just now.
        if memory.is_of_the_future(Moment::now()) {
            return Err(not_used("from the future".into()));
        }
        Ok(Some(memory.within(self.directory.limits)))
    }

    /// Writes what is remembered, whole or not at all. One who has lost the lock writes nothing: who
    /// has it now knows more.
    ///
    /// # Errors
    /// What kept it from being written, and where. Then nothing is remembered.
    pub fn save(&self, memory: &Memory, lock: &Lock) -> Result<(), String> {
        if !self.is_current(lock) {
            return Ok(());
        }
        let path = self.beside("new");
        let contents = Contents {
            version: VERSION,
            boot_id: self.directory.boot_id.clone(),
            patroni: self.directory.patroni.clone(),
            endpoint: self.subject.name.clone(),
            probe: self.probe(),
            memory,
        };
        let written = serde_json::to_vec(&contents).map_err(io::Error::from).and_then(|bytes| {
            let mut file = create(&path, OFlags::WRONLY | OFlags::TRUNC)?;
            file.write_all(&bytes)?;
            fs::rename(&path, self.path()).or_else(|_| {
                make_way(&self.path());
                fs::rename(&path, self.path())
            })
        });
        if written.is_err() {
            // What is there is older than what is known, and must not be believed.
            let _ = fs::remove_file(self.path())
                .or_else(|_| open_regular(&self.path(), OFlags::WRONLY | OFlags::TRUNC).map(drop));
        }
        written.map_err(|e| format!("{}: {e}; what is known now is lost at the end of the process", path.display()))
    }

    /// The right to ask Patroni, unless another process has it.
    ///
    /// # Errors
    /// There is no such right to be had, and why.
    pub fn try_lock(&self) -> Result<Option<Lock>, String> {
        let path = self.lock_path();
        let locked = create(&path, OFlags::RDWR).and_then(|file| Ok(try_flock(&file)?.then_some(Lock(file))));
        // Somebody may have removed the file meanwhile, and others lock another one.
        let locked = locked.map(|lock| lock.filter(|lock| self.is_current(lock)));
        locked
            .map_err(|e| format!("{}: {e}; nothing is remembered, and others may ask Patroni at once", path.display()))
    }

    /// The same for one who waits, but not after `end`. Between two looks `meanwhile` may say that
    /// it need not wait any longer.
    ///
    /// # Errors
    /// As [`MemoryFile::try_lock`].
    pub fn lock(&self, end: Instant, mut meanwhile: impl FnMut() -> bool) -> Result<Option<Lock>, String> {
        let mut pause = FIRST_PAUSE;
        loop {
            let lock = self.try_lock()?;
            let left = end.saturating_duration_since(Instant::now());
            if lock.is_some() || left.is_zero() || meanwhile() {
                return Ok(lock);
            }
            sleep(pause.min(left));
            pause = LONGEST_PAUSE.min(2 * pause);
        }
    }

    /// Takes note that a view's checks were told a verdict then, if it is another one than they were
    /// told last. Of several processes one takes it. Where no note can be taken, nobody does: it would
    /// be each.
    pub fn note_told(&self, view: &View, at: Moment, verdict: &Verdict) -> Option<Noted> {
        let told = Told { boot_id: self.directory.boot_id.clone(), at, verdict: verdict.without_countdown() };
        self.replace_told(&self.directory.of_kind(&view.to_string(), "told"), &told).ok().flatten()
    }

    fn probe(&self) -> Option<String> {
        self.subject.probe.as_ref().map(Target::to_string)
    }

    fn why_not_ours<M>(&self, contents: &Contents<M>) -> Option<&'static str> {
        let directory = &self.directory;
        let is_ours = [
            (contents.version == VERSION, "in another format"),
            (contents.boot_id == directory.boot_id, "from another boot"),
            (contents.patroni == directory.patroni, "of another Patroni"),
            (contents.endpoint == self.subject.name, "of another endpoint"),
            (contents.probe == self.probe(), "of another probe"),
        ];
        is_ours.into_iter().find_map(|(is_so, why)| (!is_so).then_some(why))
    }

    fn replace_told(&self, path: &Path, told: &Told) -> io::Result<Option<Noted>> {
        let mut file = create(path, OFlags::RDWR)?;
        if !try_flock(&file)? {
            // Another one is about to tell it, and the next check tells what has changed since.
            return Ok(None);
        }
        let mut bytes = Vec::new();
        (&file).take(SIZE_LIMIT).read_to_end(&mut bytes)?;
        let before = serde_json::from_slice::<Told>(&bytes).ok().filter(|before| before.boot_id == told.boot_id);
        if before.as_ref().is_some_and(|before| before.verdict == told.verdict || before.at.boot > told.at.boot) {
            return Ok(None);
        }
        let bytes = serde_json::to_vec(told)?;
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(&bytes)?;
        Ok(Some(Noted { before: before.map(|before| before.verdict) }))
    }

    fn beside(&self, kind: &str) -> PathBuf {
        self.directory.of_kind(&self.subject.name, kind)
    }

    /// One for all that are the same to Patroni.
    fn lock_path(&self) -> PathBuf {
        self.directory.of_kind(&self.subject.endpoint.request_path(), "lock")
    }

    /// Reads a file that the owner of the directory wrote: the service's user.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = open_regular(path, OFlags::RDONLY)?;
        let found = file.metadata()?;
        if found.uid() != fs::metadata(&self.directory.path)?.uid() || found.mode() & 0o022 != 0 {
            return Err(io::Error::other("others than the service's user may write it"));
        }
        let mut bytes = Vec::new();
        file.take(SIZE_LIMIT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > SIZE_LIMIT { Err(io::Error::other("too long")) } else { Ok(bytes) }
    }

    /// Whether it is the lock that others would have to take.
    fn is_current(&self, lock: &Lock) -> bool {
        let id = |found: Metadata| (found.dev(), found.ino());
        let held = lock.0.metadata().map(id);
        held.is_ok_and(|held| fs::symlink_metadata(self.lock_path()).is_ok_and(|there| id(there) == held))
    }
}

/// Opens a regular file of ours, which is made if it is missing.
fn create(path: &Path, flags: OFlags) -> io::Result<File> {
    let open = || open_regular(path, flags | OFlags::CREATE);
    open().or_else(|_| {
        make_way(path);
        open()
    })
}

/// Removes what is no file: nobody but us has anything to put there.
fn make_way(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
    }
}

/// Opens a regular file, and waits for nothing.
fn open_regular(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(open(path, flags, Mode::RUSR | Mode::WUSR)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a file")) }
}

fn try_flock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests;
