//! An endpoint's thread: it asks Patroni, and writes what is then known for the processes to come.
//! What it does may block.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::Waker;

use crate::clock::Moment;
use crate::memory::Memory;
use crate::memory::file::{Lock, MemoryFile};
use crate::observe::{Look, Subject, look};
use crate::patroni::{Client, GIVE_UP, NoAnswer};
use crate::verdict::Verdict;
use crate::view::View;

/// What the thread is to do, one after the other.
pub(super) enum Work {
    /// Ask Patroni. What is known then has to be saved.
    Fetch,
    Save(Box<Memory>),
    /// Take note that this view was told this then.
    Told(View, Moment, Verdict),
}

/// What it reports.
pub(super) enum Report {
    /// Patroni need not be asked, perhaps: another process has found this since the last fetch.
    FoundByAnother(Box<Memory>),
    Fetched(Box<Fetched>),
    /// For the journal, which may hold up whoever writes.
    Warning(String),
}

/// What came of a fetch.
pub(super) struct Fetched {
    pub(super) look: Look,
    pub(super) took: Duration,
}

/// The thread. It makes one request at a time, so as many are in flight as there are endpoints, at
/// most.
pub(super) struct Fetcher {
    work_tx: Sender<Work>,
    thread: JoinHandle<()>,
    has_memory: bool,
    turn: Arc<Mutex<()>>,
}

/// Reports as the endpoint of this index.
pub(super) struct Reporter {
    index: usize,
    reports_tx: Sender<(usize, Report)>,
    waker: Arc<Waker>,
}

impl Reporter {
    pub(super) fn new(index: usize, reports_tx: Sender<(usize, Report)>, waker: Arc<Waker>) -> Self {
        Reporter { index, reports_tx, waker }
    }

    /// None once nobody listens.
    pub(super) fn send(&self, report: Report) -> Option<()> {
        self.reports_tx.send((self.index, report)).ok()?;
        self.waker.wake().ok()
    }
}

impl Fetcher {
    /// # Errors
    /// No thread to be had.
    pub(super) fn spawn(
        subject: Subject,
        client: Client,
        turn: Arc<Mutex<()>>,
        deadline: Duration,
        file: Option<MemoryFile>,
        seen: Option<Memory>,
        report: Reporter,
    ) -> io::Result<Self> {
        let (work_tx, work_rx) = channel();
        let (name, has_memory) = (format!("fetch{}", subject.endpoint), file.is_some());
        let (seen, turn_too) = (seen.map(Box::new), Arc::clone(&turn));
        let mut work =
            Worker { subject, client, turn: turn_too, deadline, file, report, lock: None, seen, is_saved: true };
        let thread = thread::Builder::new().name(name).spawn(move || {
            let _ = work.run(&work_rx);
        })?;
        Ok(Fetcher { work_tx, thread, has_memory, turn })
    }

    /// Who has it may ask Patroni this.
    pub(super) fn turn(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.turn)
    }

    pub(super) fn begin(&self, work: Work) {
        // The thread lives as long as this: a panic in it ends the program.
        let _ = self.work_tx.send(work);
    }

    /// Leaves what is known for the next process, if there is where.
    pub(super) fn save(&self, memory: &Memory) {
        if self.has_memory {
            self.begin(Work::Save(Box::new(memory.clone())));
        }
    }

    /// Waits until all is written. While it is fetching it has written all but what was told since.
    pub(super) fn finish(self, is_fetching: bool) {
        drop(self.work_tx);
        if !is_fetching {
            let _ = self.thread.join();
        }
    }
}

/// What the thread has.
struct Worker {
    subject: Subject,
    client: Client,
    /// Endpoints that are the same to Patroni ask it one after the other.
    turn: Arc<Mutex<()>>,
    /// A check is answered within this.
    deadline: Duration,
    file: Option<MemoryFile>,
    report: Reporter,
    /// From before a fetch until what is known then is saved, so that no process for one check
    /// writes in between.
    lock: Option<Lock>,
    /// What was in the file when this thread read or wrote it.
    seen: Option<Box<Memory>>,
    is_saved: bool,
}

impl Worker {
    /// None once nobody listens.
    fn run(&mut self, work_rx: &Receiver<Work>) -> Option<()> {
        loop {
            match work_rx.recv().ok()? {
                Work::Fetch => self.fetch()?,
                Work::Save(memory) => self.save(memory)?,
                Work::Told(view, at, verdict) => {
                    // A process for one check that comes later need not tell it.
                    self.file.as_ref().map(|file| file.note_told(&view, at, &verdict));
                }
            }
        }
    }

    fn fetch(&mut self) -> Option<()> {
        let began = Instant::now();
        let turn = Arc::clone(&self.turn);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_busy = false;
        if let Some(file) = &self.file {
            // It has time: the checks are answered at their deadline meanwhile.
            match file.lock(began + GIVE_UP, || false) {
                Ok(lock) => {
                    is_busy = lock.is_none();
                    let found = file.load().unwrap_or_default().map(Box::new);
                    if let Some(memory) = found.filter(|found| self.seen.as_ref() != Some(found)) {
                        self.seen = Some(memory.clone());
                        return self.report.send(Report::FoundByAnother(memory));
                    }
                    self.lock = lock;
                }
                Err(why) => self.warn_once(why)?,
            }
        }
        let look = look(&self.subject, self.deadline, || {
            // Patroni may sit on the request of another process.
            if is_busy { Err(NoAnswer::Timeout.into()) } else { self.client.get(&self.subject.endpoint) }
        });
        self.report.send(Report::Fetched(Box::new(Fetched { look, took: began.elapsed() })))
    }

    fn save(&mut self, memory: Box<Memory>) -> Option<()> {
        let (Some(file), Some(lock)) = (&self.file, self.lock.take()) else { return Some(()) };
        let saved = file.save(&memory, &lock);
        drop(lock);
        self.seen = Some(memory);
        match saved {
            Ok(()) => self.is_saved = true,
            Err(why) => self.warn_once(why)?,
        }
        Some(())
    }

    /// A disk that is full is told of once.
    fn warn_once(&mut self, why: String) -> Option<()> {
        let was_saved = std::mem::replace(&mut self.is_saved, false);
        if was_saved { self.report.send(Report::Warning(why)) } else { Some(()) }
    }
}
