//! An endpoint's thread: it asks Patroni, and writes what is then known for the processes to come.
//! What it does may block.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::Waker;

use crate::clock::Moment;
use crate::endpoint::Endpoint;
use crate::memory::Memory;
use crate::memory::file::{Lock, MemoryFile};
use crate::patroni::{Client, GIVE_UP, NoAnswer, Observation};
use crate::systemd::journal;
use crate::verdict::{Judgement, Verdict, judge};

/// What the thread is to do, one after the other.
pub(super) enum Work {
    /// Ask Patroni. What is known then has to be saved.
    Fetch,
    Save(Box<Memory>),
    /// Take note that this is told.
    Told(Verdict),
    Warn(String),
}

/// What it reports.
pub(super) enum Report {
    /// Patroni need not be asked, perhaps: another process has left this since the last fetch.
    Spared(Box<Memory>),
    Fetched(Box<Fetched>),
}

/// What came of a fetch.
pub(super) struct Fetched {
    pub(super) observation: Observation,
    pub(super) judgement: Judgement,
    pub(super) took: Duration,
}

/// The thread. It makes one request at a time, so as many are in flight as there are endpoints, at
/// most.
pub(super) struct Fetcher {
    work_tx: Sender<Work>,
    thread: JoinHandle<()>,
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
    fn send(&self, report: Report) -> Option<()> {
        self.reports_tx.send((self.index, report)).ok()?;
        self.waker.wake().ok()
    }
}

impl Fetcher {
    /// # Errors
    /// No thread to be had.
    pub(super) fn spawn(
        endpoint: Endpoint,
        client: Client,
        file: Option<MemoryFile>,
        report: Reporter,
    ) -> io::Result<Self> {
        let (work_tx, work_rx) = channel();
        let name = format!("fetch{endpoint}");
        let mut work = Worker { endpoint, client, file, report, lock: None, seen: None, is_saved: true };
        let thread = thread::Builder::new().name(name).spawn(move || {
            let _ = work.run(&work_rx);
        })?;
        Ok(Fetcher { work_tx, thread })
    }

    pub(super) fn begin(&self, work: Work) {
        // The thread lives as long as this: a panic in it ends the program.
        let _ = self.work_tx.send(work);
    }

    /// Waits until all is written, unless it is fetching: then nothing is to be written.
    pub(super) fn finish(self, is_fetching: bool) {
        drop(self.work_tx);
        if !is_fetching {
            let _ = self.thread.join();
        }
    }
}

/// What the thread has.
struct Worker {
    endpoint: Endpoint,
    client: Client,
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
                Work::Save(memory) => self.save(memory),
                Work::Told(verdict) => self.note_told(&verdict),
                Work::Warn(warning) => journal::warn(&warning),
            }
        }
    }

    fn fetch(&mut self) -> Option<()> {
        let began = Instant::now();
        let mut is_busy = false;
        if let Some(file) = &self.file {
            let lock = file.lock(began + GIVE_UP, || false);
            is_busy = matches!(lock, Ok(None));
            // Where there is no lock to be had, saving mostly complains as well.
            self.lock = lock.unwrap_or_default();
            let left = file.load(Moment::now()).unwrap_or_default().map(Box::new);
            if let Some(memory) = left.filter(|left| self.seen.as_ref() != Some(left)) {
                self.lock = None;
                self.seen = Some(memory.clone());
                return self.report.send(Report::Spared(memory));
            }
        }
        let observation = if is_busy {
            // Patroni sits on the request of another process.
            Err(NoAnswer::Timeout.into())
        } else {
            self.client.get(&self.endpoint)
        };
        let judgement = judge(&self.endpoint, &observation);
        self.report.send(Report::Fetched(Box::new(Fetched { observation, judgement, took: began.elapsed() })))
    }

    fn save(&mut self, memory: Box<Memory>) {
        let saved = self.file.as_ref().map_or(Ok(()), |file| file.save(&memory, self.lock.as_ref()));
        self.lock = None;
        // A disk that is full is told of once.
        if let Some(why) = saved.as_ref().err().filter(|_| self.is_saved) {
            journal::warn(why);
        }
        self.is_saved = saved.is_ok();
        self.seen = Some(memory);
    }

    /// A process for one check that comes later need not tell it.
    fn note_told(&self, verdict: &Verdict) {
        if let Some(file) = &self.file {
            file.is_change(Moment::now(), verdict);
        }
    }
}
